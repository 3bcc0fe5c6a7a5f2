//! Following the log with one session: batches, tiers, idle time, and when the checkpoint moves without changes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use decoder::{Lsn, PgTimestamp};
use segment_log::{Log, ReadError};
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::batch::{Batch, Feed, Limits};
use crate::error::{Class, Error, Place};
use crate::name::one_line;
use crate::net;
use crate::observer::{BatchReport, DdlReport, Observer};
use crate::pipeline::Transactions;
use crate::run::{Control, PendingSkip, answer};
use crate::status::{Command, State, Status, TargetOptions, Tier};
use crate::target::{Applied, BatchError, Target};

/// How often the target is asked what it has flushed, while that is behind.
const FLUSHED_EVERY: Duration = Duration::from_secs(1);
/// How often an idle session is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether tables were altered on the target.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the checkpoint moves when nothing is to be applied.
const MOVE_EVERY: Duration = Duration::from_secs(60);

/// So many changes, at such a rate, came while the batch before was applied: more are waited for. A flow that is below
/// it is applied at once, whatever comes.
const FLOOD_CHANGES: usize = 64;
const FLOOD_PER_SECOND: f64 = 20_000.0;
/// The same for a target that has lagged for so long, and that has had something to apply ever since it last had nothing
/// for so long: the log is being filled from a backlog. With many targets on few cores none of them reaches the rate above.
const LAGGING_FROM: Duration = Duration::from_secs(1);
const BUSY_FROM: Duration = Duration::from_millis(20);
/// It waits for this part of its lag, at most so many times as long as one that does not lag.
const LAG_PART: u32 = 20;
const LAGGING_DELAYS: u32 = 10;

/// Everything that outlives a session.
pub(crate) struct Follower {
    pub(crate) options: TargetOptions,
    pub(crate) log: Log,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) skip: Option<PendingSkip>,
    pub(crate) lost: Option<LostInNet>,
}

/// Sessions that were lost while the net tier applied the same batch: perhaps it asks for more than the target has.
#[derive(Clone, Copy)]
pub(crate) struct LostInNet {
    applied: Lsn,
    last: Lsn,
    times: u32,
}

/// After so many lost sessions the batch is applied in order.
const LOST_MAX: u32 = 2;

/// What belongs to one session.
struct Following {
    target: Target,
    feed: Feed,
    /// Applied or passed over, at or after the target's checkpoint.
    applied: Lsn,
    /// Of the last transaction, for a checkpoint that moves without one.
    time: PgTimestamp,
    /// Up to here, transactions come one by one; from `.0` on one statement at a time.
    suspects: Option<(Lsn, Lsn)>,
    /// Transactions up to here are not netted: it failed.
    ordered_until: Option<Lsn>,
    /// When the log was last looked into.
    gathered: Instant,
    /// Since when there has always been something to apply.
    busy_since: Instant,
    asked: Instant,
    moved: Instant,
    looked: Instant,
}

impl Follower {
    /// Connects and applies until an error, or until `control` interrupts between two batches.
    pub(crate) async fn follow(&mut self, control: &Control, backoff: &mut Backoff) -> Result<(), Error> {
        self.set_state(State::CatchingUp);
        let target = Target::connect(&self.options, &self.log).await?;
        let applied = target.checkpoint.lsn;
        let feed = Feed::new(&self.log, applied)?;
        self.status.send_modify(|status| {
            status.connected = true;
            status.applied_lsn = Some(applied);
            status.recopy = target.filter.aside();
        });
        let now = Instant::now();
        let mut following = Following {
            target,
            feed,
            applied,
            time: PgTimestamp(0),
            suspects: None,
            ordered_until: self.lost.filter(|l| l.applied == applied && l.times >= LOST_MAX).map(|l| l.last),
            gathered: now,
            busy_since: now,
            asked: now,
            moved: now,
            looked: now,
        };
        following.target.refresh_flushed().await?;
        while !control.is_interrupted() {
            self.step(&mut following, control, backoff).await?;
        }
        if following.applied > following.target.checkpoint.lsn {
            following.target.move_checkpoint(following.applied, following.time).await?;
        }
        following.target.close().await;
        self.status.send_modify(|status| status.connected = false);
        Ok(())
    }

