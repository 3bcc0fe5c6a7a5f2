//! How far a target is, kept on the target and moved in the transaction that moves it.
//!
//! # Two places
//!
//! * A *replication origin* on servers before 16, where the role may use one. Nothing is written to a table for it, and
//!   the server fences: it can be set up by one session at a time.
//! * A row of `walcast.checkpoint` otherwise. A session advisory lock fences. The row is found by its `ctid`, without
//!   walking over its dead versions, however many a long-running snapshot keeps. The session holds it as the setting
//!   `walcast.place`, which goes back when the transaction does.
//!
//! Each advance names the position before it, and fails where that is another one: somebody moved it, or the batch
//! before, sent and not answered yet, was not committed.
//!
//! Servers from 16 on get no origin although they have them. There a transaction that *aborts* also moves its session's
//! origin to what `pg_replication_origin_xact_setup` named (in `RecordTransactionAbort`, for parallel apply). A session
//! that is ended between that call and COMMIT, by an administrator or by the loss of its client, would leave a
//! checkpoint beyond a transaction that was never applied. Measured on 14.23, 15.18 (not moved), 16.14, 18.4 (moved).
//!
//! An origin moves only with transactions that have an xid; `pg_current_xact_id()` gives one to a batch that changed
//! nothing, because a trigger filtered its rows or because it is only there to move the checkpoint.
//!
//! Workers (`parallel/`) have a row each, whatever the target's own place is: the target is at the greatest of all.
//!
//! # Flushed
//!
//! Sessions commit with `synchronous_commit = off`. The target's insert position is taken after a commit; once its flush
//! position has passed that, the commit is on disk. An origin's progress could be asked for flushed, but that makes the
//! session wait for the disk, and all that is to be applied with it: at 500 transactions/s these waits were the slowest
//! in a hundred.

use connection::TextRow;
use decoder::{Lsn, PgTimestamp};
use tokio::sync::oneshot;

use crate::catalog::text;
use crate::copied;
use crate::error::Error;
use crate::pipeline::Expect;
use crate::session::{Fixed, Session};
use crate::status::Identity;

/// The first server version whose origins also move when a transaction aborts.
const ORIGINS_MOVE_ON_ABORT: u32 = 160_000;

const INT4: u32 = 23;
const XID8: u32 = 5069;
const PG_LSN: u32 = 3220;
const TIMESTAMPTZ: u32 = 1184;
const TEXT: u32 = 25;

const ORIGIN_ADVANCE: &str = "SELECT 1/(pg_replication_origin_progress($4, false) IS NOT DISTINCT FROM $3)::int, \
     pg_replication_origin_xact_setup($1, $2), pg_current_xact_id()";
const TABLE_ADVANCE: &str = "WITH c AS (UPDATE walcast.checkpoint SET lsn = $1, commit_time = $2, applied_at = now() \
     WHERE ctid = current_setting('walcast.place')::tid AND lsn = $3 AND system_id = $4 AND slot = $5 RETURNING ctid) \
     SELECT set_config('walcast.place', (array_agg(ctid))[1]::text, false), 1/(count(*) = 1)::int FROM c";

/// The name of the checkpoint's statement, and those of a worker's turns.
const ADVANCE: &str = "wp";
const TAKE: &str = "wt";
const AWAIT: &str = "ww";

const BY_ORIGIN: Fixed = (ADVANCE, ORIGIN_ADVANCE, &[PG_LSN, TIMESTAMPTZ, PG_LSN, TEXT]);
const BY_ROW: Fixed = (ADVANCE, TABLE_ADVANCE, &[PG_LSN, TIMESTAMPTZ, PG_LSN, TEXT, TEXT]);
const TAKE_TURN: Fixed = (TAKE, "SELECT pg_advisory_xact_lock($1, $2), pg_current_xact_id()", &[INT4, INT4]);
// A lock goes after its transaction's end is seen by all.
const AWAIT_TURN: Fixed = (
    AWAIT,
    "SELECT pg_advisory_xact_lock_shared($1, $2), 1/(pg_xact_status($3) IS NOT DISTINCT FROM 'committed')::int",
    &[INT4, INT4, XID8],
);

