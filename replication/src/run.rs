//! The two threads of the stream, and what happens when the connection is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connection::Conninfo;
use decoder::{Context, Lsn, RelationId};
use segment_log::{Log, Writer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::assembler::Assembler;
use crate::error::ReplicationError;
use crate::receiver::Receiver;
use crate::spool;
use crate::status::{State, Status};

/// Chunks between the two threads; each holds what one read of the socket gave.
const CHUNKS_MAX: usize = 16;
/// Bytes in them, and in the one that is being decoded; a single chunk may have more. Large rows reach it long before
/// there are [`CHUNKS_MAX`].
const CHUNK_BYTES_MAX: u32 = 32 << 20;
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

/// From the receiver to the assembler, in the order of the stream.
pub(crate) enum Command {
    /// A new connection is about to begin: forget what is not in the log and say where it ends.
    Restart { context: Context, binary: bool, reply: oneshot::Sender<Lsn> },
    /// Whole protocol messages, and the room that they take until they have been decoded.
    Chunk(Bytes, OwnedSemaphorePermit),
}

/// The receiver's end of the channel to the assembler, bounded in commands and in bytes.
pub(crate) struct Commands {
    sender: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
}

/// Room for one chunk.
pub(crate) struct Room<'a> {
    slot: mpsc::Permit<'a, Command>,
    bytes: OwnedSemaphorePermit,
}

impl Commands {
    fn new(sender: mpsc::Sender<Command>) -> Commands {
        Commands { sender, room: Arc::new(Semaphore::new(CHUNK_BYTES_MAX as usize)) }
    }

    /// Sends a command that needs no room; false when the assembler is gone.
    pub(crate) async fn send(&self, command: Command) -> bool {
        self.sender.send(command).await.is_ok()
    }

    /// Waits for room for a chunk of `bytes`; `None` when the assembler is gone. Cancel-safe.
    pub(crate) async fn room(&self, bytes: usize) -> Option<Room<'_>> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(CHUNK_BYTES_MAX);
        let bytes = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        Some(Room { slot: self.sender.reserve().await.ok()?, bytes })
    }
}

impl Room<'_> {
    /// Sends it.
    pub(crate) fn send(self, chunk: Bytes) {
        self.slot.send(Command::Chunk(chunk, self.bytes));
    }
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
    let (commands, assembler_commands) = mpsc::channel(CHUNKS_MAX);
    let (failures, assembler_failures) = mpsc::channel(1);
    let assembler = Assembler::new(writer, &spool_dir, status.clone(), shutdown.clone());
    let assembling = spawn("assembler", move || assemble(assembler, assembler_commands, &failures));
    let receiver =
        Receiver::new(options, log, Commands::new(commands), assembler_failures, status.clone(), shutdown.clone());
    let receiving = spawn("receiver", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be built").block_on(supervise(receiver, &shutdown))
    });
    let result = receiving.await.expect("the receiver thread does not panic");
    assembling.await.expect("the assembler thread does not panic");
    let error = result.as_ref().err().map(ReplicationError::one_line).unwrap_or_default();
    status.set_state(State::Stopped { error });
    result
}

/// A named thread whose result can be awaited.
fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let body = move || drop(sender.send(body()));
    thread.spawn(body).expect("a thread can be started");
    receiver
}

/// The assembler thread. After an error it passes over chunks until the next restart: the receiver has been told.
fn assemble(
    mut assembler: Assembler,
    mut commands: mpsc::Receiver<Command>,
    failures: &mpsc::Sender<ReplicationError>,
) {
    let mut failed = false;
    while let Some(first) = commands.blocking_recv() {
        let mut next = Some(first);
        while let Some(command) = next {
            failed &= matches!(command, Command::Chunk(..));
            if !failed {
                failed = report(handle(&mut assembler, command), failures);
            }
            next = commands.try_recv().ok();
        }
        if !failed {
            failed = report(assembler.settle(), failures);
        }
    }
}

fn handle(assembler: &mut Assembler, command: Command) -> Result<(), ReplicationError> {
    match command {
        Command::Chunk(bytes, _room) => assembler.take(&bytes),
        Command::Restart { context, binary, reply } => {
            let end = assembler.restart(context, binary)?;
            // A receiver that is gone needs no answer.
            let _ = reply.send(end);
            Ok(())
        }
    }
}

/// Tells the receiver of an error; true when there was one.
fn report(result: Result<(), ReplicationError>, failures: &mpsc::Sender<ReplicationError>) -> bool {
    match result {
        Ok(()) => false,
        Err(error) => {
            // Full or closed: the receiver is ending already because of an earlier error.
            let _ = failures.try_send(error);
            true
        }
    }
}

/// Connects again and again until the shutdown or a definite error.
async fn supervise(mut receiver: Receiver, shutdown: &CancellationToken) -> Result<(), ReplicationError> {
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
    at: Option<(Lsn, RelationId)>,
    times: u32,
}

impl Repeated {
    const TIMES_MAX: u32 = 5;

    fn too_often(&mut self, error: &ReplicationError) -> bool {
        let ReplicationError::Renamed { after, relation } = error else { return false };
        let at = Some((*after, *relation));
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
    use super::*;

    #[test]
    fn a_relation_that_stays_renamed_ends_the_stream_and_another_one_begins_anew() {
        let renamed = |relation| ReplicationError::Renamed { after: Lsn::from_u64(7), relation: RelationId(relation) };
        let mut repeated = Repeated::default();
        let mut times = |relation, n| (0..n).map(|_| repeated.too_often(&renamed(relation))).collect::<Vec<_>>();
        assert_eq!(times(1, 5), [false; 5]);
        assert_eq!(times(2, 6), [false, false, false, false, false, true]);
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

    #[tokio::test]
    async fn large_chunks_wait_for_each_other_and_one_of_any_size_is_taken() {
        let (sender, mut receiver) = mpsc::channel(CHUNKS_MAX);
        let commands = Commands::new(sender);
        commands.room(usize::MAX).await.expect("open").send(Bytes::new());
        tokio::select! {
            biased;
            _ = commands.room(1) => panic!("there is no room beside the first"),
            () = std::future::ready(()) => {}
        }
        drop(receiver.recv().await);
        for _ in 0..2 {
            commands.room(CHUNK_BYTES_MAX as usize / 2).await.expect("open").send(Bytes::new());
        }
        drop(receiver);
        assert!(commands.room(0).await.is_none());
    }
}