    async fn step(&mut self, following: &mut Following, control: &Control, backoff: &mut Backoff) -> Result<(), Error> {
        following.target.bound_memory().await?;
        let before = control.limit(&self.status);
        if let Some(limit) = before.filter(|limit| following.applied >= *limit) {
            self.rest(following, control, limit).await?;
            return self.upkeep(following).await;
        }
        let limits = self.limits(following, before);
        let mut batch = following.feed.gather(limits)?;
        if let Some(delay) = following.worth_waiting(&batch, self.options.batch_max_delay) {
            tokio::time::sleep(delay).await;
            following.feed.extend(&mut batch, limits)?;
        }
        following.gathered = Instant::now();
        if batch.end().is_none() && batch.parts.is_empty() {
            match before.filter(|_| batch.limited) {
                Some(limit) => self.rest(following, control, limit).await?,
                None => self.idle(following, control, before).await?,
            }
            following.busy_since = Instant::now();
        } else if self.is_to_skip(&batch) {
            self.skip_first(following, &batch).await?;
        } else {
            self.apply(following, &mut batch, limits).await?;
            backoff.reset();
        }
        self.upkeep(following).await
    }

    fn limits(&self, following: &Following, before: Option<Lsn>) -> Limits {
        let alone = self.skip.as_ref().map(|skip| skip.lsn);
        let one_by_one = following.suspects.is_some();
        Limits { changes_max: if one_by_one { 1 } else { self.options.batch_max_rows.max(1) }, alone, before }
    }

    async fn apply(&mut self, following: &mut Following, batch: &mut Batch, limits: Limits) -> Result<(), Error> {
        let tier = following.tier_for(batch);
        let state = following.state(batch.at_head);
        self.status.send_modify(|status| {
            status.oldest_unapplied = batch.oldest();
            status.tier = tier;
            status.state = state;
        });
        match following.target.apply(&mut following.feed, batch, limits, tier).await {
            Ok(applied) => self.applied(following, batch, tier, applied),
            Err(failed) => self.failed(following, batch, tier, failed).await?,
        }
        Ok(())
    }

    fn applied(&mut self, following: &mut Following, batch: &Batch, tier: Tier, applied: Applied) {
        following.passed(batch);
        let counts = following.target.relations.take_counts();
        let at_head = batch.at_head;
        self.status.send_modify(|status| {
            status.applied_lsn = Some(following.applied);
            status.last_error = None;
            if batch.messages {
                status.recopy = following.target.filter.aside();
            }
            if at_head {
                status.oldest_unapplied = None;
            }
        });
        if applied.wrote {
            let tables: Vec<(&str, u64)> = counts.iter().map(|(table, n)| (table.as_str(), *n)).collect();
            let (changes, duration) = (applied.changes, applied.duration);
            let transactions = batch.transactions.len() as u64;
            self.observer.batch(&BatchReport { tier, changes, transactions, duration, tables: &tables });
        }
        if !applied.ddl.is_empty() {
            self.report(following.applied, &applied.ddl);
        }
    }

    fn report(&self, lsn: Lsn, report: &DdlReport) {
        let target = &self.options.name;
        for done in &report.done {
            tracing::info!(%target, %lsn, object = %one_line(&done.object), verb = ?done.verb, "applied DDL");
        }
        self.observer.ddl(report);
    }

    /// A batch that a tier can't apply is tried again by the next one; anything else ends the session.
    async fn failed(
        &mut self,
        following: &mut Following,
        batch: &Batch,
        tier: Tier,
        failed: BatchError,
    ) -> Result<(), Error> {
        let error = failed.error;
        if tier == Tier::Net && error.breaks_session() {
            self.note_lost(following.applied, batch);
        }
        if tier == Tier::Single || error.class() != Class::Definite || error.breaks_session() {
            let Some(info) = batch.transactions.last().filter(|_| tier == Tier::Single) else { return Err(error) };
            return Err(error.at(|| Place { end_lsn: info.end_lsn, xid: info.xid, relation: None }));
        }
        let lower = if tier == Tier::Net { Tier::Ordered } else { Tier::Single };
        let why = error.stopped_by().message;
        tracing::info!(target = %self.options.name, error = %why, "batch fell to the {} tier", lower.as_str());
        self.observer.error(error.sqlstate());
        self.observer.fallback(lower);
        if lower == Tier::Ordered {
            following.ordered_until = batch.transactions.last().map(|info| info.end_lsn);
        } else {
            following.suspects = suspects_of(batch, failed.suspects);
        }
        following.target.roll_back().await?;
        if batch.messages {
            // A message may have set a table aside.
            following.target.reload(following.applied).await?;
        }
        following.feed = Feed::new(&self.log, following.applied)?;
        Ok(())
    }

