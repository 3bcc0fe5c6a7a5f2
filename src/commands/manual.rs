//! `walcast completions` and `walcast man`: made from the command line itself, for packages and for people.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::print;
use crate::cli::Cli;
use crate::failure::{Failure, Result};

/// Prints what the shell reads.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "walcast", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Writes `walcast.1`, `walcast-run.1` and so on.
///
/// # Errors
/// The directory cannot be made or written to.
pub(crate) fn pages(directory: &Path) -> Result<()> {
    let failed = |e| Failure::because(format!("could not write to \"{}\"", directory.display()), &e);
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(&directory.path().join("man1")).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = directory.path().join(format!("man1/walcast-{}.1", command.get_name()));
            let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(text.contains(".SH NAME"), "{text}");
        }
        assert!(fs::read_to_string(directory.path().join("man1/walcast.1")).unwrap().contains("Examples"));
    }

    #[test]
    fn completions_know_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "walcast", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["bootstrap", "max-rate", "teardown"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
