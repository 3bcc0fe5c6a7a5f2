//! What the control socket asks of the service.

use std::sync::Arc;
use std::time::Duration;

use applier::{Desired, State, Status};
use decoder::Lsn;
use tokio::sync::watch;

use super::target::{self, Target, stopping};
use super::{Service, offline, stream};
use crate::failure::{Failure, Result};
use crate::status;

/// How soon is looked for the new applier of a target whose old one has ended.
const RENEWAL_PAUSE: Duration = Duration::from_millis(20);

impl Service {
    /// Where everything stands.
    pub(crate) fn status(&self) -> status::Status {
        let head = self.head();
        let targets = self.targets();
        let of = |target: &config::Target| match targets.get(&target.name) {
            Some(running) => {
                let mut view = running.view(head, |lsn| self.age(lsn)).0;
                self.show_copying(&mut view);
                self.show_set_aside(&mut view, &running.watch().borrow().recopy);
                self.show_pending(&mut view);
                Some(view)
            }
            // Not started yet, or forgotten.
            None if self.log().is_none() => {
                Some(status::Target { name: target.name.clone(), state: "new".to_owned(), ..Default::default() })
            }
            None => None,
        };
        status::Status {
            source: self.source_view(),
            log: self.log().map(stream::log_view),
            targets: self.config().targets.iter().filter_map(of).collect(),
        }
    }

    /// Stops applying to a target, over restarts too.
    ///
    /// # Errors
    /// There is no such target.
    pub(crate) async fn pause(&self, name: &str) -> Result<String> {
        self.holds.check_free(name)?;
        let status = self.with_target(name, Target::watch)?;
        self.marks.set_paused(name, true)?;
        self.with_target(name, |t| t.set_desired(Desired::Paused))?;
        target::until(status, |s| s.state == State::Paused).await?;
        Ok(format!("target \"{name}\" is paused"))
    }

    /// Goes on applying to a target that is paused or stopped.
    ///
    /// # Errors
    /// There is no such target.
    pub(crate) async fn resume(&self, name: &str) -> Result<String> {
        self.holds.check_free(name)?;
        let mut status = self.with_target(name, Target::watch)?;
        self.marks.set_paused(name, false)?;
        let before = status.borrow_and_update().state;
        self.with_target(name, |t| t.set_desired(Desired::Run))?;
        if matches!(before, State::Paused | State::Stopped) {
            // A target that stops again at once may skip the states in between: any news will do, and no news too.
            let _ = tokio::time::timeout(Duration::from_secs(2), status.changed()).await;
        }
        Ok(format!("target \"{name}\" is being applied to"))
    }

    /// Returns when the target has applied the position.
    ///
    /// # Errors
    /// It did not within the time, or it cannot without a person's help.
    pub(crate) async fn wait(&self, name: &str, lsn: Lsn, timeout: Option<Duration>) -> Result<String> {
        let applied = async {
            loop {
                let status = self.with_target(name, Target::watch)?;
                if let Some(result) = applied(name, status, lsn).await {
                    return result;
                }
                // A target that a reload starts anew is still to be waited for.
                if self.shutdown.is_cancelled() {
                    return Err(stopping());
                }
                tokio::time::sleep(RENEWAL_PAUSE).await;
            }
        };
        match timeout {
            None => applied.await,
            Some(timeout) => match tokio::time::timeout(timeout, applied).await {
                Ok(result) => result,
                Err(_) => {
                    let status = self.with_target(name, |t| t.watch().borrow().clone())?;
                    Err(too_late(name, &status, lsn, timeout))
                }
            },
        }
    }

    /// Skips the transaction that stopped a target.
    ///
    /// # Errors
    /// Another one stopped it, or none.
    pub(crate) async fn skip(&self, name: &str, lsn: Lsn, reason: String) -> Result<String> {
        let commands = self.with_target(name, Target::commands)?;
        target::skip(commands, lsn, reason).await?;
        Ok(format!("transaction {lsn} was skipped on target \"{name}\", see walcast.skipped there"))
    }

    /// Declares that a target equals the source at the beginning of the log.
    ///
    /// # Errors
    /// The log begins later by now, or the target has a checkpoint already.
    pub(crate) async fn declare(self: &Arc<Self>, name: &str) -> Result<String> {
        let target = self.configured(name)?;
        let log = self.log().ok_or_else(stopping)?;
        let origin = self.marks.origin();
        let first_lsn = log.positions().first_lsn;
        let text = offline::declare_at(&target, log.identity(), origin, first_lsn).await?;
        // It may have been forgotten while the service ran.
        self.start_target(&target, log);
        self.restore(name);
        Ok(text)
    }