    fn note_lost(&mut self, applied: Lsn, batch: &Batch) {
        let before = self.lost.filter(|lost| lost.applied == applied);
        let last = batch.transactions.last().map_or(applied, |info| info.end_lsn);
        let last = before.map_or(last, |before| before.last.max(last));
        self.lost = Some(LostInNet { applied, last, times: before.map_or(1, |before| before.times + 1) });
    }

    fn is_to_skip(&self, batch: &Batch) -> bool {
        let first = batch.transactions.first().map(|info| info.end_lsn);
        self.skip.as_ref().is_some_and(|skip| Some(skip.lsn) == first)
    }

    async fn skip_first(&mut self, following: &mut Following, batch: &Batch) -> Result<(), Error> {
        let (Some(skip), Some(info)) = (&self.skip, batch.transactions.first()) else { return Ok(()) };
        following.target.skip(&self.options.identity, info, &skip.reason).await?;
        following.applied = info.end_lsn;
        following.target.relations.clear();
        following.feed = Feed::new(&self.log, info.end_lsn)?;
        self.status.send_modify(|status| {
            status.applied_lsn = Some(following.applied);
            status.last_error = None;
        });
        if let Some(skip) = self.skip.take() {
            skip.answer(Ok(()));
        }
        Ok(())
    }

    /// Waits for the log, a command, or the next thing to ask the target.
    async fn idle(&mut self, following: &mut Following, control: &Control, limit: Option<Lsn>) -> Result<(), Error> {
        let state = following.state(true);
        self.status.send_if_modified(|status| {
            let changed = status.state != state || status.oldest_unapplied.is_some();
            (status.state, status.oldest_unapplied) = (state, None);
            changed
        });
        let nap = following.until_asked();
        let command = tokio::select! {
            () = following.feed.wait() => None,
            () = control.interrupted() => None,
            () = control.limit_changed(limit) => None,
            () = tokio::time::sleep(nap) => None,
            Some(command) = self.commands.recv() => Some(command),
        };
        self.obey(following, command).await
    }

    /// All that `limit` allows is applied: waits for another one, a command, or the next thing to ask the target.
    async fn rest(&mut self, following: &mut Following, control: &Control, limit: Lsn) -> Result<(), Error> {
        self.status.send_if_modified(|status| status.held.replace(limit) != Some(limit));
        let nap = following.until_asked();
        let command = tokio::select! {
            () = control.interrupted() => None,
            () = control.limit_changed(Some(limit)) => None,
            () = tokio::time::sleep(nap) => None,
            Some(command) = self.commands.recv() => Some(command),
        };
        self.obey(following, command).await
    }

    /// Between batches: nothing is stopped that could be skipped.
    async fn obey(&mut self, following: &mut Following, command: Option<Command>) -> Result<(), Error> {
        match command {
            Some(Command::Skip { lsn, reply, .. }) => {
                answer(reply, Err(Error::NotStoppedThere { asked: lsn, stopped: None }));
            }
            Some(Command::Reload { reply }) => {
                following.target.reload(following.applied).await?;
                self.status.send_modify(|status| status.recopy = following.target.filter.aside());
                answer(reply, Ok(()));
            }
            None => {}
        }
        Ok(())
    }

    /// Between batches: what is flushed, and commands that came too late or too early.
    async fn upkeep(&mut self, following: &mut Following) -> Result<(), Error> {
        if self.skip.as_ref().is_some_and(|skip| skip.lsn <= following.applied)
            && let Some(skip) = self.skip.take()
        {
            let asked = skip.lsn;
            skip.answer(Err(Error::NotStoppedThere { asked, stopped: None }));
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(following, Some(command)).await?;
        }
        if following.applied > following.target.checkpoint.lsn && following.moved.elapsed() >= MOVE_EVERY {
            following.target.move_checkpoint(following.applied, following.time).await?;
            following.moved = Instant::now();
        }
        if following.looked.elapsed() >= LOOK_EVERY {
            following.target.look_again().await?;
            following.looked = Instant::now();
        }
        if following.until_asked().is_zero() {
            following.target.refresh_flushed().await?;
            following.asked = Instant::now();
        }
        let (written, flushed) = (following.target.checkpoint.lsn, following.target.checkpoint.flushed);
        self.status.send_if_modified(|status| {
            let changed = flushed.is_some() && status.checkpoint_lsn != flushed;
            status.written_lsn = Some(written);
            status.checkpoint_lsn = flushed.or(status.checkpoint_lsn);
            changed
        });
        Ok(())
    }

