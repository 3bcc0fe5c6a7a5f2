//! What can be made only when all rows are there: materialized views, and statistics of partitioned tables.

use std::collections::BTreeMap;

use capture::quote_identifier;
use tokio_postgres::Client;

use crate::error::{Error, Whom};
use crate::schema::Dump;
use crate::toc::PG_CLASS;

const REFRESH: &str = "refresh materialized views";

/// Fills the materialized views that are filled at the source, each after those that it reads from.
pub(crate) async fn refresh(source: &Client, target: &Client, dump: &Dump) -> Result<(), Error> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated";
    let rows = source.query(sql, &[]).await.map_err(Whom::Source.doing(REFRESH))?;
    let mut views: BTreeMap<u32, (String, String)> = BTreeMap::new();
    for row in &rows {
        let read = || Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
        let (oid, name) = read().map_err(Whom::Source.doing(REFRESH))?;
        views.insert(oid, name);
    }
    // In the dump, what is read from comes first.
    for entry in dump.pre_data().filter(|entry| entry.object.0 == PG_CLASS) {
        if let Some((schema, name)) = views.remove(&entry.object.1) {
            let name = format!("{}.{}", quote_identifier(&schema), quote_identifier(&name));
            let sql = format!("REFRESH MATERIALIZED VIEW {name}; ANALYZE {name}");
            target.batch_execute(&sql).await.map_err(Whom::Target.doing(REFRESH))?;
        }
    }
    Ok(())
}

/// Statistics of partitioned tables, which nothing else gathers.
pub(crate) async fn analyze_partitioned(target: &Client) -> Result<(), Error> {
    const DOING: &str = "analyze partitioned tables";
    let sql = "SELECT format('ANALYZE %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'p' AND NOT c.relispartition AND n.nspname !~ '^pg_'";
    let rows = target.query(sql, &[]).await.map_err(Whom::Target.doing(DOING))?;
    for row in &rows {
        let sql: &str = row.try_get(0).map_err(Whom::Target.doing(DOING))?;
        target.batch_execute(sql).await.map_err(Whom::Target.doing(DOING))?;
    }
    Ok(())
}
