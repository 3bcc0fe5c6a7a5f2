//! Which changes a target has through a copy already, and must not get again.
//!
//! A copy notes each table in `walcast.copied`, with the position as of which it is complete. The target's checkpoint is
//! the smallest of these, so the log also brings what later copied tables have:
//!
//! | row of the table | changes in transactions with `commit_lsn` before `start_lsn` | at or after it |
//! | --- | --- | --- |
//! | `start_lsn` S | passed over | applied |
//! | `start_lsn` NULL: it is being copied again | passed over | passed over |
//! | none | applied | applied |
//!
//! A table that is copied again is then caught up in a *lane*: another session, with a checkpoint of its own, that passes
//! over everything else. When the lane has reached the target's other tables, both are held, `start_lsn` becomes the
//! lane's position, and the lane's checkpoint goes, in one transaction: [`set_aside`] and [`rejoin`].
//!
//! Tables go by the name that the log gives them at the time of the change. Rows are read when a session begins, and
//! again on [`Command::Reload`](crate::Command::Reload); once the target has passed all positions nothing is looked up
//! any more.

use decoder::{Lsn, RelationId};
use hashbrown::HashMap;

use crate::catalog::text;
use crate::checkpoint::lsn;
use crate::error::Error;
use crate::mapping;
use crate::name::TableName;
use crate::relations::Relations;
use crate::session::Session;
use crate::status::Identity;

/// From where on a table's changes are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// All of them.
    Anywhere,
    /// Those of transactions with this `commit_lsn` or a later one.
    At(Lsn),
    /// None.
    Never,
}

impl Start {
    fn is_after(self, commit_lsn: Lsn) -> bool {
        match self {
            Start::Anywhere => false,
            Start::At(start) => commit_lsn < start,
            Start::Never => true,
        }
    }
}

/// What is passed over.
#[derive(Debug)]
pub(crate) struct Filter {
    tables: HashMap<TableName, Start>,
    /// Of tables that are not named.
    others: Start,
    /// As far as met; a relation that is described anew may have another name.
    met: HashMap<RelationId, Start>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { tables: HashMap::new(), others: Start::Anywhere, met: HashMap::new() }
    }
}

impl Filter {
    /// Reads what a target at `applied` has to pass over.
    pub(crate) async fn read(session: &mut Session, identity: &Identity, applied: Lsn) -> Result<Filter, Error> {
        let mut filter = Filter::default();
        if !is_there(session).await? {
            return Ok(filter);
        }
        let sql = "SELECT schema_name, table_name, start_lsn FROM walcast.copied \
             WHERE system_id = $1 AND slot = $2 AND coalesce(start_lsn > $3::text::pg_lsn, true)";
        let parameters = [&identity.system_id.to_string(), &identity.slot, &applied.to_string()];
        for row in session.query(sql, &parameters.map(String::as_str)).await? {
            let name = TableName { schema: text(&row, 0)?.to_owned(), table: text(&row, 1)?.to_owned() };
            let start = row.get(2).and_then(Option::as_deref).map(lsn).transpose()?;
            filter.tables.insert(name, start.map_or(Start::Never, Start::At));
        }
        Ok(filter)
    }

    /// Everything but one table is passed over.
    pub(crate) fn only(schema: &str, table: &str) -> Filter {
        let name = TableName { schema: schema.to_owned(), table: table.to_owned() };
        let tables = [(name, Start::Anywhere)].into_iter().collect();
        Filter { tables, others: Start::Never, met: HashMap::new() }
    }

    /// Something may have to be passed over: the one question that is asked of every change.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether the target has, or must not have, this relation's changes of a transaction.
    pub(crate) fn passes_over(
        &mut self,
        relation: RelationId,
        commit_lsn: Lsn,
        relations: &Relations,
    ) -> Result<bool, Error> {
        if !self.is_active() {
            return Ok(false);
        }
        if let Some(start) = self.met.get(&relation) {
            return Ok(start.is_after(commit_lsn));
        }
        let name = mapping::table_name(&relations.definition(relation)?);
        let start = self.tables.get(&name).copied().unwrap_or(self.others);
        self.met.insert(relation, start);
        Ok(start.is_after(commit_lsn))
    }

    /// The relation is described anew.
    pub(crate) fn described(&mut self, relation: RelationId) {
        if self.is_active() {
            self.met.remove(&relation);
        }
    }

