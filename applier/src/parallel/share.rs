//! When a batch is applied in parallel, and what becomes of the target's own position.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Feed};
use crate::error::{Class, Error};
use crate::follow::Follower;
use crate::following::Following;
use crate::observer::BatchReport;
use crate::status::Tier;
use crate::target::Sent;

use super::crew::{Applied, Crew};
use super::unit::{Division, Unit};

/// Where it does not pay, changes for this many batches as large go without workers, at most.
const REST_MAX: u64 = 64;
/// Every so many batches one goes without workers, to see how fast that is now.
const ALONE_EVERY: u32 = 64;
/// Workers that have had nothing to do for so long are let go.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Whether to use workers.
#[derive(Default)]
pub(crate) struct Sharing {
    /// Most changes of the last large batch could not be netted.
    in_order: bool,
    /// Changes per second of the last large batch that one session applied.
    alone: f64,
    /// So many changes go without workers.
    rest: u64,
    /// The next time it does not pay, so many batches will.
    next_rest: u64,
    /// Since one went without them.
    paid: u32,
}

impl Sharing {
    /// A batch was netted, as far as that went.
    pub(crate) fn netted(&mut self, sent: &Sent) {
        self.in_order = sent.in_order * 2 > sent.changes.total();
        self.alone = per_second(sent.changes.total(), sent.started);
    }

    /// One was applied by workers.
    fn shared(&mut self, batch: &Batch, applied: &Applied, started: Instant) {
        let has_paid = per_second(applied.changes.total(), started) > self.alone && applied.waited * 2 <= applied.units;
        if !has_paid || applied.failed.is_some() || applied.lost.is_some() {
            return self.has_not_paid(batch);
        }
        (self.next_rest, self.paid) = (1, self.paid + 1);
        if self.paid.is_multiple_of(ALONE_EVERY) {
            self.rest = 1;
        }
    }

    fn has_not_paid(&mut self, batch: &Batch) {
        let batches = self.next_rest.clamp(1, REST_MAX);
        self.rest = batches * batch.changes as u64;
        self.next_rest = batches * 2;
    }

    /// A large batch comes; says whether it may be for workers.
    fn is_wanted(&mut self, batch: &Batch) -> bool {
        let resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(batch.changes as u64);
        self.in_order && !resting
    }
}

impl Follower {
    /// Applies the batch by workers if they are there for it; false: nothing was done. Nothing is on its way.
    pub(crate) async fn share(&mut self, following: &mut Following, batch: &Batch) -> Result<bool, Error> {
        let target = &following.target;
        let is_possible = self.options.workers > 1
            && !batch.open
            && !batch.messages
            && !target.filter.is_active()
            && !target.relations.is_heavy()
            && self.options.only.is_none();
        if !is_possible || !self.sharing.is_wanted(batch) {
            return Ok(false);
        }
        let units = match following.target.divide(&batch.parts, following.feed.after()).await {
            Ok(Division::Units(units)) if units.len() > 1 => units,
            Err(error) if error.breaks_session() || error.class() == Class::Fatal => return Err(error),
            // The other tiers will say more of an error.
            other => {
                if let Ok(Division::Whole(why)) = other {
                    tracing::debug!(target = %self.options.name, why, "batch not divided between workers");
                }
                self.sharing.has_not_paid(batch);
                return Ok(false);
            }
        };
        let Some(mut crew) = self.crew(following, batch).await? else { return Ok(false) };
        let (state, oldest) = (following.state(batch.at_head), batch.oldest());
        self.status.send_modify(|status| {
            status.oldest_unapplied = oldest;
            status.tier = Tier::Parallel;
            status.state = state;
        });
        let started = Instant::now();
        let status = &self.status;
        let committed = |unit: &Unit| {
            status.send_modify(|status| {
                status.applied_lsn = Some(unit.last.end_lsn);
                // Or a little later.
                status.oldest_unapplied = Some(unit.last.commit_time);
            });
        };
        let mut applied = crew.apply(units, following.feed.after(), committed).await;
        self.sharing.shared(batch, &applied, started);
        if let Some(part) = batch.parts.last() {
            following.target.relations.be_in(part.segment);
        }
        self.take_shared(following, batch, &applied, started).await?;
        if let Some(lost) = applied.lost {
            // What it was sent may yet be committed: a new session waits for that to be over.
            return Err(lost);
        }
        following.crew = Some(crew);
        match applied.failed.take() {
            Some(failed) => self.fall_from_workers(following, batch, &failed.error)?,
            None => following.passed(batch),
        }
        self.status.send_modify(|status| {
            status.applied_lsn = Some(following.applied);
            status.oldest_unapplied = status.oldest_unapplied.filter(|_| !batch.at_head);
        });
        Ok(true)
    }

    /// What is left of the batch is applied in order.
    fn fall_from_workers(&self, following: &mut Following, batch: &Batch, error: &Error) -> Result<(), Error> {
        let why = error.stopped_by().message;
        tracing::info!(target = %self.options.name, error = %why, "batch fell to the {} tier", Tier::Ordered.as_str());
        self.observer.error(error.sqlstate());
        self.observer.fallback(Tier::Ordered);
        following.ordered_until = batch.transactions.last().map(|info| info.end_lsn);
        following.feed = Feed::new(&self.log, following.applied)?;
        Ok(())
    }

    /// Workers that know no more of tables than the first session. If there can be none the target goes on without them.
    async fn crew(&mut self, following: &mut Following, batch: &Batch) -> Result<Option<Crew>, Error> {
        let generation = following.target.relations.generation();
        let levelled = match following.crew.take() {
            Some(mut crew) => crew.level(generation).await.map(|()| crew),
            None => Crew::connect(&self.options, &self.log, following.target.checkpoint.lsn, generation).await,
        };
        // Who comes after a first session that was lost finds the workers from here on; before, it has not come.
        following.target.refresh_flushed().await?;
        match levelled {
            Ok(crew) => Ok(Some(crew)),
            Err(error) => {
                let why = error.stopped_by().message;
                tracing::warn!(target = %self.options.name, error = %why, "no workers: going on with one session");
                self.observer.error(error.sqlstate());
                self.sharing.has_not_paid(batch);
                Ok(None)
            }
        }
    }

    /// Lets workers go that are not needed.
    pub(crate) async fn dismiss_idle(&self, following: &mut Following) {
        if let Some(crew) = following.crew.take_if(|crew| crew.idle_for() >= IDLE_MAX) {
            crew.close().await;
        }
    }

    /// Takes note of what workers have committed, on the target too.
    async fn take_shared(
        &mut self,
        following: &mut Following,
        batch: &Batch,
        applied: &Applied,
        started: Instant,
    ) -> Result<(), Error> {
        let Some(last) = applied.last else { return Ok(()) };
        (following.applied, following.time) = (last.end_lsn, last.commit_time);
        following.suspects = following.suspects.filter(|(_, last)| *last > following.applied);
        following.target.move_checkpoint(last.end_lsn, last.commit_time).await?;
        following.moved = Instant::now();
        self.status.send_modify(|status| status.last_error = None);
        let tables: Vec<(&str, u64)> = applied.tables.iter().map(|(table, n)| (table.as_str(), *n)).collect();
        self.observer.batch(&BatchReport {
            tier: Tier::Parallel,
            changes: applied.changes,
            transactions: applied.transactions,
            duration: started.elapsed(),
            committed: batch.oldest(),
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
