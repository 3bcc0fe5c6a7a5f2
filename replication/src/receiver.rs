//! One connection to the walsender: reading without ever waiting for the log, and telling it what is durable.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use connection::{ReadHalf, Wire, WriteHalf};
use decoder::{Context, PgTimestamp};
use segment_log::{Identity, Log};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::chunk::{self, WalsenderMessage};
use crate::error::ReplicationError;
use crate::run::{Command, Commands, Options};
use crate::source;
use crate::status::{State, Status};
use crate::walsender::{self, StatusUpdate};

/// How often the log's positions are looked at for a status update.
const TICK: Duration = Duration::from_millis(50);
/// An idle source is asked for its position this often.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A source that is asked and stays silent this long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A status update that cannot be written for so long means a dead connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stopping service waits for the log's fsync before its last status update.
const LAST_SYNC_MAX: Duration = Duration::from_secs(2);
/// After so many reads in a row that had not to wait and brought little, a nap lets more of them gather.
///
/// The walsender makes one send() per message. An awake reader makes each of them a wake-up and a context switch;
/// over TCP a nap gave 12 to 150 % more messages per second for a quarter of the CPU time (bench/RESULTS.md).
const NAP_AFTER: u32 = 16;
const NAP: Duration = Duration::from_micros(300);
const SHORT_READ: usize = 32 << 10;
/// Messages of a transaction that has not ended are handed on when they hold so many bytes.
const HELD_MAX: usize = 64 << 10;
/// A read that took less than this had not to wait.
const NO_WAIT: Duration = Duration::from_micros(200);

/// Reads the stream; lives across connections.
pub(crate) struct Receiver {
    options: Options,
    log: Log,
    commands: Commands,
    failures: mpsc::Receiver<ReplicationError>,
    status: Arc<Status>,
    shutdown: CancellationToken,
    text_only: bool,
}

impl Receiver {
    pub(crate) fn new(
        options: Options,
        log: Log,
        commands: Commands,
        failures: mpsc::Receiver<ReplicationError>,
        status: Arc<Status>,
        shutdown: CancellationToken,
    ) -> Receiver {
        let text_only = !options.binary;
        Receiver { options, log, commands, failures, status, shutdown, text_only }
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// From the next connection on, values are taken as text.
    pub(crate) fn use_text(&mut self) {
        self.text_only = true;
    }

    /// How far the log goes.
    pub(crate) fn log_end(&self) -> decoder::Lsn {
        self.log.positions().appended_lsn
    }

    /// One connection, from its start to the shutdown (`Ok`) or its error.
    pub(crate) async fn session(&mut self) -> Result<(), ReplicationError> {
        let shutdown = self.shutdown.clone();
        let started = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            started = self.start() => started,
        };
        let wire = started?;
        self.status.set_state(State::Streaming);
        let (reader, writer) = wire.into_parts();
        let mut stream = Stream { reader, writer, held: BytesMut::new(), pending: None, pacing: Pacing::new() };
        self.stream(&mut stream).await
    }

    /// Connects, checks that source and slot fit the log, and starts the stream at the log's end.
    async fn start(&mut self) -> Result<Wire, ReplicationError> {
        let (mut wire, context, binary) = in_time(self.prepare()).await?;
        // May wait for room on the disk, for as long as that takes.
        let start = self.restart_assembler(context, binary).await?;
        let Identity { slot, publication, .. } = self.log.identity();
        let command = walsender::start_command(slot, start, publication, context, binary);
        in_time(walsender::start(&mut wire, &command)).await?;
        tracing::info!(%start, binary, protocol = context.protocol_version, "streaming from the source");
        Ok(wire)
    }

    async fn prepare(&self) -> Result<(Wire, Context, bool), ReplicationError> {
        let identity = self.log.identity();
        let mut wire = walsender::connect(&self.options.conninfo).await?;
        let found = source::identify(&mut wire).await?;
        let slot = source::read_slot(&mut wire, &identity.slot, &found.database).await?;
        source::check(&found, &slot, identity, self.log.positions().durable.lsn())?;
        let binary = !self.text_only && source::all_binary_safe(&mut wire, &identity.publication).await?;
        Ok((wire, walsender::context_for(found.server_version), binary))
    }

