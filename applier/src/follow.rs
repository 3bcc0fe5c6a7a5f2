//! Following the log with one session: batches, tiers, idle time, and when the checkpoint moves without changes.
//!
//! A batch that is small enough to go out in one go (`ordered.rs`) is sent while the one before it is on its way: the
//! target does not wait for walcast, and a transaction at the log's head not for the answers of those before it. Anything
//! else (larger batches, messages, the single tier, upkeep) begins and ends with nothing on its way. When a batch fails,
//! those behind it fail too, as `pipeline.rs` says, and the log is read again from the last one that was committed.

use std::sync::Arc;
use std::time::Instant;

use decoder::Lsn;
use segment_log::{Log, ReadError};
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::batch::{Batch, Feed, Limits};
use crate::error::{Class, Error, Place};
use crate::following::{Following, LostInNet, ON_WAY_MAX, OnWay, suspects_of};
use crate::message::Waiting;
use crate::name::one_line;
use crate::observer::{BatchReport, DdlReport, Observer};
use crate::ordered::guard_for;
use crate::parallel::Sharing;
use crate::run::{Control, PendingSkip, answer};
use crate::sql::Guard;
use crate::status::{Command, State, Status, TargetOptions, Tier};
use crate::target::{BatchError, Target};

/// Everything that outlives a session.
pub(crate) struct Follower {
    pub(crate) options: TargetOptions,
    pub(crate) log: Log,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) skip: Option<PendingSkip>,
    pub(crate) lost: Option<LostInNet>,
    /// Whether to use workers.
    pub(crate) sharing: Sharing,
    /// Of new connections; begins anew with every batch that is committed.
    pub(crate) backoff: Backoff,
}

/// What answers said of batches that were on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Those that were answered are committed.
    Forward,
    /// One failed: nothing is on its way, and the feed begins with that one.
    Back,
}

impl Follower {
    /// Connects and applies until an error, or until `control` interrupts between two batches.
    pub(crate) async fn follow(&mut self, control: &Control) -> Result<(), Error> {
        self.set_state(State::CatchingUp);
        let target = Target::connect(&self.options, &self.log).await?;
        let mut following = Following::begin(target, &self.log, self.lost)?;
        self.status.send_modify(|status| {
            status.connected = true;
            status.applied_lsn = Some(following.applied);
            status.recopy = following.target.filter.aside();
        });
        following.target.refresh_flushed().await?;
        while !control.is_interrupted() {
            if let Err(error) = self.step(&mut following, control).await {
                return Err(following.target.unless_renewed(error).await);
            }
        }
        self.clear_way(&mut following).await?;
        if following.applied > following.target.checkpoint.lsn {
            following.target.move_checkpoint(following.applied, following.time).await?;
        }
        if let Some(crew) = following.crew.take() {
            crew.close().await;
        }
        following.target.close().await;
        self.status.send_modify(|status| status.connected = false);
        Ok(())
    }

    async fn step(&mut self, following: &mut Following, control: &Control) -> Result<(), Error> {
        if following.target.relations.is_full() {
            self.clear_way(following).await?;
            following.target.learn_anew().await?;
        }
        if following.target.waiting == Waiting::Due && self.clear_way(following).await? == Way::Forward {
            let tried = following.target.try_what_waits().await?;
            tried.iter().for_each(|report| self.report_ddl(following.applied, report));
        }
        let before = control.limit(&self.status);
        if before.is_some() || self.skip.is_some() {
            self.clear_way(following).await?;
        }
        if let Some(limit) = before.filter(|limit| following.applied >= *limit) {
            self.rest(following, control, limit).await?;
            return self.upkeep(following).await;
        }
        while following.on_way.len() >= ON_WAY_MAX {
            self.answered(following).await?;
        }
        let limits = self.limits(following, before);
        let mut batch = following.feed.gather(limits)?;
        if let Some(delay) = following.worth_waiting(&batch, self.options.batch_max_delay) {
            if self.clear_way(following).await? == Way::Back {
                return Ok(());
            }
            tokio::time::sleep(delay).await;
            following.feed.extend(&mut batch, limits)?;
        }
        following.gathered = Instant::now();
        if batch.end().is_some() || !batch.parts.is_empty() {
            if self.is_to_skip(&batch) {
                self.skip_first(following, &batch).await?;
            } else {
                self.send(following, batch, limits).await?;
            }
        } else if !following.on_way.is_empty() {
            self.wait_for_either(following).await?;
        } else {
            match before.filter(|_| batch.limited) {
                Some(limit) => self.rest(following, control, limit).await?,
                None => self.idle(following, control, before).await?,
            }
            following.busy_since = Instant::now();
        }
        self.upkeep(following).await
    }

