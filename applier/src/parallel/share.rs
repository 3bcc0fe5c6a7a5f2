//! When a batch is applied in parallel, and what becomes of the target's own position.

use std::time::Instant;

use crate::batch::{Batch, Feed};
use crate::error::{Class, Error};
use crate::follow::Follower;
use crate::following::Following;
use crate::observer::BatchReport;
use crate::status::Tier;
use crate::target::Sent;

use super::crew::{Applied, Crew};
use super::unit::{Division, Unit};

/// After a failure, at most so many batches are applied without workers.
const REST_MAX: u32 = 64;

/// Workers, and whether to use them.
#[derive(Default)]
pub(crate) struct Sharing {
    crew: Option<Crew>,
    /// Most changes of the last large batch could not be netted.
    in_order: bool,
    /// Changes per second of the last large batch that one session applied.
    alone: f64,
    /// So many batches go without workers.
    rest: u32,
    /// The next time it does not pay, so many will.
    next_rest: u32,
}

impl Sharing {
    /// A batch was netted, as far as that went.
    pub(crate) fn netted(&mut self, sent: &Sent) {
        self.in_order = sent.in_order * 2 > sent.changes.total();
        self.alone = per_second(sent.changes.total(), sent.started);
    }

    /// One was applied by workers.
    fn shared(&mut self, applied: &Applied, started: Instant) {
        let has_paid = per_second(applied.changes.total(), started) > self.alone && applied.waited * 2 <= applied.units;
        if has_paid && applied.failed.is_none() { self.has_paid() } else { self.has_not_paid() }
    }

    fn has_paid(&mut self) {
        (self.rest, self.next_rest) = (0, 1);
    }

    fn has_not_paid(&mut self) {
        self.rest = self.next_rest.clamp(1, REST_MAX);
        self.next_rest = (self.rest * 2).min(REST_MAX);
    }

    /// A large batch comes; says whether it may be for workers.
    fn is_wanted(&mut self) -> bool {
        let resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        self.in_order && !resting
    }
}

impl Follower {
    /// Applies the batch by workers if they are there for it; false: nothing was done. Nothing is on its way.
    pub(crate) async fn share(&mut self, following: &mut Following, batch: &Batch) -> Result<bool, Error> {
        let is_possible = self.options.workers > 1
            && !batch.open
            && !batch.messages
            && !following.target.filter.is_active()
            && self.options.only.is_none();
        if !is_possible || !following.sharing.is_wanted() {
            return Ok(false);
        }
        let units = match following.target.divide(&batch.parts, following.feed.after()).await {
            Ok(Division::Units(units)) if units.len() > 1 => units,
            Ok(Division::Units(_)) => return Ok(false),
            Ok(Division::Net) => {
                following.sharing.in_order = false;
                return Ok(false);
            }
            Ok(Division::Whole(why)) => {
                tracing::debug!(target = %self.options.name, why, "batch not divided between workers");
                return Ok(false);
            }
            Err(error) if error.breaks_session() || error.class() == Class::Fatal => return Err(error),
            // The other tiers will say more of it.
            Err(_) => return Ok(false),
        };
        let Some(mut crew) = self.crew(following).await else { return Ok(false) };
        let (state, oldest) = (following.state(batch.at_head), batch.oldest());
        self.status.send_modify(|status| {
            status.oldest_unapplied = oldest;
            status.tier = Tier::Parallel;
            status.state = state;
        });
        let started = Instant::now();
        let status = &self.status;
        let committed = |unit: &Unit| {
            status.send_modify(|status| status.applied_lsn = Some(unit.last.end_lsn));
        };
        let mut applied = crew.apply(units, following.feed.after(), committed).await;
        following.sharing.shared(&applied, started);
        let failed = applied.failed.take();
        let last = batch.parts.last().map(|part| part.segment);
        last.into_iter().for_each(|segment| following.target.relations.enter(segment));
        self.shared(following, &applied, started).await?;
        let Some(failed) = failed else {
            following.sharing.crew = Some(crew);
            if batch.end() > Some(following.applied) {
                following.passed(batch);
            }
            return Ok(true);
        };
        if applied.lost {
            // What it sent may yet be committed: a new session waits for that to be over.
            return Err(failed.error);
        }
        following.sharing.crew = Some(crew);
        let why = failed.error.stopped_by().message;
        tracing::info!(target = %self.options.name, error = %why, "batch fell to the {} tier", Tier::Ordered.as_str());
        self.observer.error(failed.error.sqlstate());
        self.observer.fallback(Tier::Ordered);
        following.ordered_until = batch.transactions.last().map(|info| info.end_lsn);
        following.feed = Feed::new(&self.log, following.applied)?;
        Ok(true)
    }

    /// Workers that know no more of tables than the first session. Without them the target goes on.
    async fn crew(&mut self, following: &mut Following) -> Option<Crew> {
        let generation = following.target.relations.generation();
        let levelled = match following.sharing.crew.take() {
            Some(mut crew) => crew.level(generation).await.map(|()| crew),
            None => Crew::connect(&self.options, &self.log, following.applied, generation).await,
        };
        match levelled {
            Ok(crew) => Some(crew),
            Err(error) => {
                let why = error.stopped_by().message;
                tracing::warn!(target = %self.options.name, error = %why, "no workers: going on with one session");
                self.observer.error(error.sqlstate());
                following.sharing.has_not_paid();
                None
            }
        }
    }

    /// Takes note of what workers have committed, on the target too.
    async fn shared(&mut self, following: &mut Following, applied: &Applied, started: Instant) -> Result<(), Error> {
        let Some(last) = applied.last else { return Ok(()) };
        (following.applied, following.time) = (last.end_lsn, last.commit_time);
        following.suspects = following.suspects.filter(|(_, last)| *last > following.applied);
        following.target.move_checkpoint(last.end_lsn, last.commit_time).await?;
        following.moved = Instant::now();
        self.status.send_modify(|status| {
            status.applied_lsn = Some(last.end_lsn);
            status.last_error = None;
        });
        let tables: Vec<(&str, u64)> = applied.tables.iter().map(|(table, n)| (table.as_str(), *n)).collect();
        self.observer.batch(&BatchReport {
            tier: Tier::Parallel,
            changes: applied.changes,
            transactions: applied.transactions,
            duration: started.elapsed(),
            tables: &tables,
        });
        following.answered = Instant::now();
        self.backoff.reset();
        Ok(())
    }
}

fn per_second(changes: u64, started: Instant) -> f64 {
    changes as f64 / started.elapsed().as_secs_f64().max(f64::EPSILON)
}
