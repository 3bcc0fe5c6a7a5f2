//! Appending: the one place where bytes of frames are written.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;

use decoder::{Lsn, RelationId};
use hashbrown::{HashMap, HashSet};
use rkyv::util::AlignedVec;

use crate::builder::FrameBuilder;
use crate::error::{AppendError, FatalError, IoError};
use crate::frame::{
    FRAME_HEADER_BYTES, Flat, FrameKind, NewFrame, PieceMeta, RecordMeta, encode_payload, padded, seal_frame,
};
use crate::fs::write_all_at;
use crate::header::{HEADER_BYTES, Header};
use crate::log::{BLOCK_BYTES, Shared};
use crate::recovery::Recovered;
use crate::retention::{self, CreateError};
use crate::scan::Chain;
use crate::segment::Segment;
use crate::syncer::DurableLsn;

/// A buffer that a single large row has grown beyond this is given back.
const KEPT_CAPACITY_BYTES: usize = 4 * 1024 * 1024;

/// The only one who appends. Dropping it waits for what was appended to be fsynced.
pub struct Writer {
    shared: Arc<Shared>,
    pub(crate) syncer: Option<JoinHandle<()>>,
    segment: Arc<Segment>,
    /// Where the next frame goes.
    offset: u64,
    chain: Chain,
    /// End of the last whole transaction.
    end_lsn: Lsn,
    /// End of the transaction of which a piece, but not the last one, was written.
    open: Option<Lsn>,
    /// Segments that became full since that transaction began, and where they end: readers can't see their ends yet.
    full: Vec<(Arc<Segment>, u64)>,
    relations: Relations,
    buffer: AlignedVec,
}

/// What the writer knows of relations.
#[derive(Default)]
struct Relations {
    /// The latest Relation message of each.
    latest: HashMap<RelationId, Box<[u8]>>,
    /// Those that the current segment describes.
    in_segment: HashSet<RelationId>,
}

/// What goes into one frame.
struct Contents<'a> {
    kind: FrameKind,
    flat: &'a Flat,
    truncated: &'a [(u32, RelationId)],
    first_lsn: Lsn,
    last_lsn: Lsn,
}

