//! One connection to the walsender: its bytes are read, assembled and appended to the log by one task.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use connection::{ReadHalf, Wire};
use decoder::Context;
use segment_log::{Identity, Log};
use tokio_util::sync::CancellationToken;

use crate::assembler::Assembler;
use crate::chunk::{self, WalsenderMessage};
use crate::error::ReplicationError;
use crate::feedback::Feedback;
use crate::keeper::{self, Reading};
use crate::run::{Options, blocking};
use crate::source;
use crate::source::Slot;
use crate::status::{State, Status};
use crate::walsender;

/// A source that is asked and stays silent this long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often that is looked at.
const SILENCE_TICK: Duration = Duration::from_secs(1);
/// How long a stopping service waits for the walsender to be gone: whoever waits for the service may drop the slot then.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// After so many reads in a row that had not to wait and brought little, a nap lets more of them gather.
///
/// The walsender makes one send() per message. An awake reader makes each of them a wake-up and a context switch;
/// with naps the log is fed over TCP 2.6 times as fast as pg_recvlogical reads, for a sixth of its CPU time
/// (bench/RESULTS.md). A burst of a few transactions at the log's head stays below it.
const NAP_AFTER: u32 = 64;
/// Over TCP as short as the runtime's timer can: a full receive window ends it for the walsender, not for the reader.
const NAP: Duration = Duration::from_millis(1);
/// A Unix socket is full after some hundred small messages, and the walsender waits for the rest of the nap: 300,000
/// transactions of one insert came in 4.8 s, with the longer one in 7.4 s. On this thread, as no timer is so short: a
/// runtime of one thread alone would not get to its other tasks in a flood.
const NAP_UNIX: Duration = Duration::from_micros(50);
const SHORT_READ: usize = 8 << 10;
/// From a stream so late on, a nap comes before each read, once as many reads in a row as of [`NAP_AFTER`] were short and
/// none had to wait for so long: it costs latency that is lost already. Where the machine has no idle CPU time, a reader that
/// is woken by each message takes it from the walsender, and both fall behind further. A longer read is of a flood, which
/// gathers by itself.
const LATE_FROM: Duration = Duration::from_millis(5);
/// So many of them are more than the messages of a small transaction.
const STEP_ASIDE_EVERY: u32 = 16;
/// A read that took less than this had not to wait.
const NO_WAIT: Duration = Duration::from_micros(200);

/// Reads the stream; lives across connections.
pub(crate) struct Receiver {
    options: Options,
    log: Log,
    assembler: Assembler,
    status: Arc<Status>,
    shutdown: CancellationToken,
    text_only: bool,
}

impl Receiver {
    pub(crate) fn new(
        options: Options,
        log: Log,
        assembler: Assembler,
        status: Arc<Status>,
        shutdown: CancellationToken,
    ) -> Receiver {
        let text_only = !options.binary;
        Receiver { options, log, assembler, status, shutdown, text_only }
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
        let Some(started) = self.start_unless(&shutdown).await else { return Ok(()) };
        let (mut reader, writer) = started?.into_parts();
        self.status.set_state(State::Streaming);
        let mut feedback = Feedback::start(writer, self.log.clone(), Arc::clone(&self.status));
        match self.stream(&mut reader, &mut feedback).await {
            // What is in the log is acknowledged, wherever the shutdown was noticed.
            Err(ReplicationError::Stopped) if shutdown.is_cancelled() => {}
            ended => ended?,
        }
        feedback.finish().await?;
        let _ = tokio::time::timeout(GOODBYE_MAX, reader.drain()).await;
        Ok(())
    }

    /// A start in which the service is stopped is brought to its end, if that does not take long: its walsender may have the
    /// slot by then, and has to be waited for like any other.
    async fn start_unless(&mut self, shutdown: &CancellationToken) -> Option<Result<Wire, ReplicationError>> {
        let mut start = pin!(self.start());
        tokio::select! {
            () = shutdown.cancelled() => {}
            started = &mut start => return Some(started),
        }
        tokio::time::timeout(GOODBYE_MAX, start).await.ok()
    }

    /// Connects, checks that source and slot fit the log, and starts the stream at the log's end.
    async fn start(&mut self) -> Result<Wire, ReplicationError> {
        let (mut wire, context, binary, key, slot) = in_time(self.prepare()).await?;
        // May wait for room on the disk, for as long as that takes.
        let start = self.assembler.restart(context, binary, key, slot.restart_lsn)?;
        let Identity { slot, publication, .. } = self.log.identity();
        let command = walsender::start_command(slot, start, publication, context, binary);
        in_time(walsender::start(&mut wire, &command)).await?;
        tracing::info!(%start, binary, protocol = context.protocol_version, "streaming from the source");
        Ok(wire)
    }

    async fn prepare(&self) -> Result<(Wire, Context, bool, Reading, Slot), ReplicationError> {
        let identity = self.log.identity();
        let mut wire = walsender::connect(&self.options.conninfo).await?;
        let found = source::identify(&mut wire).await?;
        let slot = source::read_slot(&mut wire, &identity.slot, &found.database).await?;
        source::check(&found, &slot, identity, self.log.positions().durable.lsn())?;
        let binary = !self.text_only && source::all_binary_safe(&mut wire, &identity.publication).await?;
        let key = keeper::read(&mut wire, found.current_lsn).await?;
        Ok((wire, walsender::context_for(found.server_version), binary, key, slot))
    }

