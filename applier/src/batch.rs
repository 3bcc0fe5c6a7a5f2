//! Reading the log: which consecutive transactions make the next batch.
//!
//! A batch is whole transactions, up to a number of rows or to the log's head. It holds frames, not changes: those are
//! decoded from the mapped bytes when they are applied, and can be walked again. A transaction larger than a batch is
//! not collected: the batch is handed out *open*, and goes on from the feed while it is being applied.

use std::ops::Range;
use std::sync::Arc;

use decoder::{Lsn, PgTimestamp};
use segment_log::{Cursor, Frame, FrameKind, Log, Piece, ReadError, TransactionInfo};
use tokio::sync::watch;

use crate::error::Error;

/// Some pieces of one frame, or the frame's descriptions of relations.
#[derive(Clone)]
pub(crate) struct Part {
    frame: Arc<Frame>,
    pieces: Range<usize>,
    /// The log's segment that it is in.
    pub(crate) segment: u64,
}

impl Part {
    /// The frame, for its descriptors.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Which of the frame's pieces.
    pub(crate) fn range(&self) -> Range<usize> {
        self.pieces.clone()
    }

    /// Others of the same frame.
    pub(crate) fn slice(&self, pieces: Range<usize>) -> Part {
        Part { pieces, ..self.clone() }
    }

    /// The pieces, in commit order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        self.frame.pieces().skip(self.pieces.start).take(self.pieces.len())
    }
}

/// Where a batch ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// With the transaction that reaches this many changes.
    pub(crate) changes_max: u32,
    /// The transaction with this `end_lsn` gets a batch to itself.
    pub(crate) alone: Option<Lsn>,
    /// Transactions with this `commit_lsn` or a later one are left for later.
    pub(crate) before: Option<Lsn>,
}

/// Whole transactions; the last one may still be going on.
#[derive(Default)]
pub(crate) struct Batch {
    /// What to walk, in order.
    pub(crate) parts: Vec<Part>,
    /// The transactions that begin in it.
    pub(crate) transactions: Vec<TransactionInfo>,
    /// Some of its changes are messages. Only one transaction has any, the last one: what it does to tables or types is
    /// committed before anything that comes after it.
    pub(crate) messages: bool,
    /// Changes and relation descriptions gathered so far.
    pub(crate) changes: usize,
    /// The last transaction's remaining pieces must be asked for with [`Feed::extend`].
    pub(crate) open: bool,
    /// Nothing was left in the log.
    pub(crate) at_head: bool,
    /// What comes next is at or after [`Limits::before`].
    pub(crate) limited: bool,
    /// A progress mark after the last transaction.
    pub(crate) progress: Option<Lsn>,
}

impl Batch {
    /// Where the target stands once the batch is applied.
    pub(crate) fn end(&self) -> Option<Lsn> {
        self.progress.or(self.transactions.last().map(|info| info.end_lsn))
    }

    /// When its first transaction was committed on the source.
    pub(crate) fn oldest(&self) -> Option<PgTimestamp> {
        self.transactions.first().map(|info| info.commit_time)
    }
}

/// One target's place in the log.
pub(crate) struct Feed {
    cursor: Cursor,
    /// Transactions up to here are passed over; their descriptions of relations are not.
    after: Lsn,
    /// A frame whose pieces from there on belong to the next batch; no frame was read after it.
    rest: Option<(Arc<Frame>, usize)>,
    appended: watch::Receiver<Lsn>,
}

impl Feed {
    /// Begins with the first transaction that ends after `after`, a target's position.
    pub(crate) fn new(log: &Log, after: Lsn) -> Result<Feed, Error> {
        let appended = log.watch_appended();
        let cursor = log.cursor(after).map_err(|error| match error {
            ReadError::Desync { after, first_lsn } => Error::Desync { checkpoint: after, first_lsn },
            other => Error::Log(other),
        })?;
        Ok(Feed { cursor, after, rest: None, appended })
    }

    /// Transactions that end here or before are already applied.
    pub(crate) fn after(&self) -> Lsn {
        self.after
    }

    /// What is in the log now, up to the limits; perhaps nothing.
    pub(crate) fn gather(&mut self, limits: Limits) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        self.extend(&mut batch, limits)?;
        Ok(batch)
    }

    /// Adds what has come into the log.
    pub(crate) fn extend(&mut self, batch: &mut Batch, limits: Limits) -> Result<(), Error> {
        self.appended.borrow_and_update(); // what is appended from here on wakes Feed::wait
        batch.at_head = false;
        loop {
            let Some((frame, start)) = self.next_frame()? else {
                batch.at_head = true;
                return Ok(());
            };
            let segment = self.cursor.segment();
            match frame.kind() {
                FrameKind::Descriptors => batch.parts.push(Part { frame, pieces: 0..0, segment }),
                FrameKind::Progress => batch.progress = frame.progress().filter(|lsn| *lsn > self.after),
                FrameKind::Transactions => {
                    let (end, full) = self.take_pieces(&frame, start, batch, limits);
                    if full {
                        self.rest = Some((frame.clone(), end));
                    }
                    if start < end {
                        batch.parts.push(Part { frame, pieces: start..end, segment });
                    }
                    if full {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns once the log may hold more than the last call of [`Feed::extend`] saw.
    pub(crate) async fn wait(&mut self) {
        if self.appended.changed().await.is_err() {
            std::future::pending::<()>().await; // the log is closed: nothing more will come
        }
    }

    fn next_frame(&mut self) -> Result<Option<(Arc<Frame>, usize)>, Error> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        Ok(self.cursor.next_frame()?.map(|frame| (Arc::new(frame), 0)))
    }

    /// How far the frame's pieces belong to the batch, and whether it is full.
    fn take_pieces(&self, frame: &Frame, start: usize, batch: &mut Batch, limits: Limits) -> (usize, bool) {
        let mut at = start;
        for piece in frame.pieces().skip(start) {
            let info = piece.info();
            let alone = limits.alone == Some(info.end_lsn) || piece.has_messages() && info.end_lsn > self.after;
            if alone && piece.is_first() && !batch.transactions.is_empty() {
                return (at, true);
            }
            if piece.is_first() && limits.before.is_some_and(|before| info.commit_lsn >= before) {
                batch.limited = true;
                return (at, true);
            }
            at += 1;
            if info.end_lsn <= self.after {
                continue;
            }
            batch.progress = None;
            if piece.is_first() {
                batch.transactions.push(info);
            }
            batch.changes += piece.len();
            batch.open = !piece.is_last();
            batch.messages |= piece.has_messages();
            let whole = (alone || batch.messages) && piece.is_last();
            if batch.changes >= limits.changes_max as usize || whole {
                return (at, true);
            }
        }
        (at, false)
    }
}
