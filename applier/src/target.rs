//! One target while there is a session to it: a batch from BEGIN to COMMIT. `walk.rs` goes over its changes, `write.rs`
//! writes one.

use std::time::{Duration, Instant};

use decoder::{Lsn, PgTimestamp};
use hashbrown::HashMap;
use segment_log::{FrameKind, Log, TransactionInfo};

use crate::batch::{Batch, Feed, Limits};
use crate::catalog::{STAMPS_QUERY, text};
use crate::checkpoint::{self, Checkpoint};
use crate::copied::Filter;
use crate::error::Error;
use crate::failpoint::{self, Failpoint};
use crate::message::Waiting;
use crate::observer::{Counts, DdlReport};
use crate::pipeline::{Failed, Problem, Transactions};
use crate::relations::Relations;
use crate::session::{Session, WINDOW_BYTES};
use crate::sql::Guard;
use crate::status::{Identity, TargetOptions, Tier};
use crate::walk::Walk;

/// At most so many bytes of changes go out as one window that is a transaction.
const WHOLE_BYTES: usize = WINDOW_BYTES / 2;

/// How long the target may take to say where its WAL is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A session, the checkpoint it holds, and what was learnt about tables.
pub(crate) struct Target {
    pub(crate) session: Session,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) relations: Relations,
    pub(crate) filter: Filter,
    pub(crate) options: TargetOptions,
    /// For looking ahead.
    pub(crate) log: Log,
    /// For messages, once there was one.
    pub(crate) ddl: Option<::ddl::Options>,
    /// What the target's functions know this session by.
    pub(crate) token: Option<::ddl::Token>,
    pub(crate) waiting: Waiting,
}

/// What a batch does once its COMMIT is answered.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) changes: Counts,
    /// Row changes that the net tier wrote in order.
    pub(crate) in_order: u64,
    /// Changes per table.
    pub(crate) tables: Vec<(String, u64)>,
    pub(crate) ddl: DdlReport,
    /// False when there was nothing to write, so that there is no COMMIT and the target's checkpoint stays where it is.
    pub(crate) wrote: bool,
    pub(crate) started: Instant,
}

/// Why a batch was not applied, and which of its transactions may be to blame (`None`: any).
#[derive(Debug)]
pub(crate) struct BatchError {
    pub(crate) error: Error,
    pub(crate) suspects: Option<Transactions>,
}

impl From<Error> for BatchError {
    fn from(error: Error) -> BatchError {
        BatchError { error, suspects: None }
    }
}

impl Target {
    /// Connects and takes hold of the checkpoint, whose position settles whether the last COMMIT was done.
    pub(crate) async fn connect(options: &TargetOptions, log: &Log) -> Result<Target, Error> {
        let mut session = Session::connect(&options.conninfo, &options.name).await?;
        let checkpoint = Checkpoint::open(&mut session, &options.identity).await?;
        let filter = filter(&mut session, options, checkpoint.lsn).await?;
        let is_lane_or_partial = options.only.is_some() || options.ddl.partial;
        let waiting = match is_lane_or_partial {
            true => Waiting::Not,
            false => Waiting::look(&mut session, &options.identity).await?,
        };
        session.prepare_fixed(checkpoint.statements()).await?;
        let token = (options.ddl.token)().await;
        let (relations, options, log) = (Relations::default(), options.clone(), log.clone());
        let mut target = Target { session, checkpoint, relations, filter, options, log, ddl: None, token, waiting };
        target.take_over_from_workers().await?;
        Ok(target)
    }

    /// Another session to the same target, for units of its batches; the first one's checkpoint is at `lsn`.
    pub(crate) async fn connect_worker(
        options: &TargetOptions,
        log: &Log,
        number: u32,
        lsn: Lsn,
    ) -> Result<Target, Error> {
        let name = format!("{} worker {number}", options.name);
        let options = TargetOptions { name, ..options.clone() };
        let mut session = Session::connect(&options.conninfo, &options.name).await?;
        let checkpoint = Checkpoint::open_worker(&mut session, &options.identity, number, lsn).await?;
        session.prepare_fixed(checkpoint.statements()).await?;
        let token = (options.ddl.token)().await;
        let (filter, waiting) = (Filter::default(), Waiting::Not);
        let (relations, log) = (Relations::default(), log.clone());
        Ok(Target { session, checkpoint, relations, filter, options, log, ddl: None, token, waiting })
    }

    /// A session that ended while workers were at it left the checkpoint behind theirs.
    async fn take_over_from_workers(&mut self) -> Result<(), Error> {
        let Some(lsn) = checkpoint::left_by_workers(&mut self.session, &self.options.identity).await? else {
            return Ok(());
        };
        if lsn > self.checkpoint.lsn {
            self.move_checkpoint(lsn, PgTimestamp(0)).await?;
        }
        checkpoint::forget_workers(&mut self.session, &self.options.identity).await
    }

