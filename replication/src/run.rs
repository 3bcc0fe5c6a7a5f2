//! The stream across connections: what happens when one is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connection::Conninfo;
use decoder::Lsn;
use segment_log::{Log, Writer};
use tokio_util::sync::CancellationToken;

use crate::assembler::Assembler;
use crate::error::ReplicationError;
use crate::keeper::{self, Keeper};
use crate::receiver::Receiver;
use crate::schema_names::SchemaNames;
use crate::spool;
use crate::status::{State, Status};

/// First and longest pause before a new connection.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// What the stream needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source.
    pub conninfo: Conninfo,
    /// Directory for the spool files of transactions in progress (the log's; `spool/` is made in it).
    pub dir: PathBuf,
    /// Ask for binary values where all published types allow it.
    pub binary: bool,
}

/// Streams the log's slot into the log until `shutdown` is cancelled (`Ok`) or an error that trying again cannot help.
///
/// Lost connections and other transient errors are retried with growing pauses and shown in `status`. When this
/// returns, everything that was appended is in the log and acknowledged as far as it is durable.
///
/// # Errors
/// The definite error that ended it.
pub async fn run(
    options: Options,
    writer: Writer,
    log: Log,
    status: Arc<Status>,
    shutdown: CancellationToken,
) -> Result<(), ReplicationError> {
    let spool_dir = spool::prepare_directory(&options.dir)?;
    let keeper = Keeper::new(keeper::over_new_connection(options.conninfo.clone()), status.clone(), shutdown.clone());
    let path = options.dir.join("renamed_schemas");
    let schemas = SchemaNames::read(path.clone()).map_err(|source| ReplicationError::SchemaNames { path, source })?;
    let assembler = Assembler::new(writer, &spool_dir, schemas, keeper, status.clone(), shutdown.clone());
    let mut receiver = Receiver::new(options, log, assembler, status.clone(), shutdown.clone());
    let result = supervise(&mut receiver, &shutdown).await;
    // The writer waits for its last fsync.
    blocking(|| drop(receiver));
    let error = result.as_ref().err().map(ReplicationError::one_line).unwrap_or_default();
    status.set_state(State::Stopped { error });
    result
}

/// Does what may wait for the disk. The runtime's other tasks go on meanwhile, on another thread.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Waits on this thread, in steps so short that a stopping service does not wait for it.
///
/// # Errors
/// [`ReplicationError::Stopped`]: the service is stopping.
pub(crate) fn pause(pause: Duration, shutdown: &CancellationToken) -> Result<(), ReplicationError> {
    const STEP: Duration = Duration::from_millis(50);
    let end = Instant::now() + pause;
    while !shutdown.is_cancelled() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
    Err(ReplicationError::Stopped)
}

/// Connects again and again until the shutdown or a definite error.
async fn supervise(receiver: &mut Receiver, shutdown: &CancellationToken) -> Result<(), ReplicationError> {
    let mut backoff = Backoff { pause: RETRY_FIRST, reached: receiver.log_end() };
    let mut renamed = Repeated::default();
    loop {
        let Err(error) = receiver.session().await else { return Ok(()) };
        if shutdown.is_cancelled() {
            return Ok(());
        }
        if !error.is_transient() || renamed.too_often(&error) {
            return Err(error);
        }
        if let ReplicationError::NeedsText { .. } = error {
            tracing::info!(reason = %error, "the stream goes on in text");
            receiver.use_text();
        } else if matches!(error, ReplicationError::ManyRelations { .. }) || renamed.is_first(&error) {
            tracing::info!(reason = %error, "the stream begins anew");
        } else {
            let pause = backoff.next(receiver.log_end());
            tracing::warn!(error = error.one_line(), retry_in_ms = pause.as_millis(), "lost the source");
            receiver.status().set_state(State::Retrying { error: error.one_line() });
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(jittered(pause)) => {}
            }
        }
    }
}

/// A relation that a new connection was to describe anew, and did not: when it happened within one transaction, every
/// connection meets the same. It is tried again a few times, because a streamed transaction may yet roll back.
#[derive(Default)]
struct Repeated {
    at: Option<Lsn>,
    times: u32,
}

impl Repeated {
    const TIMES_MAX: u32 = 5;

    /// It has not happened there before.
    fn is_first(&self, error: &ReplicationError) -> bool {
        matches!(error, ReplicationError::Renamed { .. }) && self.times == 1
    }

    fn too_often(&mut self, error: &ReplicationError) -> bool {
        let ReplicationError::Renamed { after, .. } = error else { return false };
        let at = Some(*after);
        self.times = if self.at == at { self.times + 1 } else { 1 };
        self.at = at;
        self.times > Repeated::TIMES_MAX
    }
}

/// How long to wait before a new connection. Pauses grow until one has brought something: a source that is reached, but
/// fails at the same place of its stream again and again, is not to be asked ten times a second.
struct Backoff {
    pause: Duration,
    /// The log's end when a pause was asked for last.
    reached: Lsn,
}

impl Backoff {
    fn next(&mut self, log_end: Lsn) -> Duration {
        if log_end > self.reached {
            *self = Backoff { pause: RETRY_FIRST, reached: log_end };
        }
        let longer = (self.pause * 2).min(RETRY_LONGEST);
        std::mem::replace(&mut self.pause, longer)
    }
}

/// Between half of `pause` and all of it, so that many services do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    pause / 2 + pause.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

#[cfg(test)]
mod tests {
    use decoder::RelationId;

    use super::*;

    #[test]
    fn a_relation_that_stays_renamed_ends_the_stream_and_another_one_begins_anew() {
        let renamed = |after| ReplicationError::Renamed { after: Lsn::from_u64(after), relation: RelationId(7) };
        let mut repeated = Repeated::default();
        let mut times = |after, n| (0..n).map(|_| repeated.too_often(&renamed(after))).collect::<Vec<_>>();
        assert_eq!(times(1, 5), [false; 5]);
        assert_eq!(times(2, 6), [false, false, false, false, false, true]);
    }

    #[test]
    fn a_stopping_service_cuts_a_pause_short() {
        let shutdown = CancellationToken::new();
        pause(Duration::from_millis(1), &shutdown).expect("nobody stops");
        let stopping = shutdown.clone();
        let stops = std::thread::spawn(move || stopping.cancel());
        // The test's own time limit is shorter.
        let ended = pause(Duration::from_secs(3600), &shutdown);
        assert!(matches!(ended, Err(ReplicationError::Stopped)), "{ended:?}");
        stops.join().expect("no panic");
    }

    #[test]
    fn pauses_grow_until_a_connection_has_brought_something() {
        let mut backoff = Backoff { pause: RETRY_FIRST, reached: Lsn::from_u64(7) };
        let mut pauses = |log_end| (0..9).map(|_| backoff.next(Lsn::from_u64(log_end))).collect::<Vec<_>>();
        let first = pauses(7);
        assert_eq!(first[..3], [RETRY_FIRST, RETRY_FIRST * 2, RETRY_FIRST * 4]);
        assert_eq!(first[8], RETRY_LONGEST);
        assert_eq!(pauses(8), first);
    }
}
