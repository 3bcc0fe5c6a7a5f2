//! One target while there is a session to it: the walk over a batch's changes, shared by the tiers.

use std::time::{Duration, Instant};

use decoder::{Change, Lsn, PgTimestamp, RelationId};
use hashbrown::HashMap;
use segment_log::{FrameKind, Log, Piece, Record, TransactionInfo};

use crate::batch::{Batch, Feed, Limits, Part};
use crate::catalog::{COLUMNS_QUERY, STAMPS_QUERY, TABLE_QUERY, TableRow, text};
use crate::checkpoint::{self, Checkpoint};
use crate::copied::Filter;
use crate::encoder::{Encoder, Inserts, RowChange};
use crate::error::{Error, Place};
use crate::failpoint::{self, Failpoint};
use crate::mapping::{self, Mapping};
use crate::message::Messages;
use crate::observer::{Counts, DdlReport};
use crate::owner::Owner;
use crate::pipeline::{Expect, Failed, Problem, Transactions};
use crate::relations::Relations;
use crate::session::Session;
use crate::sql::{self, Guard};
use crate::status::{Identity, TargetOptions, Tier};

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
}

/// What a batch did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) changes: Counts,
    pub(crate) ddl: DdlReport,
    /// False when there was nothing to write, so that the target's checkpoint stayed where it is.
    pub(crate) wrote: bool,
    pub(crate) duration: Duration,
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

/// The state of one pass over a batch.
pub(crate) struct Walk {
    tier: Tier,
    guard: Guard,
    pub(crate) begun: bool,
    pub(crate) changes: Counts,
    /// Transactions met so far.
    pub(crate) met: u32,
    /// The one being walked.
    pub(crate) info: Option<TransactionInfo>,
    /// The piece being walked has messages that were verified. Those of a log that an older walcast wrote were not.
    verified: bool,
    /// Of the transaction being walked.
    pub(crate) messages: Messages,
    pub(crate) ddl: DdlReport,
}

impl Walk {
    fn new(tier: Tier, guard: Guard) -> Walk {
        Walk {
            tier,
            guard,
            begun: false,
            changes: Counts::default(),
            met: 0,
            info: None,
            verified: false,
            messages: Messages::default(),
            ddl: DdlReport::default(),
        }
    }

    /// Comes to a piece; says whether the target has it already.
    pub(crate) fn enter(&mut self, piece: &Piece<'_>, feed: &Feed) -> bool {
        let info = piece.info();
        let done = feed.is_before(&info);
        if !done && piece.is_first() {
            self.met += 1;
            self.info = Some(info);
            self.messages = Messages::default();
        }
        self.verified = piece.has_messages();
        done
    }

    pub(crate) fn current(&self) -> u32 {
        self.met.saturating_sub(1)
    }

    pub(crate) fn blame(&self, error: Error) -> BatchError {
        let at = self.current();
        BatchError { error, suspects: Some(Transactions { first: at, last: at }) }
    }
}

/// INSERTs that wait for neighbours, and their relation.
#[derive(Default)]
pub(crate) struct Group<'a> {
    pub(crate) relation: Option<RelationId>,
    inserts: Inserts<'a>,
}

impl Target {
    /// Connects and takes hold of the checkpoint, whose position settles whether the last COMMIT was done.
    pub(crate) async fn connect(options: &TargetOptions, log: &Log) -> Result<Target, Error> {
        let mut session = Session::connect(&options.conninfo, &options.name).await?;
        let checkpoint = Checkpoint::open(&mut session, &options.identity).await?;
        let filter = filter(&mut session, options, checkpoint.lsn).await?;
        session.prepare_fixed(checkpoint.statement()).await?;
        let (relations, options, log) = (Relations::default(), options.clone(), log.clone());
        Ok(Target { session, checkpoint, relations, filter, options, log, ddl: None })
    }

    /// Reads anew, between two batches, what is to be passed over.
    pub(crate) async fn reload(&mut self, applied: Lsn) -> Result<(), Error> {
        self.filter = filter(&mut self.session, &self.options, applied).await?;
        Ok(())
    }