    /// Reads anew, between two batches, what is to be passed over.
    pub(crate) async fn reload(&mut self, applied: Lsn) -> Result<(), Error> {
        let aside = self.filter.aside();
        self.filter = filter(&mut self.session, &self.options, applied).await?;
        if aside.iter().any(|table| !self.filter.aside().contains(table)) {
            self.waiting.try_again();
        }
        Ok(())
    }

    /// Sends the batch as one target transaction, COMMIT included; [`Target::commits`] says when that is done.
    ///
    /// With little in it, the changes are guarded, and no answer is waited for. Otherwise all answers are read before
    /// COMMIT is sent.
    pub(crate) async fn send(
        &mut self,
        feed: &mut Feed,
        batch: &mut Batch,
        limits: Limits,
        tier: Tier,
    ) -> Result<Sent, BatchError> {
        let started = Instant::now();
        let guard = crate::ordered::guard_for(tier, batch);
        let whole = guard == Guard::Guarded && self.fits_one_window(batch, feed.after());
        let mut walk = Walk::new(tier, guard, feed.after());
        walk.whole = whole;
        let last = batch.transactions.last().filter(|_| guard == Guard::Guarded);
        walk.ahead = last.map(|last| (last.end_lsn, last.commit_time));
        loop {
            let parts = std::mem::take(&mut batch.parts);
            if tier == Tier::Net {
                self.walk_netting(&parts, &mut walk).await?;
            } else {
                for part in &parts {
                    self.walk(part, &mut walk).await?;
                }
            }
            drop(parts);
            if !batch.open {
                break;
            }
            feed.extend(batch, limits)?;
            if batch.parts.is_empty() {
                feed.wait().await;
            }
        }
        if let (true, Some(last)) = (walk.begun, batch.transactions.last()) {
            self.finish(last, guard).await?;
        }
        let tables = self.relations.take_counts();
        let Walk { changes, in_order, ddl, begun: wrote, .. } = walk;
        Ok(Sent { changes, in_order, tables, ddl, wrote, started })
    }

    async fn finish(&mut self, last: &TransactionInfo, guard: Guard) -> Result<(), BatchError> {
        if guard == Guard::Plain {
            self.settle().await?;
        }
        if failpoint::is_due(Failpoint::BeforeCommit) {
            self.session.die().await?;
        }
        Ok(self.send_commit(last.end_lsn, last.commit_time).await?)
    }

    /// Nothing but row changes of tables that are known, which are few bytes: nothing will have to be asked for, and
    /// nothing to be sent, before all of it is written.
    fn fits_one_window(&mut self, batch: &Batch, after: Lsn) -> bool {
        if self.filter.is_active() {
            return false;
        }
        let mut bytes = 0;
        let relations = &mut self.relations;
        batch.parts.iter().all(|part| {
            part.frame().kind() == FrameKind::Transactions && relations.is_in(part.segment) && {
                let pieces = part.pieces().filter(|piece| piece.info().end_lsn > after);
                pieces.flat_map(|piece| piece.records()).all(|record| {
                    bytes += record.payload.len();
                    let is_row = matches!(record.payload.first(), Some(b'I' | b'U' | b'D'));
                    let mapped = record.relation.and_then(|relation| relations.mapped(relation));
                    is_row && bytes <= WHOLE_BYTES && mapped.is_some()
                })
            }
        })
    }

    pub(crate) async fn send_commit(&mut self, lsn: Lsn, time: PgTimestamp) -> Result<(), Error> {
        if !self.checkpoint.is_sent(lsn) {
            self.checkpoint.write_advance(&mut self.session, lsn, time)?;
        }
        match self.session.is_whole() {
            true => self.session.commit_whole(),
            false => self.session.commit()?,
        }
        if failpoint::is_due(Failpoint::AfterCommitBeforeReply) {
            self.session.die().await?;
        }
        self.session.end_open_window();
        self.session.send().await
    }

    /// Sends COMMIT and waits for it.
    async fn commit_at(&mut self, lsn: Lsn, time: PgTimestamp) -> Result<(), Error> {
        self.send_commit(lsn, time).await?;
        self.settle().await.map_err(|failed| failed.error)?;
        self.session.take_committed();
        self.checkpoint.advanced(lsn);
        Ok(())
    }

    /// Waits until a COMMIT is answered, or anything else has come. Cancel-safe.
    pub(crate) async fn commits(&mut self) -> Result<(), BatchError> {
        // Some answers may have come while the last window was sent: there may be nothing left to wait for.
        if !self.session.has_news() {
            self.session.accept_some().await?;
        }
        self.failure().map_or(Ok(()), Err)
    }

    /// How many transactions were committed since this was last asked for.
    pub(crate) fn take_committed(&mut self) -> usize {
        self.session.take_committed()
    }

    pub(crate) async fn begin(&mut self, walk: &mut Walk) -> Result<(), BatchError> {
        if failpoint::is_due(Failpoint::BeforeBegin) {
            self.session.die().await?;
        }
        match walk.whole {
            true => self.session.begin_whole(),
            false => self.session.begin()?,
        }
        if let Some((lsn, time)) = walk.ahead {
            // First: after a batch that failed, nothing of this one is done, not even to be undone.
            self.checkpoint.write_advance(&mut self.session, lsn, time)?;
        }
        walk.begun = true;
        Ok(())
    }

