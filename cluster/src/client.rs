//! Client programs run to their end.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::error::Error;
use crate::installation::Installation;
use crate::owner::without_pg_variables;

/// The longest text of another program that is put into an error.
const QUOTED_MAX: usize = 1000;

/// Runs `command` to its end and gives what it printed.
pub(crate) fn run(mut command: Command) -> Result<Output, Error> {
    let program = command.get_program().into();
    match command.stdin(Stdio::null()).output() {
        Ok(output) => checked(output, program),
        Err(source) => Err(Error::Spawn { program, source }),
    }
}

fn checked(output: Output, program: std::path::PathBuf) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let printed = if stderr.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { stderr };
    Err(Error::Failed { program, status: output.status, output: one_line(&printed) })
}

/// The end of `text` in one line.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    let excess = line.chars().count().saturating_sub(QUOTED_MAX);
    line.chars().skip(excess).collect()
}

/// Runs `script` by `psql` and gives the rows, unaligned, without the last line end.
pub(crate) fn psql(
    installation: &Installation,
    conninfo: &str,
    password: Option<&str>,
    script: &str,
) -> Result<String, Error> {
    let program = installation.client("psql").ok_or_else(|| Error::NoPsql {
        searched: format!("{}, Debian's directories and the PATH", installation.bin_dir().display()),
    })?;
    let mut command = Command::new(&program);
    without_pg_variables(&mut command);
    // Notices would hide an error, of which only the end is shown.
    command.env("PGOPTIONS", "-c client_min_messages=warning");
    command.args([
        "-X",
        "-A",
        "-t",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        "VERBOSITY=verbose",
        "-d",
        conninfo,
        "-f",
        "-",
    ]);
    password.map(|password| command.env("PGPASSWORD", password));
    let spawn_failed = |source| Error::Spawn { program: program.clone(), source };
    let output = feed(command, script.as_bytes()).map_err(spawn_failed)?;
    let output = checked(output, program)?;
    let rows = String::from_utf8_lossy(&output.stdout);
    Ok(rows.strip_suffix('\n').unwrap_or(&rows).to_string())
}

/// Runs `command` with `input`, which is written beside the reading so that neither side waits for the other.
fn feed(mut command: Command, input: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // psql stops reading at the first error, which its exit status tells better than a broken pipe.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_printed_becomes_one_line_of_bounded_length() {
        assert_eq!(one_line("a\n\n  b \n"), "a; b");
        assert_eq!(one_line(&"x".repeat(5000)).len(), QUOTED_MAX);
    }
}
