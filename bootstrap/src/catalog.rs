//! What the source publishes, read at the snapshot.

use capture::{quote_identifier, shown_table};
use replication::binary_safe_list;
use tokio_postgres::{Client, Row};

use crate::error::{Error, Whom};

/// Statements name so many tables at a time.
const LOCKED_AT_ONCE: usize = 500;
const READ: &str = "read what is published";
const LOCK: &str = "lock the published tables";

/// A table as it is published: the name that its changes carry.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    /// In the target's order of no importance: columns are matched by name.
    pub(crate) columns: Vec<Column>,
    /// The publication's row filter.
    pub(crate) filter: Option<String>,
    /// Whether all of its columns and rows are published.
    pub(crate) whole: bool,
    /// Where its rows are: the table itself or, published as their root, its partitions.
    pub(crate) stores: Vec<Store>,
    /// It is partitioned and published as the root of its partitions.
    pub(crate) partitioned: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Whether its values mean the same in binary wherever the type has the same name.
    pub(crate) binary: bool,
    /// The type's name without modifiers.
    pub(crate) type_name: String,
}

/// A relation with rows.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// A foreign table has no blocks.
    pub(crate) foreign: bool,
    pub(crate) blocks: u64,
    /// With TOAST.
    pub(crate) bytes: u64,
}

impl Table {
    /// For SQL.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// For messages.
    pub(crate) fn shown(&self) -> String {
        shown_table(&self.schema, &self.name)
    }

    /// The columns for SQL, in parentheses for COPY; empty when there is none.
    pub(crate) fn column_list(&self) -> String {
        self.columns.iter().map(|column| quote_identifier(&column.name)).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.stores.iter().map(|store| store.bytes).sum()
    }
}

impl Store {
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// The tables of the publication without walcast's own, largest first.
pub(crate) async fn published(client: &Client, publication: &str) -> Result<Vec<Table>, Error> {
    let sql = "SELECT 1 FROM pg_catalog.pg_publication WHERE pubname = $1";
    let found = client.query_opt(sql, &[&publication]).await.map_err(Whom::Source.doing(READ))?;
    found.ok_or_else(|| Error::NoPublication(publication.to_owned()))?;
    let rows = client.query(&tables_sql(client).await?, &[&publication]).await.map_err(Whom::Source.doing(READ))?;
    let tables: Result<Vec<Table>, _> = rows.iter().map(table).collect();
    let mut tables = tables.map_err(Whom::Source.doing(READ))?;
    let oids: Vec<u32> =
        rows.iter().map(|row| row.try_get(2)).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))?;
    add_stores(client, &oids, &mut tables).await?;
    tables.sort_by_key(|table| std::cmp::Reverse(table.bytes()));
    Ok(tables)
}

async fn tables_sql(client: &Client) -> Result<String, Error> {
    // Column lists and row filters are there from 15 on.
    let sql = "SELECT current_setting('server_version_num')::int >= 150000";
    let lists: bool =
        client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(Whom::Source.doing(READ))?;
    let (filter, listed) = if lists { ("p.rowfilter", "a.attname = ANY (p.attnames)") } else { ("NULL::text", "true") };
    let columns = |expression: &str, condition: &str| {
        format!(
            "array(SELECT {expression} FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             AND {condition} ORDER BY a.attnum)"
        )
    };
    let safe = format!(
        "t.typtype = 'e' OR (CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END) IN ({})",
        binary_safe_list()
    );
    Ok(format!(
        "SELECT n.nspname::text, c.relname::text, c.oid, c.relkind = 'p', {filter}, {}, {}, {}, \
         {filter} IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid \
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND NOT ({listed})) \
         FROM pg_catalog.pg_publication_tables p \
         JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         WHERE p.pubname = $1 AND n.nspname <> 'walcast'",
        columns("a.attname::text", listed),
        columns("pg_catalog.format_type(a.atttypid, NULL)", listed),
        columns(&safe, listed),
    ))
}

fn table(row: &Row) -> Result<Table, tokio_postgres::Error> {
    let (names, types): (Vec<String>, Vec<String>) = (row.try_get(5)?, row.try_get(6)?);
    let safe: Vec<bool> = row.try_get(7)?;
    let columns = names.into_iter().zip(types).zip(safe);
    Ok(Table {
        schema: row.try_get(0)?,
        name: row.try_get(1)?,
        columns: columns.map(|((name, type_name), binary)| Column { name, binary, type_name }).collect(),
        filter: row.try_get(4)?,
        whole: row.try_get(8)?,
        stores: Vec::new(),
        partitioned: row.try_get(3)?,
    })
}

