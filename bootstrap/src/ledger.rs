//! What of a bootstrap is done, kept on the target: `walcast.bootstrap` for its steps, `walcast.copied` for its tables.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use applier::Identity;
use capture::quote_literal;
use connection::Conninfo;
use decoder::Lsn;
use tokio_postgres::Client;

use crate::Schema;
use crate::catalog::Table;
use crate::error::{Error, Whom};
use crate::session;

const DOING: &str = "keep the record of the bootstrap";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS walcast.bootstrap (
    system_id text NOT NULL,
    slot text NOT NULL,
    phase text NOT NULL,
    schema_exists boolean NOT NULL,
    schema_digest text,
    begun_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (system_id, slot))";

/// How long a command that was killed may take to lose its sessions.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// What is done; everything up to and including it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The target was found empty, or as `--schema-exists` says.
    Begun,
    /// Tables can be filled.
    PreData,
    /// All tables are whole and have their indexes; the rest of the schema was begun.
    Rest,
    /// Tables are as of different positions. Once the applier has brought them to the same one, what is about several
    /// tables can be made.
    Leveling,
}

const PHASES: [(&str, Phase); 4] =
    [("begun", Phase::Begun), ("pre_data", Phase::PreData), ("rest", Phase::Rest), ("leveling", Phase::Leveling)];

impl Phase {
    fn as_str(self) -> &'static str {
        PHASES[self as usize].0
    }
}

/// The record of one bootstrap. As long as this lives, no other command works at it.
pub(crate) struct Ledger {
    pub(crate) client: Client,
    system_id: String,
    slot: String,
}

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) schema: Schema,
    pub(crate) digest: Option<String>,
}

impl Ledger {
    /// Takes hold of the target: no other command may be at work, and what a killed one left there is ended.
    pub(crate) async fn open(target: &Conninfo, identity: &Identity) -> Result<Ledger, Error> {
        let client = session::client(Whom::Target, target).await?;
        let ledger = Ledger { client, system_id: identity.system_id.to_string(), slot: identity.slot.clone() };
        ledger.lock().await?;
        ledger.end_leftovers().await?;
        Ok(ledger)
    }

