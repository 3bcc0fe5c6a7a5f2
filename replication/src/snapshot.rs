//! A position of the source with the snapshot that belongs to it, from a temporary slot.

use std::time::{SystemTime, UNIX_EPOCH};

use connection::{Conninfo, Wire};
use decoder::Lsn;

use crate::error::ReplicationError;

const COMMAND: &str = "CREATE_REPLICATION_SLOT";
/// Nothing times out while the slot is made and while it is held, and a client that has gone is noticed meanwhile: that
/// one is set first, because its timer is started by a statement after it, and not by a replication command.
const SETTINGS: &str = "SET client_connection_check_interval = '1s'; SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0";
const TRANSACTION_TIMEOUT: &str = "; SET transaction_timeout = 0";
/// The first version that has it.
const TRANSACTION_TIMEOUT_FROM: u32 = 170_000;

/// A snapshot with exactly the transactions whose `commit_lsn` is before its position.
///
/// The slot is there as long as this is: until then the source keeps its WAL and the snapshot can be imported. Whoever
/// needs it for longer exports it again from a transaction that has imported it.
pub struct ExportedSnapshot {
    wire: Wire,
    name: String,
    lsn: Lsn,
}

impl ExportedSnapshot {
    /// Makes the slot. That waits for every transaction that has written something and is still open on the source.
    /// `purpose` is of `[a-z0-9_]`: a part of the slot's name.
    ///
    /// # Errors
    /// No connection, no slot free, or a role that may not.
    pub async fn make(source: &Conninfo, purpose: &str) -> Result<ExportedSnapshot, ReplicationError> {
        let mut wire = crate::walsender::connect(source).await?;
        let newer = if wire.server_version() >= TRANSACTION_TIMEOUT_FROM { TRANSACTION_TIMEOUT } else { "" };
        wire.simple_query(&format!("{SETTINGS}{newer}")).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Process and time tell it from every other.
        let slot = format!("walcast_{purpose}_{}_{:x}", std::process::id(), now.as_nanos());
        let rows = wire.simple_query(&create_command(&slot, wire.server_version())).await?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at)?.as_deref());
        let Some((lsn, name)) = field(1).and_then(|text| text.parse().ok()).zip(field(2).map(str::to_owned)) else {
            return Err(ReplicationError::Protocol { command: COMMAND, got: format!("{rows:?}") });
        };
        Ok(ExportedSnapshot { wire, name, lsn })
    }

    /// What `SET TRANSACTION SNAPSHOT` takes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every transaction with a `commit_lsn` before it is in the snapshot, and no other.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Drops the slot.
    pub async fn close(self) {
        self.wire.close().await;
    }
}

fn create_command(slot: &str, server_version: u32) -> String {
    let export = if server_version >= 150_000 { "(SNAPSHOT 'export')" } else { "EXPORT_SNAPSHOT" };
    format!("{COMMAND} \"{slot}\" TEMPORARY LOGICAL pgoutput {export}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_asked_in_its_own_words() {
        let old = "CREATE_REPLICATION_SLOT \"s\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT";
        assert_eq!(create_command("s", 140_009), old);
        assert!(create_command("s", 150_000).ends_with("pgoutput (SNAPSHOT 'export')"));
    }
}
