//! Requirements on a target.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row};

use super::{Finding, Found, finding, some_of, version};
use crate::source::scalar;
use crate::{Error, PublishedTable, shown_table};

/// Looks at everything a target needs. `published` is what the source publishes; without it (the source cannot be asked)
/// the tables are not looked at.
pub async fn check_target(client: &Client, published: Option<&[PublishedTable]>) -> Vec<Finding> {
    let mut findings = vec![
        finding(version(client).await),
        finding(writable(client).await),
        finding(replication_role(client).await),
        finding(checkpoint(client).await),
    ];
    if let Some(published) = published {
        match table_findings(client, published).await {
            Ok(found) => findings.extend(found),
            Err(e) => findings.push(Finding::unknown(&e)),
        }
    }
    findings
}

async fn table_findings(client: &Client, published: &[PublishedTable]) -> Result<Vec<Finding>, Error> {
    let found = tables(client, published).await?;
    // Nothing has been copied or declared there yet: that is where a target begins.
    let sql = "select pg_catalog.to_regnamespace('walcast') is null";
    if found.is_empty() && !published.is_empty() && scalar(client, sql, "look for schema walcast").await? {
        let text = format!("none of the {} published tables exists yet", published.len());
        return Ok(vec![Finding::warn(text, "walcast bootstrap copies schema and rows")]);
    }
    Ok(vec![
        tables_exist(published, &found),
        columns_exist(published, &found),
        privileges(&found),
        row_security(&found),
        triggers(&found),
        deferrable(&found),
    ])
}

async fn writable(client: &Client) -> Found {
    let sql = "select pg_catalog.pg_is_in_recovery()";
    let standby: bool = scalar(client, sql, "ask whether it is a standby").await?;
    if standby {
        return Ok(Finding::fail("the server is a standby", "name a primary in the target's conninfo"));
    }
    let sql = "select current_setting('transaction_read_only')::bool";
    let read_only: bool = scalar(client, sql, "ask whether it is writable").await?;
    Ok(Finding::when(!read_only, "the database is writable", || {
        Finding::fail("the database is read-only", "switch default_transaction_read_only off for walcast's role")
    }))
}

/// A session that begins in it (ALTER ROLE … SET, as `setup --target` does) needs no right. Otherwise it is tried rather
/// than asked, because the ways to be allowed differ by version.
async fn replication_role(client: &Client) -> Found {
    const DOING: &str = "try session_replication_role";
    let sql = "select current_setting('session_replication_role') = 'replica'";
    if scalar(client, sql, DOING).await? {
        return Ok(Finding::pass("session_replication_role is replica"));
    }
    client.batch_execute("begin").await.map_err(Error::doing(DOING))?;
    let tried = client.batch_execute("set local session_replication_role = replica").await;
    client.batch_execute("rollback").await.map_err(Error::doing(DOING))?;
    let hint = "have a superuser run what `walcast setup --target NAME --print-sql` prints, \
                or ALTER ROLE … SET session_replication_role = replica";
    Ok(match tried {
        Ok(()) => Finding::pass("session_replication_role can be set"),
        Err(e) => Finding::fail(format!("session_replication_role cannot be set: {}", crate::one_line(&e)), hint),
    })
}

/// The functions of a replication origin that an applier calls.
const ORIGIN_FUNCTIONS: [&str; 5] = [
    "pg_replication_origin_create(text)",
    "pg_replication_origin_oid(text)",
    "pg_replication_origin_progress(text,boolean)",
    "pg_replication_origin_session_setup(text)",
    "pg_replication_origin_xact_setup(pg_lsn,timestamp with time zone)",
];

async fn checkpoint(client: &Client) -> Found {
    const DOING: &str = "look at the privileges on replication origins";
    let functions: Vec<String> = ORIGIN_FUNCTIONS.iter().map(|f| format!("pg_catalog.{f}")).collect();
    let sql = "select coalesce(bool_and(coalesce(pg_catalog.has_function_privilege( \
                   pg_catalog.to_regprocedure(f)::oid, 'execute'), false)), false) from unnest($1::text[]) f";
    let row = client.query_one(sql, &[&functions]).await.map_err(Error::doing(DOING))?;
    if row.try_get(0).map_err(Error::doing(DOING))? {
        return Ok(Finding::pass("a replication origin can keep the checkpoint"));
    }
    let sql = "select case when pg_catalog.to_regnamespace('walcast') is null \
                   then pg_catalog.has_database_privilege(current_database(), 'create') \
                   else pg_catalog.has_schema_privilege('walcast', 'usage') end";
    let table: bool = scalar(client, sql, DOING).await?;
    Ok(Finding::when(table, "walcast.checkpoint can keep the checkpoint (no replication origin is allowed)", || {
        let hint = "GRANT EXECUTE on the pg_replication_origin_* functions, or GRANT CREATE ON DATABASE, to the role";
        Finding::fail("neither a replication origin nor a table in schema walcast can keep the checkpoint", hint)
    }))
}

/// A table of the target, as the role sees it.
struct Table {
    columns: BTreeSet<String>,
    /// Of SELECT, INSERT, UPDATE, DELETE, TRUNCATE.
    privileges_missing: Vec<String>,
    row_security: bool,
    /// Triggers that fire although session_replication_role is replica.
    triggers: Vec<String>,
    /// Unique constraints that are checked at COMMIT, where no change can be named.
    deferrable: Vec<String>,
}

type Tables = BTreeMap<(String, String), Table>;