    fn limits(&self, following: &Following, before: Option<Lsn>) -> Limits {
        let alone = self.skip.as_ref().map(|skip| skip.lsn);
        let one_by_one = following.suspects.is_some();
        Limits { changes_max: if one_by_one { 1 } else { self.options.batch_max_rows.max(1) }, alone, before }
    }

    async fn send(&mut self, following: &mut Following, mut batch: Batch, limits: Limits) -> Result<(), Error> {
        let tier = following.tier_for(&batch);
        let alone = batch.messages || guard_for(tier, &batch) == Guard::Plain;
        if alone && self.clear_way(following).await? == Way::Back {
            return Ok(());
        }
        if tier == Tier::Net && self.share(following, &batch).await? {
            return Ok(());
        }
        let (state, oldest) = (following.state(batch.at_head), following.oldest().or(batch.oldest()));
        self.status.send_modify(|status| {
            status.oldest_unapplied = oldest;
            status.tier = tier;
            status.state = state;
        });
        match following.target.send(&mut following.feed, &mut batch, limits, tier).await {
            Ok(sent) => {
                if tier == Tier::Net {
                    self.sharing.netted(&sent);
                }
                following.on_way.push_back(OnWay { batch, tier, sent });
                self.take_commits(following);
            }
            Err(failed) => self.failed(following, Some((batch, tier)), failed).await?,
        }
        if alone { self.clear_way(following).await.map(drop) } else { Ok(()) }
    }

    /// Until everything that was sent is answered.
    async fn clear_way(&mut self, following: &mut Following) -> Result<Way, Error> {
        while !following.on_way.is_empty() {
            if self.answered(following).await? == Way::Back {
                return Ok(Way::Back);
            }
        }
        Ok(Way::Forward)
    }

    /// Waits for the next answers.
    async fn answered(&mut self, following: &mut Following) -> Result<Way, Error> {
        match following.target.commits().await {
            Ok(()) => {
                self.take_commits(following);
                Ok(Way::Forward)
            }
            Err(failed) => self.failed(following, None, failed).await.map(|()| Way::Back),
        }
    }

    /// Waits for the next answers, or for more in the log.
    async fn wait_for_either(&mut self, following: &mut Following) -> Result<(), Error> {
        let commits = tokio::select! {
            () = following.feed.wait() => return Ok(()),
            commits = following.target.commits() => commits,
        };
        match commits {
            Ok(()) => self.take_commits(following),
            Err(failed) => self.failed(following, None, failed).await?,
        }
        Ok(())
    }

    /// Reports what is committed by the answers that have come.
    fn take_commits(&mut self, following: &mut Following) {
        let mut committed = following.target.take_committed();
        while let Some(done) = following.take_answered(&mut committed) {
            following.passed(&done.batch);
            let oldest = following.oldest();
            self.status.send_modify(|status| {
                status.applied_lsn = Some(following.applied);
                status.last_error = None;
                if done.batch.messages {
                    status.recopy = following.target.filter.aside();
                }
                if done.batch.at_head || oldest.is_some() {
                    status.oldest_unapplied = oldest;
                }
            });
            self.report(following.applied, &done, following.answered);
            following.answered = Instant::now();
            self.backoff.reset();
        }
    }

