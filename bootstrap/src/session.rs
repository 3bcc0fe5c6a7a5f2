//! Sessions of both kinds with both servers, set so that nothing times out and values mean the same on both sides.

use connection::{Conninfo, PINNED_SETTINGS, Wire, connect_client};
use tokio_postgres::Client;

use crate::error::{Error, Whom};

/// Besides [`PINNED_SETTINGS`]: nothing times out under a long copy, and a dead peer is noticed, also while a statement
/// runs for it.
const SETTINGS: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_connection_check_interval", "1s"),
    ("client_min_messages", "warning"),
    ("xmloption", "content"),
    ("jit", "off"),
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// For the target: what is lost by a crash is not noted as copied either, because commits reach the disk in order.
const TARGET_SETTINGS: &[(&str, &str)] = &[
    ("synchronous_commit", "off"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
];

/// A version from which a third timeout is there.
const TRANSACTION_TIMEOUT: u32 = 170_000;

/// What the sessions of a bootstrap are called, by which those that a killed command left are found.
pub(crate) fn application_name(slot: &str) -> String {
    // As the server would cut it.
    format!("walcast bootstrap {slot}").chars().take(63).collect()
}

fn settings(whom: Whom) -> Vec<(&'static str, &'static str)> {
    let own = if whom == Whom::Target { TARGET_SETTINGS } else { &[] };
    PINNED_SETTINGS.iter().chain(SETTINGS).chain(own).copied().collect()
}

/// An ordinary client.
pub(crate) async fn client(whom: Whom, conninfo: &Conninfo) -> Result<Client, Error> {
    let client = connect_client(conninfo, "walcast", &settings(whom)).await;
    let client = client.map_err(|source| Error::Connect { whom, source })?;
    let sql = "SELECT current_setting('server_version_num')::int";
    let version: i32 = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(whom.doing(sql))?;
    let sql = prepare_sql(whom, version.unsigned_abs());
    client.batch_execute(&sql).await.map_err(whom.doing("set up a session"))?;
    Ok(client)
}

/// A raw session.
pub(crate) async fn wire(whom: Whom, conninfo: &Conninfo) -> Result<Wire, Error> {
    let mut wire = Wire::connect(conninfo, &settings(whom)).await.map_err(|source| Error::Connect { whom, source })?;
    let sql = prepare_sql(whom, wire.server_version());
    wire.simple_query(&sql).await.map_err(whom.wire("set up a session"))?;
    Ok(wire)
}

/// What cannot be a startup parameter.
fn prepare_sql(whom: Whom, version: u32) -> String {
    let mut sql = "SELECT 1;".to_owned();
    if version >= TRANSACTION_TIMEOUT {
        sql += "SET transaction_timeout = 0;";
    }
    if whom == Whom::Target {
        // A role that may not set it can have it by ALTER ROLE.
        sql += "DO $$BEGIN IF current_setting('session_replication_role') <> 'replica' THEN \
                SET session_replication_role = replica; END IF; END$$";
    }
    sql
}

/// The statements that put a new session of the source on the snapshot.
pub(crate) fn import_sql(snapshot: &str) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        capture::quote_literal(snapshot)
    )
}
