//! One target as the service holds it: the seam to `applier`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use applier::{Command, Desired, State, Status, StoppedBy, TargetOptions};
use bootstrap::Lateness;
use decoder::{Lsn, PgTimestamp};
use segment_log::Log;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::observer::Recorder;
use super::tables::Tables;
use crate::failure::{Failure, Result, with_causes};
use crate::status::{self, position};

/// How long a command waits for the applier to take notice.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// A target that is further behind has another reason for it than a copy.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// A target and its applier's task.
pub(crate) struct Target {
    name: String,
    desired: watch::Sender<Desired>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A defect of walcast's has ended what applies to a target.
fn stop_for_good(target: &str, status: &watch::Sender<Status>, error: &tokio::task::JoinError) {
    tracing::error!(target, %error, "what applies to the target has ended");
    let why = StoppedBy {
        lsn: None,
        xid: None,
        relation: None,
        sqlstate: None,
        message: "what applies to the target has ended by a defect of walcast".to_owned(),
        hint: Some(
            "restart the service: the target goes on from its checkpoint; the log says where it happened".to_owned(),
        ),
    };
    status.send_modify(|status| {
        (status.state, status.connected) = (State::Stopped, false);
        status.last_error = Some(why);
    });
}

/// What the lag is measured against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The end of the source's WAL, as far as known.
    pub lsn: Option<Lsn>,
    /// How long the source has been away; zero while it streams.
    pub silence: Duration,
    /// Age of the oldest WAL that the source has not decoded.
    pub unread: Duration,
}

impl Target {
    /// Starts applying.
    pub(crate) fn start(options: TargetOptions, log: Log, paused: bool, stop: CancellationToken) -> Target {
        let name = options.name.clone();
        let (desired, desired_receiver) = watch::channel(if paused { Desired::Paused } else { Desired::Run });
        let (commands, command_receiver) = mpsc::channel(1);
        let (status_sender, status) = watch::channel(Status::initial());
        let recorder = Arc::new(Recorder::new(&name));
        let (shutdown, label, observer) = (stop.clone(), name.clone(), Arc::clone(&recorder));
        let last_words = status_sender.clone();
        let run = applier::run(options, log, desired_receiver, command_receiver, status_sender, observer, shutdown);
        let task = tokio::spawn(async move {
            // A task of its own, so that a panic ends only that, and is seen.
            match tokio::spawn(run).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(target = label, error = with_causes(&error), "cannot apply"),
                Err(error) => stop_for_good(&label, &last_words, &error),
            }
        });
        Target { name, desired, commands, status, recorder, stop, tasks: vec![task] }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands; changes are told.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How late it has been within this time. `None` if it is not applied to, or is so far behind that something else than
    /// a copy is the reason.
    pub(super) fn lateness(&self, window: Duration) -> Option<Lateness> {
        let status = self.status.borrow();
        let applies = status.connected && matches!(status.state, State::Streaming | State::CatchingUp);
        let behind = age(status.oldest_unapplied);
        drop(status);
        (applies && behind < BEHIND_MAX).then(|| self.recorder.lately().within(window, &self.name))
    }

    /// What was applied to which table.
    pub(crate) fn tables(&self) -> &Tables {
        self.recorder.tables()
    }

    /// As the applier would.
    #[cfg(test)]
    pub(crate) fn observe(&self, report: &applier::BatchReport<'_>) {
        applier::Observer::batch(&*self.recorder, report);
    }

    /// Changes that were applied since the start.
    pub(crate) fn changes(&self) -> u64 {
        self.recorder.changes()
    }

    /// The position below which it does not need the log any more; `None` while that is not known.
    pub(crate) fn checkpoint_lsn(&self) -> Option<Lsn> {
        self.status.borrow().checkpoint_lsn
    }

    /// Whether it needs what the log holds: not while it is new, and not when what it needed is gone.
    pub(crate) fn needs_log(&self) -> bool {
        !matches!(self.status.borrow().state, State::New | State::Desync)
    }

    /// Says what the operator wants; said again, it makes a stopped target try once more.
    pub(crate) fn set_desired(&self, desired: Desired) {
        self.desired.send_replace(desired);
    }

