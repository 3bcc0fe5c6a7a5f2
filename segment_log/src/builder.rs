//! Gathers changes of committed transactions until they are worth a frame.

use std::mem;

use decoder::RelationId;

use crate::frame::{Flat, PieceMeta, Record, RecordMeta, TransactionInfo, piece_flags};

/// A frame of about this many bytes is written even while its transaction goes on.
///
/// This crate's own tests have small ones, so that a handful of rows is a transaction of many frames.
pub const FRAME_TARGET_BYTES: usize = if cfg!(test) { 1024 } else { 256 * 1024 };

/// Buffers that a single large row has grown beyond this are given back.
const KEPT_CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// What is to be appended next: whole transactions, and at the end perhaps the beginning of one.
///
/// ```text
/// begin  describe* (push | push_truncate | push_message | describe)*  commit      any number of times
/// ```
///
/// When [`is_full`](FrameBuilder::is_full), give it to [`Writer::append`](crate::Writer::append) and go on where it
/// was: the transaction that is open continues in the next frame.
///
/// # Panics
/// Every method panics when called out of this order: that would mix up transactions.
#[derive(Default)]
pub struct FrameBuilder {
    pub(crate) flat: Flat,
    /// Relations that TRUNCATE messages name, by record number; the archive keeps them in the message only.
    pub(crate) truncated: Vec<(u32, RelationId)>,
    pub(crate) open: Option<OpenTransaction>,
}

/// The transaction whose commit has not been given yet; its changes are the records from `records_start`.
pub(crate) struct OpenTransaction {
    pub(crate) info: TransactionInfo,
    /// False once a piece of it was appended.
    is_first: bool,
    /// A logical message is among its changes that no piece was made of yet.
    has_messages: bool,
    records_start: usize,
}

/// The open transaction's part, taken out while the whole ones before it are written.
pub(crate) struct OpenPart {
    flat: Flat,
    truncated: Vec<(u32, RelationId)>,
}

impl FrameBuilder {
    /// An empty one.
    pub fn new() -> FrameBuilder {
        FrameBuilder::default()
    }

    /// Begins a transaction; they come in commit order.
    pub fn begin(&mut self, info: &TransactionInfo) {
        assert!(self.open.is_none(), "begin inside a transaction");
        self.open = Some(OpenTransaction {
            info: *info,
            is_first: true,
            has_messages: false,
            records_start: self.flat.records.len(),
        });
    }

    /// A Relation message: it becomes a record, and describes the relation for the changes that follow.
    pub fn describe(&mut self, relation: RelationId, message: &[u8]) {
        assert_eq!(message.first(), Some(&b'R'), "not a Relation message");
        self.push(Record { relation: Some(relation), payload: message });
    }

    /// A change.
    pub fn push(&mut self, record: Record<'_>) {
        assert!(self.open.is_some(), "change outside of a transaction");
        self.flat.heap.extend_from_slice(record.payload);
        let end = u32::try_from(self.flat.heap.len()).expect("a frame is far below 4 GiB: a message is at most 1 GiB");
        self.flat.records.push(RecordMeta { relation: record.relation.map_or(0, |relation| relation.0), end });
    }

    /// A Truncate message and the relations it names.
    pub fn push_truncate(&mut self, relations: &[RelationId], message: &[u8]) {
        let record_no = self.flat.records.len() as u32;
        let relation = if let [relation] = relations { Some(*relation) } else { None };
        self.push(Record { relation, payload: message });
        self.truncated.extend(relations.iter().map(|relation| (record_no, *relation)));
    }

    /// A logical message that readers have to look at: [`Piece::has_messages`](crate::Piece::has_messages) tells them.
    pub fn push_message(&mut self, message: &[u8]) {
        self.push(Record { relation: None, payload: message });
        if let Some(open) = &mut self.open {
            open.has_messages = true;
        }
    }

