//! The task of one target: connect, apply, fall down a tier and climb back, retry, stop, and listen meanwhile.
//!
//! ```text
//!            Desired::Paused                  transient error: backoff
//!   paused ◀───────────────▶ follow ◀──────────────────────────────────┐
//!                              │ └─────────────────────────────────────┘
//!                              │ definite error
//!                              ▼
//!            stopped, new or desync ──Desired::Run sent again, or Skip──▶ follow
//! ```
//!
//! Cancelling it at any point loses nothing: where the target is stands on the target.

use std::sync::Arc;
use std::time::Duration;

use decoder::Lsn;
use segment_log::Log;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::error::{Class, Error};
use crate::follow::Follower;
use crate::observer::Observer;
use crate::parallel::Sharing;
use crate::status::{Command, Desired, State, Status, TargetOptions};

/// A batch under way when the task is to pause or end gets this long.
const GRACE: Duration = Duration::from_secs(3);

/// DDL did not get its locks. Long queries come and go: they are looked for again more often than a lost server.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const LOCK_PAUSE_MAX: Duration = Duration::from_secs(3);

/// A skip that was accepted and is not done yet.
pub(crate) struct PendingSkip {
    pub(crate) lsn: Lsn,
    pub(crate) reason: String,
    reply: oneshot::Sender<Result<(), Error>>,
}

impl PendingSkip {
    /// Answers the operator.
    pub(crate) fn answer(self, result: Result<(), Error>) {
        answer(self.reply, result);
    }
}

/// Applies the log to one target until `shutdown`.
///
/// # Errors
/// Only when the log fails; whatever a target does is shown in `status` and retried, or waits for a command.
pub async fn run(
    options: TargetOptions,
    log: Log,
    desired: watch::Receiver<Desired>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    observer: Arc<dyn Observer>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let control = Control { desired, shutdown };
    let (sharing, backoff) = (Sharing::default(), Backoff::default());
    let follower = Follower { options, log, status, observer, commands, skip: None, lost: None, sharing, backoff };
    Task { control, follower }.run().await
}

/// What the task is wanted to do.
#[derive(Clone)]
pub(crate) struct Control {
    desired: watch::Receiver<Desired>,
    shutdown: CancellationToken,
}

impl Control {
    /// It is to pause or to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.shutdown.is_cancelled() || *self.desired.borrow() == Desired::Paused
    }

    /// Returns when [`Control::is_interrupted`].
    pub(crate) async fn interrupted(&self) {
        let mut desired = self.desired.clone();
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            // Only whether it failed is kept: what `wait_for` returns holds a lock.
            closed = async { desired.wait_for(|desired| *desired == Desired::Paused).await.is_err() } => {
                if closed {
                    self.shutdown.cancelled().await; // nobody is left to pause it
                }
            }
        }
    }

    /// The position that nothing is to be applied beyond; `None` also when nothing is to be applied at all. A stale answer
    /// in `status` is taken back while nobody can ask anew: who asks for the same again must not read it.
    pub(crate) fn limit(&self, status: &watch::Sender<Status>) -> Option<Lsn> {
        let desired = self.desired.borrow();
        let limit = desired.limit();
        status.send_if_modified(|status| {
            let stale = status.held.is_some() && status.held != limit;
            if stale {
                status.held = None;
            }
            stale
        });
        limit
    }

    /// Returns when [`Control::limit`] is another one.
    pub(crate) async fn limit_changed(&self, limit: Option<Lsn>) {
        let mut desired = self.desired.clone();
        if desired.wait_for(|desired| desired.limit() != limit).await.is_err() {
            self.shutdown.cancelled().await; // nobody is left to change it
        }
    }

    /// Returns when something was sent, the same again included, or the task is to end.
    async fn sent(&mut self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            sent = self.desired.changed() => {
                if sent.is_err() {
                    self.shutdown.cancelled().await;
                }
            }
        }
    }
}

struct Task {
    control: Control,
    follower: Follower,
}

impl Task {
    async fn run(mut self) -> Result<(), Error> {
        while !self.control.shutdown.is_cancelled() {
            let desired = *self.control.desired.borrow_and_update();
            if desired == Desired::Paused {
                self.follower.set_state(State::Paused);
                self.rest().await;
                continue;
            }
            match self.follow().await {
                Ok(()) => {}
                Err(error) => self.react(error).await?,
            }
        }
        Ok(())
    }

    /// Follows the log until an error, or until it is to pause or end.
    async fn follow(&mut self) -> Result<(), Error> {
        let control = self.control.clone();
        let late = async {
            control.interrupted().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = self.follower.follow(&control) => result,
            () = late => Ok(()),
        }
    }

    async fn react(&mut self, error: Error) -> Result<(), Error> {
        self.follower.note(&error);
        match error.class() {
            Class::Fatal => return Err(error),
            Class::Transient => {
                let delay = match error.sqlstate() {
                    Some(LOCK_NOT_AVAILABLE) => self.follower.backoff.next().min(LOCK_PAUSE_MAX),
                    _ => self.follower.backoff.next(),
                };
                tracing::warn!(target = %self.follower.options.name, error = %error.stopped_by().message, ?delay, "retrying");
                self.follower.observer.retry();
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = self.control.sent() => {}
                }
            }
            Class::Definite => self.stop(error).await,
        }
        Ok(())
    }

    /// Waits for a person.
    async fn stop(&mut self, error: Error) {
        let why = error.stopped_by();
        tracing::error!(target = %self.follower.options.name, lsn = ?why.lsn, error = %why.message, "stopped");
        if let Some(skip) = self.follower.skip.take() {
            skip.answer(Err(error));
        }
        loop {
            tokio::select! {
                () = self.control.sent() => return,
                command = self.follower.commands.recv() => match command {
                    Some(Command::Skip { lsn, reason, reply }) if why.lsn == Some(lsn) => {
                        self.follower.skip = Some(PendingSkip { lsn, reason, reply });
                        return;
                    }
                    Some(command) => refuse(command, why.lsn),
                    None => return self.control.sent().await,
                },
            }
        }
    }

    /// While paused: refuses commands until something else is wanted.
    async fn rest(&mut self) {
        loop {
            tokio::select! {
                () = self.control.sent() => return,
                command = self.follower.commands.recv() => match command {
                    Some(command) => refuse(command, None),
                    None => return self.control.sent().await,
                },
            }
        }
    }
}

/// Without a session: only what stopped a target can be skipped, and what a session reads is read by the next one.
fn refuse(command: Command, stopped: Option<Lsn>) {
    match command {
        Command::Skip { lsn, reply, .. } => answer(reply, Err(Error::NotStoppedThere { asked: lsn, stopped })),
        Command::Reload { reply } => answer(reply, Ok(())),
    }
}

/// Answers whoever asked, who may have gone.
pub(crate) fn answer(reply: oneshot::Sender<Result<(), Error>>, result: Result<(), Error>) {
    if reply.send(result).is_err() {
        tracing::debug!("nobody waits for the answer to a command");
    }
}
