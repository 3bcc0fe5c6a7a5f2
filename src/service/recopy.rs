//! Tables that the stream cannot bring up to date are copied again by the service itself.
//!
//! A command that rewrites a table with values that no message carries, or that publishes one that holds rows already,
//! leaves the target's table set aside (`walcast.copied` there, without a position). It is then copied in the way of
//! `walcast resync TARGET --table T`, one table of a target after the other, until it succeeds. What is under way is a mark
//! in the log's directory, so a restart goes on with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use applier::{State, Status};
use bootstrap::{Progress, Schema};
use tokio_util::sync::CancellationToken;

use super::Service;
use super::resync::{By, Table, shown};
use super::target::{Target, stopping};
use crate::cli::Effort;
use crate::commands::bootstrap::options;
use crate::failure::{Failure, Result, with_causes};
use crate::status;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A copy that did not become level so many times is begun anew: the table may have been altered since.
const LEVEL_TRIES: u32 = 2;

/// Why a table is still to be copied, by target.
#[derive(Default)]
pub(super) struct Recopying {
    errors: Mutex<BTreeMap<String, String>>,
}

impl Recopying {
    fn errors(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, target: &str) {
        self.errors().remove(target);
    }
}

/// Copies a target's tables until the shutdown.
pub(super) async fn run(service: Arc<Service>, name: String, shutdown: CancellationToken) {
    tokio::select! {
        () = copy_all(&service, &name) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn copy_all(service: &Arc<Service>, name: &str) {
    let (mut pause, mut tries) = (RETRY_FIRST, 0);
    loop {
        release_stale(service, name).await;
        let Some(table) = next(service, name).await else {
            tokio::time::sleep(RETRY_FIRST).await;
            continue;
        };
        tracing::info!(target = name, table = shown(&table), "copying a table again");
        match copy(service, name, &table, &mut tries).await {
            Ok(text) => {
                tracing::info!("{text}");
                service.recopying.errors().remove(name);
                (pause, tries) = (RETRY_FIRST, 0);
            }
            Err(failure) => {
                tracing::warn!(target = name, table = shown(&table), error = %failure, "a table is still to be copied");
                service.recopying.errors().insert(name.to_owned(), failure.to_string());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LONGEST);
            }
        }
    }
}

/// The table to be copied now, once there is one and the target is being applied to; `None` if the target is not there.
async fn next(service: &Service, name: &str) -> Option<Table> {
    let mut status = service.with_target(name, Target::watch).ok()?;
    let found = status.wait_for(|s| is_running(s) && wanted(service, name, s).is_some()).await.ok()?.clone();
    wanted(service, name, &found)
}

fn is_running(status: &Status) -> bool {
    status.connected && matches!(status.state, State::CatchingUp | State::Streaming | State::Bootstrapping)
}

/// One that was begun first. What a person copies again is left to that person.
fn wanted(service: &Service, name: &str, status: &Status) -> Option<Table> {
    if status.recopy.is_empty() {
        return None;
    }
    match service.marks.resyncing(name) {
        Some(mark) if !mark.by_service => None,
        Some(mark) if status.recopy.contains(&mark.table) => Some(mark.table),
        _ => status.recopy.first().cloned(),
    }
}

/// A table that was dropped, or renamed, while it was to be copied keeps no log.
async fn release_stale(service: &Service, name: &str) {
    let Some(mark) = service.marks.resyncing(name).filter(|mark| mark.by_service) else { return };
    let Ok(mut status) = service.with_target(name, Target::watch) else { return };
    let Ok(stale) = status.wait_for(is_running).await.map(|s| !s.recopy.contains(&mark.table)) else { return };
    if stale && let Err(failure) = service.marks.set_resyncing(name, None) {
        tracing::warn!(target = name, error = %failure, "could not release what was kept for a copy, trying again");
    }
}

async fn copy(service: &Arc<Service>, name: &str, table: &Table, tries: &mut u32) -> Result<String> {
    let target = service.configured(name)?;
    if *tries >= LEVEL_TRIES {
        service.marks.set_resyncing(name, None)?;
        *tries = 0;
    }
    let pinned = service.begin_resync(name, table, By::Service).await?;
    // The table is copied as the source has it now: what led to that should have been done to the target's.
    let mut status = service.with_target(name, Target::watch)?;
    let applied = status.wait_for(|s| s.applied_lsn >= Some(pinned)).await.map(drop);
    applied.map_err(|_| stopping())?;
    let options = options(
        &service.config(),
        &target,
        Schema::Exists,
        Effort { jobs: Some(1), max_rate: None, considerate: false },
    )
    .await?;
    let lane = options.identity.lane(&table.0, &table.1);
    let copied = applier::checkpoint(&target.conninfo, &lane).await;
    let copied = copied.map_err(|e| Failure::new(with_causes(&e)).maybe_hint(e.hint()))?;
    if copied.is_none_or(|lsn| lsn < pinned) {
        bootstrap::copy_table(&options, (&table.0, &table.1), &Progress::default()).await?;
    }
    *tries += 1;
    service.end_resync(name, table).await
}

impl Service {
    /// Tables that are set aside, and why copying them again fails, if it does.
    pub(super) fn show_set_aside(&self, view: &mut status::Target, tables: &[Table]) {
        view.set_aside = tables.iter().map(shown).collect();
        if view.last_error.is_none() && !view.set_aside.is_empty() {
            let errors = self.recopying.errors();
            view.last_error = errors.get(&view.name).map(|why| format!("tables are still to be copied again: {why}"));
        }
    }
}
