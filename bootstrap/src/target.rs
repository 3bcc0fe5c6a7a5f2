//! What is on the target: nothing, or tables that fit.

use std::collections::{BTreeMap, BTreeSet};

use capture::shown_table;
use tokio_postgres::{Client, Row};

use crate::blanks::Blanks;
use crate::catalog::Table;
use crate::copy::Format;
use crate::error::{Error, Whom};

const LOOK: &str = "look at what is there";

/// A user's schema: not PostgreSQL's, not walcast's.
const USERS: &str = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'walcast')";

/// Refuses a database that has anything in it. What extensions brought does not count.
pub(crate) async fn check_empty(client: &Client) -> Result<(), Error> {
    match anything(client).await? {
        Some(what) => Err(Error::NotEmpty(what)),
        None => Ok(()),
    }
}

/// Whether there is nothing but what extensions brought.
pub(crate) async fn is_empty(client: &Client) -> Result<bool, Error> {
    Ok(anything(client).await?.is_none())
}

/// One thing that is there, a table if there is one.
async fn anything(client: &Client) -> Result<Option<String>, Error> {
    let users = |catalog: &str, oid: &str| {
        format!(
            "{USERS} AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
                 WHERE d.classid = 'pg_catalog.{catalog}'::regclass AND d.objid = {oid} AND d.deptype = 'e')"
        )
    };
    let sql = format!(
        "SELECT format('%s %I.%I exists', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' \
             WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'relation' END, n.nspname, c.relname), \
             CASE WHEN c.relkind IN ('r', 'p') THEN 0 ELSE 1 END, n.nspname, c.relname \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {} AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') \
         UNION ALL SELECT format('function %I.%I exists', n.nspname, p.proname), 2, n.nspname, p.proname \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {} \
         UNION ALL SELECT format('type %I.%I exists', n.nspname, t.typname), 2, n.nspname, t.typname \
         FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
         WHERE {} AND t.typelem = 0 \
         UNION ALL SELECT format('schema %I exists', n.nspname), 3, n.nspname, NULL FROM pg_catalog.pg_namespace n \
         WHERE {} AND n.nspname <> 'public' \
         UNION ALL SELECT format('large object %s exists', oid), 4, NULL, NULL \
         FROM pg_catalog.pg_largeobject_metadata ORDER BY 2, 3, 4 LIMIT 1",
        users("pg_class", "c.oid"),
        users("pg_proc", "p.oid"),
        users("pg_type", "t.oid"),
        users("pg_namespace", "n.oid"),
    );
    let row = client.query_opt(&sql, &[]).await.map_err(Whom::Target.doing(LOOK))?;
    row.map(|row| row.try_get(0)).transpose().map_err(Whom::Target.doing(LOOK))
}

/// Refuses tables that hold rows. Those of extensions come with theirs.
pub(crate) async fn check_without_rows(client: &Client, tables: &[Table]) -> Result<(), Error> {
    let found = find(client, tables).await?;
    for table in tables {
        let known = found.get(&(table.schema.clone(), table.name.clone()));
        if known.is_none_or(|known| known.of_extension) {
            continue;
        }
        if has_rows(client, table).await? {
            return Err(Error::NotEmpty(format!("table {} has rows", table.shown())));
        }
    }
    Ok(())
}

pub(crate) async fn has_rows(client: &Client, table: &Table) -> Result<bool, Error> {
    let only = if table.partitioned { "" } else { "ONLY " };
    let sql = format!("SELECT EXISTS (SELECT FROM {only}{})", table.quoted());
    let row = client.query_one(&sql, &[]).await.map_err(Whom::Target.doing(LOOK))?;
    row.try_get(0).map_err(Whom::Target.doing(LOOK))
}

