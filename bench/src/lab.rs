//! The two servers of a measurement, and how slots are made on them.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use cluster::{Cluster, Conninfo};
use tokio_postgres::types::PgLsn;

use crate::feed::{Route, Side};
use crate::interrupt;
use crate::measure::cpu_of;
use crate::sql::Session;
use crate::workload::Workload;

/// The database on the source, and the prefix of those on the target.
const DATABASE: &str = "bench";
/// The target's database with what the source had when the slots were made.
const TEMPLATE: &str = "bench_start";
/// The publication that subscriptions and `pg_recvlogical` read.
pub(crate) const PUBLICATION: &str = "bench";
/// The slot that stays at the beginning of the load; contenders get copies of it.
const BASE_SLOT: &str = "bench_base";
const SLOT_POLL: Duration = Duration::from_millis(5);
const SLOT_POLLS_MAX: u32 = 2000;

/// The tables of a database, as a list of an SQL command.
const TABLES: &str = "SELECT string_agg(quote_ident(relname), ', ') FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'";

const MARKER: &str = "CREATE TABLE bench_marker (at timestamptz DEFAULT clock_timestamp())";

/// How a contender connects to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Transport {
    /// TCP over 127.0.0.1.
    Tcp,
    /// The Unix socket.
    Unix,
}

impl Transport {
    pub(crate) fn conninfo(self, cluster: &Cluster, database: &str) -> Conninfo {
        match self {
            Transport::Tcp => cluster.conninfo(database),
            Transport::Unix => cluster.conninfo_unix(database),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Unix => "unix",
        })
    }
}

/// A source with the content of a workload, and a target with a template of the same content.
///
/// The sessions come first, so that they end before the servers do.
pub(crate) struct Lab {
    pub(crate) on_source: Session,
    pub(crate) on_target: Session,
    pub(crate) source: Cluster,
    pub(crate) target: Cluster,
}

/// The part of a slot's work that a contender has to do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) transactions: u32,
    pub(crate) changes: u32,
    /// Everything has arrived when this position has.
    pub(crate) end: PgLsn,
}

impl Lab {
    /// Starts the servers and fills them with what `workload` starts from.
    pub(crate) fn start(workload: Workload) -> anyhow::Result<Lab> {
        let (source, target) = (server()?, server()?);
        source.create_database(DATABASE)?;
        target.create_database(TEMPLATE)?;
        workload.prepare(&source, DATABASE)?;
        workload.prepare(&target, TEMPLATE)?;
        let on_source = Session::connect(source.conninfo_unix(DATABASE))?;
        let on_target = Session::connect(target.conninfo_unix("postgres"))?;
        let lab = Lab { on_source, on_target, source, target };
        lab.on_source.run(MARKER)?;
        lab.run_on_template(MARKER)?;
        Ok(lab)
    }

    /// Changes what targets begin with.
    pub(crate) fn run_on_template(&self, statements: &str) -> anyhow::Result<()> {
        Session::connect(self.target.conninfo_unix(TEMPLATE))?.run(statements)
    }

    /// How to connect to the source's database.
    pub(crate) fn source_conninfo(&self, transport: Transport) -> Conninfo {
        transport.conninfo(&self.source, DATABASE)
    }

