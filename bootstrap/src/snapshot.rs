//! One moment of the source: a position and a snapshot that has exactly the transactions that committed before it.

use std::time::Duration;

use connection::Conninfo;
use decoder::Lsn;
use replication::ExportedSnapshot;
use tokio_postgres::Client;

use crate::error::{Error, Whom};
use crate::failpoint::{self, Failpoint};
use crate::progress::Progress;
use crate::session;

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
        let exported = {
            let making = ExportedSnapshot::make(source, "copy");
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
        let import = session::import_sql(exported.name());
        keeper.batch_execute(&import).await.map_err(Whom::Source.doing("take over the snapshot"))?;
        let sql = "SELECT pg_catalog.pg_export_snapshot()";
        let row = keeper.query_one(sql, &[]).await.map_err(Whom::Source.doing("export the snapshot"))?;
        let name = row.try_get(0).map_err(Whom::Source.doing("export the snapshot"))?;
        let lsn = exported.lsn();
        // The slot goes with its session.
        exported.close().await;
        Ok(Snapshot { keeper, name, lsn })
    }
}

/// Waits a while, then says which transactions the slot waits for.
async fn tell_waits(source: &Conninfo, progress: &Progress) -> Result<(), Error> {
    tokio::time::sleep(WAIT_TOLD_AFTER).await;
    let client = session::client(Whom::Source, source).await?;
    if let Some(oldest) = capture::oldest_writer(&client).await? {
        progress.note(format!("the snapshot waits for transactions that are open on the source; {oldest}"));
    }
    tokio::time::sleep(WAIT_TOLD_EVERY).await;
    Ok(())
}
