//! Keeps the key of the source's messages, and judges them by it.
//!
//! The key is read with each connection. A message of a transaction that committed after that may be of a key that was
//! made since (`walcast setup` installed the capture, or did it again): before one is dropped, the key is read anew, over
//! a connection of its own. So nothing of the capture's is ever lost, and whoever forges messages makes the key be read
//! once in [`AGAIN_AFTER`] at most, for as many messages as he wrote meanwhile.
//!
//! | message | key read | then |
//! | --- | --- | --- |
//! | verified | whenever | kept |
//! | not verified | after the transaction's commit | dropped, counted, warned of |
//! | not verified | before it | the key is read, and the message judged again |

use std::sync::Arc;
use std::time::{Duration, Instant};

use connection::{Conninfo, Wire};
use decoder::{Lsn, Xid};
use segment_log::TransactionInfo;
use tokio_util::sync::CancellationToken;

use crate::error::ReplicationError;
use crate::run::{blocking, pause};
use crate::signature::{Key, Unverified};
use crate::status::Status;
use crate::{source, walsender};

/// How long a key that was read is not read again.
const AGAIN_AFTER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };
/// How long reading it may take.
const READING_MAX: Duration = Duration::from_secs(30);
/// How often dropped messages are warned of.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A key, or that there is none.
pub(crate) struct Reading {
    pub(crate) key: Option<Key>,
    /// What committed before it was taken into account.
    pub(crate) as_of: Lsn,
}

impl Reading {
    /// Before anything was read.
    fn none() -> Reading {
        Reading { key: None, as_of: Lsn::ZERO }
    }
}

/// Reads the key anew; blocks.
pub(crate) type ReadKey = Box<dyn Fn() -> Result<Reading, ReplicationError> + Send + Sync>;

/// The key, and what was done by it.
pub(crate) struct Keeper {
    reading: Reading,
    read_at: Instant,
    read: ReadKey,
    status: Arc<Status>,
    shutdown: CancellationToken,
    warned: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(read: ReadKey, status: Arc<Status>, shutdown: CancellationToken) -> Keeper {
        Keeper { reading: Reading::none(), read_at: Instant::now(), read, status, shutdown, warned: None }
    }

    /// Takes the key that a new connection has read.
    pub(crate) fn take(&mut self, reading: Reading) {
        self.reading = reading;
        self.read_at = Instant::now();
    }

    /// Whether a message that is not empty is the capture's.
    pub(crate) fn admits(&mut self, content: &[u8], info: &TransactionInfo) -> Result<bool, ReplicationError> {
        let mut verdict = self.verify(content, info.xid);
        if verdict.is_err_and(Unverified::depends_on_key) && info.commit_lsn >= self.reading.as_of {
            self.read_again()?;
            verdict = self.verify(content, info.xid);
        }
        self.status.count_message(verdict.is_ok());
        if let Err(why) = verdict {
            self.warn(why, info);
        }
        Ok(verdict.is_ok())
    }

    fn verify(&self, content: &[u8], xid: Xid) -> Result<(), Unverified> {
        self.reading.key.as_ref().ok_or(Unverified::NoKey)?.verify(content, xid)
    }

    fn read_again(&mut self) -> Result<(), ReplicationError> {
        let early = AGAIN_AFTER.saturating_sub(self.read_at.elapsed());
        let reading = blocking(|| {
            pause(early, &self.shutdown)?;
            (self.read)()
        })?;
        self.take(reading);
        Ok(())
    }

    fn warn(&mut self, why: Unverified, info: &TransactionInfo) {
        if self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        let dropped = self.status.dropped_messages();
        tracing::warn!(
            xid = %info.xid, lsn = %info.end_lsn, reason = why.why(), dropped,
            "dropped a message with prefix walcast that the capture did not write"
        );
    }
}

