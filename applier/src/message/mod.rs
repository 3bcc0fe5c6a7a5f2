//! Messages of the capture, in their place of the stream: DDL, roles, grants, sequences.
//!
//! The log holds only messages whose signature was right, in pieces that say so. One is applied between the rows before
//! and after it, in the target transaction that they share:
//!
//! ```text
//! what was gathered is written, its answers are read ─▶ settings of DDL ─▶ crate ddl ─▶ notes about tables that are to be
//!      copied again ─▶ the session's own settings ─▶ everything learnt about tables is forgotten
//! ```
//!
//! A message that says nothing but where sequences are, as comes each second, leaves out all but the middle.
//!
//! Rows of a table that CREATE TABLE AS makes come before the message that creates it: see [`ahead`].
//!
//! In a lane (one table is caught up after it was copied again) no message is applied: the target's own applier does
//! that. If it is about the columns of the lane's table, the copy is of no use any more.

mod ahead;
mod functions;
mod stale;
mod statements;
mod tables;
mod waiting;

use ::ddl::{Message, Outcome};
use decoder::RelationId;

use crate::copied;
use crate::error::{Class, Error};
use crate::name::TableName;
use crate::observer::DdlReport;
use crate::status::DdlOptions;
use crate::target::{BatchError, Target};
use crate::walk::Walk;
use statements::Statements;
pub(crate) use waiting::Waiting;

/// Hexadecimal digits of the signature, which was verified before the log.
const SIGNATURE: usize = 64;

/// For as long as a message is applied, beside the settings of crate `ddl`. A long query on the target holds up the next
/// reader behind a waiting ALTER for no longer than the lock is waited for; indexes and foreign keys are made with all that
/// the planner has.
const PIN: &str = "SET LOCAL lock_timeout = '2s'; SET LOCAL plan_cache_mode = auto; SET LOCAL enable_seqscan = on; \
     SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on";
/// As the session has them (`session.rs`).
const UNPIN: &str = "SET LOCAL lock_timeout = 0; SET LOCAL plan_cache_mode = force_generic_plan; \
     SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// What the messages of a transaction have come to so far.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// So many were met in the log.
    met: u32,
    /// Numbers of those that were applied before they were met.
    ahead: Vec<u32>,
}

impl Messages {
    fn is_to_come(&self, number: u32) -> bool {
        number >= self.met && !self.ahead.contains(&number)
    }
}

/// Reads a message from the log. A marker, which has no content, is none.
fn parse(content: &[u8]) -> Result<Option<Message>, Error> {
    match content.split_at_checked(SIGNATURE) {
        Some((_, json)) => Ok(Some(Message::parse(json)?)),
        None if content.is_empty() => Ok(None),
        None => Err(Error::Answer("a message without a signature in the log")),
    }
}

impl Target {
    /// Takes a message of a piece that has verified ones.
    pub(crate) async fn take_message(&mut self, content: &[u8], walk: &mut Walk) -> Result<(), BatchError> {
        let Some(message) = parse(content).map_err(|error| walk.blame(error))? else { return Ok(()) };
        let number = walk.messages.met;
        walk.messages.met += 1;
        if walk.messages.ahead.contains(&number) {
            return Ok(());
        }
        self.apply_message(&message, walk).await
    }

    /// The target lacks the table of a row. If a later message of the same transaction makes it, that is applied now.
    pub(crate) async fn make_ahead(&mut self, relation: RelationId, walk: &mut Walk) -> Result<bool, BatchError> {
        let Some(info) = walk.info.filter(|_| self.options.only.is_none()) else { return Ok(false) };
        let is_to_come = |number| walk.messages.is_to_come(number);
        let found = ahead::find(&self.log, &info, relation, is_to_come).await.map_err(|error| walk.blame(error))?;
        let Some((number, message)) = found else { return Ok(false) };
        self.apply_message(&message, walk).await?;
        walk.messages.ahead.push(number);
        Ok(true)
    }

    async fn apply_message(&mut self, message: &Message, walk: &mut Walk) -> Result<(), BatchError> {
        if let Some(only) = &self.options.only {
            return tables::stay_as_copied(message, only).map_err(|error| walk.blame(error));
        }
        if !walk.begun {
            self.begin(walk).await?;
        }
        self.settle().await?;
        let outcome = self.bring_about(message).await.map_err(|error| walk.blame(error))?;
        walk.ddl.done.extend(outcome.done);
        walk.ddl.skipped.extend(outcome.skipped);
        Ok(())
    }

    async fn bring_about(&mut self, message: &Message) -> Result<Outcome, Error> {
        let mut options = match self.ddl.take() {
            Some(options) => options,
            None => self.ddl_options().await?,
        };
        options.stale = self.filter.has_aside() || self.waiting != Waiting::Not;
        let has_more = !message.has_only_values();
        if has_more {
            self.session.simple(PIN).await?;
        }
        let outcome = self.apply_despite_stale_rows(message, &options).await?;
        self.ddl = Some(options);
        if !has_more {
            return Ok(outcome);
        }
        self.waiting.found(outcome.waits);
        let identity = &self.options.identity;
        for change in &message.changes {
            tables::follow(&mut self.session, &mut self.filter, identity, change).await?;
        }
        for table in &outcome.recopy {
            let name = TableName { schema: table.schema.clone(), table: table.name.clone() };
            copied::copy_again(&mut self.session, identity, &name).await?;
            self.filter.set_aside(name);
        }
        self.session.simple(UNPIN).await?;
        self.forget_tables().await?;
        self.relations.rename_schemas(&tables::renamed_schemas(message));
        tables::moved_tables(message).for_each(|(table, schema)| self.relations.set_schema(table, schema));
        Ok(outcome)
    }

    /// What waits for tables is tried again, in a transaction of its own: they may be whole now. What still cannot be done
    /// goes on waiting.
    pub(crate) async fn try_what_waits(&mut self) -> Result<Option<DdlReport>, Error> {
        self.waiting = Waiting::Not;
        self.session.simple("BEGIN").await?;
        match self.retry().await {
            Ok(outcome) => {
                self.checkpoint.stay(&mut self.session).await?;
                self.session.simple("COMMIT").await?;
                self.forget_tables().await?;
                Ok(Some(DdlReport { done: outcome.done, skipped: outcome.skipped }))
            }
            Err(error) if error.class() == Class::Definite && !error.breaks_session() => {
                self.roll_back().await?;
                self.waiting = Waiting::ForTables;
                let error = error.stopped_by().message;
                tracing::warn!(target = %self.options.name, %error, "what waits for tables cannot be tried again");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn retry(&mut self) -> Result<Outcome, Error> {
        let mut options = self.ddl_options().await?;
        options.stale = true;
        self.session.simple(PIN).await?;
        let outcome = ::ddl::retry(&mut Statements(&mut self.session), &options).await.map_err(Error::ddl)?;
        self.waiting.found(outcome.waits);
        Ok(outcome)
    }

    async fn ddl_options(&mut self) -> Result<::ddl::Options, Error> {
        let DdlOptions { functions, selected, partial, roles, .. } = &self.options.ddl;
        let rights = functions::ensure(&mut self.session, functions, self.token.as_ref()).await?;
        let server_version = self.session.server_version();
        let (selected, partial, roles) = (selected.clone(), *partial, roles.clone());
        let origin = waiting::origin(&self.options.identity);
        Ok(::ddl::Options { selected, partial, stale: false, origin, server_version, rights, roles })
    }
}
