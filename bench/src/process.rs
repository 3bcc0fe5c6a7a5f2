//! Programs that are started and never left behind.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid};

use crate::interrupt;

const POLL: Duration = Duration::from_millis(1);

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    name: String,
}

impl Program {
    /// Starts `command`; what it prints goes to `output`.
    ///
    /// Programs die with the thread that starts them, so only the main thread does.
    pub(crate) fn start(mut command: Command, output: &Path) -> anyhow::Result<Program> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(output).with_context(|| format!("could not write {}", output.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("could not run {name}"))?;
        Ok(Program { child, name })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; the process stays, so that what it used can still be read, until [`Program::reap`].
    pub(crate) fn wait_for_end(&self) -> anyhow::Result<()> {
        while !self.has_ended()? {
            interrupt::pause(POLL)?;
        }
        Ok(())
    }

    pub(crate) fn has_ended(&self) -> anyhow::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.raw_pid()?), options)?.is_some())
    }

    /// Takes the status of a program that has ended.
    pub(crate) fn reap(mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().with_context(|| format!("could not wait for {}", self.name))
    }

    /// Asks it to stop by SIGTERM and waits.
    pub(crate) fn terminate(self, within: Duration) -> anyhow::Result<ExitStatus> {
        kill_process(self.raw_pid()?, Signal::TERM)?;
        let deadline = Instant::now() + within;
        while !self.has_ended()? {
            if Instant::now() >= deadline {
                bail!("{} did not stop within {} s", self.name, within.as_secs());
            }
            interrupt::pause(POLL)?;
        }
        self.reap()
    }

    fn raw_pid(&self) -> anyhow::Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.with_context(|| format!("process id {} is out of range", self.child.id()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended and been reaped, which both calls take for done.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

/// Runs `command` to its end; its last line is the error when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, last_lines(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

/// The end of what a program printed, in one line.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 4;
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

fn die_with_parent(command: &mut Command) {
    let ask_kernel = || set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    // SAFETY: the closure runs between fork and exec and makes one system call, without allocation or locks.
    unsafe { command.pre_exec(ask_kernel) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Program {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        Program::start(command, &directory.path().join("output")).unwrap()
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let program = sleeper();
        let path = format!("/proc/{}", program.pid());
        assert!(!program.has_ended().unwrap());
        drop(program);
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn a_program_stops_when_it_is_asked_to() {
        assert!(!sleeper().terminate(Duration::from_secs(60)).unwrap().success());
    }

    #[test]
    fn a_failing_program_says_why_in_one_line() {
        let error = run(Command::new("sh").args(["-c", "echo one >&2; echo two >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): one; two");
    }
}