async fn add_stores(client: &Client, oids: &[u32], tables: &mut [Table]) -> Result<(), Error> {
    let sql = "SELECT r.ordinality, c.oid, n.nspname::text, c.relname::text, c.relkind = 'f', \
                   CASE WHEN c.relkind = 'f' THEN 0 ELSE pg_catalog.pg_relation_size(c.oid) END \
                       / current_setting('block_size')::int8, \
                   CASE WHEN c.relkind = 'f' THEN 0 ELSE pg_catalog.pg_table_size(c.oid) END \
               FROM unnest($1::oid[]) WITH ORDINALITY r (oid, ordinality) \
               JOIN pg_catalog.pg_class root ON root.oid = r.oid \
               CROSS JOIN LATERAL (SELECT r.oid WHERE root.relkind <> 'p' UNION ALL \
                   SELECT relid::oid FROM pg_catalog.pg_partition_tree(r.oid) WHERE root.relkind = 'p' AND isleaf) l (oid) \
               JOIN pg_catalog.pg_class c ON c.oid = l.oid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1";
    let rows = client.query(sql, &[&oids]).await.map_err(Whom::Source.doing(READ))?;
    for row in &rows {
        let (at, store) = store(row).map_err(Whom::Source.doing(READ))?;
        let table = usize::try_from(at - 1).ok().and_then(|at| tables.get_mut(at));
        table.ok_or_else(|| Whom::Source.strange(READ))?.stores.push(store);
    }
    Ok(())
}

fn store(row: &Row) -> Result<(i64, Store), tokio_postgres::Error> {
    // A relation that was dropped meanwhile has no size; locking it will say so.
    let size = |at: usize| row.try_get::<_, Option<i64>>(at).map(|size| size.unwrap_or(0).unsigned_abs());
    let store = Store {
        oid: row.try_get(1)?,
        schema: row.try_get(2)?,
        name: row.try_get(3)?,
        foreign: row.try_get(4)?,
        blocks: size(5)?,
        bytes: size(6)?,
    };
    Ok((row.try_get(0)?, store))
}

/// What has rows of tables here.
fn stores<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Vec<&'a Store> {
    tables.into_iter().flat_map(|table| &table.stores).filter(|store| !store.foreign).collect()
}

/// The statement that locks tables for a session beside the one of [`lock`]; none if there are so many that the server's
/// room for locks may not be enough for several sessions.
pub(crate) fn lock_few_sql<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Option<String> {
    let mut statements = lock_sql(tables).into_iter();
    statements.next().filter(|_| statements.next().is_none())
}

/// Statements that lock tables as reading them does.
fn lock_sql<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Vec<String> {
    let names = |some: &[&Store]| some.iter().map(|store| store.quoted()).collect::<Vec<_>>().join(", ONLY ");
    let statement = |some: &[&Store]| format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", names(some));
    stores(tables).chunks(LOCKED_AT_ONCE).map(statement).collect()
}

/// Locks the tables against DDL until the copy ends, and looks whether they still are what the snapshot saw: TRUNCATE and
/// what rewrites a table take the old rows away from every snapshot.
///
/// The name of a table that is not, if there is one.
pub(crate) async fn lock(client: &Client, tables: &[Table]) -> Result<Option<String>, Error> {
    let stores = stores(tables);
    for sql in lock_sql(tables) {
        match client.batch_execute(&sql).await {
            Err(cause) if is_undefined_table(&cause) => return Ok(Some(capture::one_line(&cause))),
            locked => locked.map_err(Whom::Source.doing(LOCK))?,
        }
    }
    let oids: Vec<u32> = stores.iter().map(|store| store.oid).collect();
    // The catalog's row is the snapshot's; the function looks at the present.
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1) \
               AND c.relfilenode <> coalesce(pg_catalog.pg_relation_filenode(c.oid), 0) LIMIT 1";
    let row = client.query_opt(sql, &[&oids]).await.map_err(Whom::Source.doing(LOCK))?;
    let name = |row: Row| Ok(shown_table(row.try_get(0)?, row.try_get(1)?));
    row.map(name).transpose().map_err(Whom::Source.doing(LOCK))
}

fn is_undefined_table(cause: &tokio_postgres::Error) -> bool {
    cause.as_db_error().is_some_and(|said| said.code().code() == "42P01")
}