    /// The target is at `applied`: what begins before it is no matter any more.
    pub(crate) fn passed(&mut self, applied: Lsn) {
        let before = self.tables.len();
        self.tables.retain(|_, start| !matches!(start, Start::At(lsn) if *lsn <= applied));
        if self.tables.len() != before {
            self.met.clear();
        }
    }

    /// The table is one of those that are told from the others.
    pub(crate) fn has(&self, table: &TableName) -> bool {
        self.tables.contains_key(table)
    }

    /// Nothing is applied to the table.
    pub(crate) fn is_aside(&self, table: &TableName) -> bool {
        self.tables.get(table) == Some(&Start::Never)
    }

    /// Those of a schema.
    pub(crate) fn names_in(&self, schema: &str) -> impl Iterator<Item = TableName> + use<> {
        let names = self.tables.keys().filter(|name| name.schema == schema).cloned().collect::<Vec<_>>();
        names.into_iter()
    }

    /// Nothing more is applied to the table.
    pub(crate) fn set_aside(&mut self, table: TableName) {
        self.tables.insert(table, Start::Never);
        self.met.clear();
    }

    /// The table has another name, or is gone.
    pub(crate) fn rename(&mut self, old: &TableName, new: Option<TableName>) {
        let start = self.tables.remove(old);
        if let (Some(start), Some(new)) = (start, new) {
            self.tables.insert(new, start);
        }
        self.met.clear();
    }

    /// Nothing is applied to some table.
    pub(crate) fn has_aside(&self) -> bool {
        self.tables.values().any(|start| *start == Start::Never)
    }

    /// The tables that nothing is applied to, in order.
    pub(crate) fn aside(&self) -> Vec<(String, String)> {
        let aside = self.tables.iter().filter(|(_, start)| **start == Start::Never);
        let mut names: Vec<_> = aside.map(|(name, _)| (name.schema.clone(), name.table.clone())).collect();
        names.sort();
        names
    }

    /// Up to here the target is in no state that the source had.
    pub(crate) fn level_at(&self) -> Option<Lsn> {
        let starts = self.tables.values().filter_map(|start| match start {
            Start::At(lsn) => Some(*lsn),
            Start::Anywhere | Start::Never => None,
        });
        starts.max()
    }
}

async fn is_there(session: &mut Session) -> Result<bool, Error> {
    let rows = session.simple("SELECT to_regclass('walcast.copied') IS NOT NULL").await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
}

/// Removes all that is noted of a target's copy, and the checkpoints of lanes.
pub(crate) async fn forget(session: &mut Session, identity: &Identity) -> Result<(), Error> {
    if is_there(session).await? {
        for sql in [
            "DELETE FROM walcast.copied WHERE system_id = $1 AND slot = $2",
            "DELETE FROM walcast.checkpoint WHERE system_id = $1 AND starts_with(slot, $2 || ' ')",
        ] {
            session.query(sql, &[&identity.system_id.to_string(), &identity.slot]).await?;
        }
    }
    // The steps of a copy, which whoever copies keeps.
    if !session.simple("SELECT WHERE to_regclass('walcast.bootstrap') IS NOT NULL").await?.is_empty() {
        let sql = "DELETE FROM walcast.bootstrap WHERE system_id = $1 AND slot = $2";
        session.query(sql, &[&identity.system_id.to_string(), &identity.slot]).await?;
    }
    Ok(())
}

/// Notes that a table is copied again. A copy that was made before is of use if its lane is not before `kept`.
pub(crate) async fn set_aside(
    session: &mut Session,
    identity: &Identity,
    (schema, table): (&str, &str),
    kept: Lsn,
) -> Result<(), Error> {
    let (system_id, lane) = (identity.system_id.to_string(), identity.lane(schema, table));
    let sql = "INSERT INTO walcast.copied (system_id, slot, schema_name, table_name) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (system_id, slot, schema_name, table_name) DO UPDATE SET start_lsn = NULL";
    session.query(sql, &[&system_id, &identity.slot, schema, table]).await?;
    let sql = "DELETE FROM walcast.checkpoint WHERE system_id = $1 AND slot = $2 AND lsn < $3::text::pg_lsn";
    session.query(sql, &[&system_id, &lane.slot, &kept.to_string()]).await?;
    Ok(())
}

/// Notes, in the transaction of the DDL that makes it necessary, that a table is to be copied again. What was copied of it
/// before is of no use any more.
pub(crate) async fn copy_again(session: &mut Session, identity: &Identity, table: &TableName) -> Result<(), Error> {
    set_aside(session, identity, (&table.schema, &table.table), Lsn::MAX).await
}

