//! What can be made only when all rows are there: materialized views, and statistics of partitioned tables.

use capture::quote_identifier;
use tokio_postgres::Client;

use crate::error::{Error, Whom};

const REFRESH: &str = "refresh materialized views";

/// Materialized views that are filled, each after those that it reads from, in however many steps.
const FILLED: &str = "\
    WITH RECURSIVE reads (view, read) AS (
        SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r
          JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
               AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
    ), after (view, steps) AS (
        SELECT c.oid, 0 FROM pg_catalog.pg_class c WHERE c.relkind IN ('v', 'm')
         UNION
        SELECT r.view, a.steps + 1 FROM after a JOIN reads r ON r.read = a.view
    )
    SELECT n.nspname::text, c.relname::text FROM after a JOIN pg_catalog.pg_class c ON c.oid = a.view
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'm' AND c.relispopulated GROUP BY c.oid, n.nspname, c.relname ORDER BY pg_catalog.max(a.steps), c.oid";

/// Fills the target's materialized views that are filled at the source.
pub(crate) async fn refresh(source: &Client, target: &Client) -> Result<(), Error> {
    for row in source.query(FILLED, &[]).await.map_err(Whom::Source.doing(REFRESH))? {
        let read = || Ok((row.try_get(0)?, row.try_get(1)?));
        let (schema, view): (&str, &str) = read().map_err(Whom::Source.doing(REFRESH))?;
        let name = format!("{}.{}", quote_identifier(schema), quote_identifier(view));
        let sql = "SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1) AND relkind = 'm'";
        // A target that has a schema of its own need not have it.
        if target.query_opt(sql, &[&name]).await.map_err(Whom::Target.doing(REFRESH))?.is_some() {
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