    /// The way to ask for a skip.
    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Runs something beside the applier that ends with it.
    pub(crate) fn accompany<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        run: impl FnOnce(CancellationToken) -> F,
    ) {
        self.tasks.push(tokio::spawn(run(self.stop.clone())));
    }

    /// Begins to stop applying. What is returned tells until the applier has ended.
    pub(crate) fn end(&self) -> watch::Receiver<Status> {
        self.stop.cancel();
        self.watch()
    }

    /// Stops applying and waits until it has stopped.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(target = self.name, %error, "a task of the target failed");
            }
        }
    }

    /// For status and metrics. `age` says for how long the source has had WAL beyond a position.
    pub(crate) fn view(&self, head: Head, age: impl Fn(Option<Lsn>) -> Duration) -> (status::Target, bool) {
        let current = self.status.borrow().clone();
        let mut view = view(&self.name, &current, head);
        if let (Some(seconds), true) = (&mut view.lag_seconds, is_blind(&current)) {
            *seconds = seconds.max(age(current.applied_lsn).as_secs_f64());
        }
        (view, current.connected)
    }
}

/// Returns when the target's status has become so.
pub(crate) async fn until(mut status: watch::Receiver<Status>, condition: impl Fn(&Status) -> bool) -> Result<()> {
    match tokio::time::timeout(NOTICE_TIMEOUT, status.wait_for(|s| condition(s))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(stopping()),
        Err(_) => Err(Failure::new("the target's applier does not answer").hint("walcast status shows what it does")),
    }
}

/// Has the applier skip a transaction.
pub(crate) async fn skip(commands: mpsc::Sender<Command>, lsn: Lsn, reason: String) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    let sent = commands.send(Command::Skip { lsn, reason, reply }).await;
    sent.map_err(|_| stopping())?;
    let skipped = answer.await.map_err(|_| stopping())?;
    skipped.map_err(|e| Failure::new(with_causes(&e)).maybe_hint(e.hint()))
}

/// Has the applier look again at what it has to pass over. A session that is lost meanwhile looks when it is back.
pub(crate) async fn reload(commands: mpsc::Sender<Command>) -> Result<()> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Reload { reply }).await.map_err(|_| stopping())?;
    // No answer: the session broke over it, and the next one looks before it applies anything.
    answer.await.unwrap_or(Ok(())).map_err(|e| Failure::new(with_causes(&e)).maybe_hint(e.hint()))
}

/// The answer when the applier has gone.
pub(crate) fn stopping() -> Failure {
    Failure::new("the service is stopping").hint("start it again with `walcast run`")
}

fn view(name: &str, current: &Status, head: Head) -> status::Target {
    status::Target {
        name: name.to_owned(),
        state: current.state.as_str().to_owned(),
        applied_lsn: current.applied_lsn.map(position),
        checkpoint_lsn: current.checkpoint_lsn.map(position),
        lag_bytes: current.applied_lsn.zip(head.lsn).map(|(applied, end)| end.bytes_since(applied).unwrap_or(0)),
        lag_seconds: current.applied_lsn.map(|_| lag_seconds(current.oldest_unapplied, head)),
        last_error: current.last_error.as_ref().map(error_text),
        ..Default::default()
    }
}

/// An applier at rest, or without a session, does not look at the log: it does not know how old the oldest transaction
/// is that it has not applied.
fn is_blind(current: &Status) -> bool {
    !current.connected || matches!(current.state, State::Paused | State::Stopped | State::Desync)
}

/// A source that streams answers twice a second how far it is: WAL that is older has something that holds it up.
const UNREAD_MAX: Duration = Duration::from_secs(5);

/// The age of the oldest transaction that is not applied; never less than the time for which nothing is known of the
/// source, or than the age of WAL that it does not get to decode. A source whose clock runs ahead does not make it negative.
fn lag_seconds(oldest: Option<PgTimestamp>, head: Head) -> f64 {
    let held_up = if head.unread > UNREAD_MAX { head.unread } else { Duration::ZERO };
    age(oldest).max(head.silence).max(held_up).as_secs_f64()
}