/// Makes what walcast keeps on a target.
pub(crate) const TABLES: &str = "\
CREATE SCHEMA IF NOT EXISTS walcast;
CREATE TABLE IF NOT EXISTS walcast.checkpoint (
    system_id text NOT NULL,
    slot text NOT NULL,
    lsn pg_lsn NOT NULL,
    commit_time timestamptz,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (system_id, slot)) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS walcast.skipped (
    system_id text NOT NULL,
    slot text NOT NULL,
    lsn pg_lsn NOT NULL,
    xid bigint NOT NULL,
    commit_time timestamptz NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    PRIMARY KEY (system_id, slot, lsn));
CREATE TABLE IF NOT EXISTS walcast.copied (
    system_id text NOT NULL,
    slot text NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    start_lsn pg_lsn,
    bytes bigint,
    copied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (system_id, slot, schema_name, table_name));
CREATE TABLE IF NOT EXISTS walcast.sequence (
    schema_name text NOT NULL,
    sequence_name text NOT NULL,
    last_value bigint NOT NULL,
    is_called boolean NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema_name, sequence_name));";

/// Where a target's checkpoint is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Origin { name: String },
    Row { system_id: String, slot: String },
}

/// A target's checkpoint, held by this session.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    place: Place,
    /// As committed.
    pub(crate) lsn: Lsn,
    /// As it will be once everything that was sent is committed.
    sent: Lsn,
    /// As on disk there.
    pub(crate) flushed: Option<Lsn>,
    /// Once the target has flushed up to `.0`, `.1` is on disk.
    pending: Option<(Lsn, Lsn)>,
}

impl Checkpoint {
    /// Takes hold of the checkpoint and reads it.
    ///
    /// # Errors
    /// There is none, or another session holds it.
    pub(crate) async fn open(session: &mut Session, identity: &Identity) -> Result<Checkpoint, Error> {
        let place = find(session, identity).await?.ok_or(Error::NoCheckpoint)?;
        match &place {
            Place::Origin { name } => set_up_origin(session, name).await?,
            Place::Row { .. } => lock(session, identity).await?,
        }
        // Read only now: nobody else can move it any more.
        let lsn = read(session, &place).await?.ok_or(Error::NoCheckpoint)?;
        Ok(Checkpoint { place, lsn, sent: lsn, flushed: None, pending: None })
    }

    /// Makes one for a worker of a target whose own is at `lsn`, and takes hold of it. Whether the session that holds the
    /// target's own is still there is for that session to see, afterwards.
    ///
    /// # Errors
    /// Another session holds the worker's; the target's is not at `lsn`: this is another server.
    pub(crate) async fn open_worker(
        session: &mut Session,
        identity: &Identity,
        number: u32,
        lsn: Lsn,
    ) -> Result<Checkpoint, Error> {
        let worker = identity.worker(number);
        lock(session, &worker).await?;
        let own = match find(session, identity).await? {
            Some(place) => read(session, &place).await?,
            None => None,
        };
        if own != Some(lsn) {
            return Err(Error::CheckpointMoved);
        }
        make_tables(session).await?;
        let sql = "INSERT INTO walcast.checkpoint (system_id, slot, lsn) VALUES ($1, $2, '0/0') \
            ON CONFLICT (system_id, slot) DO UPDATE SET lsn = excluded.lsn, applied_at = now()";
        let (system_id, slot) = (worker.system_id.to_string(), worker.slot);
        session.query(sql, &[&system_id, &slot]).await?;
        let place = Place::Row { system_id, slot };
        read(session, &place).await?; // for its place
        Ok(Checkpoint { place, lsn: Lsn::ZERO, sent: Lsn::ZERO, flushed: None, pending: None })
    }

