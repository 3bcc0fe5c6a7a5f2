//! What belongs to one session: the target, the place in the log, what is on its way, and what follows from them.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use decoder::{Lsn, PgTimestamp};
use segment_log::Log;

use crate::batch::{Batch, Feed};
use crate::error::Error;
use crate::net;
use crate::parallel::Crew;
use crate::pipeline::Transactions;
use crate::status::{State, Tier};
use crate::target::{Sent, Target};

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

/// Sessions that were lost while the net tier applied the same batch: perhaps it asks for more than the target has.
#[derive(Clone, Copy)]
pub(crate) struct LostInNet {
    applied: Lsn,
    last: Lsn,
    times: u32,
}

/// After so many lost sessions the batch is applied in order.
const LOST_MAX: u32 = 2;

/// So many batches may be on their way: the target has the next one when it is done with the one before.
pub(crate) const ON_WAY_MAX: usize = 2;

/// A batch that was sent.
pub(crate) struct OnWay {
    pub(crate) batch: Batch,
    pub(crate) tier: Tier,
    pub(crate) sent: Sent,
}

/// What belongs to one session.
pub(crate) struct Following {
    pub(crate) target: Target,
    pub(crate) feed: Feed,
    /// Sent and not answered, oldest first.
    pub(crate) on_way: VecDeque<OnWay>,
    /// Applied or passed over, at or after the target's checkpoint.
    pub(crate) applied: Lsn,
    /// Of the last transaction, for a checkpoint that moves without one.
    pub(crate) time: PgTimestamp,
    /// Up to here, transactions come one by one; from `.0` on one statement at a time.
    pub(crate) suspects: Option<(Lsn, Lsn)>,
    /// Transactions up to here are not netted: it failed.
    pub(crate) ordered_until: Option<Lsn>,
    /// When a batch was last answered.
    pub(crate) answered: Instant,
    /// When the log was last looked into.
    pub(crate) gathered: Instant,
    /// Since when there has always been something to apply.
    pub(crate) busy_since: Instant,
    pub(crate) asked: Instant,
    pub(crate) moved: Instant,
    pub(crate) looked: Instant,
    /// Workers, once there are any.
    pub(crate) crew: Option<Crew>,
}

impl Following {
    pub(crate) fn begin(target: Target, log: &Log, lost: Option<LostInNet>) -> Result<Following, Error> {
        let applied = target.checkpoint.lsn;
        let feed = Feed::new(log, applied)?;
        let now = Instant::now();
        Ok(Following {
            target,
            feed,
            on_way: VecDeque::new(),
            applied,
            time: PgTimestamp(0),
            suspects: None,
            ordered_until: lost.filter(|l| l.applied == applied && l.times >= LOST_MAX).map(|l| l.last),
            answered: now,
            gathered: now,
            busy_since: now,
            asked: now,
            moved: now,
            looked: now,
            crew: None,
        })
    }

    /// Batches on their way, this one included, were lost with the session.
    pub(crate) fn lost(&self, before: Option<LostInNet>, batch: &Batch) -> LostInNet {
        let before = before.filter(|lost| lost.applied == self.applied);
        let last = batch.transactions.last().map_or(self.applied, |info| info.end_lsn);
        let last = before.map_or(last, |before| before.last.max(last));
        LostInNet { applied: self.applied, last, times: before.map_or(1, |before| before.times + 1) }
    }

    /// When the first transaction on its way was committed on the source.
    pub(crate) fn oldest(&self) -> Option<PgTimestamp> {
        self.on_way.iter().find_map(|on_way| on_way.batch.oldest())
    }

    /// Takes the next batch off its way: if it has a COMMIT, that is the next of the `committed` ones.
    pub(crate) fn take_answered(&mut self, committed: &mut usize) -> Option<OnWay> {
        let next = self.on_way.front()?;
        if next.sent.wrote {
            *committed = committed.checked_sub(1)?;
            if let Some(last) = next.batch.transactions.last() {
                self.target.checkpoint.advanced(last.end_lsn);
            }
        }
        self.on_way.pop_front()
    }

    pub(crate) fn tier_for(&self, batch: &Batch) -> Tier {
        match self.suspects {
            Some((first, _)) if batch.transactions.iter().any(|info| info.end_lsn >= first) => Tier::Single,
            None if batch.changes >= net::CHANGES_MIN && !self.is_ordered(batch) => Tier::Net,
            _ => Tier::Ordered,
        }
    }

    /// How long to wait because the batch is small only for being read as fast as the log grows: with more in it, it costs
    /// less.
    pub(crate) fn worth_waiting(&self, batch: &Batch, delay: Duration) -> Option<Duration> {
        let seconds = self.gathered.elapsed().as_secs_f64();
        let rate = batch.changes as f64 / seconds.max(f64::EPSILON);
        let is_flooded = batch.changes >= FLOOD_CHANGES && rate >= FLOOD_PER_SECOND;
        let lag = batch.oldest().map_or(Duration::ZERO, since);
        let is_possible = batch.at_head && !delay.is_zero();
        match is_possible {
            true if lag >= LAGGING_FROM && self.busy_since.elapsed() >= BUSY_FROM => {
                Some((lag / LAG_PART).clamp(delay, delay * LAGGING_DELAYS))
            }
            _ => (is_possible && is_flooded).then_some(delay),
        }
    }

    fn is_ordered(&self, batch: &Batch) -> bool {
        batch.transactions.first().is_some_and(|first| self.ordered_until >= Some(first.end_lsn))
    }

    pub(crate) fn passed(&mut self, batch: &Batch) {
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
    pub(crate) fn state(&self, at_head: bool) -> State {
        match self.target.filter.level_at() {
            Some(_) => State::Bootstrapping,
            None if at_head => State::Streaming,
            None => State::CatchingUp,
        }
    }

    /// The checkpoint is to be moved though nothing was applied.
    pub(crate) fn is_move_due(&self) -> bool {
        self.applied > self.target.checkpoint.lsn && self.moved.elapsed() >= MOVE_EVERY
    }

    pub(crate) fn is_look_due(&self) -> bool {
        self.looked.elapsed() >= LOOK_EVERY
    }

    /// The target is to be asked something.
    pub(crate) fn is_anything_due(&self) -> bool {
        self.is_move_due() || self.is_look_due() || self.until_asked().is_zero()
    }

    pub(crate) fn until_asked(&self) -> Duration {
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
pub(crate) fn suspects_of(batch: &Batch, suspects: Option<Transactions>) -> Option<(Lsn, Lsn)> {
    let nth = |at: u32| batch.transactions.get(at as usize).map(|info| info.end_lsn);
    let (first, last) = (batch.transactions.first(), batch.transactions.last());
    let from = suspects.and_then(|suspects| nth(suspects.first)).or(first.map(|info| info.end_lsn));
    let to = suspects.and_then(|suspects| nth(suspects.last)).or(last.map(|info| info.end_lsn));
    from.zip(to)
}