    /// Ends the transaction.
    pub fn commit(&mut self) {
        let open = self.open.take().expect("commit outside of a transaction");
        self.push_piece(&open, piece_flags::LAST);
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.flat.pieces.is_empty() && self.open.is_none()
    }

    /// Whether it is time to append, even in the middle of a transaction.
    pub fn is_full(&self) -> bool {
        self.bytes() >= FRAME_TARGET_BYTES
    }

    /// About the size of the frame.
    pub fn bytes(&self) -> usize {
        self.flat.heap.len() + mem::size_of_val(&*self.flat.records) + mem::size_of_val(&*self.flat.pieces)
    }

    fn push_piece(&mut self, open: &OpenTransaction, last: u32) {
        let first = if open.is_first { piece_flags::FIRST } else { 0 };
        let messages = if open.has_messages { piece_flags::MESSAGES } else { 0 };
        self.flat.pieces.push(PieceMeta::new(&open.info, first | last | messages, self.flat.records.len() as u32));
    }

    /// Takes out what belongs to the open transaction when whole ones come before it, because an unfinished piece has
    /// its frame to itself: recovery can then cut it off without losing a transaction that was acknowledged.
    pub(crate) fn split_open(&mut self) -> Option<OpenPart> {
        let open = self.open.as_mut()?;
        if self.flat.pieces.is_empty() {
            return None;
        }
        let record_start = mem::take(&mut open.records_start);
        let heap_start = record_start.checked_sub(1).and_then(|i| self.flat.records.get(i)).map_or(0, |meta| meta.end);
        let mut records = self.flat.records.split_off(record_start);
        records.iter_mut().for_each(|meta| meta.end -= heap_start);
        let heap = self.flat.heap.split_off(heap_start as usize);
        let at = self.truncated.partition_point(|(record_no, _)| (*record_no as usize) < record_start);
        let mut truncated = self.truncated.split_off(at);
        truncated.iter_mut().for_each(|(record_no, _)| *record_no -= record_start as u32);
        Some(OpenPart { flat: Flat { pieces: Vec::new(), records, heap }, truncated })
    }

    /// Undoes [`split_open`](Self::split_open): nothing was written.
    pub(crate) fn rejoin(&mut self, part: OpenPart) {
        let (heap_start, record_start) = (self.flat.heap.len() as u32, self.flat.records.len());
        let shifted = |meta: RecordMeta| RecordMeta { relation: meta.relation, end: meta.end + heap_start };
        self.flat.records.extend(part.flat.records.into_iter().map(shifted));
        self.flat.heap.extend_from_slice(&part.flat.heap);
        self.truncated.extend(part.truncated.iter().map(|(no, relation)| (no + record_start as u32, *relation)));
        if let Some(open) = &mut self.open {
            open.records_start = record_start;
        }
    }

    /// What was gathered has been written; goes on with `part`.
    pub(crate) fn continue_with(&mut self, part: Option<OpenPart>) {
        self.clear_buffers();
        part.into_iter().for_each(|part| self.rejoin(part));
    }

    /// Makes the open transaction's changes so far a piece without an end.
    pub(crate) fn close_piece(&mut self) {
        if let Some(open) = self.open.take() {
            self.push_piece(&open, 0);
            self.open = Some(open);
        }
    }

    /// Undoes [`close_piece`](Self::close_piece).
    pub(crate) fn reopen_piece(&mut self) {
        self.flat.pieces.pop();
    }

    /// The piece has been written.
    pub(crate) fn piece_written(&mut self) {
        self.clear_buffers();
        if let Some(open) = &mut self.open {
            open.is_first = false;
            open.has_messages = false;
            open.records_start = 0;
        }
    }

    fn clear_buffers(&mut self) {
        self.flat.pieces.clear();
        self.flat.records.clear();
        self.flat.heap.clear();
        self.flat.heap.shrink_to(KEPT_CAPACITY_BYTES);
        self.truncated.clear();
    }
}