    /// Reads and assembles until the shutdown.
    async fn stream(&mut self, reader: &mut ReadHalf, feedback: &mut Feedback) -> Result<(), ReplicationError> {
        let shutdown = self.shutdown.clone();
        let mut silence_tick = tokio::time::interval(SILENCE_TICK);
        let mut heard = Instant::now();
        let mut pacing = Pacing::default();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                failure = feedback.failed() => return Err(failure),
                read = pacing.read(reader) => read?,
                _ = silence_tick.tick() => {
                    check_silence(heard.elapsed())?;
                    continue;
                }
            }
            self.status.heard();
            if self.take(reader)? {
                feedback.ask();
            }
            pacing.lateness = self.assembler.lateness();
            // The log may have made it wait for long: only from here on is the source waited for.
            heard = Instant::now();
        }
    }

    /// Assembles what was read, and appends what is complete. True when the walsender wants an answer at once.
    fn take(&mut self, reader: &mut ReadHalf) -> Result<bool, ReplicationError> {
        let messages = reader.take_messages()?;
        let mut reply_requested = false;
        for (tag, body) in chunk::Messages::new(&messages) {
            reply_requested |= look_at(tag, body)?;
            if tag == b'd' {
                self.assembler.take(body)?;
            }
        }
        self.assembler.settle()?;
        Ok(reply_requested)
    }
}

/// A source that accepts the connection and then says nothing is given up.
async fn in_time<T>(work: impl Future<Output = Result<T, ReplicationError>>) -> Result<T, ReplicationError> {
    let late = |_| ReplicationError::Silent(SILENCE_MAX.as_secs());
    tokio::time::timeout(SILENCE_MAX, work).await.map_err(late)?
}

fn check_silence(silence: Duration) -> Result<(), ReplicationError> {
    if silence > SILENCE_MAX { Err(ReplicationError::Silent(silence.as_secs())) } else { Ok(()) }
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

/// Reads, with naps in between when messages come faster one by one than they are worth: see [`NAP_AFTER`] and
/// [`LATE_FROM`].
#[derive(Default)]
struct Pacing {
    /// So many reads in a row brought little, and none waited long for it.
    short_reads: u32,
    /// So many in a row had not to wait at all.
    quick_reads: u32,
    /// How far the stream is behind the source.
    lateness: Duration,
}

impl Pacing {
    /// One read. Safe to cancel: bytes are in the buffer or still in the socket.
    async fn read(&mut self, reader: &mut ReadHalf) -> Result<(), ReplicationError> {
        let is_late = self.is_late();
        if is_late || self.is_flooded() {
            nap(reader.is_unix()).await;
        } else if self.quick_reads % STEP_ASIDE_EVERY == STEP_ASIDE_EVERY - 1 {
            step_aside().await;
        }
        let asked = Instant::now();
        let bytes = reader.fill().await?;
        self.count(bytes, asked.elapsed(), is_late);
        Ok(())
    }

    fn count(&mut self, bytes: usize, waited: Duration, was_late: bool) {
        let counts = |more: bool, reads: u32| if more { reads.saturating_add(1) } else { 0 };
        let is_short = bytes < SHORT_READ;
        // That it had not to wait after a nap for lateness says nothing of how fast messages come.
        let is_quick = is_short && waited < NO_WAIT && (!was_late || self.is_flooded());
        self.quick_reads = counts(is_quick, self.quick_reads);
        self.short_reads = counts(is_short && waited < LATE_FROM, self.short_reads);
    }

    fn is_flooded(&self) -> bool {
        self.quick_reads >= NAP_AFTER
    }

    fn is_late(&self) -> bool {
        self.short_reads >= NAP_AFTER && self.lateness >= LATE_FROM
    }
}

async fn nap(unix: bool) {
    if unix {
        blocking(|| std::thread::sleep(NAP_UNIX));
    } else {
        tokio::time::sleep(NAP).await;
    }
}

/// Lets the tasks that were woken go first: those who tail the log would else wait on this worker until the socket has
/// nothing more. It costs the wake-up of another worker.
async fn step_aside() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_for_floods_of_small_messages_and_for_a_late_stream() {
        /// One that had `lateness` while these were read: bytes, and how long each waited.
        fn after(lateness: Duration, reads: impl IntoIterator<Item = (usize, Duration)>) -> Pacing {
            let mut pacing = Pacing { lateness, ..Pacing::default() };
            for (bytes, waited) in reads {
                let is_late = pacing.is_late();
                pacing.count(bytes, waited, is_late);
            }
            pacing
        }
        let many = |bytes, waited| std::iter::repeat_n((bytes, waited), NAP_AFTER as usize);
        let is_due = |pacing: &Pacing| pacing.is_flooded() || pacing.is_late();
        let in_time = Duration::ZERO;
        assert!(!is_due(&after(LATE_FROM, [])));
        assert!(is_due(&after(in_time, many(100, Duration::ZERO))), "a flood of small ones");
        assert!(!is_due(&after(in_time, many(100, Duration::ZERO).skip(1))), "a few transactions");
        assert!(!is_due(&after(in_time, many(100, NO_WAIT))), "a steady flow in time");
        assert!(is_due(&after(LATE_FROM, many(100, NO_WAIT))), "the same, late");
        assert!(!is_due(&after(LATE_FROM, many(100, LATE_FROM))), "a source whose every commit takes long");
        let gathered = [(SHORT_READ, Duration::ZERO)];
        assert!(!is_due(&after(LATE_FROM, many(100, Duration::ZERO).chain(gathered))), "what gathered during a nap");
        let late = many(100, NO_WAIT).chain(many(100, Duration::ZERO)).chain(many(100, Duration::ZERO));
        let mut caught_up = after(LATE_FROM, late);
        assert!(is_due(&caught_up));
        caught_up.lateness = in_time;
        assert!(!is_due(&caught_up), "naps for lateness end with it");
    }
}
