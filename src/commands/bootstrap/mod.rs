//! `walcast bootstrap TARGET…` and `walcast resync TARGET`: a target becomes equal to the source while that is written.

pub(super) mod display;
mod governing;

use bootstrap::{Bootstrap, Copied, Options, Progress, RolePolicy, Schema};
use config::{Config, Target};
use decoder::Lsn;
use tokio::signal::unix::{SignalKind, signal};

use super::{print, target};
use crate::cli::Effort;
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service::{self, declare_offline, forget};
use display::Display;

/// Jobs where nobody says how many: more than there are cores, or than these, do not make a copy faster.
const JOBS_MAX: usize = 4;

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// How much is asked of the servers.
    pub effort: Effort,
    /// Rows only.
    pub schema_exists: bool,
}

/// Declares targets that equal the source as it was when the slot was made.
///
/// # Errors
/// A target cannot be reached, or the log no longer begins where the slot did.
pub(crate) async fn declare(config: &Config, names: &[String], all: bool) -> Result<()> {
    for target in chosen(config, names, all)? {
        let request = Request::Declare { target: target.name.clone() };
        let text = match control::ask(&config.log.dir, &request).await? {
            Some(Answer::Done(text)) => text,
            Some(_) => return Err(Failure::new("the service's answer does not fit the request")),
            None => declare_offline(config, target).await?,
        };
        print(&format!("{text}\n"))?;
    }
    Ok(())
}

/// Copies the source to targets, one after the other.
///
/// # Errors
/// Anything that can go wrong with two servers; the same command goes on with what is left to do.
pub(crate) async fn run(config: &Config, names: &[String], all: bool, wish: Wish) -> Result<()> {
    let copied = async {
        for target in chosen(config, names, all)? {
            let schema = if wish.schema_exists { Schema::Exists } else { Schema::Copied };
            let options = options(config, target, schema, wish.effort).await?;
            copy(config, target, options, false).await.map_err(|failure| of(target, failure))?;
        }
        Ok(())
    };
    until_interrupted(copied).await
}

/// Copies a target again: its tables are emptied and filled.
///
/// # Errors
/// As for [`run`].
pub(crate) async fn resync(config: &Config, name: &str, effort: Effort) -> Result<()> {
    let target = target(config, name)?;
    let copied = async {
        let options = options(config, target, Schema::Exists, effort).await?;
        let emptied = begin_anew(config, target, &options).await.map_err(|failure| of(target, failure))?;
        copy(config, target, options, emptied).await.map_err(|failure| of(target, failure))
    };
    until_interrupted(copied).await
}

fn chosen<'a>(config: &'a Config, names: &[String], all: bool) -> Result<Vec<&'a Target>> {
    match all {
        true => Ok(config.targets.iter().collect()),
        false => names.iter().map(|name| target(config, name)).collect(),
    }
}

pub(crate) async fn options(config: &Config, target: &Target, schema: Schema, effort: Effort) -> Result<Options> {
    let (source, _) = replication::probe(&config.source.conninfo, &config.source.slot).await?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Options {
        source: config.source.conninfo.clone(),
        target: target.conninfo.clone(),
        identity: applier::Identity { system_id: source.system_id, slot: config.source.slot.clone() },
        publication: config.source.publication.clone(),
        jobs: effort.jobs.map_or(cores.min(JOBS_MAX), usize::from),
        max_rate: effort.max_rate,
        governor: if effort.considerate { Some(governing::start(config).await) } else { None },
        schema,
        roles: RolePolicy {
            create: config.roles.replicate,
            passwords: config.roles.passwords,
            exclude: config.roles.exclude.clone(),
            adopt: config.roles.adopt.clone(),
        },
    })
}

/// Copies one target and has the log applied to it. `begun`: the record of a copy is there because this command has just
/// made it.
async fn copy(config: &Config, target: &Target, options: Options, begun: bool) -> Result<()> {
    let bootstrap = Bootstrap::open(options).await?;
    let copied = match bootstrap.copied().await? {
        Some(copied) => copied,
        None => {
            // The log is kept from before the snapshot on.
            let pinned = service::begin_bootstrap(config, target).await?;
            if bootstrap.is_resumed() && !begun {
                print(&format!("{}: goes on where it stopped\n", target.name))?;
            }
            copy_shown(config, target, &bootstrap, pinned).await?
        }
    };
    let text = service::end_bootstrap(config, target).await?;
    print(&format!("{text}\n"))?;
    match copied.level {
        Some(lsn) => level(config, target, &bootstrap, lsn).await,
        None => Ok(()),
    }
}

async fn copy_shown(config: &Config, target: &Target, bootstrap: &Bootstrap, pinned: Lsn) -> Result<Copied> {
    let progress = Progress::default();
    let mut display = Display::new(&target.name);
    let shown = async {
        let copying = bootstrap.copy(pinned, &progress);
        let showing = display.show(Some((config, target)), &progress);
        tokio::select! {
            copied = copying => copied.map_err(Failure::from),
            failure = showing => Err(failure),
        }
    };
    let result = shown.await;
    display.finish(&progress, result.is_ok())?;
    result
}

/// Waits until all tables show the same moment, and makes what needs that.
async fn level(config: &Config, target: &Target, bootstrap: &Bootstrap, lsn: Lsn) -> Result<()> {
    print(&format!("{}: waits until {lsn} is applied, to make foreign keys\n", target.name))?;
    let request = Request::Wait { target: target.name.clone(), lsn, timeout_ms: None };
    if control::ask(&config.log.dir, &request).await?.is_none() {
        return Err(Failure::new(
            "foreign keys and materialized views are still to be made, and the service is not running",
        )
        .hint("start it with `walcast run`, then run the same command again"));
    }
    let progress = Progress::default();
    let leveled = bootstrap.level(&progress).await;
    for note in progress.take_notes() {
        print(&format!("{}: {note}\n", target.name))?;
    }
    Ok(leveled?)
}

/// Forgets what a target has, and empties its tables. What a run before began is left to be gone on with: `false`.
async fn begin_anew(config: &Config, target: &Target, options: &Options) -> Result<bool> {
    let request = Request::Remove { target: target.name.clone() };
    if applier::checkpoint(&target.conninfo, &options.identity).await.map_err(|e| applier_failure(&e))?.is_some()
        && control::ask(&config.log.dir, &request).await?.is_none()
    {
        forget(config, target).await?;
    }
    Ok(bootstrap::truncate(options).await?)
}

fn applier_failure(error: &applier::Error) -> Failure {
    Failure::new(crate::failure::with_causes(error)).maybe_hint(error.hint())
}

/// Says which target it is about.
fn of(target: &Target, failure: Failure) -> Failure {
    let named = Failure::new(format!("target \"{}\": {failure}", target.name));
    named.maybe_hint(failure.hint_text().map(str::to_owned))
}

/// Ends the work when the user or the system asks for it. Everything that it has open closes with it.
pub(super) async fn until_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    let failed = |e: std::io::Error| Failure::because("could not listen for signals", &e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let interrupted = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::select! {
        result = work => result,
        () = interrupted => {
            Err(Failure::new("interrupted").hint("run the same command again: it goes on where it stopped"))
        }
    }
}
