//! Holding a target between two batches, for as long as somebody wants to look at it there.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use applier::{Desired, State, Status};
use decoder::Lsn;

use super::Service;
use super::target::{Target, stopping};
use crate::failure::{Failure, Result};

/// The targets that are held.
#[derive(Default)]
pub(crate) struct Holds {
    names: Mutex<BTreeSet<String>>,
}

impl Holds {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what would let go of a target that somebody relies on.
    ///
    /// # Errors
    /// It is held.
    pub(super) fn check_free(&self, name: &str) -> Result<()> {
        match self.names().contains(name) {
            true => Err(Failure::new(format!("target \"{name}\" is held by another command"))
                .hint("`walcast verify` and `resync` hold a target for a moment: try again")),
            false => Ok(()),
        }
    }
}

/// A target that is held until this is dropped; then it is wanted what its marks say. Nothing of it is persistent.
pub(crate) struct Hold<'a> {
    service: &'a Service,
    name: String,
}

impl Service {
    /// Begins to hold a target; [`Hold::at`] says where it rests.
    ///
    /// # Errors
    /// It is not being applied to, or held already.
    pub(crate) fn hold(&self, name: &str) -> Result<Hold<'_>> {
        let status = self.with_target(name, Target::watch)?;
        check_running(name, &status.borrow())?;
        self.holds.check_free(name)?;
        self.holds.names().insert(name.to_owned());
        Ok(Hold { service: self, name: name.to_owned() })
    }
}

impl Hold<'_> {
    /// Lets the target apply every transaction with a `commit_lsn` before `limit` ([`Lsn::ZERO`]: none but those of the
    /// batch under way), and returns what it has applied once it rests there.
    ///
    /// # Errors
    /// It stopped, or was paused.
    pub(crate) async fn at(&self, limit: Lsn) -> Result<Option<Lsn>> {
        let mut status = self.service.with_target(&self.name, Target::watch)?;
        self.service.with_target(&self.name, |t| t.set_desired(Desired::RunTo(limit)))?;
        let ended = |s: &Status| s.held == Some(limit) || check_running(&self.name, s).is_err();
        let last = status.wait_for(ended).await.map_err(|_| stopping())?.clone();
        check_running(&self.name, &last)?;
        Ok(last.applied_lsn)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.service.holds.names().remove(&self.name);
        self.service.restore(&self.name);
    }
}

/// Refuses a target that is not being applied to.
pub(super) fn check_running(name: &str, status: &Status) -> Result<()> {
    if !matches!(status.state, State::New | State::Paused | State::Stopped | State::Desync) {
        return Ok(());
    }
    let error = status.last_error.as_ref().filter(|_| status.state != State::Paused);
    let why = error.map(|e| format!(": {}", e.message)).unwrap_or_default();
    let hint = error.and_then(|e| e.hint.clone());
    Err(Failure::new(format!("target \"{name}\" is {}{why}", status.state))
        .hint(hint.unwrap_or_else(|| "`walcast resume` it first".to_owned())))
}
