//! The two states that are compared, each held by an open transaction that other sessions look through.

use connection::Conninfo;
use decoder::Lsn;

use crate::error::{Error, Side};
use crate::session::{Session, text};
use crate::table::TableName;

/// One database as it was at one moment. It stays so until this is dropped.
pub struct Snapshot {
    pub(crate) gate: Gate,
    /// Holds it.
    pub(crate) keeper: Session,
    /// It has locks on the tables that are compared.
    pub(crate) locked: bool,
}

impl Snapshot {
    /// The target as it is now.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn of_target(conninfo: &Conninfo) -> Result<Snapshot, Error> {
        Snapshot::open(conninfo, Side::Target, None).await
    }

    /// The source as of a snapshot that another session exported; that one may end afterwards.
    ///
    /// # Errors
    /// It cannot be reached, or the snapshot is gone.
    pub async fn of_source(conninfo: &Conninfo, exported: &str) -> Result<Snapshot, Error> {
        Snapshot::open(conninfo, Side::Source, Some(exported)).await
    }

    /// Keeps tables from being truncated or altered as long as the snapshot is held. Such commands then wait, and so does
    /// whoever comes after them: this is for tables that were truncated under a snapshot without it. False: somebody has
    /// one of the tables for himself, or it is gone; the snapshot is of no use any more.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn lock(&mut self, tables: &[TableName]) -> Result<bool, Error> {
        if tables.is_empty() {
            return Ok(true);
        }
        let names: Vec<String> = tables.iter().map(TableName::quoted).collect();
        let sql = format!("SET LOCAL lock_timeout = '1s'; LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        self.locked = true;
        match self.keeper.simple(&sql).await {
            Ok(_) => Ok(true),
            // lock_not_available, undefined_table, deadlock_detected
            Err(error) if matches!(error.sqlstate(), Some("55P03" | "42P01" | "40P01")) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn open(conninfo: &Conninfo, side: Side, exported: Option<&str>) -> Result<Snapshot, Error> {
        let mut keeper = Session::connect(conninfo, side).await?;
        keeper.simple(BEGIN).await?;
        if let Some(name) = exported {
            keeper.simple(&set_snapshot(name)).await?;
        }
        let rows = keeper.simple("SELECT pg_catalog.pg_export_snapshot()").await?;
        let row = rows.first().ok_or(Error::Answer { side, what: "no snapshot" })?;
        let name = text(row, 0, side)?.to_owned();
        Ok(Snapshot { gate: Gate { conninfo: conninfo.clone(), side, name }, keeper, locked: false })
    }
}

/// The way into a snapshot for other sessions, as long as it is held.
#[derive(Clone)]
pub(crate) struct Gate {
    conninfo: Conninfo,
    side: Side,
    /// What `SET TRANSACTION SNAPSHOT` takes.
    name: String,
}

impl Gate {
    /// A session that can look through it: [`begin`](Gate::begin) does.
    pub(crate) async fn session(&self) -> Result<Session, Error> {
        Session::connect(&self.conninfo, self.side).await
    }

    /// Begins a transaction in which `session` sees this state. It should be short: what it reads stays locked against
    /// TRUNCATE and ALTER TABLE until its end.
    pub(crate) async fn begin(&self, session: &mut Session) -> Result<(), Error> {
        session.simple(BEGIN).await?;
        session.simple(&set_snapshot(&self.name)).await?;
        Ok(())
    }
}

/// Ends the transaction.
pub(crate) async fn end(session: &mut Session) -> Result<(), Error> {
    session.simple("ROLLBACK").await.map(|_| ())
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

fn set_snapshot(name: &str) -> String {
    format!("SET TRANSACTION SNAPSHOT '{}'", name.replace('\'', "''"))
}

/// Source and target at one position: the target has applied exactly what the source's snapshot shows.
pub struct Snapshots {
    /// The source's.
    pub source: Snapshot,
    /// The target's.
    pub target: Snapshot,
    /// The position: every transaction with a `commit_lsn` before it is in both.
    pub lsn: Lsn,
}