    /// The statements of its transactions, for [`Session::prepare_fixed`].
    pub(crate) fn statements(&self) -> &'static [Fixed] {
        match self.place {
            Place::Origin { .. } => &[BY_ORIGIN],
            Place::Row { .. } => &[BY_ROW, TAKE_TURN, AWAIT_TURN],
        }
    }

    /// Writes the statement that moves it to `lsn` once its transaction commits.
    pub(crate) fn write_advance(&mut self, session: &mut Session, lsn: Lsn, time: PgTimestamp) -> Result<(), Error> {
        let (new, time, old) = (lsn.as_u64().to_be_bytes(), time.0.to_be_bytes(), self.sent.as_u64().to_be_bytes());
        self.sent = lsn;
        match &self.place {
            Place::Origin { name } => {
                session.bind(ADVANCE, &[1, 1, 1, 0], &[&new, &time, &old, name.as_bytes()], Expect::Advance)
            }
            Place::Row { system_id, slot } => {
                let values: [&[u8]; 5] = [&new, &time, &old, system_id.as_bytes(), slot.as_bytes()];
                session.bind(ADVANCE, &[1, 1, 1, 0, 0], &values, Expect::Advance)
            }
        }
    }

    /// The statement that moves it to `lsn` is written.
    pub(crate) fn is_sent(&self, lsn: Lsn) -> bool {
        self.sent == lsn
    }

    /// The COMMIT that moved it to `lsn` was answered.
    pub(crate) fn advanced(&mut self, lsn: Lsn) {
        self.lsn = lsn;
    }

    /// In a transaction of the session that is no batch's: its COMMIT leaves the checkpoint where it is. An origin goes where
    /// it was last said to go, by a transaction that may have been rolled back.
    pub(crate) async fn stay(&self, session: &mut Session) -> Result<(), Error> {
        let Place::Origin { .. } = self.place else { return Ok(()) };
        let sql = "SELECT pg_replication_origin_xact_setup($1::text::pg_lsn, now())";
        session.query(sql, &[&self.lsn.to_string()]).await.map(drop)
    }

    /// What was sent and not committed was rolled back.
    pub(crate) fn rolled_back(&mut self) {
        self.sent = self.lsn;
    }

    /// Asks the target what it has flushed; the answer takes two calls.
    pub(crate) async fn refresh_flushed(&mut self, session: &mut Session) -> Result<(), Error> {
        let rows = session.simple("SELECT pg_current_wal_flush_lsn(), pg_current_wal_insert_lsn()").await?;
        let row = rows.first().ok_or(Error::Answer("no WAL position"))?;
        let (flushed, inserted) = (lsn(text(row, 0)?)?, lsn(text(row, 1)?)?);
        if let Some((_, covered)) = self.pending.take_if(|(wal, _)| *wal <= flushed) {
            self.flushed = Some(covered);
        }
        if self.pending.is_none() && self.flushed != Some(self.lsn) {
            self.pending = Some((inserted, self.lsn));
        }
        Ok(())
    }
}

/// The place of a worker's transaction among those that are to commit one after the other: an advisory lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    stream: i32,
    number: i32,
}

impl Turn {
    /// Of a session's first unit.
    pub(crate) fn first(identity: &Identity) -> Turn {
        // Of the checkpoint's key another half than the low one, by which locks of two numbers are mostly told apart.
        Turn { stream: (lock_key(identity) >> 32) as i32, number: 0 }
    }

    /// This one; the next time the one after.
    pub(crate) fn next(&mut self) -> Turn {
        self.number = self.number.wrapping_add(1);
        *self
    }

    /// Writes the statement that takes it, as the first after BEGIN. `next` hears as which transaction.
    pub(crate) fn write_take(self, session: &mut Session, next: oneshot::Sender<u64>) -> Result<(), Error> {
        let (stream, number) = (self.stream.to_be_bytes(), self.number.to_be_bytes());
        session.bind_turn(TAKE, &[1, 1], &[&stream, &number], next)
    }

    /// Writes the statement that waits for the end of the one before, which transaction `xid` has taken, and fails unless
    /// that was committed.
    pub(crate) fn write_await_before(self, session: &mut Session, xid: u64) -> Result<(), Error> {
        let (stream, number) = (self.stream.to_be_bytes(), self.number.wrapping_sub(1).to_be_bytes());
        session.bind(AWAIT, &[1, 1, 1], &[&stream, &number, &xid.to_be_bytes()], Expect::Control)
    }
}

/// The greatest position of workers; `None` when there are none.
///
/// # Errors
/// The session of one of them is still alive ([`Error::Fenced`]): it may yet commit.
pub(crate) async fn left_by_workers(session: &mut Session, identity: &Identity) -> Result<Option<Lsn>, Error> {
    if !has_table(session).await? {
        return Ok(None);
    }
    let parameters = [&identity.system_id.to_string(), &identity.workers_prefix()];
    let parameters = parameters.map(String::as_str);
    let slots = "SELECT slot FROM walcast.checkpoint WHERE system_id = $1 AND starts_with(slot, $2)";
    for row in session.query(slots, &parameters).await? {
        let worker = Identity { system_id: identity.system_id, slot: text(&row, 0)?.to_owned() };
        lock(session, &worker).await?;
        session.query("SELECT pg_advisory_unlock($1::bigint)", &[&lock_key(&worker).to_string()]).await?;
    }
    greatest_of_workers(session, identity).await
}

