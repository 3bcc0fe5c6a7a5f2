//! The sessions that read tables: on the snapshot, and with their locks, from the copy's beginning on.
//!
//! An ALTER TABLE that comes while tables are copied waits for the copy's locks, and whoever comes for a lock after it
//! waits behind it. So a session that locked its table only when it came to read it would wait for ever, with the table
//! closed to everybody: for an ALTER TABLE that waits for the session that keeps the snapshot, which waits for this one.

use connection::{Conninfo, Wire, WireError};

use crate::catalog::{self, Table};
use crate::error::{Error, Whom};
use crate::session;

const LOCK: &str = "lock the tables";
/// Who does not get a lock in this time waits behind somebody who waits for the copy.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// Opens so many sessions on the snapshot.
pub(crate) async fn open(source: &Conninfo, snapshot: &str, count: usize) -> Result<Vec<Wire>, Error> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut reader = session::wire(Whom::Source, source).await?;
        let import = session::import_sql(snapshot);
        reader.simple_query(&import).await.map_err(Whom::Source.wire("take over the snapshot"))?;
        reader.simple_query(LOCK_TIMEOUT).await.map_err(Whom::Source.wire(LOCK))?;
        readers.push(reader);
    }
    Ok(readers)
}

/// Locks the tables in each session. False: somebody came in between, and everything is to be let go.
pub(crate) async fn lock<'a>(readers: &mut [Wire], tables: impl IntoIterator<Item = &'a Table>) -> Result<bool, Error> {
    let Some(sql) = catalog::lock_few_sql(tables) else { return Ok(true) };
    for reader in readers {
        match reader.simple_query(&sql).await {
            Err(WireError::Server(error)) if error.sqlstate == "55P03" => return Ok(false),
            locked => locked.map_err(Whom::Source.wire(LOCK))?,
        };
    }
    Ok(true)
}