/// Reads the key over a connection of its own, on a thread of its own: the caller is in the middle of a message.
pub(crate) fn over_new_connection(conninfo: Conninfo) -> ReadKey {
    Box::new(move || {
        let conninfo = conninfo.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(ReplicationError::Thread)?.block_on(async {
                let late = |_| ReplicationError::Silent(READING_MAX.as_secs());
                tokio::time::timeout(READING_MAX, connect_and_read(&conninfo)).await.map_err(late)?
            })
        };
        let thread =
            std::thread::Builder::new().name("key".to_owned()).spawn(work).map_err(ReplicationError::Thread)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn connect_and_read(conninfo: &Conninfo) -> Result<Reading, ReplicationError> {
    let mut wire = walsender::connect(conninfo).await?;
    let as_of = source::identify(&mut wire).await?.current_lsn;
    let reading = read(&mut wire, as_of).await;
    wire.close().await;
    reading
}

/// Reads the key. The source's WAL was at `as_of` before.
///
/// A role that may make schemas can make one that looks like walcast's: the key counts only if its table belongs to a
/// superuser, or to the role that has walcast's event triggers.
pub(crate) async fn read(wire: &mut Wire, as_of: Lsn) -> Result<Reading, ReplicationError> {
    let owned = "SELECT r.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_event_trigger t \
             WHERE t.evtname = 'walcast_ddl_end' AND t.evtowner = c.relowner) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_roles r ON r.oid = c.relowner \
         WHERE n.nspname = 'walcast' AND c.relname = 'secret' AND c.relkind = 'r'";
    let found = wire.simple_query(owned).await.map_err(ReplicationError::Key)?;
    match found.first().and_then(|row| row.first()?.as_deref()) {
        None => return Ok(Reading { key: None, as_of }),
        Some("t") => {}
        Some(_) => {
            tracing::warn!("walcast.secret belongs to a role that cannot have installed the capture: it is not used");
            return Ok(Reading { key: None, as_of });
        }
    }
    let stored = "SELECT pg_catalog.encode(inner_key, 'hex'), pg_catalog.encode(outer_key, 'hex') FROM walcast.secret";
    let rows = wire.simple_query(stored).await.map_err(ReplicationError::Key)?;
    let padded = |at: usize| rows.first().and_then(|row| hex(row.get(at)?.as_deref()?));
    Ok(Reading { key: padded(0).zip(padded(1)).and_then(|(inner, outer)| Key::from_padded(&inner, &outer)), as_of })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use decoder::PgTimestamp;

    use super::*;
    use crate::signature::tests::{key, signed};

    const JSON: &str = r#"{"v": 1, "xid": "7"}"#;

    fn info(commit: u64) -> TransactionInfo {
        let (commit_lsn, end_lsn) = (Lsn::from_u64(commit), Lsn::from_u64(commit + 8));
        TransactionInfo { xid: Xid(7), commit_lsn, end_lsn, commit_time: PgTimestamp(0) }
    }

    fn reading(key: Option<Key>, as_of: u64) -> Reading {
        Reading { key, as_of: Lsn::from_u64(as_of) }
    }

    /// One whose next readings are these.
    fn keeper(next: Vec<Reading>) -> Keeper {
        let next = Mutex::new(next.into_iter());
        let read = move || next.lock().expect("no panic").next().ok_or(ReplicationError::StreamEnded);
        Keeper::new(Box::new(read), Arc::default(), CancellationToken::new())
    }

    fn counts(keeper: &Keeper) -> (u64, u64) {
        (keeper.status.verified_messages(), keeper.status.dropped_messages())
    }

    #[test]
    fn a_key_that_was_made_since_is_read_before_a_message_is_dropped() {
        let mut keeper = keeper(vec![reading(Some(key(1)), 100), reading(Some(key(2)), 200)]);
        assert!(keeper.admits(&signed(&key(1), JSON), &info(50)).expect("read"), "no key was known");
        assert!(keeper.admits(&signed(&key(2), JSON), &info(150)).expect("read"), "the key was made anew");
        assert_eq!(counts(&keeper), (2, 0));
    }

    #[test]
    fn what_no_key_verifies_is_dropped_and_the_key_is_read_once_for_all_that_is_older() {
        let mut keeper = keeper(vec![reading(None, 100)]);
        for commit in [50, 60, 99] {
            assert!(!keeper.admits(&signed(&key(1), JSON), &info(commit)).expect("read once"));
        }
        assert_eq!(counts(&keeper), (0, 3));
        assert!(keeper.admits(&signed(&key(1), JSON), &info(100)).is_err(), "it cannot be read: nothing is dropped");
        assert_eq!(counts(&keeper), (0, 3));
    }

    #[test]
    fn a_stopping_service_does_not_wait_for_the_next_reading() {
        let mut keeper = keeper(vec![reading(None, 100)]);
        keeper.shutdown.cancel();
        let judged = keeper.admits(&signed(&key(1), JSON), &info(50));
        assert!(matches!(judged, Err(ReplicationError::Stopped)), "{judged:?}");
    }

    #[test]
    fn a_message_without_signature_or_of_another_transaction_needs_no_key() {
        let mut keeper = keeper(Vec::new());
        keeper.take(reading(Some(key(1)), 100));
        assert!(!keeper.admits(b"ALTER ROLE me SUPERUSER", &info(150)).expect("not read"));
        let other = signed(&key(1), r#"{"v": 1, "xid": "8"}"#);
        assert!(!keeper.admits(&other, &info(150)).expect("not read"));
        assert_eq!(counts(&keeper), (0, 2));
    }
}