    /// `before`: when the batch before it was answered. Until then the target was not at this one.
    fn report(&self, lsn: Lsn, done: &OnWay, before: Instant) {
        let OnWay { batch, tier, sent } = done;
        if sent.wrote {
            let tables: Vec<(&str, u64)> = sent.tables.iter().map(|(table, n)| (table.as_str(), *n)).collect();
            let (tier, changes, duration) = (*tier, sent.changes, sent.started.max(before).elapsed());
            let transactions = batch.transactions.len() as u64;
            let (committed, tables) = (batch.oldest(), tables.as_slice());
            self.observer.batch(&BatchReport { tier, changes, transactions, duration, committed, tables });
        }
        if !sent.ddl.is_empty() {
            self.report_ddl(lsn, &sent.ddl);
        }
    }

    fn report_ddl(&self, lsn: Lsn, report: &DdlReport) {
        let target = &self.options.name;
        for done in &report.done {
            tracing::info!(%target, %lsn, object = %one_line(&done.object), verb = ?done.verb, "applied DDL");
        }
        self.observer.ddl(report);
    }

    /// A batch that a tier can't apply is tried again by the next one; anything else ends the session. `sending` is the
    /// batch that was being sent, if one was.
    async fn failed(
        &mut self,
        following: &mut Following,
        sending: Option<(Batch, Tier)>,
        mut failed: BatchError,
    ) -> Result<(), Error> {
        if failed.error.class() == Class::Definite
            && !failed.error.breaks_session()
            && let Err(error) = following.target.sum_up().await
        {
            failed = error.into();
        }
        self.take_commits(following);
        let mut blamed = sending;
        if let Some(first) = following.on_way.pop_front() {
            // One before it was the first to fail.
            failed = following.target.failure().unwrap_or(failed);
            blamed = Some((first.batch, first.tier));
            following.on_way.clear();
        }
        if failed.error.breaks_session()
            && let Some((batch, Tier::Net)) = &blamed
        {
            self.lost = Some(following.lost(self.lost, batch));
        }
        let Some((batch, tier)) = blamed else { return Err(failed.error) };
        if tier == Tier::Single || failed.error.class() != Class::Definite || failed.error.breaks_session() {
            let single = batch.transactions.last().filter(|_| tier == Tier::Single);
            let Some(info) = single else { return Err(failed.error) };
            return Err(failed.error.at(|| Place { end_lsn: info.end_lsn, xid: info.xid, relation: None }));
        }
        let lower = if tier == Tier::Net { Tier::Ordered } else { Tier::Single };
        let why = failed.error.stopped_by().message;
        tracing::info!(target = %self.options.name, error = %why, "batch fell to the {} tier", lower.as_str());
        self.observer.error(failed.error.sqlstate());
        self.observer.fallback(lower);
        if lower == Tier::Ordered {
            following.ordered_until = batch.transactions.last().map(|info| info.end_lsn);
        } else {
            following.suspects = suspects_of(&batch, failed.suspects);
        }
        following.target.roll_back().await?;
        if batch.messages {
            // A message may have set a table aside.
            following.target.reload(following.applied).await?;
        }
        following.feed = Feed::new(&self.log, following.applied)?;
        Ok(())
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
        if following.is_anything_due() || !self.commands.is_empty() {
            self.clear_way(following).await?;
            self.see_to(following).await?;
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

    /// With nothing on its way: what is due, and commands.
    async fn see_to(&mut self, following: &mut Following) -> Result<(), Error> {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(following, Some(command)).await?;
        }
        if following.is_move_due() {
            following.target.move_checkpoint(following.applied, following.time).await?;
            following.moved = Instant::now();
        }
        if following.is_look_due() {
            following.target.look_again().await?;
            following.looked = Instant::now();
        }
        if following.until_asked().is_zero() {
            following.target.refresh_flushed().await?;
            self.dismiss_idle(following).await;
            following.asked = Instant::now();
        }
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
