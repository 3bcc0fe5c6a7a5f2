//! The last step into the log: the frame that is being filled, and a progress mark that waits to be written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use decoder::{Change, Lsn, RelationId};
use segment_log::{AppendError, FrameBuilder, Record, TransactionInfo, Writer};
use tokio_util::sync::CancellationToken;

use crate::error::ReplicationError;
use crate::full_disk::FullDisk;
use crate::status::Status;

/// A progress mark is written at most this often: it costs an fsync.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Fills frames and appends them; owns the log's writer. Where the disk is full, it waits for room.
pub(crate) struct Appender {
    writer: Writer,
    frame: FrameBuilder,
    /// End of the last transaction or progress mark in the log or in `frame`.
    end: Lsn,
    progress: Option<Lsn>,
    progress_written: Instant,
    shutdown: CancellationToken,
    /// For what else is written to that disk.
    pub(crate) disk: FullDisk,
}

impl Appender {
    pub(crate) fn new(writer: Writer, status: Arc<Status>, shutdown: CancellationToken) -> Appender {
        Appender {
            end: writer.end_lsn(),
            writer,
            frame: FrameBuilder::new(),
            progress: None,
            progress_written: Instant::now(),
            disk: FullDisk::new(status, shutdown.clone()),
            shutdown,
        }
    }

    /// Where the log ends, once all that was given is appended.
    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    /// A new connection: the server describes every relation anew.
    pub(crate) fn restart(&mut self) -> Result<(), ReplicationError> {
        self.writer.forget_relations();
        self.progress = None;
        self.write()
    }

    /// Begins a transaction.
    pub(crate) fn begin(&mut self, info: &TransactionInfo) {
        self.frame.begin(info);
    }

    /// One change of the transaction, told by its kind.
    pub(crate) fn push(&mut self, relation: Option<RelationId>, message: &[u8]) -> Result<(), ReplicationError> {
        match (message.first(), relation) {
            (Some(b'R'), Some(relation)) => self.frame.describe(relation, message),
            (Some(b'T'), _) => match decoder::decode_change(message) {
                Ok(Change::Truncate { relations, .. }) => self.frame.push_truncate(&relations, message),
                other => unreachable!("a truncate that was decoded before: {other:?}"),
            },
            _ => self.frame.push(Record { relation, payload: message }),
        }
        self.append_piece()
    }

    /// A message of the capture's.
    pub(crate) fn push_message(&mut self, message: &[u8]) -> Result<(), ReplicationError> {
        self.frame.push_message(message);
        self.append_piece()
    }

    /// Ends the transaction, which ends at `end`.
    pub(crate) fn commit(&mut self, end: Lsn) -> Result<(), ReplicationError> {
        self.frame.commit();
        self.end = end;
        self.progress = None;
        if self.frame.is_full() { self.append_frame() } else { Ok(()) }
    }

    /// Nothing before `lsn` is still to come: it becomes the log's end, unless a transaction is given before it is written.
    pub(crate) fn offer_progress(&mut self, lsn: Lsn) {
        self.progress = (lsn > self.end).then_some(lsn);
    }

    /// Appends what is complete.
    pub(crate) fn write(&mut self) -> Result<(), ReplicationError> {
        self.append_frame()?;
        self.append_progress()
    }

    /// Appends in the middle of a transaction, which may be so large that a stopping service can't wait for its end: the
    /// next start cuts off what is there of it, and the server sends it again.
    fn append_piece(&mut self) -> Result<(), ReplicationError> {
        match self.frame.is_full() {
            true if self.shutdown.is_cancelled() => Err(ReplicationError::Stopped),
            true => self.append_frame(),
            false => Ok(()),
        }
    }

    fn append_frame(&mut self) -> Result<(), ReplicationError> {
        // An open transaction stays in the builder: it is not empty after an append.
        if self.frame.is_empty() {
            return Ok(());
        }
        let Appender { writer, frame, .. } = self;
        self.disk.until_room(|| writer.append(frame), is_full)
    }

    fn append_progress(&mut self) -> Result<(), ReplicationError> {
        let due = self.progress.filter(|_| self.progress_written.elapsed() >= PROGRESS_INTERVAL);
        let Some(lsn) = due else { return Ok(()) };
        self.disk.until_room(|| self.writer.append_progress(lsn), is_full)?;
        self.end = lsn;
        self.progress = None;
        self.progress_written = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
impl Appender {
    /// As the service does when it stops.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }
}

fn is_full(error: &AppendError) -> bool {
    matches!(error, AppendError::DiskFull { .. })
}
