//! Holding a target between two batches, for as long as somebody wants to look at it there.

use applier::{Desired, State, Status};
use decoder::Lsn;
use std::collections::BTreeSet;
use tokio::sync::watch;

use super::Service;
use super::target::{Target, stopping};
use crate::failure::{Failure, Result};

/// The targets that are held.
#[derive(Default)]
pub(crate) struct Holds {
    names: watch::Sender<BTreeSet<String>>,
}

impl Holds {
    /// Holds targets, once nobody does, until this is dropped: nobody else is to rely on them meanwhile.
    pub(super) async fn take(&self, names: BTreeSet<String>) -> Taken<'_> {
        let mut current = self.names.subscribe();
        if let Some(held) = current.borrow().intersection(&names).next() {
            tracing::info!(target = held, "waiting for a command that holds the target");
        }
        while !self.try_take(&names) {
            let free = current.wait_for(|held| held.is_disjoint(&names)).await.map(drop);
            free.expect("the sender is in self");
        }
        Taken { holds: self, names }
    }

    fn try_take(&self, names: &BTreeSet<String>) -> bool {
        self.names.send_if_modified(|held| {
            let is_free = held.is_disjoint(names);
            if is_free {
                held.extend(names.iter().cloned());
            }
            is_free
        })
    }

    /// Refuses what would let go of a target that somebody relies on.
    ///
    /// # Errors
    /// It is held.
    pub(super) fn check_free(&self, name: &str) -> Result<()> {
        if self.names.borrow().contains(name) { Err(held(name)) } else { Ok(()) }
    }
}

fn held(name: &str) -> Failure {
    Failure::new(format!("target \"{name}\" is held by another command"))
        .hint("`walcast verify`, `resync` and a reload hold a target for a moment: try again")
}

/// Targets that are held until this is dropped.
pub(super) struct Taken<'a> {
    holds: &'a Holds,
    names: BTreeSet<String>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.holds.names.send_modify(|held| held.retain(|name| !self.names.contains(name)));
    }
}

/// A target that is held until this is dropped; then it is wanted what its marks say. Nothing of it is persistent.
pub(crate) struct Hold<'a> {
    service: &'a Service,
    name: String,
    taken: Option<Taken<'a>>,
}

impl Service {
    /// Begins to hold a target; [`Hold::at`] says where it rests.
    ///
    /// # Errors
    /// It is not being applied to, or held already.
    pub(crate) fn hold(&self, name: &str) -> Result<Hold<'_>> {
        let status = self.with_target(name, Target::watch)?;
        check_running(name, &status.borrow())?;
        let names = BTreeSet::from([name.to_owned()]);
        match self.holds.try_take(&names) {
            true => Ok(Hold { service: self, name: name.to_owned(), taken: Some(Taken { holds: &self.holds, names }) }),
            false => Err(held(name)),
        }
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
        drop(self.taken.take());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_reload_waits_for_who_holds_a_target_and_nobody_holds_one_meanwhile() {
        let holds = Holds::default();
        let first = holds.take(names(&["a"])).await;
        let mut second = std::pin::pin!(holds.take(names(&["a", "b"])));
        tokio::select! {
            biased;
            _ = &mut second => panic!("a is held"),
            () = tokio::task::yield_now() => {}
        }
        assert!(holds.check_free("b").is_ok(), "it takes all or none");
        drop(first);
        let taken = second.await;
        assert!(holds.check_free("a").is_err() && holds.check_free("b").is_err() && holds.check_free("c").is_ok());
        assert!(!holds.try_take(&names(&["b", "c"])));
        drop(taken);
        assert!(holds.try_take(&names(&["a", "b", "c"])));
    }
}
