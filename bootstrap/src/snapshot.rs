//! One moment of the source: a position and a snapshot that has exactly the transactions that committed before it.

use std::time::Duration;

use connection::{Conninfo, Wire};
use decoder::Lsn;
use tokio_postgres::Client;

use crate::error::{Error, Whom};
use crate::failpoint::{self, Failpoint};
use crate::progress::Progress;
use crate::session;

const MAKING: &str = "make a temporary slot";
/// After this time it is said what the slot waits for.
const WAIT_TOLD_AFTER: Duration = Duration::from_secs(2);
const WAIT_TOLD_EVERY: Duration = Duration::from_secs(10);

/// A snapshot, held by a session of its own.
///
/// The slot that it came from is dropped as soon as this session has taken the snapshot over: as long as the slot was
/// there, the source would keep all WAL.
pub(crate) struct Snapshot {
    /// The session that holds it; other sessions may import it as long as this one lives.
    pub(crate) keeper: Client,
    /// Its name, for `SET TRANSACTION SNAPSHOT` and `pg_dump --snapshot`.
    pub(crate) name: String,
    /// It has exactly the transactions with a smaller `commit_lsn`.
    pub(crate) lsn: Lsn,
}

impl Snapshot {
    /// Takes a snapshot now. Waits for the transactions that are open on the source, and says so.
    pub(crate) async fn take(source: &Conninfo, progress: &Progress) -> Result<Snapshot, Error> {
        let mut wire = session::walsender(source).await?;
        let name = slot_name();
        let (exported, lsn) = {
            let making = make_slot(&mut wire, &name);
            tokio::pin!(making);
            loop {
                tokio::select! {
                    made = &mut making => break made?,
                    told = tell_waits(source, progress) => told?,
                }
            }
        };
        failpoint::reach(Failpoint::AfterSlot);
        let keeper = session::client(Whom::Source, source).await?;
        let import = session::import_sql(&exported);
        keeper.batch_execute(&import).await.map_err(Whom::Source.doing("take over the snapshot"))?;
        let sql = "SELECT pg_catalog.pg_export_snapshot()";
        let row = keeper.query_one(sql, &[]).await.map_err(Whom::Source.doing("export the snapshot"))?;
        let name = row.try_get(0).map_err(Whom::Source.doing("export the snapshot"))?;
        // The slot goes with its session.
        wire.close().await;
        Ok(Snapshot { keeper, name, lsn })
    }
}

/// Names of slots are of `[a-z0-9_]`. The process and the time tell it from every other.
fn slot_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("walcast_copy_{}_{:x}", std::process::id(), now.as_nanos())
}

/// Makes the slot; the snapshot's name and the consistent point.
async fn make_slot(wire: &mut Wire, name: &str) -> Result<(String, Lsn), Error> {
    let export = if wire.server_version() >= 150_000 { "(SNAPSHOT 'export')" } else { "EXPORT_SNAPSHOT" };
    let sql =
        format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput {export}", capture::quote_identifier(name));
    let rows = wire.simple_query(&sql).await.map_err(Whom::Source.wire(MAKING))?;
    let text = |at: usize| rows.first().and_then(|row| row.get(at)?.as_deref());
    let lsn = text(1).and_then(|text| text.parse().ok());
    match (text(2), lsn) {
        (Some(snapshot), Some(lsn)) => Ok((snapshot.to_owned(), lsn)),
        _ => Err(Whom::Source.strange(MAKING)),
    }
}

/// Waits a while, then says which transactions the slot waits for.
async fn tell_waits(source: &Conninfo, progress: &Progress) -> Result<(), Error> {
    tokio::time::sleep(WAIT_TOLD_AFTER).await;
    let client = session::client(Whom::Source, source).await?;
    if let Some(oldest) = oldest_transaction(&client).await? {
        progress.note(format!("the snapshot waits for transactions that are open on the source; {oldest}"));
    }
    tokio::time::sleep(WAIT_TOLD_EVERY).await;
    Ok(())
}

/// The oldest transaction that has written something.
async fn oldest_transaction(client: &Client) -> Result<Option<String>, Error> {
    let sql = "SELECT format('the oldest is of process %s, since %s s', pid, \
                   extract(epoch FROM now() - xact_start)::int), xact_start AS since \
               FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() \
               UNION ALL SELECT format('the oldest is prepared as %L, since %s s', gid, \
                   extract(epoch FROM now() - prepared)::int), prepared FROM pg_catalog.pg_prepared_xacts \
               ORDER BY since LIMIT 1";
    let row = client.query_opt(sql, &[]).await.map_err(Whom::Source.doing("look for open transactions"))?;
    row.map(|row| row.try_get(0)).transpose().map_err(Whom::Source.doing("look for open transactions"))
}