    async fn restart_assembler(&mut self, context: Context, binary: bool) -> Result<decoder::Lsn, ReplicationError> {
        let (reply, end) = oneshot::channel();
        let restarted = self.commands.send(Command::Restart { context, binary, reply }).await;
        if let (true, Ok(end)) = (restarted, end.await) {
            // What the assembler complained of belongs to the connection before.
            while self.failures.try_recv().is_ok() {}
            return Ok(end);
        }
        Err(self.failures.recv().await.unwrap_or(ReplicationError::Stopped))
    }

    async fn stream(&mut self, stream: &mut Stream) -> Result<(), ReplicationError> {
        let mut feedback = Feedback::new();
        let mut tick = tokio::time::interval(TICK);
        let shutdown = self.shutdown.clone();
        loop {
            let waiting = stream.pending.as_ref().map_or(0, Bytes::len);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.finish(stream).await,
                Some(failure) = self.failures.recv() => return Err(failure),
                _ = tick.tick() => {
                    stream.hand_on();
                    self.give_feedback(stream, &mut feedback).await?;
                }
                room = self.commands.room(waiting), if stream.pending.is_some() => {
                    let Some(room) = room else { return Err(ReplicationError::Stopped) };
                    if let Some(chunk) = stream.pending.take() {
                        room.send(chunk);
                    }
                }
                read = stream.fill(), if stream.pending.is_none() => {
                    read?;
                    self.status.heard();
                    feedback.heard = Instant::now();
                    if stream.cut()? {
                        self.update(stream, &mut feedback, Reply::NotNeeded).await?;
                    }
                }
            }
        }
    }

    /// Called at each tick: a status update when there is news, a heartbeat when the source is quiet.
    async fn give_feedback(&self, stream: &mut Stream, feedback: &mut Feedback) -> Result<(), ReplicationError> {
        if let Some(failure) = self.log.failure() {
            return Err(failure.into());
        }
        // While the channel is full nothing is read, so nothing can be heard.
        if stream.pending.is_some() {
            feedback.heard = Instant::now();
        }
        let silence = feedback.heard.elapsed();
        if silence > SILENCE_MAX {
            return Err(ReplicationError::Silent(silence.as_secs()));
        }
        let durable = self.log.positions().durable;
        if silence >= HEARTBEAT && feedback.sent.elapsed() >= HEARTBEAT {
            self.update(stream, feedback, Reply::Requested).await
        } else if feedback.told != Some(durable) || feedback.sent.elapsed() >= HEARTBEAT {
            self.update(stream, feedback, Reply::NotNeeded).await
        } else {
            Ok(())
        }
    }

    async fn update(&self, stream: &mut Stream, feedback: &mut Feedback, reply: Reply) -> Result<(), ReplicationError> {
        let flushed = self.log.positions().durable;
        let written = self.status.received_lsn().unwrap_or(flushed.lsn());
        let update = StatusUpdate { written, flushed, reply_requested: matches!(reply, Reply::Requested) };
        stream.write(&update.encode(now())).await?;
        feedback.sent = Instant::now();
        feedback.told = Some(flushed);
        Ok(())
    }

    /// A clean stop: what was appended becomes durable and is acknowledged, then the stream is closed.
    async fn finish(&self, stream: &mut Stream) -> Result<(), ReplicationError> {
        let mut positions = self.log.watch();
        let synced = positions.wait_for(|positions| positions.durable.lsn() >= positions.appended_lsn);
        // Not in time: what is not acknowledged is sent again, nothing is lost.
        let _ = tokio::time::timeout(LAST_SYNC_MAX, synced).await;
        self.update(stream, &mut Feedback::new(), Reply::NotNeeded).await?;
        stream.write(&walsender::COPY_DONE_AND_TERMINATE).await
    }
}

