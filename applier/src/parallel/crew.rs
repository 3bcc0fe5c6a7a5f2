//! The workers, and one batch's units on their way through them.

use std::time::{Duration, Instant};

use decoder::Lsn;
use hashbrown::HashMap;
use segment_log::Log;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

use super::unit::Unit;
use crate::checkpoint::Turn;
use crate::error::Error;
use crate::failpoint::{self, Failpoint};
use crate::observer::Counts;
use crate::ordered::GUARDED_MAX;
use crate::sql::Guard;
use crate::status::{TargetOptions, Tier};
use crate::target::{BatchError, Target};
use crate::walk::Walk;

/// Sessions that apply units.
pub(crate) struct Crew {
    idle: Vec<Target>,
    /// The next unit's turn.
    turn: Turn,
    /// Of the first session's knowledge of tables, when the workers' was last level with it.
    generation: u64,
    used: Instant,
}

/// What a batch did until it ended or failed.
#[derive(Default)]
pub(super) struct Applied {
    /// The last transaction that is committed.
    pub(super) last: Option<segment_log::TransactionInfo>,
    pub(super) transactions: u64,
    pub(super) changes: Counts,
    pub(super) tables: HashMap<String, u64>,
    /// Units that began.
    pub(super) units: usize,
    /// Those of them that had to wait for another one's rows.
    pub(super) waited: usize,
    /// The first failure.
    pub(super) failed: Option<BatchError>,
    /// Why a worker's session is lost.
    pub(super) lost: Option<Error>,
}

/// A unit on its way.
struct Run {
    number: usize,
    unit: Unit,
    turn: Turn,
    /// The unit before has its turn, as this transaction.
    before: Option<oneshot::Receiver<u64>>,
    /// Waits to hear the same of this one.
    next: oneshot::Sender<u64>,
    /// Transactions up to here are passed over.
    after: Lsn,
}

/// A unit that came to its end.
struct Ended {
    worker: Target,
    number: usize,
    unit: Unit,
    outcome: Result<(Counts, Vec<(String, u64)>), BatchError>,
}

impl Crew {
    /// Opens the sessions of a target whose checkpoint is at `lsn`, with nothing on its way.
    ///
    /// # Errors
    /// One can't be opened; workers of another session are still alive.
    pub(super) async fn connect(options: &TargetOptions, log: &Log, lsn: Lsn, generation: u64) -> Result<Crew, Error> {
        let mut idle = Vec::new();
        for number in 1..=options.workers {
            idle.push(Target::connect_worker(options, log, number, lsn).await?);
        }
        Ok(Crew { idle, turn: Turn::first(&options.identity), generation, used: Instant::now() })
    }

    /// Ends the sessions in good order.
    pub(crate) async fn close(self) {
        for worker in self.idle {
            worker.close().await;
        }
    }

    /// They have had nothing to do for so long.
    pub(crate) fn idle_for(&self) -> Duration {
        self.used.elapsed()
    }

    /// Has the workers forget what they know of tables, if the first session forgot it since.
    pub(super) async fn level(&mut self, generation: u64) -> Result<(), Error> {
        for worker in &mut self.idle {
            if self.generation != generation || worker.relations.is_full() {
                worker.learn_anew().await?;
            }
        }
        self.generation = generation;
        Ok(())
    }

    /// Applies units in this order, or what of them comes before the first that fails. `committed` is told of each.
    pub(super) async fn apply(&mut self, units: Vec<Unit>, after: Lsn, committed: impl Fn(&Unit)) -> Applied {
        let mut applied = Applied::default();
        let mut running = JoinSet::new();
        // The last unit, counted from 1, that touches a key, and how many are committed.
        let (mut holders, mut done) = (HashMap::<u64, usize>::new(), 0);
        let mut first_failed: Option<(usize, BatchError)> = None;
        let mut before = None;
        for (at, unit) in units.into_iter().enumerate() {
            while let Some(ended) = running.try_join_next() {
                done = done.max(self.take(ended_well(ended).await, &mut applied, &mut first_failed, &committed));
            }
            let needs = unit.keys.iter().filter_map(|key| holders.get(key)).max().copied().unwrap_or(0);
            applied.waited += usize::from(needs > done);
            while first_failed.is_none() && (self.idle.is_empty() || needs > done) {
                let Some(ended) = next(&mut running).await else { break };
                done = done.max(self.take(ended, &mut applied, &mut first_failed, &committed));
            }
            let Some(worker) = self.idle.pop().filter(|_| first_failed.is_none()) else { break };
            applied.units += 1;
            holders.extend(unit.keys.iter().map(|key| (*key, at + 1)));
            let (next, has_turn) = oneshot::channel();
            let before = before.replace(has_turn);
            let run = Run { number: at + 1, unit, turn: self.turn.next(), before, next, after };
            running.spawn(run.finish(worker));
        }
        while let Some(ended) = next(&mut running).await {
            self.take(ended, &mut applied, &mut first_failed, &committed);
        }
        applied.failed = first_failed.map(|(_, failed)| failed);
        self.used = Instant::now();
        applied
    }