    /// Waits for all answers.
    pub(crate) async fn settle(&mut self) -> Result<(), BatchError> {
        self.session.settle().await?;
        self.failure().map_or(Ok(()), Err)
    }

    /// The first failure of what was sent, once.
    pub(crate) fn failure(&mut self) -> Option<BatchError> {
        self.session.take_failed().map(batch_error)
    }

    /// After a failure: waits until all that was sent is answered.
    pub(crate) async fn sum_up(&mut self) -> Result<(), Error> {
        self.session.give_up();
        // What was written and not sent may have no answer to wait for: a Parse whose Bind could not be written.
        self.session.send_window().await?;
        self.session.settle().await
    }

    /// After a failed batch, when all that was sent is answered: a clean slate, learnt anew.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Error> {
        if self.ddl.take().is_some() {
            // What messages found to wait, or not to, was undone.
            self.waiting.found(true);
        }
        self.session.roll_back().await?;
        self.checkpoint.rolled_back();
        self.relations.clear();
        self.session.prepare_fixed(self.checkpoint.statements()).await
    }

    /// In the middle of a batch, with nothing outstanding: tables may be others than before.
    pub(crate) async fn forget_tables(&mut self) -> Result<(), Error> {
        let prepared = self.relations.statements > 0;
        self.relations.forget_tables();
        if prepared {
            self.session.deallocate().await?;
            self.session.prepare_fixed(self.checkpoint.statements()).await?;
        }
        Ok(())
    }

    /// Forgets what was learnt of tables, with nothing outstanding: the number of prepared statements is bounded.
    pub(crate) async fn learn_anew(&mut self) -> Result<(), Error> {
        self.session.roll_back().await?;
        self.relations.forget_target();
        self.session.prepare_fixed(self.checkpoint.statements()).await
    }

    /// Forgets what was learnt of tables if one of them has been altered.
    pub(crate) async fn look_again(&mut self) -> Result<(), Error> {
        if self.are_altered().await? { self.learn_anew().await } else { Ok(()) }
    }

    async fn are_altered(&mut self) -> Result<bool, Error> {
        let known: HashMap<&str, &str> = self.relations.stamps().collect();
        if known.is_empty() {
            return Ok(false);
        }
        let oids = known.keys().copied().collect::<Vec<_>>().join(",");
        let rows = self.session.query(STAMPS_QUERY, &[&format!("{{{oids}}}")]).await?;
        let mut altered = rows.len() != known.len();
        for row in &rows {
            altered |= known.get(text(row, 0)?) != Some(&text(row, 1)?);
        }
        Ok(altered)
    }

    /// Moves the checkpoint though nothing was applied, so that the log can be trimmed.
    pub(crate) async fn move_checkpoint(&mut self, lsn: Lsn, time: PgTimestamp) -> Result<(), Error> {
        self.session.begin()?;
        self.commit_at(lsn, time).await
    }

    /// Passes over one transaction, on record.
    pub(crate) async fn skip(
        &mut self,
        identity: &Identity,
        info: &TransactionInfo,
        reason: &str,
    ) -> Result<(), Error> {
        self.session.begin()?;
        self.settle().await.map_err(|failed| failed.error)?;
        checkpoint::record_skipped(&mut self.session, identity, info, reason).await?;
        self.commit_at(info.end_lsn, info.commit_time).await
    }

    /// Asks what the target has on disk; also shows whether the session is alive. Nothing on the target can make it wait
    /// for this but a server process that does not run.
    pub(crate) async fn refresh_flushed(&mut self) -> Result<(), Error> {
        let asked = self.checkpoint.refresh_flushed(&mut self.session);
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(Error::Silent))
    }

    /// A token that the target does not take (any more) may have been renewed meanwhile.
    pub(crate) async fn unless_renewed(&self, error: Error) -> Error {
        match error.sqlstate() {
            Some(INSUFFICIENT_PRIVILEGE) if (self.options.ddl.token)().await != self.token => Error::OtherToken,
            _ => error,
        }
    }

    /// Ends the session.
    pub(crate) async fn close(self) {
        self.session.close().await;
    }
}

async fn filter(session: &mut Session, options: &TargetOptions, applied: Lsn) -> Result<Filter, Error> {
    match &options.only {
        Some((schema, table)) => Ok(Filter::only(schema, table)),
        None => Filter::read(session, &options.identity, applied).await,
    }
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";
pub(crate) const DIVISION_BY_ZERO: &str = "22012";

/// What the pipelined tier knows of a failure; the single tier will name it.
fn batch_error(failed: Failed) -> BatchError {
    let error = match failed.problem {
        // Not of a change: the guard of the checkpoint.
        Problem::Refused(error) if failed.is_advance && error.sqlstate == DIVISION_BY_ZERO => Error::CheckpointMoved,
        Problem::Refused(error) => Error::Refused(error),
        Problem::Rows(_) => Error::NotOneRow { operation: "change", table: "of the batch".to_owned() },
    };
    BatchError { error, suspects: failed.transactions }
}