    /// Applies the batch in one target transaction.
    ///
    /// With little in it, COMMIT travels with the changes, which are guarded: one round trip. Otherwise all answers are
    /// read before COMMIT is sent.
    pub(crate) async fn apply(
        &mut self,
        feed: &mut Feed,
        batch: &mut Batch,
        limits: Limits,
        tier: Tier,
    ) -> Result<Applied, BatchError> {
        let started = Instant::now();
        let guard = crate::ordered::guard_for(tier, batch);
        let mut walk = Walk::new(tier, guard);
        loop {
            let parts = std::mem::take(&mut batch.parts);
            if tier == Tier::Net {
                self.walk_netting(&parts, &mut walk, feed).await?;
            } else {
                for part in &parts {
                    self.walk(part, &mut walk, feed).await?;
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
        Ok(Applied { changes: walk.changes, ddl: walk.ddl, wrote: walk.begun, duration: started.elapsed() })
    }

    async fn finish(&mut self, last: &TransactionInfo, guard: Guard) -> Result<(), BatchError> {
        if guard == Guard::Plain {
            self.settle().await?;
        }
        if failpoint::is_due(Failpoint::BeforeCommit) {
            self.session.die().await?;
        }
        self.commit_at(last.end_lsn, last.commit_time).await
    }

    async fn commit_at(&mut self, lsn: Lsn, time: PgTimestamp) -> Result<(), BatchError> {
        self.checkpoint.write_advance(&mut self.session, lsn, time)?;
        self.session.commit()?;
        if failpoint::is_due(Failpoint::AfterCommitBeforeReply) {
            self.session.die().await?;
        }
        self.settle().await?;
        let answer = self.session.take_answer();
        self.checkpoint.advanced(lsn, &answer)?;
        Ok(())
    }

    /// Waits for all answers.
    pub(crate) async fn settle(&mut self) -> Result<(), BatchError> {
        self.session.settle().await?;
        self.session.take_failed().map_or(Ok(()), |failed| Err(batch_error(failed)))
    }

    async fn walk(&mut self, part: &Part, walk: &mut Walk, feed: &Feed) -> Result<(), BatchError> {
        self.relations.enter(part.segment);
        if part.frame().kind() == FrameKind::Descriptors {
            for (relation, message) in part.frame().descriptors() {
                self.describe(relation, message);
            }
            return Ok(());
        }
        let mut group = Group::default();
        for piece in part.pieces() {
            let done = walk.enter(&piece, feed);
            for record in piece.records() {
                self.record(record, done, walk, &mut group).await?;
            }
        }
        self.finish_group(&mut group).map_err(|error| walk.blame(error))
    }

    async fn record<'a>(
        &mut self,
        record: Record<'a>,
        done: bool,
        walk: &mut Walk,
        group: &mut Group<'a>,
    ) -> Result<(), BatchError> {
        if let (Some(b'R'), Some(relation)) = (record.payload.first(), record.relation) {
            if group.relation == Some(relation) {
                self.finish_group(group).map_err(|error| walk.blame(error))?;
            }
            self.describe(relation, record.payload);
            return Ok(());
        }
        if done || self.is_passed_over(&record, walk)? {
            return Ok(());
        }
        let change = decoder::decode_change(record.payload).map_err(|error| walk.blame(error.into()))?;
        match walk.tier {
            Tier::Net | Tier::Ordered => self.write(&change, walk, group).await?,
            Tier::Single => self.apply_alone(&change, walk).await?,
        }
        self.send_when_full().await
    }

    /// Takes a Relation message.
    pub(crate) fn describe(&mut self, relation: RelationId, message: &[u8]) {
        self.filter.described(relation);
        self.relations.describe(relation, message);
    }

    /// Whether the target has this change by a copy. A TRUNCATE of several tables is not judged here.
    #[inline]
    pub(crate) fn is_passed_over(&mut self, record: &Record<'_>, walk: &Walk) -> Result<bool, BatchError> {
        match (record.relation, walk.info) {
            (Some(relation), Some(info)) if self.filter.is_active() => self.passes_over(relation, info, walk),
            _ => Ok(false),
        }
    }

    fn passes_over(&mut self, relation: RelationId, info: TransactionInfo, walk: &Walk) -> Result<bool, BatchError> {
        let passes = self.filter.passes_over(relation, info.commit_lsn, &self.relations);
        passes.map_err(|error| walk.blame(error))
    }

    /// The tables of a TRUNCATE that the target does not have truncated by a copy.
    fn not_passed_over(&mut self, relations: &[RelationId], walk: &Walk) -> Result<Vec<RelationId>, BatchError> {
        let mut left = relations.to_vec();
        let Some(info) = walk.info.filter(|_| self.filter.is_active()) else { return Ok(left) };
        for relation in relations {
            if self.passes_over(*relation, info, walk)? {
                left.retain(|id| id != relation);
            }
        }
        Ok(left)
    }

    pub(crate) async fn send_when_full(&mut self) -> Result<(), BatchError> {
        if self.session.is_window_full() {
            self.session.send_window().await?;
        }
        if self.session.has_failed() { self.settle().await } else { Ok(()) }
    }

    /// Writes one change; only a relation that is not known yet makes it wait.
    pub(crate) async fn write<'a>(
        &mut self,
        change: &Change<'a>,
        walk: &mut Walk,
        group: &mut Group<'a>,
    ) -> Result<(), BatchError> {
        match change {
            Change::Insert { relation, .. } if group.relation == Some(*relation) => {}
            Change::Type { .. } | Change::Relation(_) => return Ok(()),
            Change::Message { .. } if !walk.verified => return Ok(()),
            _ => self.finish_group(group).map_err(|error| walk.blame(error))?,
        }
        match change {
            Change::Truncate { relations, options } => return self.write_truncate(relations, *options, walk).await,
            Change::Message { content, .. } => return self.take_message(content, walk).await,
            _ => {}
        }
        if !walk.begun {
            self.begin(walk).await?;
        }
        let Some(relation) = change.relation() else { return Ok(()) };
        self.know(relation, walk).await?;
        self.write_row(relation, change, walk, group).map_err(|error| walk.blame(error))
    }

    /// Where a copy already has one of the tables empty, or the target's schema may be of a later time than this change,
    /// the others are emptied by DELETE: TRUNCATE refuses a table that a table outside of its list refers to, and with
    /// CASCADE takes it along.
    async fn write_truncate(
        &mut self,
        relations: &[RelationId],
        options: decoder::TruncateOptions,
        walk: &mut Walk,
    ) -> Result<(), BatchError> {
        let left = self.not_passed_over(relations, walk)?;
        if left.is_empty() {
            return Ok(());
        }
        if !walk.begun {
            self.begin(walk).await?;
        }
        for relation in &left {
            self.know(*relation, walk).await?;
        }
        walk.changes.truncates += 1;
        let tables = self.truncated(&left, walk)?;
        let whole = left.len() == relations.len() && self.filter.level_at().is_none();
        let owner = tables.first().and_then(|(_, owner)| owner.clone());
        let of_one = tables.iter().all(|(_, other)| *other == owner);
        let names: Vec<String> = tables.iter().map(|(name, _)| name.clone()).collect();
        if whole && of_one {
            return self.write_as(owner.as_ref(), &sql::truncate(&names, options), walk).await;
        }
        for (table, owner) in &tables {
            self.write_as(owner.as_ref(), &format!("DELETE FROM {table}"), walk).await?;
        }
        Ok(())
    }

    /// Writes a statement without parameters, as the owner where it has to be.
    async fn write_as(&mut self, owner: Option<&Owner>, sql: &str, walk: &Walk) -> Result<(), BatchError> {
        let Some(owner) = owner else { return self.write_once(sql, walk) };
        self.settle().await?;
        let done = self.session.query(&owner.wrapped(sql, 0), &[owner.token.as_str()]).await;
        done.map(drop).map_err(|error| walk.blame(error))
    }

    pub(crate) async fn begin(&mut self, walk: &mut Walk) -> Result<(), BatchError> {
        if failpoint::is_due(Failpoint::BeforeBegin) {
            self.session.die().await?;
        }
        self.session.begin()?;
        walk.begun = true;
        Ok(())
    }

    fn write_row<'a>(
        &mut self,
        relation: RelationId,
        change: &Change<'a>,
        walk: &mut Walk,
        group: &mut Group<'a>,
    ) -> Result<(), Error> {
        let (guard, transaction) = (walk.guard, walk.current());
        let mut encoder = encoder(&mut self.relations, &mut self.session, relation)?;
        match change {
            Change::Insert { new, .. } => {
                group.relation = Some(relation);
                encoder.insert(&mut group.inserts, *new, transaction)?;
            }
            Change::Update { old, new, .. } => {
                encoder.change(&RowChange { new: Some(*new), old: *old, guard, transaction })?;
            }
            Change::Delete { old, .. } => {
                encoder.change(&RowChange { new: None, old: Some(*old), guard, transaction })?;
            }
            _ => {}
        }
        walk.changes.count(change);
        self.relations.count(relation, 1);
        Ok(())
    }