/// Notes that a table has another name, or none any more. Its lane has the old one and ends.
pub(crate) async fn rename(
    session: &mut Session,
    identity: &Identity,
    old: &TableName,
    new: Option<&TableName>,
) -> Result<(), Error> {
    let (system_id, lane) = (identity.system_id.to_string(), identity.lane(&old.schema, &old.table));
    let sql = "WITH ended AS (DELETE FROM walcast.checkpoint WHERE system_id = $1 AND slot = $2), \
             gone AS (DELETE FROM walcast.copied WHERE system_id = $1 AND slot = $3 AND schema_name = $4 \
                 AND table_name = $5 RETURNING start_lsn, bytes, copied_at) \
         INSERT INTO walcast.copied (system_id, slot, schema_name, table_name, start_lsn, bytes, copied_at) \
         SELECT $1, $3, $6::text, $7::text, start_lsn, bytes, copied_at FROM gone WHERE $6::text IS NOT NULL \
         ON CONFLICT (system_id, slot, schema_name, table_name) DO UPDATE SET start_lsn = excluded.start_lsn";
    let (schema, name) = (new.map(|new| new.schema.as_str()), new.map(|new| new.table.as_str()));
    let known = [&system_id, &lane.slot, &identity.slot, &old.schema, &old.table].map(|text| Some(text.as_str()));
    session.query_optional(sql, &[known.as_slice(), &[schema, name]].concat()).await?;
    Ok(())
}

/// Notes that a table is complete as of `start`, and ends its lane.
pub(crate) async fn rejoin(
    session: &mut Session,
    identity: &Identity,
    (schema, table): (&str, &str),
    start: Lsn,
) -> Result<(), Error> {
    let (system_id, lane) = (identity.system_id.to_string(), identity.lane(schema, table));
    let sql = "WITH ended AS (DELETE FROM walcast.checkpoint WHERE system_id = $1 AND slot = $2) \
         UPDATE walcast.copied SET start_lsn = $3::text::pg_lsn, copied_at = now() \
         WHERE system_id = $1 AND slot = $4 AND schema_name = $5 AND table_name = $6 RETURNING 1";
    let parameters = [&system_id, &lane.slot, &start.to_string(), &identity.slot, schema, table];
    match session.query(sql, &parameters.map(|text: &str| text)).await?.len() {
        1 => Ok(()),
        _ => Err(Error::Answer("a table that is not set aside")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: RelationId = RelationId(1);

    fn at(raw: u64) -> Lsn {
        Lsn::from_u64(raw)
    }

    /// A Relation message without columns.
    fn described_as(name: &str) -> Relations {
        let message = [b"R\0\0\0\x01public\0", name.as_bytes(), b"\0d\0\0"].concat();
        let mut relations = Relations::default();
        relations.describe(T, &message);
        relations
    }

    fn filter(start: Start) -> Filter {
        let name = TableName { schema: "public".into(), table: "t".into() };
        Filter { tables: [(name, start)].into_iter().collect(), ..Filter::default() }
    }

    #[test]
    fn r15_the_boundary_belongs_to_what_is_applied() {
        let (mut filter, t) = (filter(Start::At(at(0x10))), described_as("t"));
        assert!(filter.passes_over(T, at(0x0f), &t).unwrap());
        assert!(!filter.passes_over(T, at(0x10), &t).unwrap());
        assert_eq!(filter.level_at(), Some(at(0x10)));
        filter.passed(at(0x0f));
        assert!(filter.is_active());
        filter.passed(at(0x10));
        assert!(!filter.is_active() && filter.level_at().is_none());
    }

    #[test]
    fn a_table_that_is_copied_again_gets_nothing_and_a_renamed_one_goes_by_its_new_name() {
        let mut filter = filter(Start::Never);
        filter.passed(Lsn::MAX);
        assert!(filter.passes_over(T, Lsn::MAX, &described_as("t")).unwrap());
        filter.described(T);
        assert!(!filter.passes_over(T, Lsn::MAX, &described_as("u")).unwrap());
        assert_eq!(filter.level_at(), None, "the target's other tables are in a state that the source had");
    }

    #[test]
    fn a_relation_that_was_not_described_is_an_error_and_no_guess() {
        let mut filter = filter(Start::Never);
        assert!(filter.passes_over(T, at(1), &Relations::default()).is_err());
    }
}