fn age(oldest: Option<PgTimestamp>) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let committed = oldest.map(|t| Duration::from_micros(u64::try_from(t.unix_micros()).unwrap_or(0)));
    committed.map_or(Duration::ZERO, |t| now.saturating_sub(t))
}

/// Everything a person needs, in one line.
fn error_text(error: &StoppedBy) -> String {
    let parts = [
        error.relation.as_ref().map(|relation| format!("relation {relation}")),
        error.lsn.map(|lsn| format!("lsn {lsn}")),
        error.xid.map(|xid| format!("xid {xid}")),
        error.sqlstate.as_ref().map(|sqlstate| format!("SQLSTATE {sqlstate}")),
        error.hint.as_ref().map(|hint| format!("hint: {hint}")),
    ];
    let details: Vec<String> = parts.into_iter().flatten().collect();
    match details.is_empty() {
        true => error.message.clone(),
        false => format!("{} ({})", error.message, details.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decoder::Xid;

    #[tokio::test]
    async fn a_target_whose_task_has_panicked_is_shown_as_stopped() {
        let panicked = tokio::spawn(async { panic!("a test's") }).await.unwrap_err();
        let (sender, status) = watch::channel(Status { connected: true, ..Status::initial() });
        stop_for_good("berlin", &sender, &panicked);
        let last = status.borrow().clone();
        assert_eq!((last.state, last.connected), (State::Stopped, false));
        assert!(last.last_error.unwrap().hint.unwrap().starts_with("restart the service"));
    }

    #[test]
    fn lag_is_never_negative_nor_less_than_the_silence() {
        let future = PgTimestamp::from_unix_micros(i64::MAX / 2);
        let head = |silence| Head { lsn: None, silence: Duration::from_secs(silence), unread: Duration::ZERO };
        assert_eq!(lag_seconds(Some(future), head(0)), 0.0);
        assert_eq!(lag_seconds(None, head(7)), 7.0);
        assert!(lag_seconds(Some(PgTimestamp(0)), head(0)) > 800_000_000.0);
        assert!(lag_seconds(Some(PgTimestamp(i64::MIN)), head(0)) > 0.0);
    }

    #[test]
    fn wal_that_is_not_decoded_is_lag_and_the_time_between_two_answers_is_not() {
        let unread = |seconds| Head { lsn: None, silence: Duration::ZERO, unread: Duration::from_secs(seconds) };
        assert_eq!(lag_seconds(None, unread(4)), 0.0);
        assert_eq!(lag_seconds(None, unread(60)), 60.0);
    }

    #[test]
    fn a_target_without_a_session_is_not_believed_to_be_up_to_date() {
        let mut current = Status::initial();
        assert!(is_blind(&current), "it is retrying");
        (current.connected, current.state) = (true, State::Streaming);
        assert!(!is_blind(&current));
        current.state = State::Stopped;
        assert!(is_blind(&current));
    }

    #[test]
    fn an_error_names_everything_that_is_known_of_it() {
        let error = StoppedBy {
            lsn: Some(Lsn::from_u64(0x10)),
            xid: Some(Xid(7)),
            relation: Some("public.t".into()),
            sqlstate: Some("23505".into()),
            message: "duplicate key".into(),
            hint: Some("look".into()),
        };
        let text = "duplicate key (relation public.t; lsn 0/10; xid 7; SQLSTATE 23505; hint: look)";
        assert_eq!(error_text(&error), text);
    }

    #[test]
    fn lag_in_bytes_is_measured_to_the_sources_end() {
        let mut current = Status::initial();
        let head = Head { lsn: Some(Lsn::from_u64(100)), silence: Duration::ZERO, unread: Duration::ZERO };
        assert_eq!(view("a", &current, head).lag_bytes, None);
        current.applied_lsn = Some(Lsn::from_u64(60));
        assert_eq!(view("a", &current, head).lag_bytes, Some(40));
        current.applied_lsn = Some(Lsn::from_u64(160));
        assert_eq!(view("a", &current, head).lag_bytes, Some(0));
    }
}