    async fn lock(&self) -> Result<(), Error> {
        let key = format!("walcast bootstrap {} {}", self.system_id, self.slot);
        let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))";
        let deadline = Instant::now() + LEFTOVERS_TIMEOUT;
        loop {
            let row = self.client.query_one(sql, &[&key]).await.map_err(Whom::Target.doing(DOING))?;
            if row.try_get(0).map_err(Whom::Target.doing(DOING))? {
                return Ok(());
            }
            // A command that was killed a moment ago may still be seen.
            if Instant::now() >= deadline {
                return Err(Error::InProgress);
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Who holds the lock is the only one: other sessions of that name belong to a command that is dead.
    async fn end_leftovers(&self) -> Result<(), Error> {
        let name = session::application_name(&self.slot);
        let sql = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
                   WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + LEFTOVERS_TIMEOUT;
        loop {
            let row = self.client.query_one(sql, &[&name]).await.map_err(Whom::Target.doing("end what is left"))?;
            let left: i64 = row.try_get(0).map_err(Whom::Target.doing("end what is left"))?;
            match left {
                0 => return Ok(()),
                _ if Instant::now() >= deadline => return Err(Error::InProgress),
                _ => tokio::time::sleep(POLL_PAUSE).await,
            }
        }
    }

    /// What the record says; `None` when nothing was begun.
    pub(crate) async fn state(&self) -> Result<Option<State>, Error> {
        let sql = "SELECT to_regclass('walcast.bootstrap') IS NOT NULL";
        let exists: bool =
            self.client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(Whom::Target.doing(DOING))?;
        if !exists {
            return Ok(None);
        }
        let sql =
            "SELECT phase, schema_exists, schema_digest FROM walcast.bootstrap WHERE system_id = $1 AND slot = $2";
        let row =
            self.client.query_opt(sql, &[&self.system_id, &self.slot]).await.map_err(Whom::Target.doing(DOING))?;
        let Some(row) = row else { return Ok(None) };
        let phase: String = row.try_get(0).map_err(Whom::Target.doing(DOING))?;
        let known = PHASES.iter().find(|(name, _)| *name == phase).map(|(_, phase)| *phase);
        let exists: bool = row.try_get(1).map_err(Whom::Target.doing(DOING))?;
        Ok(Some(State {
            phase: known.ok_or_else(|| Whom::Target.strange(DOING))?,
            schema: if exists { Schema::Exists } else { Schema::Copied },
            digest: row.try_get(2).map_err(Whom::Target.doing(DOING))?,
        }))
    }

    /// Begins a record. walcast's other tables are there already.
    pub(crate) async fn begin(&self, schema: Schema) -> Result<State, Error> {
        self.client.batch_execute(TABLE).await.map_err(Whom::Target.doing(DOING))?;
        let sql = "INSERT INTO walcast.bootstrap (system_id, slot, phase, schema_exists) VALUES ($1, $2, $3, $4)";
        let exists = schema == Schema::Exists;
        let phase = Phase::Begun;
        let inserted = self.client.execute(sql, &[&self.system_id, &self.slot, &phase.as_str(), &exists]).await;
        inserted.map_err(Whom::Target.doing(DOING))?;
        Ok(State { phase, schema, digest: None })
    }

    /// Notes a step.
    pub(crate) async fn reach(&self, phase: Phase) -> Result<(), Error> {
        let sql = "UPDATE walcast.bootstrap SET phase = $3 WHERE system_id = $1 AND slot = $2";
        let updated = self.client.execute(sql, &[&self.system_id, &self.slot, &phase.as_str()]).await;
        updated.map(drop).map_err(Whom::Target.doing(DOING))
    }

    /// Notes what the schema was made of.
    pub(crate) async fn set_digest(&self, digest: &str) -> Result<(), Error> {
        let sql = "UPDATE walcast.bootstrap SET schema_digest = $3 WHERE system_id = $1 AND slot = $2";
        let updated = self.client.execute(sql, &[&self.system_id, &self.slot, &digest]).await;
        updated.map(drop).map_err(Whom::Target.doing(DOING))
    }

    /// Ends the record; the tables' stays, which the applier needs. What was written before is on disk when this is.
    pub(crate) async fn finish(&self) -> Result<(), Error> {
        let sql = "DELETE FROM walcast.bootstrap WHERE system_id = $1 AND slot = $2";
        self.client.batch_execute("SET synchronous_commit = on").await.map_err(Whom::Target.doing(DOING))?;
        let deleted = self.client.execute(sql, &[&self.system_id, &self.slot]).await;
        deleted.map(drop).map_err(Whom::Target.doing(DOING))
    }

    /// Waits until everything that was committed is on disk.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let sql = "SET synchronous_commit = on; \
                   UPDATE walcast.bootstrap SET phase = phase; SET synchronous_commit = off";
        self.client.batch_execute(sql).await.map_err(Whom::Target.doing(DOING))
    }

    /// Forgets tables as of before `pinned`, whose changes the log does not hold, and those whose copy was begun beside an
    /// applier; gives those that are whole.
    pub(crate) async fn copied(&self, pinned: Lsn) -> Result<BTreeSet<(String, String)>, Error> {
        let sql = "DELETE FROM walcast.copied WHERE system_id = $1 AND slot = $2 \
                   AND (start_lsn IS NULL OR start_lsn < $3::text::pg_lsn)";
        let deleted = self.client.execute(sql, &[&self.system_id, &self.slot, &pinned.to_string()]).await;
        deleted.map_err(Whom::Target.doing(DOING))?;
        let sql = "SELECT schema_name, table_name FROM walcast.copied WHERE system_id = $1 AND slot = $2";
        let rows = self.client.query(sql, &[&self.system_id, &self.slot]).await.map_err(Whom::Target.doing(DOING))?;
        let names = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        names.collect::<Result<_, _>>().map_err(Whom::Target.doing(DOING))
    }

    /// The smallest and the largest start of a table; `None` when there is no table.
    pub(crate) async fn starts(&self) -> Result<Option<(Lsn, Lsn)>, Error> {
        let sql =
            "SELECT min(start_lsn)::text, max(start_lsn)::text FROM walcast.copied WHERE system_id = $1 AND slot = $2";
        let row =
            self.client.query_one(sql, &[&self.system_id, &self.slot]).await.map_err(Whom::Target.doing(DOING))?;
        let text = |at: usize| row.try_get::<_, Option<&str>>(at).map_err(Whom::Target.doing(DOING));
        let (Some(first), Some(last)) = (text(0)?, text(1)?) else { return Ok(None) };
        let parsed = first.parse().ok().zip(last.parse().ok());
        parsed.map(Some).ok_or_else(|| Whom::Target.strange(DOING))
    }

    /// What notes whole tables as of `start`.
    pub(crate) fn mark(&self, start: Lsn) -> Mark {
        Mark { system_id: self.system_id.clone(), slot: self.slot.clone(), start, lane: None }
    }

    /// What notes that a table was copied again as of `start`, and is to be caught up in this lane.
    pub(crate) fn lane_mark(&self, lane: String, start: Lsn) -> Mark {
        Mark { lane: Some(lane), ..self.mark(start) }
    }
}

/// Notes tables as whole, from sessions that carry rows.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    system_id: String,
    slot: String,
    start: Lsn,
    lane: Option<String>,
}

impl Mark {
    /// The statement.
    pub(crate) fn sql(&self, table: &Table, bytes: u64) -> String {
        let [system_id, slot, schema, name] =
            [&self.system_id, &self.slot, &table.schema, &table.name].map(|text| quote_literal(text));
        if let Some(lane) = &self.lane {
            let (lane, start) = (quote_literal(lane), self.start);
            return format!(
                "INSERT INTO walcast.checkpoint (system_id, slot, lsn) VALUES ({system_id}, {lane}, '{start}'); \
                 UPDATE walcast.copied SET bytes = {bytes} WHERE system_id = {system_id} AND slot = {slot} \
                 AND schema_name = {schema} AND table_name = {name}"
            );
        }
        format!(
            "INSERT INTO walcast.copied (system_id, slot, schema_name, table_name, start_lsn, bytes) \
             VALUES ({system_id}, {slot}, {schema}, {name}, '{}', {bytes})",
            self.start
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_in_their_order() {
        assert!(PHASES.iter().enumerate().all(|(at, (_, phase))| *phase as usize == at));
        assert!(PHASES.is_sorted_by_key(|(_, phase)| *phase));
        assert_eq!(Phase::PreData.as_str(), "pre_data");
    }
}