    /// Stops applying to a target and forgets it. One that cannot be forgotten is applied to as before: if it were only
    /// left alone, the log would be trimmed of what it needs, and no status would show it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn remove(&self, name: &str) -> Result<String> {
        self.holds.check_free(name)?;
        let configured = self.configured(name)?;
        let _restored = Restored { service: self, name };
        if let Ok(status) = self.with_target(name, Target::watch) {
            self.with_target(name, |t| t.set_desired(Desired::Paused))?;
            target::until(status, |s| s.state == State::Paused).await?;
        }
        let text = offline::forget(&self.config(), &configured).await?;
        let running = self.targets().remove(name);
        if let Some(running) = running {
            running.stop().await;
        }
        self.forget_target(name);
        Ok(text)
    }

    /// The target is wanted again what its marks say; nothing if it is gone.
    pub(super) fn restore(&self, name: &str) {
        let desired = if self.marks.is_paused(name) { Desired::Paused } else { Desired::Run };
        if let Some(target) = self.targets().get(name) {
            target.set_desired(desired);
        }
    }

    pub(super) fn configured(&self, name: &str) -> Result<config::Target> {
        self.config().target(name).cloned().ok_or_else(|| unknown(name))
    }

    pub(super) fn with_target<T>(&self, name: &str, use_it: impl FnOnce(&Target) -> T) -> Result<T> {
        self.targets().get(name).map(use_it).ok_or_else(|| unknown(name))
    }
}

/// Calls [`Service::restore`] when dropped: the asking client may go away at any time.
struct Restored<'a> {
    service: &'a Service,
    name: &'a str,
}

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.service.restore(self.name);
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("the service has no target \"{}\"", name.escape_debug()))
        .hint("the service goes by the configuration that it read last: reload it (SIGHUP) after a change")
}

/// `None` when the applier has ended without it.
async fn applied(name: &str, mut status: watch::Receiver<Status>, lsn: Lsn) -> Option<Result<String>> {
    let done = |s: &Status| s.applied_lsn.is_some_and(|applied| applied >= lsn);
    let ended = |s: &Status| done(s) || matches!(s.state, State::Stopped | State::Desync);
    let last = status.wait_for(|s| ended(s)).await.ok()?.clone();
    Some(match done(&last) {
        true => Ok(format!("target \"{name}\" has applied {lsn}")),
        false => {
            let why = last.last_error.as_ref().map(|e| format!(": {}", e.message)).unwrap_or_default();
            let hint = last.last_error.and_then(|e| e.hint);
            Err(Failure::new(format!("target \"{name}\" is {}{why}", last.state))
                .hint(hint.unwrap_or_else(|| "walcast status shows its last error".to_owned())))
        }
    })
}

fn too_late(name: &str, status: &Status, lsn: Lsn, timeout: Duration) -> Failure {
    let applied = status.applied_lsn.map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
    let state = status.state;
    let seconds = timeout.as_secs_f64();
    Failure::new(format!("target \"{name}\" has applied {applied}, not {lsn}, after {seconds} s; it is {state}"))
        .hint("walcast status shows what it does")
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::marks::Origin;
    use super::*;

    const START: Lsn = Lsn::from_u64(0x1000);

    fn options(service: &Service) -> segment_log::Options {
        let identity = segment_log::Identity {
            system_id: 1,
            timeline: 1,
            database: "app".into(),
            slot: "walcast".into(),
            publication: "walcast".into(),
        };
        let dir = service.config().log.dir.clone();
        segment_log::Options {
            dir,
            segment_size: 1 << 20,
            retain_min: 0,
            identity,
            start: START,
            on_sync: Arc::new(|_| ()),
        }
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_forgotten_is_applied_to_as_before() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing listens on port 1.
        let nowhere = "conninfo = 'host=127.0.0.1 port=1 user=x'\n";
        let text = format!("[source]\n{nowhere}[log]\ndir = 'log'\n[[target]]\nname = 'berlin'\n{nowhere}");
        let config = config::Config::parse(&dir.path().join("walcast.toml"), &text).unwrap();
        let service = Arc::new(Service::new(config, CancellationToken::new()));
        let (_writer, log) = segment_log::open(options(&service)).unwrap();
        service.marks.set_origin(Origin { lsn: START, system_id: 1 }).unwrap();
        service.start_targets(&log);
        assert!(service.remove("berlin").await.is_err());
        assert_eq!(service.needed(), [None], "it still holds the log");
        let mut status = service.with_target("berlin", Target::watch).unwrap();
        status.wait_for(|s| s.state == State::CatchingUp).await.unwrap();
    }
}