/// A table as the target has it.
pub(crate) struct Found {
    /// Type names of columns.
    types: BTreeMap<String, String>,
    /// Columns whose values are filled up with blanks to a length.
    filled: BTreeSet<String>,
    of_extension: bool,
    /// A foreign key of another table names it, so TRUNCATE is refused.
    pub(crate) referenced: bool,
    /// It is partitioned, or is a partition that takes rows by itself.
    pub(crate) partitioned: bool,
}

/// The target's tables by schema and name.
pub(crate) type Tables = BTreeMap<(String, String), Found>;

/// Looks up the tables' counterparts.
pub(crate) async fn find(client: &Client, tables: &[Table]) -> Result<Tables, Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let sql = "SELECT n.nspname::text, c.relname::text, \
                   array(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                       AND NOT a.attisdropped ORDER BY a.attnum), \
                   array(SELECT pg_catalog.format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute a \
                       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum), \
                   array(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                       AND NOT a.attisdropped AND a.atttypid = 'pg_catalog.bpchar'::regtype AND a.atttypmod >= 0), \
                   EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid \
                       AND d.deptype = 'e'), \
                   EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f' \
                       AND f.conrelid <> c.oid), \
                   c.relkind = 'p' \
               FROM unnest($1::text[], $2::text[]) w (schema, name) \
               JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema \
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')";
    let rows = client.query(sql, &[&schemas, &names]).await.map_err(Whom::Target.doing(LOOK))?;
    rows.iter().map(found).collect::<Result<_, _>>().map_err(Whom::Target.doing(LOOK))
}

fn found(row: &Row) -> Result<((String, String), Found), tokio_postgres::Error> {
    let (columns, types): (Vec<String>, Vec<String>) = (row.try_get(2)?, row.try_get(3)?);
    let found = Found {
        types: columns.into_iter().zip(types).collect(),
        filled: row.try_get::<_, Vec<String>>(4)?.into_iter().collect(),
        of_extension: row.try_get(5)?,
        referenced: row.try_get(6)?,
        partitioned: row.try_get(7)?,
    };
    Ok(((row.try_get(0)?, row.try_get(1)?), found))
}

/// How rows of this table may travel, if the target has what it needs at all. `bytes_only`: a server knows no encoding.
pub(crate) fn format(table: &Table, found: &Tables, bytes_only: bool) -> Result<Format, Error> {
    let known = found.get(&(table.schema.clone(), table.name.clone()));
    let known = known.ok_or_else(|| Error::Missing(format!("table {}", table.shown())))?;
    let mut binary = !bytes_only;
    for column in &table.columns {
        let theirs = known.types.get(&column.name).ok_or_else(|| {
            let name: String = column.name.chars().flat_map(char::escape_default).collect();
            Error::Missing(format!("column \"{name}\" of table {}", shown_table(&table.schema, &table.name)))
        })?;
        binary &= column.binary && *theirs == column.type_name;
    }
    let filled = table.columns.iter().map(|column| known.filled.contains(&column.name));
    Ok(if binary { Format::Binary(Blanks::new(filled)) } else { Format::Text })
}

/// Indexes and constraints by schema, table and name, as far as the target has them.
pub(crate) struct Existing(BTreeSet<(String, String, String)>);

impl Existing {
    pub(crate) async fn read(client: &Client) -> Result<Existing, Error> {
        let sql = format!(
            "SELECT n.nspname::text, t.relname::text, c.relname::text FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace WHERE {USERS} \
             UNION SELECT n.nspname::text, t.relname::text, k.conname::text FROM pg_catalog.pg_constraint k \
             JOIN pg_catalog.pg_class t ON t.oid = k.conrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace WHERE {USERS} AND k.contype IN ('p', 'u', 'x')"
        );
        let rows = client.query(&sql, &[]).await.map_err(Whom::Target.doing(LOOK))?;
        let names = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        names.collect::<Result<_, _>>().map(Existing).map_err(Whom::Target.doing(LOOK))
    }

    pub(crate) fn has(&self, name: &(String, String, String)) -> bool {
        self.0.contains(name)
    }
}
