//! What can be said and done about log and targets while the service is down, and what does not need it.

use config::{Config, Target};
use decoder::Lsn;
use segment_log::Identity;

use super::marks::{Marks, Origin};
use super::{pending, stream};
use crate::connect;
use crate::failure::{Failure, Result, with_causes};
use crate::status::{self, OFFLINE, position};

/// Everything, from the log and the targets. What cannot be asked is left out, with the reason.
///
/// # Errors
/// The log cannot be read.
pub(crate) async fn status_offline(config: &Config) -> Result<status::Status> {
    let log = stream::inspect(&config.log.dir)?;
    let end = log.as_ref().map(|log| log.overview.end_lsn);
    let mut targets = Vec::new();
    for target in &config.targets {
        targets.push(target_offline(config, target, end).await);
    }
    Ok(status::Status {
        source: source_offline(config).await,
        log: log.map(|log| stream::overview_view(&log.overview)),
        targets,
    })
}

async fn source_offline(config: &Config) -> status::Source {
    let slot = async {
        let client = connect::source(&config.source.conninfo).await?;
        Ok::<_, Failure>(capture::slot(&client, &config.source.slot).await?)
    };
    let (slot, last_error) = match slot.await {
        Ok(slot) => (slot, None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    let slot = slot.map(stream::slot_view);
    status::Source { state: OFFLINE.to_owned(), slot, last_error, ..Default::default() }
}

async fn target_offline(config: &Config, target: &Target, end: Option<Lsn>) -> status::Target {
    let applied = applied_offline(config, target).await;
    let (applied, last_error) = match applied {
        Ok(applied) => (applied, None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    let waiting = match connect::target(target).await {
        Ok(client) => pending::look(&client).await.unwrap_or_default(),
        // Why it cannot be reached is said already.
        Err(_) => pending::Waiting::default(),
    };
    status::Target {
        name: target.name.clone(),
        state: OFFLINE.to_owned(),
        pending_grants: waiting.grants,
        pending_objects: waiting.objects,
        applied_lsn: applied.map(position),
        // What is visible may not be on the target's disk yet; nobody trims by this.
        checkpoint_lsn: applied.map(position),
        lag_bytes: applied.zip(end).map(|(applied, end)| end.bytes_since(applied).unwrap_or(0)),
        lag_seconds: None,
        last_error,
        ..Default::default()
    }
}

/// The checkpoint of a target; `None` when it has none.
///
/// # Errors
/// It cannot be reached, or nobody knows whose checkpoint to look for.
pub(crate) async fn applied_offline(config: &Config, target: &Target) -> Result<Option<Lsn>> {
    let identity = identity(config).await?;
    applier::checkpoint(&target.conninfo, &identity).await.map_err(|e| failure(target, &e))
}

/// Removes the checkpoint of a target, and what was noted about it.
///
/// # Errors
/// It cannot be reached.
pub(crate) async fn forget(config: &Config, target: &Target) -> Result<String> {
    let identity = identity(config).await?;
    applier::forget(&target.conninfo, &identity).await.map_err(|e| failure(target, &e))?;
    let marks = Marks::new(&config.log.dir);
    marks.set_paused(&target.name, false)?;
    marks.set_bootstrapping(&target.name, None)?;
    marks.set_resyncing(&target.name, None)?;
    Ok(format!("target \"{}\" is forgotten; its tables stay as they are", target.name))
}

/// Declares, without a service, that a target equals the source as it was when the slot was made.
///
/// # Errors
/// Neither log nor slot begin there any more, or the target has a checkpoint already.
pub(crate) async fn declare_offline(config: &Config, target: &Target) -> Result<String> {
    if let Some(log) = stream::inspect(&config.log.dir)? {
        let origin = Marks::new(&config.log.dir).origin();
        return declare_at(target, &log.identity, origin, log.overview.first_lsn).await;
    }
    // There is no log yet: it will begin where the slot stands.
    let (source, slot) = replication::probe(&config.source.conninfo, &config.source.slot).await?;
    let identity = applier::Identity { system_id: source.system_id, slot: config.source.slot.clone() };
    declare(target, &identity, slot.confirmed_flush_lsn).await
}

/// Declares a target at the beginning of a log, if that is where the slot began.
pub(super) async fn declare_at(
    target: &Target,
    log: &Identity,
    origin: Option<Origin>,
    first_lsn: Lsn,
) -> Result<String> {
    match origin {
        Some(origin) if origin.lsn == first_lsn => declare(target, &log.into(), first_lsn).await,
        _ => Err(Failure::new(format!(
            "target \"{}\" cannot be declared without a copy: the log begins at {first_lsn}, after the slot did",
            target.name
        ))
        .hint("only changes that are still in the log can be applied: copy it with `walcast bootstrap`")),
    }
}

async fn declare(target: &Target, identity: &applier::Identity, lsn: Lsn) -> Result<String> {
    applier::declare(&target.conninfo, identity, lsn).await.map_err(|e| failure(target, &e))?;
    Ok(format!("target \"{}\" continues from {lsn}", target.name))
}

/// Whose checkpoint: the log's, else the source's that there will be a log of.
async fn identity(config: &Config) -> Result<applier::Identity> {
    let slot = config.source.slot.clone();
    if let Some(origin) = Marks::new(&config.log.dir).origin() {
        return Ok(applier::Identity { system_id: origin.system_id, slot });
    }
    let (source, _) = replication::probe(&config.source.conninfo, &slot).await?;
    Ok(applier::Identity { system_id: source.system_id, slot })
}

pub(super) fn failure(target: &Target, error: &applier::Error) -> Failure {
    Failure::new(format!("target \"{}\": {}", target.name, with_causes(error))).maybe_hint(error.hint())
}