    pub(crate) fn set_state(&self, state: State) {
        self.status.send_modify(|status| {
            status.state = state;
            status.connected = false;
        });
    }

    /// Shows an error that ended a session.
    pub(crate) fn note(&self, error: &Error) {
        self.observer.error(error.sqlstate());
        let definite = match error {
            Error::NoCheckpoint => State::New,
            Error::Desync { .. } | Error::Log(ReadError::Desync { .. }) => State::Desync,
            _ => State::Stopped,
        };
        let state = if error.class() == Class::Transient { State::CatchingUp } else { definite };
        self.status.send_modify(|status| {
            status.state = state;
            status.connected = false;
            status.last_error = Some(error.stopped_by());
            if state == State::New {
                // What was known is of a checkpoint that is gone.
                (status.applied_lsn, status.checkpoint_lsn) = (None, None);
            }
        });
    }
}

impl Following {
    fn tier_for(&self, batch: &Batch) -> Tier {
        match self.suspects {
            Some((first, _)) if batch.transactions.iter().any(|info| info.end_lsn >= first) => Tier::Single,
            None if batch.changes >= net::CHANGES_MIN && !self.is_ordered(batch) => Tier::Net,
            _ => Tier::Ordered,
        }
    }

    /// How long to wait because the batch is small only for being read as fast as the log grows: with more in it, it costs
    /// less.
    fn worth_waiting(&self, batch: &Batch, delay: Duration) -> Option<Duration> {
        let seconds = self.gathered.elapsed().as_secs_f64();
        let rate = batch.changes as f64 / seconds.max(f64::EPSILON);
        let is_flooded = batch.changes >= FLOOD_CHANGES && rate >= FLOOD_PER_SECOND;
        let lag = batch.oldest().map_or(Duration::ZERO, since);
        match batch.at_head {
            true if lag >= LAGGING_FROM && self.busy_since.elapsed() >= BUSY_FROM => {
                Some((lag / LAG_PART).clamp(delay, delay * LAGGING_DELAYS))
            }
            at_head => (at_head && is_flooded).then_some(delay),
        }
    }

    fn is_ordered(&self, batch: &Batch) -> bool {
        batch.transactions.first().is_some_and(|first| self.ordered_until >= Some(first.end_lsn))
    }

    fn passed(&mut self, batch: &Batch) {
        if let Some(end) = batch.end() {
            self.applied = self.applied.max(end);
        }
        if let Some(last) = batch.transactions.last() {
            self.time = last.commit_time;
        }
        self.target.filter.passed(self.applied);
        self.suspects = self.suspects.filter(|(_, last)| *last > self.applied);
        self.ordered_until = self.ordered_until.filter(|last| *last > self.applied);
    }

    /// Copied tables that are ahead of the others make a target's state one that the source did not have.
    fn state(&self, at_head: bool) -> State {
        match self.target.filter.level_at() {
            Some(_) => State::Bootstrapping,
            None if at_head => State::Streaming,
            None => State::CatchingUp,
        }
    }

    fn until_asked(&self) -> Duration {
        let behind = self.target.checkpoint.flushed != Some(self.target.checkpoint.lsn);
        let every = if behind { FLUSHED_EVERY } else { PING_EVERY };
        every.saturating_sub(self.asked.elapsed())
    }
}

/// How long ago that was, if the source's clock is right.
fn since(time: PgTimestamp) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_micros(u64::try_from(time.unix_micros()).unwrap_or(u64::MAX)))
}

/// First and last of the transactions that may be to blame; all of the batch if that is not known.
fn suspects_of(batch: &Batch, suspects: Option<Transactions>) -> Option<(Lsn, Lsn)> {
    let nth = |at: u32| batch.transactions.get(at as usize).map(|info| info.end_lsn);
    let (first, last) = (batch.transactions.first(), batch.transactions.last());
    let from = suspects.and_then(|suspects| nth(suspects.first)).or(first.map(|info| info.end_lsn));
    let to = suspects.and_then(|suspects| nth(suspects.last)).or(last.map(|info| info.end_lsn));
    from.zip(to)
}