    /// How the tables are written, and counted.
    fn truncated(&mut self, relations: &[RelationId], walk: &Walk) -> Result<Vec<(String, Option<Owner>)>, BatchError> {
        let mut tables = Vec::with_capacity(relations.len());
        for relation in relations {
            let mapped = self.relations.mapped(*relation).ok_or(Error::UnknownRelation(*relation));
            let table = &mapped.map_err(|error| walk.blame(error))?.mapping.table;
            tables.push((table.reference(), table.owner.clone()));
            self.relations.count(*relation, 1);
        }
        Ok(tables)
    }

    fn write_once(&mut self, sql: &str, walk: &Walk) -> Result<(), BatchError> {
        let at = walk.current();
        Ok(self.session.once(sql, Expect::Done(Transactions { first: at, last: at }))?)
    }

    pub(crate) fn finish_group(&mut self, group: &mut Group<'_>) -> Result<(), Error> {
        let Some(relation) = group.relation.take() else { return Ok(()) };
        if group.inserts.is_empty() {
            return Ok(());
        }
        encoder(&mut self.relations, &mut self.session, relation)?.finish_inserts(&mut group.inserts)
    }

    /// Looks the relation up on the target unless that was done. Nothing that came before may be left to write.
    pub(crate) async fn know(&mut self, relation: RelationId, walk: &mut Walk) -> Result<(), BatchError> {
        while !self.is_known(relation, walk).await? {
            if !self.make_ahead(relation, walk).await? {
                let definition = self.relations.definition(relation).map_err(|error| walk.blame(error))?;
                let table = mapping::table_name(&definition).to_string();
                return Err(walk.blame(Error::MissingTable { table }));
            }
        }
        Ok(())
    }

