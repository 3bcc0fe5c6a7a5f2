//! What the walsender is told, on a thread of its own: whatever the log, the assembler or a target waits for, status
//! updates go out.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use connection::WriteHalf;
use decoder::PgTimestamp;
use segment_log::{DurableLsn, Log};
use tokio::sync::{Notify, oneshot};

use crate::error::ReplicationError;
use crate::status::Status;
use crate::walsender::{self, StatusUpdate};

/// How often the log's positions are looked at for a status update.
const TICK: Duration = Duration::from_millis(50);
/// An idle source is asked for its position this often.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A status update that cannot be written for so long means a dead connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stopping service waits for the log's fsync before its last status update.
const LAST_SYNC_MAX: Duration = Duration::from_secs(2);

/// The thread of one connection. Dropping it ends the thread without a last word.
pub(crate) struct Feedback {
    asked: Arc<Notify>,
    finish: oneshot::Sender<()>,
    result: oneshot::Receiver<Result<(), ReplicationError>>,
}

impl Feedback {
    /// Starts telling.
    pub(crate) fn start(writer: WriteHalf, log: Log, status: Arc<Status>) -> Feedback {
        let asked = Arc::new(Notify::new());
        let (finish, finished) = oneshot::channel();
        let (sender, result) = oneshot::channel();
        let now = Instant::now();
        let teller = Teller { writer, log, status, asked: Arc::clone(&asked), sent: now, told: None };
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            // Nobody asks for the result any more when the connection was given up.
            let _ = sender.send(runtime.expect("a runtime can be built").block_on(teller.run(finished)));
        };
        std::thread::Builder::new().name("feedback".to_owned()).spawn(body).expect("a thread can be started");
        Feedback { asked, finish, result }
    }

    /// The walsender wants an answer at once.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits for the error that ends it: of the connection, or of the log.
    pub(crate) async fn failed(&mut self) -> ReplicationError {
        match (&mut self.result).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => ReplicationError::Stopped,
        }
    }

    /// A clean stop: what was appended becomes durable and is acknowledged, then the stream is closed.
    pub(crate) async fn finish(mut self) -> Result<(), ReplicationError> {
        // It may have failed just now; the result says so.
        let _ = self.finish.send(());
        (&mut self.result).await.unwrap_or(Err(ReplicationError::Stopped))
    }
}

enum Reply {
    Requested,
    NotNeeded,
}

/// What runs on the thread. It reads the log's positions and nothing else of it.
struct Teller {
    writer: WriteHalf,
    log: Log,
    status: Arc<Status>,
    asked: Arc<Notify>,
    /// When the walsender was told last, and what.
    sent: Instant,
    told: Option<DurableLsn>,
}

impl Teller {
    async fn run(mut self, mut finish: oneshot::Receiver<()>) -> Result<(), ReplicationError> {
        let mut tick = tokio::time::interval(TICK);
        let asked = Arc::clone(&self.asked);
        loop {
            tokio::select! {
                biased;
                finish = &mut finish => return if finish.is_ok() { self.finish().await } else { Ok(()) },
                () = asked.notified() => self.update(Reply::NotNeeded).await?,
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    /// A status update when there is news, a heartbeat when the source is quiet.
    async fn tick(&mut self) -> Result<(), ReplicationError> {
        if let Some(failure) = self.log.failure() {
            return Err(failure.into());
        }
        let due = self.sent.elapsed() >= HEARTBEAT;
        let quiet = self.status.silence().is_none_or(|silence| silence >= HEARTBEAT);
        if due && quiet {
            self.update(Reply::Requested).await
        } else if due || self.told != Some(self.log.positions().durable) {
            self.update(Reply::NotNeeded).await
        } else {
            Ok(())
        }
    }

    async fn update(&mut self, reply: Reply) -> Result<(), ReplicationError> {
        let flushed = self.log.positions().durable;
        let written = self.status.received_lsn().unwrap_or(flushed.lsn());
        let update = StatusUpdate { written, flushed, reply_requested: matches!(reply, Reply::Requested) };
        self.write(&update.encode(now())).await?;
        self.sent = Instant::now();
        self.told = Some(flushed);
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), ReplicationError> {
        let mut positions = self.log.watch();
        let synced = positions.wait_for(|positions| positions.durable.lsn() >= positions.appended_lsn);
        // Not in time: what is not acknowledged is sent again, nothing is lost.
        let _ = tokio::time::timeout(LAST_SYNC_MAX, synced).await;
        self.update(Reply::NotNeeded).await?;
        self.write(&walsender::COPY_DONE_AND_TERMINATE).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ReplicationError> {
        self.writer.out().extend_from_slice(bytes);
        match tokio::time::timeout(WRITE_TIMEOUT, self.writer.flush()).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(ReplicationError::Silent(WRITE_TIMEOUT.as_secs())),
        }
    }
}

fn now() -> PgTimestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    PgTimestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