async fn greatest_of_workers(session: &mut Session, identity: &Identity) -> Result<Option<Lsn>, Error> {
    let sql = "SELECT max(lsn) FROM walcast.checkpoint WHERE system_id = $1 AND starts_with(slot, $2)";
    optional_lsn(&session.query(sql, &[&identity.system_id.to_string(), &identity.workers_prefix()]).await?)
}

/// Removes the positions of workers, which the target's own has reached.
pub(crate) async fn forget_workers(session: &mut Session, identity: &Identity) -> Result<(), Error> {
    let sql = "DELETE FROM walcast.checkpoint WHERE system_id = $1 AND starts_with(slot, $2)";
    session.query(sql, &[&identity.system_id.to_string(), &identity.workers_prefix()]).await.map(drop)
}

async fn has_table(session: &mut Session) -> Result<bool, Error> {
    let tables = session.simple("SELECT to_regclass('walcast.checkpoint') IS NOT NULL").await?;
    Ok(tables.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
}

/// Looks for the checkpoint without holding it.
async fn find(session: &mut Session, identity: &Identity) -> Result<Option<Place>, Error> {
    if has_table(session).await? {
        let row = Place::Row { system_id: identity.system_id.to_string(), slot: identity.slot.clone() };
        if read(session, &row).await?.is_some() {
            return Ok(Some(row));
        }
    }
    if session.server_version() >= ORIGINS_MOVE_ON_ABORT {
        return Ok(None);
    }
    let name = origin_name(session, identity).await?;
    let found = session.query("SELECT FROM pg_replication_origin WHERE roname = $1", &[&name]).await?;
    Ok((!found.is_empty()).then_some(Place::Origin { name }))
}

/// The position, if it is there. The session takes note of a row's place.
async fn read(session: &mut Session, place: &Place) -> Result<Option<Lsn>, Error> {
    let rows = match place {
        Place::Origin { name } => session.query("SELECT pg_replication_origin_progress($1, false)", &[name]).await?,
        Place::Row { system_id, slot } => {
            let sql = "SELECT lsn, set_config('walcast.place', ctid::text, false) FROM walcast.checkpoint \
                WHERE system_id = $1 AND slot = $2";
            session.query(sql, &[system_id, slot]).await?
        }
    };
    optional_lsn(&rows)
}

/// Origins belong to the whole cluster: the database's OID tells two targets in one cluster apart.
async fn origin_name(session: &mut Session, identity: &Identity) -> Result<String, Error> {
    let rows = session.simple("SELECT oid FROM pg_database WHERE datname = current_database()").await?;
    let database = rows.first().map_or(Err(Error::Answer("no database")), |row| text(row, 0).map(str::to_owned))?;
    Ok(format!("walcast_{}_{}_{database}", identity.slot, identity.system_id))
}

async fn set_up_origin(session: &mut Session, name: &str) -> Result<(), Error> {
    let set_up = session.query("SELECT pg_replication_origin_session_setup($1)", &[name]).await;
    set_up.map(|_| ()).map_err(fenced_if_in_use)
}

fn fenced_if_in_use(error: Error) -> Error {
    if error.sqlstate() == Some("55006") { Error::Fenced } else { error }
}

async fn lock(session: &mut Session, identity: &Identity) -> Result<(), Error> {
    let key = lock_key(identity).to_string();
    let rows = session.query("SELECT pg_try_advisory_lock($1::bigint)", &[&key]).await?;
    match rows.first().map(|row| text(row, 0)).transpose()? {
        Some("t") => Ok(()),
        _ => Err(Error::Fenced),
    }
}

/// FNV-1a of the identity: the same in every version of walcast.
fn lock_key(identity: &Identity) -> i64 {
    let text = format!("walcast {} {}", identity.system_id, identity.slot);
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, hash).cast_signed()
}

pub(crate) fn lsn(text: &str) -> Result<Lsn, Error> {
    text.parse().map_err(|_| Error::Answer("not a WAL position"))
}

fn optional_lsn(rows: &[TextRow]) -> Result<Option<Lsn>, Error> {
    rows.first().and_then(|row| row.first()?.as_deref()).map(lsn).transpose()
}

/// Makes walcast's schema where something of it is missing. What the session commits from then on is on disk.
pub(crate) async fn install(session: &mut Session) -> Result<(), Error> {
    session.simple("SET synchronous_commit = on").await?;
    make_tables(session).await
}

