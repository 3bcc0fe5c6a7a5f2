//! The comparison at the end: every row of every table.

use tokio_postgres::Client;

use super::stage::{Server, Stage};
use crate::commands::print;
use crate::failure::{Failure, Result};
use crate::status::table;

const TABLES: [&str; 5] =
    ["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_richest", "pgbench_tellers"];

/// Columns, indexes, views, privileges and roles, one line each.
const DEFINITIONS: &str = "select count(*), coalesce(md5(string_agg(line, ',' order by line)), '') from ( \
    select concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull) as line \
        from pg_catalog.pg_attribute where attnum > 0 and attrelid in (select oid from pg_catalog.pg_class \
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'v')) \
    union all select indexdef from pg_catalog.pg_indexes where schemaname = 'public' \
    union all select concat_ws(' ', viewname, definition) from pg_catalog.pg_views where schemaname = 'public' \
    union all select concat_ws(' ', oid::regclass, relacl) from pg_catalog.pg_class where relnamespace = 'public'::regnamespace \
    union all select concat_ws(' ', rolname, rolcanlogin) from pg_catalog.pg_roles \
        where oid >= 16384 and rolname <> 'walcast_nobody') d";

/// Number of rows, and the sum of their hashes, which does not depend on their order.
type Digest = (i64, String);

/// Prints the comparison.
///
/// # Errors
/// A target differs from the source.
pub(crate) async fn run(stage: &Stage) -> Result<()> {
    let expected = digests(stage.source()).await?;
    let mut rows: Vec<[String; 4]> = TABLES
        .iter()
        .chain(&["definitions, privileges, roles"])
        .zip(&expected)
        .map(|(name, (count, _))| [(*name).to_owned(), count.to_string(), String::new(), String::new()])
        .collect();
    let mut different = 0;
    for (column, target) in stage.targets().iter().enumerate() {
        for ((row, found), wanted) in rows.iter_mut().zip(digests(target).await?).zip(&expected) {
            different += usize::from(found != *wanted);
            row[2 + column] =
                if found == *wanted { "equal".to_owned() } else { format!("DIFFERENT ({} rows)", found.0) };
        }
    }
    print(&table(["table", "rows", "berlin", "tokyo"], &rows))?;
    match different {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{different} of them differ from the source"))),
    }
}

async fn digests(server: &Server) -> Result<Vec<Digest>> {
    let client = server.connect().await?;
    let mut digests = Vec::new();
    for name in TABLES {
        let digest = digest(&client, name).await;
        digests.push(digest.map_err(|e| failed(&e))?);
    }
    digests.push(first(&client, DEFINITIONS).await.map_err(|e| failed(&e))?);
    Ok(digests)
}

async fn digest(client: &Client, name: &str) -> Result<Digest, tokio_postgres::Error> {
    let sql =
        format!("select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from public.{name} t");
    first(client, &sql).await
}

fn failed(error: &tokio_postgres::Error) -> Failure {
    Failure::new(format!("could not compare: {}", capture::one_line(error)))
}

async fn first(client: &Client, sql: &str) -> Result<Digest, tokio_postgres::Error> {
    let row = client.query_one(sql, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
