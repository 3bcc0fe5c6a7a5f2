//! Which of the schema's later parts belong to one table and can be made as soon as that is whole: its indexes, and the
//! constraints that are indexes. Everything else waits for all tables.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row};

use crate::catalog::Table;
use crate::error::{Error, Whom};
use crate::schema::Dump;
use crate::target::Existing;
use crate::toc::{PG_CLASS, PG_CONSTRAINT};

const READ: &str = "read indexes";

/// Numbers of a dump's entries.
#[derive(Debug, Default)]
pub(crate) struct PostData {
    /// As the tables are numbered.
    pub(crate) tables: Vec<TableIndexes>,
    /// For when all tables are whole.
    pub(crate) rest: Vec<u32>,
}

/// What belongs to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableIndexes {
    /// They lock the table, so they are made one after the other.
    pub(crate) constraints: Vec<u32>,
    /// They may be made at the same time.
    pub(crate) indexes: Vec<u32>,
}

impl TableIndexes {
    pub(crate) fn is_empty(&self) -> bool {
        self.constraints.is_empty() && self.indexes.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        self.constraints.iter().chain(&self.indexes).copied()
    }
}

/// An index of the source.
struct Index {
    table: u32,
    /// Schema, table and name.
    name: (String, String, String),
}

/// Sorts the dump's later parts. What the target has already is left out: an index is there or not, never in part.
pub(crate) async fn sort(
    source: &Client,
    dump: &Dump,
    tables: &[Table],
    existing: &Existing,
) -> Result<PostData, Error> {
    let indexes = indexes(source).await?;
    let mut numbers = BTreeMap::new();
    for (number, table) in tables.iter().enumerate() {
        numbers.extend(table.stores.iter().map(|store| (store.oid, number)));
    }
    let mut sorted = PostData { tables: vec![TableIndexes::default(); tables.len()], rest: Vec::new() };
    for entry in dump.post_data() {
        let index = indexes.get(&entry.object);
        if index.is_some_and(|index| existing.has(&index.name)) {
            continue;
        }
        let number = index.and_then(|index| numbers.get(&index.table));
        match number.and_then(|number| sorted.tables.get_mut(*number)) {
            Some(table) if entry.object.0 == PG_CONSTRAINT => table.constraints.push(entry.id),
            Some(table) => table.indexes.push(entry.id),
            None => sorted.rest.push(entry.id),
        }
    }
    Ok(sorted)
}

/// These entries without the indexes that are on the target by now.
pub(crate) async fn missing(
    source: &Client,
    dump: &Dump,
    mut ids: Vec<u32>,
    existing: &Existing,
) -> Result<Vec<u32>, Error> {
    let indexes = indexes(source).await?;
    let is_there = |object| indexes.get(object).is_some_and(|index| existing.has(&index.name));
    let there: BTreeSet<u32> = dump.post_data().filter(|entry| is_there(&entry.object)).map(|entry| entry.id).collect();
    ids.retain(|id| !there.contains(id));
    Ok(ids)
}

/// All indexes by the object that a dump has for them: the constraint, if it is one's.
async fn indexes(source: &Client) -> Result<BTreeMap<(u32, u32), Index>, Error> {
    let sql = "SELECT i.indexrelid, k.oid, i.indrelid, n.nspname::text, t.relname::text, coalesce(k.conname, c.relname)::text \
               FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
               JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
               LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid \
                   AND k.contype IN ('p', 'u', 'x') WHERE i.indexrelid >= 16384";
    let rows = source.query(sql, &[]).await.map_err(Whom::Source.doing(READ))?;
    rows.iter().map(index).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))
}

fn index(row: &Row) -> Result<((u32, u32), Index), tokio_postgres::Error> {
    let constraint: Option<u32> = row.try_get(1)?;
    let object = match constraint {
        Some(oid) => (PG_CONSTRAINT, oid),
        None => (PG_CLASS, row.try_get(0)?),
    };
    let name = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    Ok((object, Index { table: row.try_get(2)?, name }))
}
