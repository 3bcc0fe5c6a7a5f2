//! One file per command.

pub(crate) mod bootstrap;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod log;
pub(crate) mod manual;
mod paint;
pub(crate) mod resync;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod targets;
pub(crate) mod teardown;
pub(crate) mod verify;
pub(crate) mod wait;
mod watch;

use std::io::{self, Write};

use capture::{Installation, Outcome, Step};
use config::{Config, Target};

use crate::failure::{Failure, Result};

/// What the configuration wants to be installed on the source.
fn installation(config: &Config) -> Installation {
    Installation {
        slot: config.source.slot.clone(),
        publication: config.source.publication.clone(),
        selection: config.source.selection.clone(),
        passwords: config.roles.passwords,
    }
}

/// The target of this name.
fn target<'a>(config: &'a Config, name: &str) -> Result<&'a Target> {
    config.target(name).ok_or_else(|| {
        let names: Vec<&str> = config.targets.iter().map(|t| t.name.as_str()).collect();
        let hint = match names.is_empty() {
            true => "the configuration declares no target".to_owned(),
            false => format!("the configuration declares {}", names.join(", ")),
        };
        Failure::new(format!("there is no target \"{}\"", name.escape_debug())).hint(hint)
    })
}

/// Prints text to stdout. A reader that went away ends the command without a complaint, as for any filter.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Failure::because("could not write to stdout", &e)),
        Ok(()) => Ok(()),
    }
}

/// What `setup` or `teardown` did, `done` being their word for it.
fn print_steps(steps: &[Step], done: &str, unchanged: &str) -> Result<()> {
    let line = |step: &Step| match &step.outcome {
        Outcome::Done => format!("{done:<9} {}\n", step.object),
        Outcome::Unchanged => format!("{unchanged:<9} {}\n", step.object),
        Outcome::Kept(why) => format!("{:<9} {}: {why}\n", "kept", step.object),
    };
    print(&steps.iter().map(line).collect::<String>())
}