async fn tables(client: &Client, published: &[PublishedTable]) -> Result<Tables, Error> {
    const DOING: &str = "look at the tables";
    let schemas: Vec<&str> = published.iter().map(|t| t.schema.as_str()).collect();
    let names: Vec<&str> = published.iter().map(|t| t.table.as_str()).collect();
    let sql = "select n.nspname::text, c.relname::text, \
                   array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid \
                       and a.attnum > 0 and not a.attisdropped), \
                   array(select p from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p \
                       where not pg_catalog.has_table_privilege(c.oid, p)), \
                   pg_catalog.row_security_active(c.oid), \
                   array(select t.tgname::text from pg_catalog.pg_trigger t where t.tgrelid = c.oid \
                       and t.tgenabled in ('A', 'R') and not t.tgisinternal), \
                   array(select u.conname::text from pg_catalog.pg_constraint u where u.conrelid = c.oid \
                       and u.contype in ('p', 'u', 'x') and u.condeferrable) \
               from unnest($1::text[], $2::text[]) w (schema, name) \
               join pg_catalog.pg_namespace n on n.nspname = w.schema \
               join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')";
    let rows = client.query(sql, &[&schemas, &names]).await.map_err(Error::doing(DOING))?;
    rows.iter().map(table).collect::<Result<_, _>>().map_err(Error::doing(DOING))
}

fn table(row: &Row) -> Result<((String, String), Table), tokio_postgres::Error> {
    let columns: Vec<String> = row.try_get(2)?;
    let table = Table {
        columns: columns.into_iter().collect(),
        privileges_missing: row.try_get(3)?,
        row_security: row.try_get(4)?,
        triggers: row.try_get(5)?,
        deferrable: row.try_get(6)?,
    };
    Ok(((row.try_get(0)?, row.try_get(1)?), table))
}

fn tables_exist(published: &[PublishedTable], found: &Tables) -> Finding {
    let missing: Vec<String> = published
        .iter()
        .filter(|t| !found.contains_key(&(t.schema.clone(), t.table.clone())))
        .map(|t| shown_table(&t.schema, &t.table))
        .collect();
    Finding::when(missing.is_empty(), &format!("all {} published tables exist", published.len()), || {
        let hint = "create them: pg_dump --schema-only of the source, without its publications";
        Finding::fail(format!("tables are missing: {}", some_of(&missing)), hint)
    })
}

fn columns_exist(published: &[PublishedTable], found: &Tables) -> Finding {
    let lacks = |t: &PublishedTable| {
        let table = found.get(&(t.schema.clone(), t.table.clone()))?;
        let missing: Vec<String> = t.columns.iter().filter(|c| !table.columns.contains(*c)).cloned().collect();
        let shown = || missing.iter().map(|c| shown_column(c)).collect::<Vec<_>>();
        (!missing.is_empty()).then(|| format!("{} of {}", some_of(&shown()), shown_table(&t.schema, &t.table)))
    };
    let missing: Vec<String> = published.iter().filter_map(lacks).collect();
    Finding::when(missing.is_empty(), "their columns exist", || {
        Finding::fail(
            format!("columns are missing: {}", some_of(&missing)),
            "ALTER TABLE … ADD COLUMN, as on the source",
        )
    })
}

fn shown_column(name: &str) -> String {
    name.chars().flat_map(char::escape_default).collect()
}

fn privileges(found: &Tables) -> Finding {
    let complaint = |((schema, name), table): (&(String, String), &Table)| {
        let missing = &table.privileges_missing;
        (!missing.is_empty()).then(|| format!("{} on {}", missing.join("+"), shown_table(schema, name)))
    };
    let missing: Vec<String> = found.iter().filter_map(complaint).collect();
    Finding::when(missing.is_empty(), "the role may read and write them", || {
        Finding::fail(
            format!("privileges are missing: {}", some_of(&missing)),
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON … TO the role",
        )
    })
}

fn row_security(found: &Tables) -> Finding {
    let tables = names_where(found, |t| t.row_security);
    Finding::when(tables.is_empty(), "no row security applies to the role", || {
        Finding::fail(
            format!("row security applies to the role: {}", some_of(&tables)),
            "ALTER ROLE … BYPASSRLS, or let the role own the tables without FORCE ROW LEVEL SECURITY",
        )
    })
}

fn triggers(found: &Tables) -> Finding {
    let tables = names_where(found, |t| !t.triggers.is_empty());
    Finding::when(tables.is_empty(), "no trigger fires for replicated changes", || {
        Finding::warn(
            format!("ALWAYS or REPLICA triggers will fire: {}", some_of(&tables)),
            "ALTER TABLE … ENABLE TRIGGER … (without ALWAYS or REPLICA), if that is not intended",
        )
    })
}

/// A deferrable index is no replica identity, and one that is deferred fails a batch only at its COMMIT.
fn deferrable(found: &Tables) -> Finding {
    let tables = names_where(found, |t| !t.deferrable.is_empty());
    Finding::when(tables.is_empty(), "no unique constraint is deferrable", || {
        Finding::warn(
            format!("unique constraints are deferrable: {}", some_of(&tables)),
            "ALTER TABLE … ALTER CONSTRAINT cannot change that: make them anew as NOT DEFERRABLE, or a conflict may be \
             reported without the change that caused it",
        )
    })
}

fn names_where(found: &Tables, predicate: impl Fn(&Table) -> bool) -> Vec<String> {
    found.iter().filter(|(_, t)| predicate(t)).map(|((s, n), _)| shown_table(s, n)).collect()
}