    /// Publishes the tables of now for subscriptions: not all tables, because targets lack those of walcast's capture.
    pub(crate) fn publish(&self) -> anyhow::Result<()> {
        let tables: String = self.on_source.value(TABLES)?;
        self.on_source.run(&format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {tables}"))
    }

    /// Makes the slot that all contenders get copies of. Call it before [`Lab::load`].
    pub(crate) fn make_base_slot(&self) -> anyhow::Result<()> {
        self.publish()?;
        self.make_slot(BASE_SLOT)
    }

    /// Makes a slot that begins now.
    pub(crate) fn make_slot(&self, name: &str) -> anyhow::Result<()> {
        let made = self.on_source.rows(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"));
        made.map(drop)
    }

    /// Makes a slot that begins where the base slot does.
    pub(crate) fn copy_slot(&self, name: &str) -> anyhow::Result<()> {
        let copied = self.on_source.rows(&format!("SELECT pg_copy_logical_replication_slot('{BASE_SLOT}', '{name}')"));
        copied.map(drop)
    }

    /// Drops a slot as soon as nobody uses it.
    pub(crate) fn drop_slot(&self, name: &str) -> anyhow::Result<()> {
        self.wait_for_release(name)?;
        self.on_source.rows(&format!("SELECT pg_drop_replication_slot('{name}')")).map(drop)
    }

    fn wait_for_release(&self, slot: &str) -> anyhow::Result<()> {
        for _ in 0..SLOT_POLLS_MAX {
            if self.walsender_pid(slot)?.is_none() {
                return Ok(());
            }
            interrupt::pause(SLOT_POLL)?;
        }
        bail!("slot {slot} is still in use")
    }

    /// The walsender that reads `slot` now.
    pub(crate) fn walsender_pid(&self, slot: &str) -> anyhow::Result<Option<u32>> {
        let query = format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let pid: Option<i32> = self.on_source.value(&query)?;
        pid.map(|pid| u32::try_from(pid).context("a negative process id")).transpose()
    }

    /// What the walsender that reads `slot` has used.
    pub(crate) fn walsender_cpu(&self, slot: &str) -> anyhow::Result<Duration> {
        let pid = self.walsender_pid(slot)?.with_context(|| format!("no walsender reads slot {slot}"))?;
        cpu_of(pid)
    }

    /// Runs the workload on the source and makes all of it durable.
    pub(crate) fn load(&self, workload: Workload, size: u32) -> anyhow::Result<Load> {
        workload.run(&self.source, DATABASE, size)?;
        Ok(Load { transactions: workload.transactions(size), changes: workload.changes(size), end: self.mark()? })
    }

    /// Makes the slots and databases of a route: the databases equal the source where the slots begin.
    pub(crate) fn open(&self, side: &Side, route: &Route) -> anyhow::Result<()> {
        side.slots(route).iter().try_for_each(|slot| self.copy_slot(slot))?;
        route.databases().iter().try_for_each(|database| self.make_target(database))
    }

    /// Drops the slots and databases of a route. Databases are emptied first: each DROP makes a checkpoint, which would
    /// write the changed pages of all that are to be dropped next.
    pub(crate) fn close(&self, side: &Side, route: &Route) -> anyhow::Result<()> {
        side.slots(route).iter().try_for_each(|slot| self.drop_slot(slot))?;
        let databases = route.databases();
        databases.iter().try_for_each(|database| self.empty(database))?;
        databases.iter().try_for_each(|database| self.drop_target(database))
    }

    /// The position of now. A transaction is written behind it, so that every contender is told that it was passed.
    pub(crate) fn mark(&self) -> anyhow::Result<PgLsn> {
        let now = self.on_source.value("SELECT pg_current_wal_insert_lsn()")?;
        self.on_source.run("INSERT INTO bench_marker DEFAULT VALUES")?;
        Ok(now)
    }

    /// Makes a database on the target with what the source had when the slots were made.
    pub(crate) fn make_target(&self, database: &str) -> anyhow::Result<()> {
        self.on_target.run(&format!("CREATE DATABASE {database} TEMPLATE {TEMPLATE}"))
    }

    pub(crate) fn drop_target(&self, database: &str) -> anyhow::Result<()> {
        self.on_target.run(&format!("DROP DATABASE {database} WITH (FORCE)"))
    }

    fn empty(&self, database: &str) -> anyhow::Result<()> {
        let session = Session::connect(self.target.conninfo_unix(database))?;
        let tables: String = session.value(TABLES)?;
        session.run(&format!("TRUNCATE {tables}"))
    }

    /// Writes out what earlier runs left in the buffers, so that the next one does not pay for it.
    pub(crate) fn checkpoint(&self) -> anyhow::Result<()> {
        self.on_source.run("CHECKPOINT")?;
        self.on_target.run("CHECKPOINT")
    }

    /// What the source's tables hold: row counts and a sum over all values.
    pub(crate) fn source_content(&self, workload: Workload) -> anyhow::Result<Vec<String>> {
        content(&self.on_source, workload)
    }

    /// The same of a database of the target.
    pub(crate) fn target_content(&self, workload: Workload, database: &str) -> anyhow::Result<Vec<String>> {
        content(&Session::connect(self.target.conninfo_unix(database))?, workload)
    }
}

fn content(session: &Session, workload: Workload) -> anyhow::Result<Vec<String>> {
    let query = |table: &&str| {
        session.value(&format!(
            "SELECT format('{table}: %s rows, sum %s', count(*), sum(hashtext(t::text))) FROM {table} t"
        ))
    };
    workload.tables().iter().map(query).collect()
}

/// Durability as PostgreSQL's defaults have it; without the background work that comes and goes between rounds.
pub(crate) fn server() -> Result<Cluster, cluster::Error> {
    server_settings().start()
}

/// The same, not started yet.
pub(crate) fn server_settings() -> cluster::Builder {
    let settings = [
        ("shared_buffers", "512MB"),
        ("max_wal_size", "16GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
        ("jit", "off"),
        // A server starts at most one apply worker in this time, and a round would wait for it: 5 s by default.
        ("wal_retrieve_retry_interval", "10ms"),
        ("max_worker_processes", "24"),
        ("max_logical_replication_workers", "16"),
    ];
    settings.iter().fold(Cluster::builder().fsync(true), |builder, (name, value)| builder.set(name, *value))
}
