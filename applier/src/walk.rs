//! The walk over a batch's changes, shared by the tiers, and what it has to know of their tables.

use decoder::{Lsn, PgTimestamp, RelationId};
use segment_log::{FrameKind, Piece, Record, TransactionInfo};

use crate::batch::Part;
use crate::catalog::{COLUMNS_QUERY, TABLE_QUERY, TableRow};
use crate::error::Error;
use crate::mapping::{self, Mapping};
use crate::message::Messages;
use crate::observer::{Counts, DdlReport};
use crate::owner::Owner;
use crate::pipeline::Transactions;
use crate::sql::Guard;
use crate::status::Tier;
use crate::target::{BatchError, Target};
use crate::write::Group;

/// The state of one pass over a batch.
pub(crate) struct Walk {
    tier: Tier,
    pub(crate) guard: Guard,
    /// It goes out as one window, which is a transaction.
    pub(crate) whole: bool,
    /// It is sent while another batch is on its way, and first of all moves the checkpoint there.
    pub(crate) ahead: Option<(Lsn, PgTimestamp)>,
    /// Transactions up to here are passed over.
    after: Lsn,
    pub(crate) begun: bool,
    pub(crate) changes: Counts,
    /// Row changes that could not be netted.
    pub(crate) in_order: u64,
    /// Transactions met so far.
    pub(crate) met: u32,
    /// The one being walked.
    pub(crate) info: Option<TransactionInfo>,
    /// The piece being walked has messages that were verified. Those of a log that an older walcast wrote were not.
    pub(crate) verified: bool,
    /// Of the transaction being walked.
    pub(crate) messages: Messages,
    pub(crate) ddl: DdlReport,
}

impl Walk {
    pub(crate) fn new(tier: Tier, guard: Guard, after: Lsn) -> Walk {
        Walk {
            tier,
            guard,
            whole: false,
            ahead: None,
            after,
            begun: false,
            changes: Counts::default(),
            in_order: 0,
            met: 0,
            info: None,
            verified: false,
            messages: Messages::default(),
            ddl: DdlReport::default(),
        }
    }

    /// Comes to a piece; says whether the target has it already.
    pub(crate) fn enter(&mut self, piece: &Piece<'_>) -> bool {
        let info = piece.info();
        let done = info.end_lsn <= self.after;
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

impl Target {
    pub(crate) async fn walk(&mut self, part: &Part, walk: &mut Walk) -> Result<(), BatchError> {
        self.relations.enter(part.segment);
        if part.frame().kind() == FrameKind::Descriptors {
            for (relation, message) in part.frame().descriptors() {
                self.describe(relation, message);
            }
            return Ok(());
        }
        let mut group = Group::default();
        for piece in part.pieces() {
            let done = walk.enter(&piece);
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
            Tier::Net | Tier::Parallel | Tier::Ordered => self.write(&change, walk, group).await?,
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
    pub(crate) fn not_passed_over(
        &mut self,
        relations: &[RelationId],
        walk: &Walk,
    ) -> Result<Vec<RelationId>, BatchError> {
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
        if self.session.is_whole() {
            return Ok(());
        }
        if self.session.is_window_full() {
            self.session.send_window().await?;
        }
        if self.session.has_failed() { self.settle().await } else { Ok(()) }
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
        self.finds(relation).await.map_err(|error| walk.blame(error))
    }

    /// Looks the relation up on the target, with nothing outstanding. False when there is no such table.
    pub(crate) async fn finds(&mut self, relation: RelationId) -> Result<bool, Error> {
        match self.look_up(relation).await {
            Ok(()) => Ok(true),
            Err(Error::MissingTable { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn look_up(&mut self, relation: RelationId) -> Result<(), Error> {
        let definition = self.relations.definition(relation)?;
        let name = mapping::table_name(&definition);
        let rows = self.session.query(TABLE_QUERY, &[&name.schema, &name.table]).await?;
        let row = TableRow::read(&name, &rows)?;
        let columns = self.session.query(COLUMNS_QUERY, &[&row.oid]).await?;
        let mut table = row.with_columns(&name, &columns)?;
        table.owner = Owner::find(&mut self.session, self.token.as_ref(), &name.schema, &table.oid).await?;
        table.sets &= table.owner.is_none();
        self.relations.map(relation, Mapping::new(definition, table)?);
        Ok(())
    }
}
