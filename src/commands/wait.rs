//! `walcast wait TARGET [--lsn L] [--timeout S]`

use std::time::{Duration, Instant};

use config::{Config, Target};
use decoder::Lsn;

use super::{print, target};
use crate::connect;
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service::applied_offline;

/// Between two looks while the service is down.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long transactions may be in the way of comparing the catalogs.
const TICK_PATIENCE: Duration = Duration::from_secs(10);

/// Returns when the target has applied the position. A service that is down may come up meanwhile.
///
/// # Errors
/// It did not within the time, or it cannot without a person's help.
pub(crate) async fn run(config: &Config, name: &str, lsn: Option<Lsn>, timeout: Option<f64>) -> Result<()> {
    let target = target(config, name)?;
    let timeout = timeout.map(seconds).transpose()?;
    let lsn = match lsn {
        Some(lsn) => lsn,
        None => everything(config).await?,
    };
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Some(text) = attempt(config, target, lsn, left).await? {
            return print(&format!("{text}\n"));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// A position after everything that the source has now, roles and the values of sequences included: a look of the ticker's
/// own kind puts them into the stream.
async fn everything(config: &Config) -> Result<Lsn> {
    let mut client = connect::source(&config.source.conninfo).await?;
    if let Err(error) = capture::tick(&mut client, false, TICK_PATIENCE).await {
        let failure = Failure::from(error);
        eprintln!("walcast: roles, grants and sequences may be behind: {failure}");
    }
    Ok(capture::passable_lsn(&client).await?)
}

/// One attempt: by the service while it is there, else by a look at the target. `None`: not yet.
async fn attempt(config: &Config, target: &Target, lsn: Lsn, left: Option<Duration>) -> Result<Option<String>> {
    let timeout_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    let request = Request::Wait { target: target.name.clone(), lsn, timeout_ms };
    // A service that dies while it is asked may come back: that is what the time is for.
    match control::ask(&config.log.dir, &request).await {
        Ok(Some(Answer::Done(text))) => return Ok(Some(text)),
        Ok(Some(_)) => return Err(Failure::new("the service's answer does not fit the request")),
        Ok(None) => {}
        Err(failure) if failure.is_lost() => {}
        Err(failure) => return Err(failure),
    }
    let applied = applied_offline(config, target).await;
    match applied {
        Ok(Some(applied)) if applied >= lsn => Ok(Some(format!("target \"{}\" has applied {applied}", target.name))),
        _ if left.is_none_or(|left| !left.is_zero()) => Ok(None),
        Ok(applied) => Err(not_applied(target, applied, lsn)),
        Err(failure) => Err(failure),
    }
}

fn not_applied(target: &Target, applied: Option<Lsn>, lsn: Lsn) -> Failure {
    let applied = applied.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
    let name = &target.name;
    Failure::new(format!("target \"{name}\" has applied {applied}, not {lsn}, and the service is not running"))
        .hint("start it with `walcast run`")
}

fn seconds(number: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(number)
        .map_err(|_| Failure::new(format!("{number} is not a time in seconds")).hint("write --timeout 30").usage())
}
