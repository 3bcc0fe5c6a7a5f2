//! Targets that are being copied by a command: the log is kept for them, and their progress is shown.
//!
//! The mark of a copy is written before the copy's snapshot is taken, so that the log holds every transaction that the
//! snapshot does not. Retention reads the marks each time; the service keeps none of them in memory. A mark goes when the
//! target's applier says what the target has on disk: from then on the checkpoint keeps the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use applier::{Desired, State, Status};
use bootstrap::Lateness;
use decoder::Lsn;
use tokio::sync::watch;

use super::Service;
use super::target::{Target, stopping};
use crate::failure::{Failure, Result};
use crate::status::Progress;

/// How long the end of a copy waits for the applier's first session.
const FIRST_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What the copying commands have told.
#[derive(Default)]
pub(crate) struct Copying {
    progress: Mutex<BTreeMap<String, Progress>>,
    /// The same for metrics; it stays when the copy is done.
    last: Mutex<BTreeMap<String, Progress>>,
}

impl Copying {
    /// How far the copy of a target is.
    pub(crate) fn progress(&self, target: &str) -> Option<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).get(target).copied()
    }

    fn set(&self, target: &str, progress: Progress) {
        for map in [&self.progress, &self.last] {
            map.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_owned(), progress);
        }
    }

    /// What was told last of a copy that is under way or done.
    pub(super) fn last(&self) -> BTreeMap<String, Progress> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The copy has ended.
    pub(super) fn end(&self, target: &str) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }

    pub(super) fn forget(&self, target: &str) {
        self.end(target);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }
}

impl Service {
    /// Keeps the log from its present end on for a target that is about to be copied, or from where it is kept already.
    ///
    /// # Errors
    /// The target has a checkpoint.
    pub(crate) fn begin_bootstrap(self: &Arc<Self>, name: &str) -> Result<Lsn> {
        let target = self.configured(name)?;
        let log = self.log().ok_or_else(stopping)?;
        // It may have been forgotten while the service ran.
        self.start_target(&target, log);
        if self.with_target(name, |t| t.watch().borrow().applied_lsn.is_some())? {
            return Err(Failure::new(format!("target \"{name}\" has been copied already"))
                .hint("`walcast resync` copies it again, `walcast remove` forgets it"));
        }
        let positions = log.positions();
        let kept = self.marks.bootstrapping(name).filter(|lsn| *lsn >= positions.first_lsn);
        let lsn = kept.unwrap_or(positions.appended_lsn);
        self.marks.set_bootstrapping(name, Some(lsn))?;
        // Trimming may have been under way when the mark was written; the end of the log is never trimmed.
        match log.positions().first_lsn <= lsn {
            true => Ok(lsn),
            false => Err(given_up(name)),
        }
    }

    /// How late the targets have been within this time that are applied to, for copies to be considerate of.
    pub(crate) fn lateness(&self, window: Duration) -> Vec<Lateness> {
        self.targets().values().filter_map(|target| target.lateness(window)).collect()
    }

    /// Notes how far the copy of a target is.
    ///
    /// # Errors
    /// There is no such target.
    pub(crate) fn bootstrap_progress(&self, name: &str, progress: Progress) -> Result<String> {
        self.configured(name)?;
        if self.is_given_up(name) {
            return Err(given_up(name));
        }
        self.copying.set(name, progress);
        Ok("noted".to_owned())
    }

    /// Begins to apply to a target that was copied and has its checkpoint.
    ///
    /// # Errors
    /// The log was given up meanwhile (`retain_max`), the target has no checkpoint, or it stopped at once.
    pub(crate) async fn end_bootstrap(self: &Arc<Self>, name: &str) -> Result<String> {
        let target = self.configured(name)?;
        if self.is_given_up(name) {
            return Err(given_up(name));
        }
        self.start_target(&target, self.log().ok_or_else(stopping)?);
        if self.marks.is_paused(name) {
            self.copying.end(name);
            return Ok(format!("target \"{name}\" is copied, and paused"));
        }
        let mut status = self.with_target(name, Target::watch)?;
        status.mark_unchanged();
        self.with_target(name, |t| t.set_desired(Desired::Run))?;
        let begun = tokio::time::timeout(FIRST_SESSION_TIMEOUT, begun(name, status)).await;
        let text = begun.unwrap_or_else(|_| Ok(format!("target \"{name}\" is applied to once it can be reached")))?;
        self.copying.end(name);
        Ok(text)
    }

    /// From where the log is kept for copies.
    pub(super) fn pins(&self) -> Vec<Option<Lsn>> {
        let config = self.config();
        let names = || config.targets.iter().map(|target| &target.name);
        let tables = names().filter_map(|name| self.marks.resyncing(name)).map(|resync| resync.from);
        names().filter_map(|name| self.marks.bootstrapping(name)).chain(tables).map(Some).collect()
    }

    /// Releases what the targets' checkpoints hold by now.
    pub(super) fn release_pins(&self) {
        for target in self.config().targets.iter().filter(|t| self.marks.bootstrapping(&t.name).is_some()) {
            let held = self.with_target(&target.name, |t| t.checkpoint_lsn().is_some()).unwrap_or(false);
            if held && let Err(failure) = self.marks.set_bootstrapping(&target.name, None) {
                tracing::warn!(error = %failure, "could not release what was kept for a copy, trying again");
            }
        }
    }

    /// What a copied target needs is not in the log any more.
    pub(super) fn is_given_up(&self, name: &str) -> bool {
        let first = self.log().map(|log| log.positions().first_lsn);
        self.marks.bootstrapping(name).is_some_and(|pin| Some(pin) < first)
    }

    /// What the status says of a target that is being copied instead of `new`.
    pub(super) fn show_copying(&self, view: &mut crate::status::Target) {
        if view.state != State::New.as_str() || self.marks.bootstrapping(&view.name).is_none() {
            return;
        }
        view.bootstrap = self.copying.progress(&view.name);
        let (state, error) = match self.is_given_up(&view.name) {
            true => (State::Desync, Some(given_up(&view.name).to_string())),
            false => (State::Bootstrapping, None),
        };
        (view.state, view.last_error) = (state.as_str().to_owned(), error);
    }
}

/// Returns once the applier has read the target's checkpoint and found it in the log.
async fn begun(name: &str, mut status: watch::Receiver<Status>) -> Result<String> {
    loop {
        let current = status.borrow_and_update().clone();
        if let Some(applied) = current.applied_lsn {
            return Ok(format!("target \"{name}\" continues from {applied}"));
        }
        status.changed().await.map_err(|_| stopping())?;
        let current = status.borrow().clone();
        if matches!(current.state, State::New | State::Stopped | State::Desync) {
            let error = current.last_error;
            let why = error.as_ref().map(|e| format!(": {}", e.message)).unwrap_or_default();
            return Err(Failure::new(format!("target \"{name}\" is {}{why}", current.state))
                .maybe_hint(error.and_then(|e| e.hint)));
        }
    }
}

/// The answer when the log could not be kept.
fn given_up(name: &str) -> Failure {
    Failure::new(format!("the log no longer holds what target \"{name}\" needs: it grew beyond retain_max"))
        .hint("raise retain_max in [log], then run the same command again: it copies what is missing anew")
}
