//! The command line: what may be written, nothing about what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use decoder::Lsn;

use crate::failure::Failure;

/// What a first day looks like.
const EXAMPLES: &str = "\
Examples:
  walcast setup && walcast check   install what is needed on the source, look whether all is well
  walcast run                      the service, until SIGTERM
  walcast bootstrap berlin         copy a target while the service runs; after that it is kept up to date
  walcast status --watch           states, positions and lag, every second
  walcast verify berlin            compare a target with the source while both are written";

/// Feeds many PostgreSQL databases from one logical replication slot.
#[derive(Parser, Debug)]
#[command(name = "walcast", version, about, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(short, long, global = true, value_name = "FILE", default_value = "walcast.toml")]
    pub config: PathBuf,
    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as "info,applier=debug"
    ///
    /// Default: [service] log_level of the configuration for run, warn for the other commands.
    #[arg(long, global = true, value_name = "LEVEL", env = "WALCAST_LOG")]
    pub log_level: Option<String>,
    /// How it is logged: a line of text for each event, or a line of JSON
    #[arg(long, global = true, value_name = "FORMAT", env = "WALCAST_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The log level. Only the service has something to tell beside its result; its configuration is not read yet.
    pub(crate) fn log_level(&self) -> &str {
        let service = matches!(self.command, Command::Run);
        let default = if service { config::LOG_LEVEL_DEFAULT } else { "warn" };
        self.log_level.as_deref().unwrap_or(default)
    }
}

/// How events are logged.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Check everything source and targets need, one line per requirement
    Check {
        /// Only the configuration file, without connecting to anything
        #[arg(long)]
        config_only: bool,
    },
    /// Install schema, publication, capture of DDL and slot on the source; may be run again
    Setup {
        /// Instead, what a target needs to be given DDL, roles and grants by a login that is no superuser
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Print the statements that would be run, run nothing
        #[arg(long)]
        print_sql: bool,
    },
    /// Copy the source to empty targets, to which the log is applied from there on; run again, it goes on
    Bootstrap {
        /// The targets
        #[arg(value_name = "TARGET", required_unless_present = "all")]
        targets: Vec<String>,
        /// All targets of the configuration
        #[arg(long, conflicts_with = "targets")]
        all: bool,
        #[command(flatten)]
        effort: Effort,
        /// Copy rows only: the target has the source's schema already, and its tables are empty
        #[arg(long)]
        schema_exists: bool,
        /// Copy nothing: the target equals the source as it was when the slot was made
        #[arg(long, conflicts_with_all = ["jobs", "max_rate", "considerate", "schema_exists"])]
        no_copy: bool,
    },
    /// Run the service until SIGTERM or SIGINT
    Run,
    /// Show source, log and targets
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again every second
        #[arg(long)]
        watch: bool,
    },
    /// Compare a target with the source at one position, while both go on
    Verify {
        /// The target
        target: String,
        /// Only this table, as schema.table
        #[arg(long, value_name = "T")]
        table: Option<String>,
        /// Repair rows and sequences that are different; what was done is recorded in walcast.repaired on the target
        #[arg(long)]
        repair: bool,
        /// Tables, or parts of tables, compared at a time
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
        jobs: u16,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop applying to a target, until `resume`
    Pause {
        /// The target
        target: String,
    },
    /// Go on applying to a target that is paused or stopped
    Resume {
        /// The target
        target: String,
    },
    /// Wait until a target has applied a position
    Wait {
        /// The target
        target: String,
        /// The position; the source's current one when left out
        #[arg(long, value_name = "L")]
        lsn: Option<Lsn>,
        /// Give up after this many seconds
        #[arg(long, value_name = "S")]
        timeout: Option<f64>,
    },
    /// Skip exactly one transaction that stopped a target; it is recorded in walcast.skipped there
    Skip {
        /// The target
        target: String,
        /// Its position, as in the target's last error
        #[arg(long, value_name = "L")]
        lsn: Lsn,
        /// Why, for the record
        #[arg(long, default_value = "skipped by command")]
        reason: String,
    },
    /// Copy a target, or one of its tables, again
    Resync {
        /// The target
        target: String,
        /// Only this table, as schema.table
        #[arg(long, value_name = "T")]
        table: Option<String>,
        #[command(flatten)]
        effort: Effort,
    },
    /// Forget a target: its checkpoint is removed, its tables stay
    Remove {
        /// The target
        target: String,
    },
    /// Look into the segment log, whether the service runs or not
    Log {
        /// What to look at
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Show it all on throw-away clusters: a source, two targets, a load, and a comparison at the end
    Demo {
        /// How long the load runs
        #[arg(long, value_name = "N", default_value_t = 20)]
        seconds: u64,
    },
    /// Remove everything that setup made, the slot included
    Teardown,
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one for each command
    Man {
        /// The directory, which is made if it is not there
        directory: PathBuf,
    },
}

/// What to look at in the log.
#[derive(Subcommand, Debug)]
pub(crate) enum LogCommand {
    /// List the segments
    Ls,
    /// Verify every checksum
    Check,
    /// Print transactions and their changes
    Dump {
        /// Only transactions that end after this position
        #[arg(long, value_name = "L")]
        from: Option<Lsn>,
        /// Only transactions that end at or before this position
        #[arg(long, value_name = "L")]
        to: Option<Lsn>,
        /// Only changes of this table, as schema.table
        #[arg(long, value_name = "T")]
        table: Option<String>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
}

/// How much a copy asks of the servers.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Effort {
    /// Tables, or parts of tables, copied at a time; the number of CPUs, but at most 4, when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Rows copied in a second at most, such as 20MiB, to leave the servers to others; indexes then take one process each
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub max_rate: Option<u64>,
    /// Slow down while other targets get later by the copy; indexes then take one process each
    #[arg(long)]
    pub considerate: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    match config::parse_size(text) {
        Ok(0) => Err("a rate is more than nothing".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(problem) => Err(format!("{problem}: {}", problem.hint())),
    }
}

/// Reads the command line.
///
/// # Errors
/// It cannot be understood; the failure's exit status is 2. Help and version are printed and end the process.
pub(crate) fn parse() -> Result<Cli, Failure> {
    Cli::try_parse().map_err(|error| if error.use_stderr() { usage(&error.to_string()) } else { error.exit() })
}

/// clap's complaint of several lines, in one.
fn usage(text: &str) -> Failure {
    let complaint = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.contains("tip:"));
    let message = complaint.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let message = message.strip_prefix("error: ").unwrap_or("a command is missing").to_owned();
    Failure::new(message)
        .hint(tip.unwrap_or("walcast --help lists the commands, walcast COMMAND --help its options"))
        .usage()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn complaints_are_one_line_with_a_hint_and_status_2() {
        for arguments in [&["walcast"][..], &["walcast", "wait"], &["walcast", "sttus"], &["walcast", "run", "--x"]] {
            let error = Cli::try_parse_from(arguments).unwrap_err();
            let failure = usage(&error.to_string());
            let text = failure.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{arguments:?}: {text}");
            assert!(failure.hint_text().is_some_and(|h| !h.is_empty()), "{arguments:?}");
            assert_eq!(failure.exit_status(), 2);
        }
    }

    #[test]
    fn positions_are_checked_when_they_are_read() {
        assert!(Cli::try_parse_from(["walcast", "wait", "a", "--lsn", "16/B374D848"]).is_ok());
        assert!(Cli::try_parse_from(["walcast", "wait", "a", "--lsn", "nonsense"]).is_err());
    }
}