    /// The unit's number if it is committed: so is everything before it.
    fn take(
        &mut self,
        ended: Ended,
        applied: &mut Applied,
        first_failed: &mut Option<(usize, BatchError)>,
        committed: impl Fn(&Unit),
    ) -> usize {
        let Ended { worker, number, unit, outcome } = ended;
        match outcome {
            Err(failed) if failed.error.breaks_session() => {
                first_failed.get_or_insert((number, Error::Overtaken.into()));
                applied.lost = Some(failed.error);
                return 0;
            }
            _ => self.idle.push(worker),
        }
        match outcome {
            Ok((changes, tables)) => {
                if applied.last.is_none_or(|last| last.end_lsn < unit.last.end_lsn) {
                    applied.last = Some(unit.last);
                    committed(&unit);
                }
                applied.transactions += unit.transactions;
                applied.changes.add(&changes);
                for (table, changes) in tables {
                    *applied.tables.entry(table).or_default() += changes;
                }
                number
            }
            Err(failed) => {
                if first_failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    *first_failed = Some((number, failed));
                }
                0
            }
        }
    }
}

/// The next unit to end.
async fn next(running: &mut JoinSet<Ended>) -> Option<Ended> {
    let ended = running.join_next().await?;
    Some(ended_well(ended).await)
}

async fn ended_well(ended: Result<Ended, JoinError>) -> Ended {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(ended) => ended,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Nobody cancels one but a runtime that ends, and with it whoever waits here.
        Err(Err(_)) => std::future::pending().await,
    }
}

impl Run {
    async fn finish(self, mut worker: Target) -> Ended {
        let Run { number, unit, turn, before, next, after } = self;
        let mut outcome = apply(&mut worker, &unit, turn, before, next, after).await;
        if let Err(failed) = &outcome
            && !failed.error.breaks_session()
            && let Err(error) = leave(&mut worker).await
        {
            outcome = Err(error.into());
        }
        Ended { worker, number, unit, outcome }
    }
}

async fn apply(
    worker: &mut Target,
    unit: &Unit,
    turn: Turn,
    before: Option<oneshot::Receiver<u64>>,
    next: oneshot::Sender<u64>,
    after: Lsn,
) -> Result<(Counts, Vec<(String, u64)>), BatchError> {
    let guard = if unit.changes <= GUARDED_MAX { Guard::Guarded } else { Guard::Plain };
    let mut walk = Walk::new(Tier::Parallel, guard, after);
    worker.begin(&mut walk).await?;
    turn.write_take(&mut worker.session, next)?;
    worker.session.send_window().await?;
    if let Some(part) = unit.parts.first() {
        worker.relations.enter(part.segment);
    }
    for (relation, message) in &unit.described {
        worker.describe(*relation, message);
    }
    for part in &unit.parts {
        worker.walk(part, &mut walk).await?;
    }
    worker.session.send_window().await?;
    worker.session.wait_for_turn().await?;
    if guard == Guard::Plain {
        worker.settle().await?;
    }
    if let Some(before) = before {
        let xid = before.await.map_err(|_| Error::Overtaken)?;
        turn.write_await_before(&mut worker.session, xid)?;
    }
    if failpoint::is_due(Failpoint::BeforeCommit) {
        worker.session.die().await?;
    }
    worker.send_commit(unit.last.end_lsn, unit.last.commit_time).await?;
    worker.settle().await?;
    worker.take_committed();
    worker.checkpoint.advanced(unit.last.end_lsn);
    Ok((walk.changes, worker.relations.take_counts()))
}

/// Leaves the failed transaction at once: others may wait for its locks.
async fn leave(worker: &mut Target) -> Result<(), Error> {
    worker.sum_up().await?;
    worker.failure();
    worker.roll_back().await
}
