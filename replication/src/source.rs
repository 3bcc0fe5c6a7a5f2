//! What the source says of itself and of the slot, and whether that fits the log.

use connection::{Conninfo, Wire};
use decoder::Lsn;
use segment_log::Identity;

use crate::error::ReplicationError;
use crate::types::binary_safe_list;
use crate::walsender::literal;

/// Who the source is and where its slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// `system_identifier`.
    pub system_id: u64,
    /// Timeline.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// The source's current WAL position (flushed).
    pub current_lsn: Lsn,
    /// Server version, as 150020.
    pub server_version: u32,
}

/// A row of pg_replication_slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Everything before it was acknowledged.
    pub confirmed_flush_lsn: Lsn,
    /// WAL is kept from here.
    pub restart_lsn: Lsn,
    /// "reserved", "extended", "unreserved" or "lost".
    pub wal_status: String,
}

/// Asks the source who it is and reads the slot's row; checks that the slot can serve.
///
/// # Errors
/// No connection, no such slot, or one of another plugin, database or kind.
pub async fn probe(conninfo: &Conninfo, slot: &str) -> Result<(SourceIdentity, Slot), ReplicationError> {
    let mut wire = crate::walsender::connect(conninfo).await?;
    let identity = identify(&mut wire).await?;
    let slot = read_slot(&mut wire, slot, &identity.database).await?;
    Ok((identity, slot))
}

fn protocol(command: &'static str, got: &impl std::fmt::Debug) -> ReplicationError {
    ReplicationError::Protocol { command, got: format!("{got:?}") }
}

pub(crate) async fn identify(wire: &mut Wire) -> Result<SourceIdentity, ReplicationError> {
    let rows = wire.simple_query("IDENTIFY_SYSTEM").await?;
    let parsed = || {
        let [system_id, timeline, current_lsn, database] = rows.first()?.as_slice() else { return None };
        Some(SourceIdentity {
            system_id: system_id.as_ref()?.parse().ok()?,
            timeline: timeline.as_ref()?.parse().ok()?,
            current_lsn: current_lsn.as_ref()?.parse().ok()?,
            database: database.clone()?,
            server_version: wire.server_version(),
        })
    };
    parsed().ok_or_else(|| protocol("IDENTIFY_SYSTEM", &rows))
}

/// Reads the slot's row and refuses one that cannot serve.
pub(crate) async fn read_slot(wire: &mut Wire, name: &str, database: &str) -> Result<Slot, ReplicationError> {
    // PostgreSQL 14 has no two_phase surprises: the column is there from 14 on.
    let sql = format!(
        "SELECT plugin, database, two_phase::text, confirmed_flush_lsn::text, coalesce(restart_lsn::text, ''), \
         coalesce(wal_status, '') FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
        literal(name)
    );
    let rows = wire.simple_query(&sql).await?;
    let row = rows.first().ok_or_else(|| ReplicationError::SlotMissing(name.to_owned()))?;
    let text = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or_default();
    if let Some(reason) = unusable(text(0), text(1), text(2), text(5), database) {
        return Err(ReplicationError::SlotUnusable { slot: name.to_owned(), reason });
    }
    let lsn = |index: usize| text(index).parse::<Lsn>().map_err(|_| protocol("pg_replication_slots", row));
    Ok(Slot { confirmed_flush_lsn: lsn(3)?, restart_lsn: lsn(4)?, wal_status: text(5).to_owned() })
}

fn unusable(plugin: &str, slot_database: &str, two_phase: &str, wal_status: &str, database: &str) -> Option<String> {
    if plugin != "pgoutput" {
        Some(format!("uses output plugin \"{plugin}\", not pgoutput"))
    } else if slot_database != database {
        Some(format!("belongs to database \"{slot_database}\", not \"{database}\""))
    } else if two_phase == "true" {
        Some("was made with two_phase, which walcast does not use: a prepared transaction arrives at its commit".into())
    } else if wal_status == "lost" {
        Some("was invalidated: the source removed WAL that it needed (max_slot_wal_keep_size)".into())
    } else {
        None
    }
}

/// Refuses a source that the log was not made from, or a slot that has gone on without the log.
pub(crate) fn check(
    source: &SourceIdentity,
    slot: &Slot,
    log: &Identity,
    log_end: Lsn,
) -> Result<(), ReplicationError> {
    let described = |system_id, timeline, database: &str| {
        format!("system identifier {system_id}, timeline {timeline}, database \"{database}\"")
    };
    let expected = described(log.system_id, log.timeline, &log.database);
    let found = described(source.system_id, source.timeline, &source.database);
    if expected != found {
        return Err(ReplicationError::Identity { expected, found });
    }
    if log_end < slot.confirmed_flush_lsn {
        let confirmed = slot.confirmed_flush_lsn;
        return Err(ReplicationError::Gap { slot: log.slot.clone(), log_end, confirmed });
    }
    if log_end > source.current_lsn {
        return Err(ReplicationError::SourceBehind { log_end, source_end: source.current_lsn });
    }
    Ok(())
}

/// May the stream be asked for in binary? Not while a published column has a type that cannot travel so.
pub(crate) async fn all_binary_safe(wire: &mut Wire, publication: &str) -> Result<bool, ReplicationError> {
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_publication_tables p \
         JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE p.pubname = {} AND p.schemaname <> 'walcast' AND a.atttypid NOT IN ({}) LIMIT 1",
        literal(publication),
        binary_safe_list()
    );
    Ok(wire.simple_query(&sql).await?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(raw: u64) -> Lsn {
        Lsn::from_u64(raw)
    }

    fn outcome(system_id: u64, timeline: u32, confirmed: u64, current: u64, log_end: u64) -> Result<(), String> {
        let database = "app".to_owned();
        let log = Identity {
            system_id: 7,
            timeline: 1,
            database: database.clone(),
            slot: "walcast".into(),
            publication: "walcast".into(),
        };
        let source =
            SourceIdentity { system_id, timeline, database, current_lsn: lsn(current), server_version: 150_000 };
        let slot = Slot { confirmed_flush_lsn: lsn(confirmed), restart_lsn: lsn(1), wal_status: "reserved".to_owned() };
        check(&source, &slot, &log, lsn(log_end)).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_source_of_the_log_without_a_gap_is_taken() {
        assert_eq!(outcome(7, 1, 100, 300, 200), Ok(()));
        assert_eq!(outcome(7, 1, 200, 200, 200), Ok(()));
        assert!(outcome(8, 1, 100, 300, 200).unwrap_err().contains("system identifier 8"));
        assert!(outcome(7, 2, 100, 300, 200).unwrap_err().contains("timeline 2"));
        assert!(outcome(7, 1, 201, 300, 200).unwrap_err().starts_with("gap: the log ends at 0/C8"));
        assert!(outcome(7, 1, 100, 199, 200).unwrap_err().contains("written only up to 0/C7"));
    }

    #[test]
    fn a_slot_of_another_kind_is_refused() {
        assert_eq!(unusable("pgoutput", "app", "false", "reserved", "app"), None);
        assert!(unusable("test_decoding", "app", "false", "reserved", "app").is_some());
        assert!(unusable("pgoutput", "other", "false", "reserved", "app").is_some());
        assert!(unusable("pgoutput", "app", "true", "reserved", "app").is_some());
        assert!(unusable("pgoutput", "app", "false", "lost", "app").is_some());
    }
}