/// Makes walcast's schema where something of it is missing.
pub(crate) async fn make_tables(session: &mut Session) -> Result<(), Error> {
    let missing = "SELECT FROM unnest('{checkpoint,skipped,copied,sequence}'::text[]) t WHERE to_regclass('walcast.' || t) IS NULL";
    if !session.simple(missing).await?.is_empty() {
        session.simple(TABLES).await?;
    }
    Ok(())
}

/// Makes walcast's schema and the checkpoint at `wanted`.
pub(crate) async fn declare(session: &mut Session, identity: &Identity, wanted: Lsn) -> Result<(), Error> {
    install(session).await?;
    if let Some(existing) = current(session, identity).await? {
        return if existing == wanted { Ok(()) } else { Err(Error::CheckpointExists { existing, wanted }) };
    }
    let position = wanted.to_string();
    if may_use_origins(session).await? {
        let name = origin_name(session, identity).await?;
        let create = "SELECT pg_replication_origin_create($1) WHERE pg_replication_origin_oid($1) IS NULL";
        session.query(create, &[&name]).await?;
        // The xid makes COMMIT wait for the disk.
        let advance = "SELECT pg_replication_origin_advance($1, $2::text::pg_lsn), pg_current_xact_id()";
        session.query(advance, &[&name, &position]).await?;
        return Ok(());
    }
    let insert = "INSERT INTO walcast.checkpoint (system_id, slot, lsn) VALUES ($1, $2, $3::text::pg_lsn)";
    session.query(insert, &[&identity.system_id.to_string(), &identity.slot, &position]).await?;
    Ok(())
}

async fn may_use_origins(session: &mut Session) -> Result<bool, Error> {
    if session.server_version() >= ORIGINS_MOVE_ON_ABORT {
        return Ok(false);
    }
    let functions = [
        "create(text)",
        "drop(text)",
        "advance(text, pg_lsn)",
        "session_setup(text)",
        "progress(text, boolean)",
        "xact_setup(pg_lsn, timestamptz)",
    ];
    let may = |name: &&str| format!("has_function_privilege('pg_replication_origin_{name}', 'EXECUTE')");
    let all = functions.iter().map(may).collect::<Vec<_>>().join(" AND ");
    let rows = session.simple(&format!("SELECT {all}")).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
}

/// Reads the checkpoint without taking hold of it.
pub(crate) async fn current(session: &mut Session, identity: &Identity) -> Result<Option<Lsn>, Error> {
    let Some(place) = find(session, identity).await? else { return Ok(None) };
    let own = read(session, &place).await?;
    let workers = if has_table(session).await? { greatest_of_workers(session, identity).await? } else { None };
    Ok(own.map(|own| workers.map_or(own, |workers| own.max(workers))))
}

/// Removes the checkpoint; what was skipped stays on record.
pub(crate) async fn forget(session: &mut Session, identity: &Identity) -> Result<(), Error> {
    // First: without the target's own, nobody would know what these belong to.
    if left_by_workers(session, identity).await?.is_some() {
        forget_workers(session, identity).await?;
    }
    match find(session, identity).await? {
        Some(Place::Origin { name }) => {
            let dropped = session.query("SELECT pg_replication_origin_drop($1)", &[&name]).await;
            dropped.map_err(fenced_if_in_use)?
        }
        Some(Place::Row { .. }) => {
            lock(session, identity).await?;
            let sql = "DELETE FROM walcast.checkpoint WHERE system_id = $1 AND slot = $2";
            session.query(sql, &[&identity.system_id.to_string(), &identity.slot]).await?
        }
        None => Vec::new(),
    };
    copied::forget(session, identity).await
}

/// Records a skipped transaction, inside the transaction that moves the checkpoint over it.
pub(crate) async fn record_skipped(
    session: &mut Session,
    identity: &Identity,
    info: &segment_log::TransactionInfo,
    reason: &str,
) -> Result<(), Error> {
    let sql = "INSERT INTO walcast.skipped (system_id, slot, lsn, xid, commit_time, reason) VALUES ($1, $2, \
        $3::text::pg_lsn, $4::text::bigint, timestamptz '2000-01-01 00:00:00+00' + $5::text::bigint * interval '1 us', $6)";
    let (system_id, lsn, xid) = (identity.system_id.to_string(), info.end_lsn.to_string(), info.xid.to_string());
    let parameters = [&system_id, &identity.slot, &lsn, &xid, &info.commit_time.to_string(), reason];
    session.query(sql, &parameters.map(|parameter: &str| parameter)).await?;
    Ok(())
}
