//! `walcast pause`, `resume`, `skip`, `remove`: short requests about one target.

use config::Config;
use decoder::Lsn;

use super::{print, target};
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service::{Marks, forget};

/// Stops applying to a target. Without a service it is noted for the next one.
///
/// # Errors
/// There is no such target.
pub(crate) async fn pause(config: &Config, name: &str) -> Result<()> {
    let request = Request::Pause { target: target(config, name)?.name.clone() };
    ask_or_note(config, name, &request, true).await
}

/// Goes on applying to a target. Without a service it is noted for the next one.
///
/// # Errors
/// There is no such target.
pub(crate) async fn resume(config: &Config, name: &str) -> Result<()> {
    let request = Request::Resume { target: target(config, name)?.name.clone() };
    ask_or_note(config, name, &request, false).await
}

async fn ask_or_note(config: &Config, name: &str, request: &Request, paused: bool) -> Result<()> {
    match control::ask(&config.log.dir, request).await? {
        Some(Answer::Done(text)) => print(&format!("{text}\n")),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => note(config, name, paused),
    }
}

fn note(config: &Config, name: &str, paused: bool) -> Result<()> {
    if !config.log.dir.is_dir() {
        return Err(
            Failure::new("the service is not running and there is no log yet").hint("start it with `walcast run`")
        );
    }
    Marks::new(&config.log.dir).set_paused(name, paused)?;
    let will = if paused { "will be paused" } else { "will be applied to" };
    print(&format!("target \"{name}\" {will} when the service runs\n"))
}

/// Skips the transaction that stopped a target.
///
/// # Errors
/// The service is not running, or this is not the transaction that stopped the target.
pub(crate) async fn skip(config: &Config, name: &str, lsn: Lsn, reason: &str) -> Result<()> {
    let request = Request::Skip { target: target(config, name)?.name.clone(), lsn, reason: reason.to_owned() };
    let text = control::command(&config.log.dir, &request).await?;
    print(&format!("{text}\n"))
}

/// Forgets a target, whether the service runs or not.
///
/// # Errors
/// The target cannot be reached.
pub(crate) async fn remove(config: &Config, name: &str) -> Result<()> {
    let target = target(config, name)?;
    let text = match control::ask(&config.log.dir, &Request::Remove { target: name.to_owned() }).await? {
        Some(Answer::Done(text)) => text,
        Some(_) => return Err(Failure::new("the service's answer does not fit the request")),
        None => forget(config, target).await?,
    };
    print(&format!("{text}\n"))?;
    eprintln!("hint: take it out of the configuration, or the next `walcast run` will show it as new");
    Ok(())
}