    /// Looks the relation up on the target unless that was done. False when there is no such table.
    pub(crate) async fn is_known(&mut self, relation: RelationId, walk: &Walk) -> Result<bool, BatchError> {
        if self.relations.mapped(relation).is_some() {
            return Ok(true);
        }
        self.settle().await?;
        match self.look_up(relation).await {
            Ok(()) => Ok(true),
            Err(Error::MissingTable { .. }) => Ok(false),
            Err(error) => Err(walk.blame(error)),
        }
    }

    async fn look_up(&mut self, relation: RelationId) -> Result<(), Error> {
        let definition = self.relations.definition(relation)?;
        let name = mapping::table_name(&definition);
        let rows = self.session.query(TABLE_QUERY, &[&name.schema, &name.table]).await?;
        let row = TableRow::read(&name, &rows)?;
        let columns = self.session.query(COLUMNS_QUERY, &[&row.oid]).await?;
        let mut table = row.with_columns(&name, &columns)?;
        table.owner = Owner::find(&mut self.session, self.options.ddl.token.as_ref(), &name.schema, &table.oid).await?;
        table.sets &= table.owner.is_none();
        self.relations.map(relation, Mapping::new(definition, table)?);
        Ok(())
    }

    /// One change of the single tier: written, sent, answered. Its error names it.
    async fn apply_alone<'a>(&mut self, change: &Change<'a>, walk: &mut Walk) -> Result<(), BatchError> {
        let mut group = Group::default();
        let mut outcome = self.write(change, walk, &mut group).await;
        if outcome.is_ok() {
            outcome = self.finish_group(&mut group).map_err(|error| walk.blame(error));
        }
        if outcome.is_ok() {
            self.session.settle().await?;
            let failed = self.session.take_failed();
            outcome = failed.map_or(Ok(()), |failed| Err(walk.blame(self.explain(failed, change))));
        }
        outcome.map_err(|failed| self.place(failed, change, walk))
    }

    fn explain(&mut self, failed: Failed, change: &Change<'_>) -> Error {
        let operation = if matches!(change, Change::Delete { .. }) { "DELETE" } else { "UPDATE" };
        let mapped = change.relation().and_then(|relation| self.relations.mapped(relation));
        let of = |table: &crate::catalog::Table| table.filtered || table.owner.is_some();
        let (table, filtered) = mapped.map_or((String::new(), false), |m| (m.label.clone(), of(&m.mapping.table)));
        match failed.problem {
            Problem::Rows(0) => Error::NoRow { operation, table },
            Problem::Rows(rows) => Error::SeveralRows { operation, table, rows },
            Problem::Refused(error) if filtered && error.sqlstate == DIVISION_BY_ZERO => {
                Error::NotOneRow { operation, table }
            }
            Problem::Refused(error) => Error::Refused(error),
        }
    }

    fn place(&mut self, failed: BatchError, change: &Change<'_>, walk: &Walk) -> BatchError {
        let relation = match change {
            Change::Truncate { relations, .. } => relations.first().copied(),
            _ => change.relation(),
        };
        let named = relation.and_then(|relation| self.relations.definition(relation).ok());
        let relation = named.map(|definition| mapping::table_name(&definition).to_string());
        let Some(info) = walk.info else { return failed };
        let place = || Place { end_lsn: info.end_lsn, xid: info.xid, relation };
        BatchError { error: failed.error.at(place), ..failed }
    }

    /// After a failed batch whose session still works: a clean slate, learnt anew.
    pub(crate) async fn roll_back(&mut self) -> Result<(), Error> {
        self.ddl = None;
        self.session.roll_back().await?;
        self.relations.clear();
        self.session.prepare_fixed(self.checkpoint.statement()).await
    }

    /// Keeps the number of prepared statements and mappings bounded.
    pub(crate) async fn bound_memory(&mut self) -> Result<(), Error> {
        if self.relations.is_full() { self.learn_anew().await } else { Ok(()) }
    }

    /// In the middle of a batch, with nothing outstanding: tables may be others than before.
    pub(crate) async fn forget_tables(&mut self) -> Result<(), Error> {
        let prepared = self.relations.statements > 0;
        self.relations.forget_tables();
        if prepared {
            self.session.deallocate().await?;
            self.session.prepare_fixed(self.checkpoint.statement()).await?;
        }
        Ok(())
    }

    async fn learn_anew(&mut self) -> Result<(), Error> {
        self.session.roll_back().await?;
        self.relations.forget_target();
        self.session.prepare_fixed(self.checkpoint.statement()).await
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
        self.commit_at(lsn, time).await.map_err(|failed| failed.error)
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
        self.commit_at(info.end_lsn, info.commit_time).await.map_err(|failed| failed.error)
    }

    /// Asks what the target has on disk; also shows whether the session is alive. Nothing on the target can make it wait
    /// for this but a server process that does not run.
    pub(crate) async fn refresh_flushed(&mut self) -> Result<(), Error> {
        let asked = self.checkpoint.refresh_flushed(&mut self.session);
        tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err(Error::Silent))
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

const DIVISION_BY_ZERO: &str = "22012";

fn encoder<'e>(relations: &'e mut Relations, session: &'e mut Session, id: RelationId) -> Result<Encoder<'e>, Error> {
    let (mapped, statements) = relations.mapped_and_counter(id).ok_or(Error::UnknownRelation(id))?;
    let (out, pipeline) = session.writing();
    Ok(Encoder { mapped, statements, pipeline, out })
}

/// What the pipelined tier knows of a failure; the single tier will name it.
fn batch_error(failed: Failed) -> BatchError {
    let error = match failed.problem {
        // Not of a change: the guard of the checkpoint.
        Problem::Refused(error) if failed.transactions.is_none() && error.sqlstate == DIVISION_BY_ZERO => {
            Error::CheckpointMoved
        }
        Problem::Refused(error) => Error::Refused(error),
        Problem::Rows(_) => Error::NotOneRow { operation: "change", table: "of the batch".to_owned() },
    };
    BatchError { error, suspects: failed.transactions }
}
