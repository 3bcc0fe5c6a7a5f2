//! One change, written in the order of the source.

use decoder::{Change, RelationId};

use crate::encoder::{Encoder, Inserts, RowChange};
use crate::error::{Error, Place};
use crate::mapping;
use crate::owner::Owner;
use crate::pipeline::{Expect, Failed, Problem, Transactions};
use crate::relations::Relations;
use crate::session::Session;
use crate::sql;
use crate::target::{BatchError, DIVISION_BY_ZERO, Target};
use crate::walk::Walk;

/// INSERTs that wait for neighbours, and their relation.
#[derive(Default)]
pub(crate) struct Group<'a> {
    pub(crate) relation: Option<RelationId>,
    inserts: Inserts<'a>,
}

impl Target {
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
        // Again when a message was applied to find one of them: the others are forgotten then.
        while left.iter().any(|relation| self.relations.mapped(*relation).is_none()) {
            for relation in &left {
                self.know(*relation, walk).await?;
            }
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

    /// One change of the single tier: written, sent, answered. Its error names it.
    pub(crate) async fn apply_alone<'a>(&mut self, change: &Change<'a>, walk: &mut Walk) -> Result<(), BatchError> {
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
}

fn encoder<'e>(relations: &'e mut Relations, session: &'e mut Session, id: RelationId) -> Result<Encoder<'e>, Error> {
    let (mapped, statements) = relations.mapped_and_counter(id).ok_or(Error::UnknownRelation(id))?;
    let (out, pipeline) = session.writing();
    Ok(Encoder { mapped, statements, pipeline, out })
}