/// One or two frames in the buffer, not sealed yet.
struct Encoded {
    /// Payload length of the descriptors frame and number of descriptors.
    descriptors: Option<(u32, u32)>,
    payload_len: u32,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, recovered: &Recovered) -> Writer {
        Writer {
            shared,
            syncer: None,
            segment: Arc::clone(&recovered.last),
            offset: recovered.offset,
            chain: recovered.chain,
            end_lsn: recovered.durable.lsn(),
            open: None,
            full: Vec::new(),
            relations: Relations::default(),
            buffer: AlignedVec::new(),
        }
    }

    /// End of the last whole transaction or progress mark.
    pub fn end_lsn(&self) -> Lsn {
        self.end_lsn
    }

    /// Forgets what relations look like: whoever appends describes each anew before its next change. So the memory that
    /// descriptions take can be bounded.
    pub fn forget_relations(&mut self) {
        self.relations.latest = HashMap::new();
    }

    /// Appends the whole transactions that were gathered, and a piece of the open one when it fills a frame by
    /// itself; an open transaction goes on in the same builder.
    ///
    /// # Errors
    /// After [`AppendError::DiskFull`] nothing is lost: call it again with the same builder. Any other error is final.
    pub fn append(&mut self, builder: &mut FrameBuilder) -> Result<(), AppendError> {
        self.check_alive()?;
        let part = builder.split_open();
        if !builder.flat.pieces.is_empty() {
            if let Err(error) = self.append_pieces(builder) {
                part.into_iter().for_each(|part| builder.rejoin(part));
                return Err(error);
            }
            builder.continue_with(part);
        }
        if builder.open.is_some() && builder.is_full() { self.append_open(builder) } else { Ok(()) }
    }

    fn append_open(&mut self, builder: &mut FrameBuilder) -> Result<(), AppendError> {
        builder.close_piece();
        if let Err(error) = self.append_pieces(builder) {
            builder.reopen_piece();
            return Err(error);
        }
        builder.piece_written();
        Ok(())
    }

    fn append_pieces(&mut self, builder: &FrameBuilder) -> Result<(), AppendError> {
        let open_after = self.check_order(&builder.flat)?;
        let lsn = |piece: Option<&PieceMeta>| Lsn::from_u64(piece.map_or(0, |piece| piece.end_lsn));
        let (first_lsn, last_lsn) = (lsn(builder.flat.pieces.first()), lsn(builder.flat.pieces.last()));
        let (kind, flat, truncated) = (FrameKind::Transactions, &builder.flat, &*builder.truncated);
        self.write(&Contents { kind, flat, truncated, first_lsn, last_lsn })?;
        self.open = open_after;
        self.after_write(if open_after.is_some() { self.end_lsn } else { last_lsn });
        Ok(())
    }

    /// Appends a progress mark: the stream has come to `lsn`, and nothing that ends at or before it is still to come. A
    /// position that the log has already reached changes nothing.
    pub fn append_progress(&mut self, lsn: Lsn) -> Result<(), AppendError> {
        self.check_alive()?;
        if let Some(open) = self.open {
            return Err(AppendError::Interleaved { open, given: lsn });
        }
        if lsn <= self.end_lsn {
            return Ok(());
        }
        let flat = Flat::default();
        let kind = FrameKind::Progress;
        self.write(&Contents { kind, flat: &flat, truncated: &[], first_lsn: lsn, last_lsn: lsn })?;
        self.after_write(lsn);
        Ok(())
    }

    /// Waits until everything appended is fsynced, and ends.
    pub fn close(mut self) -> Result<DurableLsn, FatalError> {
        self.stop_syncer();
        match self.shared.failure() {
            Some(fatal) => Err(fatal),
            None => Ok(self.shared.positions().durable),
        }
    }

    fn stop_syncer(&mut self) {
        self.shared.queue.stop();
        if let Some(Err(panic)) = self.syncer.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }

    fn check_alive(&self) -> Result<(), FatalError> {
        self.shared.failure().map_or(Ok(()), Err)
    }

    /// Checks that the pieces follow what was written; returns the transaction that is open after them.
    fn check_order(&self, flat: &Flat) -> Result<Option<Lsn>, AppendError> {
        let (mut end, mut open) = (self.end_lsn, self.open);
        for piece in &flat.pieces {
            let given = Lsn::from_u64(piece.end_lsn);
            if open.is_some_and(|open| piece.is_first() || open != given) || (open.is_none() && !piece.is_first()) {
                return Err(AppendError::Interleaved { open: open.unwrap_or_default(), given });
            }
            if given <= end {
                return Err(AppendError::Order { end, given });
            }
            open = (!piece.is_last()).then_some(given);
            end = if piece.is_last() { given } else { end };
        }
        Ok(open)
    }

    /// Writes a frame, and before it the descriptors that its segment lacks.
    fn write(&mut self, contents: &Contents<'_>) -> Result<(), AppendError> {
        let mut encoded = self.encode(contents, false)?;
        if self.offset + self.buffer.len() as u64 > self.segment.size() {
            encoded = self.encode(contents, true)?;
            self.roll()?;
        }
        let frames = self.seal(contents, &encoded);
        if let Err(error) = write_all_at(&*self.segment.file, &self.buffer, self.offset) {
            return Err(self.shared.fail(IoError::new("write", &self.segment.path, error)).into());
        }
        self.chain = frames;
        self.offset += self.buffer.len() as u64;
        self.relations.remember(contents);
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_CAPACITY_BYTES {
            self.buffer = AlignedVec::new();
        }
        Ok(())
    }

    /// Puts the payloads into the buffer, for the current segment or for a new one.
    fn encode(&mut self, contents: &Contents<'_>, new_segment: bool) -> Result<Encoded, AppendError> {
        self.buffer.clear();
        let missing = self.relations.missing(contents, new_segment)?;
        let encode = |buffer: &mut AlignedVec, flat: &Flat| {
            encode_payload(buffer, flat).expect("plain tables far below 2 GiB always serialise")
        };
        let count = missing.records.len() as u32;
        let descriptors = (count > 0).then(|| (encode(&mut self.buffer, &missing), count));
        let payload_len = match contents.kind {
            FrameKind::Progress => {
                self.buffer.resize(self.buffer.len() + FRAME_HEADER_BYTES, 0);
                0
            }
            _ => encode(&mut self.buffer, contents.flat),
        };
        Ok(Encoded { descriptors, payload_len })
    }

    /// Fills in the headers; returns the chain after them.
    fn seal(&mut self, contents: &Contents<'_>, encoded: &Encoded) -> Chain {
        let mut chain = self.chain;
        let new = NewFrame {
            kind: contents.kind,
            prev_crc: chain.prev_crc,
            frame_no: chain.frame_no,
            first_lsn: contents.first_lsn,
            last_lsn: contents.last_lsn,
            synced: self.shared.synced(),
            pieces: contents.flat.pieces.len() as u32,
            records: contents.flat.records.len() as u32,
        };
        let (before, frame) = match encoded.descriptors {
            Some((len, _)) => {
                let total = padded((FRAME_HEADER_BYTES + len as usize) as u64) as usize;
                self.buffer.split_at_mut(total)
            }
            None => self.buffer.split_at_mut(0),
        };
        if let Some((len, records)) = encoded.descriptors {
            let descriptors = NewFrame { kind: FrameKind::Descriptors, pieces: 0, records, ..new };
            chain.prev_crc = seal_frame(before, len, chain.salt, &descriptors);
            chain.frame_no += 1;
        }
        let new = NewFrame { prev_crc: chain.prev_crc, frame_no: chain.frame_no, ..new };
        chain.prev_crc = seal_frame(frame, encoded.payload_len, chain.salt, &new);
        chain.frame_no += 1;
        chain
    }

    /// Goes on in a new segment that has room for the buffer.
    fn roll(&mut self) -> Result<(), AppendError> {
        let needed = (HEADER_BYTES + self.buffer.len()) as u64;
        let header = Header {
            identity: self.shared.options.identity.clone(),
            salt: retention::random_salt(),
            seq: self.segment.header.seq + 1,
            first_lsn: self.open.unwrap_or(self.end_lsn),
            open: self.open,
            first_frame_no: self.chain.frame_no,
            prev_crc: self.chain.prev_crc,
            synced: self.shared.synced(),
            created_unix_micros: retention::unix_micros(),
            size: self.shared.options.segment_size.max(needed.next_multiple_of(BLOCK_BYTES)),
        };
        let segment = retention::create_segment(&self.shared, header).map_err(|error| self.create_failed(error))?;
        self.full.push((mem::replace(&mut self.segment, Arc::clone(&segment)), self.offset));
        self.chain.salt = segment.header.salt;
        self.offset = HEADER_BYTES as u64;
        self.relations.in_segment.clear();
        // Known before its predecessor is sealed: a cursor at the end of that one looks for it.
        self.shared.add_segment(segment);
        if self.open.is_none() {
            self.publish();
        }
        Ok(())
    }

    fn create_failed(&self, error: CreateError) -> AppendError {
        match error {
            CreateError::DiskFull { bytes } => AppendError::DiskFull { dir: self.shared.options.dir.clone(), bytes },
            CreateError::Fatal(error) => self.shared.fail(error).into(),
        }
    }

    /// Shows readers what is whole, and has it synced.
    fn after_write(&mut self, end_lsn: Lsn) {
        self.end_lsn = end_lsn;
        if self.open.is_none() {
            self.publish();
            self.shared.publish_appended(end_lsn);
        }
        self.shared.queue.push(&self.segment, self.chain.frame_no, end_lsn);
    }

    fn publish(&mut self) {
        let mut next = self.segment.header.first_frame_no;
        for (segment, end) in self.full.drain(..).rev() {
            segment.publish(end);
            segment.seal(next);
            next = segment.header.first_frame_no;
        }
        self.segment.publish(self.offset);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.stop();
        // A panic of the syncer must not become one while unwinding; `close` passes it on.
        let _ = self.syncer.take().map(JoinHandle::join);
    }
}