/// A source that accepts the connection and then says nothing is given up.
async fn in_time<T>(work: impl Future<Output = Result<T, ReplicationError>>) -> Result<T, ReplicationError> {
    let late = |_| ReplicationError::Silent(SILENCE_MAX.as_secs());
    tokio::time::timeout(SILENCE_MAX, work).await.map_err(late)?
}

enum Reply {
    Requested,
    NotNeeded,
}

/// What the walsender was told last, and when it was heard.
struct Feedback {
    heard: Instant,
    sent: Instant,
    told: Option<segment_log::DurableLsn>,
}

impl Feedback {
    fn new() -> Feedback {
        Feedback { heard: Instant::now(), sent: Instant::now(), told: None }
    }
}

/// The copy-both stream.
struct Stream {
    reader: ReadHalf,
    writer: WriteHalf,
    /// Whole messages that are not worth waking the assembler for yet.
    held: BytesMut,
    /// Whole messages that wait for room in the channel.
    pending: Option<Bytes>,
    pacing: Pacing,
}

impl Stream {
    /// One read. Safe to cancel: bytes are in the buffer or still in the socket.
    async fn fill(&mut self) -> Result<(), ReplicationError> {
        self.pacing.before_read();
        let read = self.reader.fill().await?;
        self.pacing.after_read(read);
        Ok(())
    }

    /// Takes the whole messages off the buffer, and hands them on when a transaction ends in them or they have become
    /// many: each message comes by a read of its own while the source is quick enough to be followed. True when the
    /// walsender wants an answer at once.
    fn cut(&mut self) -> Result<bool, ReplicationError> {
        let messages = self.reader.take_messages()?;
        let (mut reply_requested, mut ends) = (false, false);
        for (tag, body) in chunk::Messages::new(&messages) {
            reply_requested |= look_at(tag, body)?;
            ends |= chunk::ends_transaction(body);
        }
        // They lie one behind the other in the reader's buffer, so that nothing is copied.
        self.held.unsplit(messages);
        if ends || self.held.len() >= HELD_MAX {
            self.hand_on();
        }
        Ok(reply_requested)
    }

    /// What is held goes to the assembler, now or when there is room.
    fn hand_on(&mut self) {
        if self.pending.is_none() && !self.held.is_empty() {
            self.pending = Some(self.held.split().freeze());
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ReplicationError> {
        self.writer.out().extend_from_slice(bytes);
        match tokio::time::timeout(WRITE_TIMEOUT, self.writer.flush()).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ReplicationError::Silent(WRITE_TIMEOUT.as_secs())),
        }
    }
}

/// What the receiver itself must know of a message; true for a keepalive that wants an answer.
fn look_at(tag: u8, body: &[u8]) -> Result<bool, ReplicationError> {
    match tag {
        // A malformed one is the assembler's to report: it knows where in the stream it stands.
        b'd' if body.first() == Some(&b'k') => {
            Ok(matches!(chunk::parse(body), Ok(WalsenderMessage::Keepalive { reply_requested: true, .. })))
        }
        b'd' | b'N' | b'S' => Ok(false),
        b'E' => Err(ReplicationError::Server(Box::new(connection::ServerError::parse(body)))),
        b'c' | b'C' | b'Z' => Err(ReplicationError::StreamEnded),
        other => Err(ReplicationError::Protocol {
            command: "START_REPLICATION",
            got: format!("message with tag byte 0x{other:02x}"),
        }),
    }
}

/// Decides about naps between reads: see [`NAP_AFTER`].
struct Pacing {
    asked: Instant,
    quick_reads: u32,
}

impl Pacing {
    fn new() -> Pacing {
        Pacing { asked: Instant::now(), quick_reads: 0 }
    }

    fn before_read(&mut self) {
        if self.quick_reads >= NAP_AFTER {
            // Blocks this thread's runtime on purpose: it serves nothing but this stream.
            std::thread::sleep(NAP);
        }
        self.asked = Instant::now();
    }

    fn after_read(&mut self, bytes: usize) {
        let quick = self.asked.elapsed() < NO_WAIT && bytes < SHORT_READ;
        self.quick_reads = if quick { self.quick_reads.saturating_add(1) } else { 0 };
    }
}

fn now() -> PgTimestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    PgTimestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
