//! What the source says about its slot, its publication and itself.

use decoder::Lsn;
use tokio_postgres::{Client, Row};

use crate::Error;

/// A row of `pg_replication_slots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database; `None` for a physical slot.
    pub database: Option<String>,
    /// The walsender that reads it.
    pub active_pid: Option<i32>,
    /// Whether prepared transactions are decoded at PREPARE.
    pub two_phase: bool,
    /// Up to where the reader has everything; `None` while the slot is being made.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// From where WAL is kept for it; `None` when it lost its WAL.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL kept for it.
    pub retained_bytes: Option<u64>,
    /// Bytes of WAL that may be written before the slot is in danger; `None` without `max_slot_wal_keep_size`.
    pub safe_bytes: Option<u64>,
}

/// Looks at a slot; `None` when there is none of this name.
///
/// # Errors
/// The source cannot be asked.
pub async fn slot(client: &Client, name: &str) -> Result<Option<Slot>, Error> {
    const DOING: &str = "look at the slot";
    let sql = "select plugin::text, database::text, active_pid, two_phase, confirmed_flush_lsn::text, \
               restart_lsn::text, wal_status::text, \
               pg_catalog.pg_wal_lsn_diff(case when pg_catalog.pg_is_in_recovery() \
                   then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end, \
                   restart_lsn)::int8, safe_wal_size::int8 \
               from pg_catalog.pg_replication_slots where slot_name = $1";
    let row = client.query_opt(sql, &[&name]).await.map_err(Error::doing(DOING))?;
    row.map(|row| slot_of(&row, DOING)).transpose()
}

fn slot_of(row: &Row, doing: &'static str) -> Result<Slot, Error> {
    let get = Error::doing(doing);
    Ok(Slot {
        plugin: row.try_get(0).map_err(&get)?,
        database: row.try_get(1).map_err(&get)?,
        active_pid: row.try_get(2).map_err(&get)?,
        two_phase: row.try_get(3).map_err(&get)?,
        confirmed_flush_lsn: lsn_of(row.try_get(4).map_err(&get)?, doing)?,
        restart_lsn: lsn_of(row.try_get(5).map_err(&get)?, doing)?,
        wal_status: row.try_get(6).map_err(&get)?,
        retained_bytes: row.try_get::<_, Option<i64>>(7).map_err(&get)?.map(|bytes| bytes.max(0).unsigned_abs()),
        safe_bytes: row.try_get::<_, Option<i64>>(8).map_err(&get)?.map(|bytes| bytes.max(0).unsigned_abs()),
    })
}

fn lsn_of(text: Option<String>, doing: &'static str) -> Result<Option<Lsn>, Error> {
    text.map(|text| text.parse().map_err(|_| Error::Answer { doing, answer: text })).transpose()
}

/// Where the source's WAL ends.
///
/// # Errors
/// The source cannot be asked, or is a standby.
pub async fn current_lsn(client: &Client) -> Result<Lsn, Error> {
    const DOING: &str = "ask the source for its WAL position";
    let sql = "select pg_catalog.pg_current_wal_lsn()::text";
    let text: String = scalar(client, sql, DOING).await?;
    text.parse().map_err(|_| Error::Answer { doing: DOING, answer: text })
}

/// A position after everything that the source has committed, which the stream is certain to pass.
///
/// While a large transaction is in progress the stream tells of no positions but those of transactions that end. So one is
/// made that does nothing but carry a message.
///
/// # Errors
/// The source cannot be asked, is a standby, or does not let this role write messages.
pub async fn passable_lsn(client: &Client) -> Result<Lsn, Error> {
    const DOING: &str = "ask the source for its WAL position";
    // Where WAL is inserted, not written: with synchronous_commit = off, what is committed need not be written yet.
    let text: String = scalar(client, "select pg_catalog.pg_current_wal_insert_lsn()::text", DOING).await?;
    let lsn = text.parse().map_err(|_| Error::Answer { doing: DOING, answer: text })?;
    let marker = "select pg_catalog.pg_logical_emit_message(true, 'walcast', '')";
    client.execute(marker, &[]).await.map_err(Error::doing("write a message into the source's WAL"))?;
    Ok(lsn)
}

/// The oldest open transaction that has written something, in words: a new slot waits for it. Transactions of other roles
/// are only seen by a role that may see them.
///
/// # Errors
/// The source cannot be asked.
pub async fn oldest_writer(client: &Client) -> Result<Option<String>, Error> {
    const DOING: &str = "look for open transactions";
    let sql = "select pg_catalog.format('the oldest is of process %s, since %s s', pid, \
                   extract(epoch from pg_catalog.now() - xact_start)::int8), xact_start as since \
               from pg_catalog.pg_stat_activity \
               where backend_xid is not null and pid <> pg_catalog.pg_backend_pid() \
               union all select pg_catalog.format('the oldest is prepared as %L, since %s s', gid, \
                   extract(epoch from pg_catalog.now() - prepared)::int8), prepared \
               from pg_catalog.pg_prepared_xacts order by since limit 1";
    let row = client.query_opt(sql, &[]).await.map_err(Error::doing(DOING))?;
    row.map(|row| row.try_get(0)).transpose().map_err(Error::doing(DOING))
}

/// The single value that a query without parameters returns.
pub(crate) async fn scalar<T>(client: &Client, sql: &str, doing: &'static str) -> Result<T, Error>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    let row = client.query_one(sql, &[]).await.map_err(Error::doing(doing))?;
    row.try_get(0).map_err(Error::doing(doing))
}

/// A table that the publication publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns sent, in their order.
    pub columns: Vec<String>,
}

/// The tables that a publication publishes, partitions instead of partitioned tables, ordered by name. The source's own
/// schema of walcast is left out.
///
/// # Errors
/// The source cannot be asked.
pub async fn published_tables(client: &Client, publication: &str) -> Result<Vec<PublishedTable>, Error> {
    const DOING: &str = "list the published tables";
    let major = server_version(client).await? / 10_000;
    // Before 15 there are no column lists, and the view has no such column.
    let listed = if major >= 15 { "a.attname = any (p.attnames)" } else { "true" };
    let sql = format!(
        "select p.schemaname::text, p.tablename::text, \
             coalesce(array_agg(a.attname::text order by a.attnum) filter (where a.attname is not null), '{{}}') \
         from pg_catalog.pg_publication_tables p \
         join pg_catalog.pg_namespace n on n.nspname = p.schemaname \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename \
         left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
             and a.attgenerated = '' and {listed} \
         where p.pubname = $1 and p.schemaname <> 'walcast' group by 1, 2 order by 1, 2"
    );
    let rows = client.query(&sql, &[&publication]).await.map_err(Error::doing(DOING))?;
    rows.iter().map(published_table).collect::<Result<_, _>>().map_err(Error::doing(DOING))
}

fn published_table(row: &Row) -> Result<PublishedTable, tokio_postgres::Error> {
    Ok(PublishedTable { schema: row.try_get(0)?, table: row.try_get(1)?, columns: row.try_get(2)? })
}

/// `server_version_num`, such as 150020.
pub(crate) async fn server_version(client: &Client) -> Result<i32, Error> {
    scalar(client, "select current_setting('server_version_num')::int4", "ask for the server's version").await
}