impl Relations {
    /// The Relation messages that a segment lacks for this frame.
    fn missing(&self, contents: &Contents<'_>, new_segment: bool) -> Result<Flat, AppendError> {
        let mut missing = Flat::default();
        let mut seen = HashSet::new();
        contents.for_each_use(|relation, describes| -> Result<(), AppendError> {
            let described = describes || (!new_segment && self.in_segment.contains(&relation));
            if !seen.insert(relation) || described {
                return Ok(());
            }
            let message = self.latest.get(&relation).ok_or(AppendError::Undescribed { relation })?;
            missing.heap.extend_from_slice(message);
            missing.records.push(RecordMeta { relation: relation.0, end: missing.heap.len() as u32 });
            Ok(())
        })?;
        Ok(missing)
    }

    /// Takes note of what a frame that was written describes and uses.
    fn remember(&mut self, contents: &Contents<'_>) {
        let noted = contents.for_each_use(|relation, _| {
            self.in_segment.insert(relation);
            Ok::<(), Infallible>(())
        });
        let Ok(()) = noted;
        for record in contents.flat.records().filter(|record| is_relation_message(record.payload)) {
            let Some(relation) = record.relation else { continue };
            if self.latest.get(&relation).is_none_or(|known| **known != *record.payload) {
                self.latest.insert(relation, record.payload.into());
            }
        }
    }
}

impl Contents<'_> {
    /// Calls `visit` with each relation in the order of use, and whether the record describes it; runs of uses count
    /// once.
    fn for_each_use<E>(&self, mut visit: impl FnMut(RelationId, bool) -> Result<(), E>) -> Result<(), E> {
        let mut truncated = self.truncated.iter().peekable();
        let mut last = None;
        for (record_no, record) in self.flat.records().enumerate() {
            while let Some((_, relation)) = truncated.next_if(|(at, _)| *at as usize == record_no) {
                visit(*relation, false)?;
            }
            let Some(relation) = record.relation else { continue };
            let describes = is_relation_message(record.payload);
            if describes || last != Some(relation) {
                visit(relation, describes)?;
            }
            last = Some(relation);
        }
        Ok(())
    }
}

fn is_relation_message(payload: &[u8]) -> bool {
    payload.first() == Some(&b'R')
}
