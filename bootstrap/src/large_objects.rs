//! Large objects, with their owners, grants and comments.

use std::sync::Arc;

use capture::{quote_identifier, quote_literal};
use connection::Conninfo;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row};

use crate::error::{Error, Whom};
use crate::progress::Progress;
use crate::session;

const READ: &str = "read large objects";
const WRITE: &str = "write large objects";
/// Objects of one transaction of the target.
const BATCH: usize = 100;
/// Bytes of one object that are in memory at a time.
const CHUNK_BYTES: i32 = 1 << 20;

/// Where they come from and go to.
pub(crate) struct Servers {
    pub(crate) source: Conninfo,
    pub(crate) target: Conninfo,
    /// The snapshot's name.
    pub(crate) snapshot: String,
}

/// Copies all that the role may read, `jobs` batches at a time. What a run before left of them is replaced.
pub(crate) async fn copy(
    keeper: &Client,
    servers: Arc<Servers>,
    jobs: usize,
    progress: &Progress,
) -> Result<(), Error> {
    let (oids, unreadable) = list(keeper).await?;
    if unreadable > 0 {
        progress.note(format!("{unreadable} large objects are not copied: the role may not read them"));
    }
    let mut workers = JoinSet::new();
    let share = oids.len().div_ceil(jobs).max(1);
    for some in oids.chunks(share) {
        let (servers, some) = (Arc::clone(&servers), some.to_vec());
        workers.spawn(async move { copy_some(&servers, &some).await });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(Error::Worker)??;
    }
    Ok(())
}

/// Those that the role may read, and how many it may not.
async fn list(keeper: &Client) -> Result<(Vec<u32>, usize), Error> {
    let sql = "SELECT oid, (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
                   OR current_setting('lo_compat_privileges')::bool \
                   OR pg_catalog.pg_has_role(lomowner, 'USAGE') \
                   OR EXISTS (SELECT FROM pg_catalog.aclexplode(lomacl) a WHERE a.privilege_type = 'SELECT' \
                       AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))) \
               FROM pg_catalog.pg_largeobject_metadata ORDER BY 1";
    let rows = keeper.query(sql, &[]).await.map_err(Whom::Source.doing(READ))?;
    let read = |row: &Row| Ok::<(u32, bool), tokio_postgres::Error>((row.try_get(0)?, row.try_get(1)?));
    let found: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))?;
    let oids: Vec<u32> = found.iter().filter(|(_, readable)| *readable).map(|(oid, _)| *oid).collect();
    let unreadable = found.len() - oids.len();
    Ok((oids, unreadable))
}

async fn copy_some(servers: &Servers, oids: &[u32]) -> Result<(), Error> {
    let source = session::client(Whom::Source, &servers.source).await?;
    let import = session::import_sql(&servers.snapshot);
    source.batch_execute(&import).await.map_err(Whom::Source.doing("take over the snapshot"))?;
    let target = session::client(Whom::Target, &servers.target).await?;
    for batch in oids.chunks(BATCH) {
        target.batch_execute("BEGIN").await.map_err(Whom::Target.doing(WRITE))?;
        let sql = "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY ($1)";
        target.execute(sql, &[&batch]).await.map_err(Whom::Target.doing(WRITE))?;
        for oid in batch {
            copy_one(&source, &target, *oid).await?;
        }
        let sql = surroundings(&source, batch).await?;
        target.batch_execute(&format!("{sql} COMMIT")).await.map_err(Whom::Target.doing(WRITE))?;
    }
    Ok(())
}

async fn copy_one(source: &Client, target: &Client, oid: u32) -> Result<(), Error> {
    let create = "SELECT pg_catalog.lo_create($1)";
    target.execute(create, &[&oid]).await.map_err(Whom::Target.doing(WRITE))?;
    let mut at: i64 = 0;
    loop {
        let get = "SELECT pg_catalog.lo_get($1, $2, $3)";
        let row = source.query_one(get, &[&oid, &at, &CHUNK_BYTES]).await.map_err(Whom::Source.doing(READ))?;
        let chunk: &[u8] = row.try_get(0).map_err(Whom::Source.doing(READ))?;
        if !chunk.is_empty() {
            let put = "SELECT pg_catalog.lo_put($1, $2, $3)";
            target.execute(put, &[&oid, &at, &chunk]).await.map_err(Whom::Target.doing(WRITE))?;
        }
        at += i64::from(CHUNK_BYTES);
        if chunk.len() < CHUNK_BYTES.unsigned_abs() as usize {
            return Ok(());
        }
    }
}

/// The statements for owners, grants and comments.
async fn surroundings(source: &Client, oids: &[u32]) -> Result<String, Error> {
    let sql = "SELECT oid, pg_catalog.pg_get_userbyid(lomowner)::text, lomacl IS NOT NULL, \
                   pg_catalog.obj_description(oid, 'pg_largeobject') \
               FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY ($1)";
    let rows = source.query(sql, &[&oids]).await.map_err(Whom::Source.doing(READ))?;
    let mut sql = String::new();
    for row in &rows {
        sql += &ownership(row).map_err(Whom::Source.doing(READ))?;
    }
    let grants = "SELECT m.oid, a.privilege_type, CASE a.grantee WHEN 0 THEN NULL \
                      ELSE pg_catalog.pg_get_userbyid(a.grantee) END::text, a.is_grantable \
                  FROM pg_catalog.pg_largeobject_metadata m CROSS JOIN LATERAL pg_catalog.aclexplode(m.lomacl) a \
                  WHERE m.oid = ANY ($1)";
    let rows = source.query(grants, &[&oids]).await.map_err(Whom::Source.doing(READ))?;
    for row in &rows {
        sql += &grant(row).map_err(Whom::Source.doing(READ))?;
    }
    Ok(sql)
}

fn ownership(row: &Row) -> Result<String, tokio_postgres::Error> {
    let (oid, owner): (u32, String) = (row.try_get(0)?, row.try_get(1)?);
    let (granted, comment): (bool, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    let owner = quote_identifier(&owner);
    let mut sql = format!("ALTER LARGE OBJECT {oid} OWNER TO {owner};");
    if granted {
        // What the owner has by itself is among the grants that follow, unless it was taken away.
        sql += &format!("REVOKE ALL ON LARGE OBJECT {oid} FROM {owner};");
    }
    if let Some(comment) = comment {
        sql += &format!("COMMENT ON LARGE OBJECT {oid} IS {};", quote_literal(&comment));
    }
    Ok(sql)
}

fn grant(row: &Row) -> Result<String, tokio_postgres::Error> {
    let (oid, privilege): (u32, String) = (row.try_get(0)?, row.try_get(1)?);
    let (grantee, grantable): (Option<String>, bool) = (row.try_get(2)?, row.try_get(3)?);
    let grantee = grantee.map_or_else(|| "PUBLIC".to_owned(), |name| quote_identifier(&name));
    let option = if grantable { " WITH GRANT OPTION" } else { "" };
    Ok(format!("GRANT {privilege} ON LARGE OBJECT {oid} TO {grantee}{option};"))
}
