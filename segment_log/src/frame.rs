//! Frames: the unit that is written, checked and read.
//!
//! ```text
//!  0 len        u32  bytes of the payload, padding to a multiple of 16 excluded
//!  4 crc        u32  crc32c, seeded with the segment's salt, over len, the header from `kind` on, payload and padding
//!  8 kind       u8   1 descriptors, 2 transactions, 3 progress
//!  9 version    u8   of the payload's layout
//! 10 flags      u16  0
//! 12 prev_crc   u32  `crc` of the frame before, also across segments
//! 16 frame_no   u64  consecutive over the whole log
//! 24 first_lsn  u64  end_lsn of the first transaction in it, or the progress mark
//! 32 last_lsn   u64  end_lsn of the last one
//! 40 synced     u64  every frame with a number below was known to be on disk when this one was written
//! 48 pieces     u32  of transactions
//! 52 records    u32
//! 56 reserved   u64  0
//! 64 payload         one rkyv archive of `Flat` (none in a progress frame)
//! ```
//!
//! All numbers are little-endian. A frame starts at a multiple of 16 bytes and never spans segments. The salt differs
//! in each life of a file, so a frame that a recycled file still holds never passes for one of this segment.

use std::ops::Range;
use std::sync::Arc;

use decoder::{Lsn, PgTimestamp, RelationId, Xid};
use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::segment::Segment;

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;
/// Frames start at multiples of this; the archive inside needs it.
pub(crate) const FRAME_ALIGN: usize = 16;
/// Version of the payload's layout that is written, and the only one that is read.
const PAYLOAD_VERSION: u8 = 1;

/// A committed transaction's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionInfo {
    /// Top-level transaction id on the source.
    pub xid: Xid,
    /// Start of its commit record.
    pub commit_lsn: Lsn,
    /// First byte after its commit record; the position that checkpoints name.
    pub end_lsn: Lsn,
    /// When it committed, by the source's clock.
    pub commit_time: PgTimestamp,
}

/// One change as the log keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The relation it is about; `None` for TRUNCATE of several, messages and types.
    pub relation: Option<RelationId>,
    /// The pgoutput message without a stream's xid, tag byte first: `decoder::decode_change` reads it.
    pub payload: &'a [u8],
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Relation messages that later frames of the same segment need.
    Descriptors,
    /// Pieces of transactions.
    Transactions,
    /// Nothing: the stream has come this far without anything before it being outstanding.
    Progress,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        Some(match byte {
            1 => FrameKind::Descriptors,
            2 => FrameKind::Transactions,
            3 => FrameKind::Progress,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            FrameKind::Descriptors => 1,
            FrameKind::Transactions => 2,
            FrameKind::Progress => 3,
        }
    }
}

/// Bits of [`PieceMeta::flags`].
pub(crate) mod piece_flags {
    /// The transaction begins with this piece.
    pub(crate) const FIRST: u32 = 1;
    /// The transaction ends with this piece.
    pub(crate) const LAST: u32 = 2;
    /// There is a logical message among its records. No log had any before there was this flag.
    pub(crate) const MESSAGES: u32 = 4;
}

/// The payload of a frame: a table of transactions, a table of records, and their messages end to end.
#[derive(Archive, Serialize, Default)]
pub(crate) struct Flat {
    pub(crate) pieces: Vec<PieceMeta>,
    pub(crate) records: Vec<RecordMeta>,
    pub(crate) heap: Vec<u8>,
}

/// One transaction, or a part of it.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct PieceMeta {
    pub(crate) commit_lsn: u64,
    pub(crate) end_lsn: u64,
    commit_time: i64,
    xid: u32,
    /// Number of the first record that is not in it; it begins where the piece before ends.
    records_end: u32,
    pub(crate) flags: u32,
    reserved: u32,
}

/// One record: where its message ends in the heap; it begins where the one before ends.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct RecordMeta {
    /// 0: none or several.
    pub(crate) relation: u32,
    pub(crate) end: u32,
}

impl PieceMeta {
    pub(crate) fn new(info: &TransactionInfo, flags: u32, records_end: u32) -> PieceMeta {
        PieceMeta {
            commit_lsn: info.commit_lsn.as_u64(),
            end_lsn: info.end_lsn.as_u64(),
            commit_time: info.commit_time.0,
            xid: info.xid.0,
            records_end,
            flags,
            reserved: 0,
        }
    }

    pub(crate) fn is_first(&self) -> bool {
        self.flags & piece_flags::FIRST != 0
    }

    pub(crate) fn is_last(&self) -> bool {
        self.flags & piece_flags::LAST != 0
    }
}

impl Flat {
    /// The records with their messages.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.records.iter().map(move |meta| {
            let payload = self.heap.get(start..meta.end as usize).unwrap_or_default();
            start = meta.end as usize;
            Record { relation: relation_id(meta.relation), payload }
        })
    }
}

fn relation_id(raw: u32) -> Option<RelationId> {
    (raw != 0).then_some(RelationId(raw))
}

/// A frame's header as read; nothing in it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawHeader {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) kind: u8,
    version: u8,
    flags: u16,
    pub(crate) prev_crc: u32,
    pub(crate) frame_no: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    pub(crate) synced: u64,
    pub(crate) pieces: u32,
    pub(crate) records: u32,
    reserved: u64,
}

/// What the writer knows of a frame before its checksum.
pub(crate) struct NewFrame {
    pub(crate) kind: FrameKind,
    pub(crate) prev_crc: u32,
    pub(crate) frame_no: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    pub(crate) synced: u64,
    pub(crate) pieces: u32,
    pub(crate) records: u32,
}

fn u32_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl RawHeader {
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> RawHeader {
        RawHeader {
            len: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            kind: bytes[8],
            version: bytes[9],
            flags: u16::from_le_bytes([bytes[10], bytes[11]]),
            prev_crc: u32_at(bytes, 12),
            frame_no: u64_at(bytes, 16),
            first_lsn: Lsn::from_u64(u64_at(bytes, 24)),
            last_lsn: Lsn::from_u64(u64_at(bytes, 32)),
            synced: u64_at(bytes, 40),
            pieces: u32_at(bytes, 48),
            records: u32_at(bytes, 52),
            reserved: u64_at(bytes, 56),
        }
    }

    /// Whether it could be a frame's header at all: a cheap test before its checksum is computed.
    pub(crate) fn is_plausible(&self) -> bool {
        FrameKind::from_byte(self.kind).is_some()
            && self.version == PAYLOAD_VERSION
            && self.flags == 0
            && self.reserved == 0
    }

    pub(crate) fn kind(&self) -> Option<FrameKind> {
        FrameKind::from_byte(self.kind)
    }

    /// Bytes from this frame's start to the next one's.
    pub(crate) fn total_bytes(&self) -> u64 {
        padded(FRAME_HEADER_BYTES as u64 + u64::from(self.len))
    }
}

/// Rounded up to the alignment of frames.
pub(crate) fn padded(len: u64) -> u64 {
    len.next_multiple_of(FRAME_ALIGN as u64)
}

/// Checksum of a whole frame, padding included.
pub(crate) fn frame_crc(salt: u32, frame: &[u8]) -> u32 {
    let (len, rest) = frame.split_at(4);
    let seeded = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), len);
    crc32c::crc32c_append(seeded, rest.get(4..).unwrap_or_default())
}

/// Fills in the header of the frame whose payload and padding are already in place; returns its checksum.
pub(crate) fn seal_frame(frame: &mut [u8], payload_len: u32, salt: u32, new: &NewFrame) -> u32 {
    frame[0..4].copy_from_slice(&payload_len.to_le_bytes());
    frame[8..12].copy_from_slice(&[new.kind.byte(), PAYLOAD_VERSION, 0, 0]);
    frame[12..16].copy_from_slice(&new.prev_crc.to_le_bytes());
    frame[16..24].copy_from_slice(&new.frame_no.to_le_bytes());
    frame[24..32].copy_from_slice(&new.first_lsn.as_u64().to_le_bytes());
    frame[32..40].copy_from_slice(&new.last_lsn.as_u64().to_le_bytes());
    frame[40..48].copy_from_slice(&new.synced.to_le_bytes());
    frame[48..52].copy_from_slice(&new.pieces.to_le_bytes());
    frame[52..56].copy_from_slice(&new.records.to_le_bytes());
    frame[56..64].fill(0);
    let crc = frame_crc(salt, frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Appends header space, payload and padding to `buffer`; returns the payload's length.
pub(crate) fn encode_payload(buffer: &mut AlignedVec, flat: &Flat) -> Result<u32, RkyvError> {
    let start = buffer.len();
    buffer.resize(start + FRAME_HEADER_BYTES, 0);
    let taken = std::mem::take(buffer);
    *buffer = rkyv::api::high::to_bytes_in::<_, RkyvError>(flat, taken)?;
    let payload_len = (buffer.len() - start - FRAME_HEADER_BYTES) as u32;
    buffer.resize(padded(buffer.len() as u64) as usize, 0);
    Ok(payload_len)
}

/// Where a frame's bytes are.
pub(crate) enum FrameBytes {
    /// In a segment's map, which lives as long as the segment.
    Mapped(Arc<Segment>, Range<u64>),
    /// Copied, where the file system does not keep maps coherent.
    Copied(AlignedVec),
}

impl FrameBytes {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            FrameBytes::Mapped(segment, range) => segment.published_bytes(range.clone()).unwrap_or_default(),
            FrameBytes::Copied(bytes) => bytes,
        }
    }
}

/// A frame whose checksum, place in the chain and inner structure were checked.
///
/// It keeps its segment's map alive: drop it when done, or the file can't be recycled.
pub struct Frame {
    header: RawHeader,
    kind: FrameKind,
    bytes: FrameBytes,
}

impl Frame {
    /// Checks the inner structure; the caller has checked checksum and chain. The error says what is wrong.
    pub(crate) fn check(header: RawHeader, bytes: FrameBytes) -> Result<Frame, String> {
        let kind = header.kind().ok_or_else(|| format!("unknown kind of frame {}", header.kind))?;
        let frame = Frame { header, kind, bytes };
        match kind {
            FrameKind::Progress if header.len != 0 => return Err(format!("progress frame with {} bytes", header.len)),
            FrameKind::Progress => {}
            _ => check_flat(&frame.header, frame.access()?)?,
        }
        Ok(frame)
    }

    fn access(&self) -> Result<&ArchivedFlat, String> {
        let end = FRAME_HEADER_BYTES + self.header.len as usize;
        let payload = self.bytes.as_slice().get(FRAME_HEADER_BYTES..end).ok_or("frame shorter than its header says")?;
        rkyv::access::<ArchivedFlat, RkyvError>(payload).map_err(|error| format!("not an archive: {error}"))
    }

    /// What it holds.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Its number in the log.
    pub fn number(&self) -> u64 {
        self.header.frame_no
    }

    /// End of the last transaction in it, or the progress mark; of a descriptors frame, that of the frame after it.
    pub fn last_lsn(&self) -> Lsn {
        self.header.last_lsn
    }

    /// Bytes in the log.
    pub fn bytes(&self) -> u64 {
        self.header.total_bytes()
    }

    pub(crate) fn header(&self) -> &RawHeader {
        &self.header
    }

    /// The transactions or parts of transactions, in commit order; none unless the kind is `Transactions`.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let flat = self.flat(FrameKind::Transactions);
        let mut start = 0;
        flat.into_iter().flat_map(|flat| flat.pieces.iter().map(move |meta| (flat, meta))).map(move |(flat, meta)| {
            let records = start..meta.records_end.to_native();
            start = records.end;
            Piece { flat, meta, records }
        })
    }

    /// The Relation messages; none unless the kind is `Descriptors`.
    pub fn descriptors(&self) -> impl Iterator<Item = (RelationId, &[u8])> {
        let flat = self.flat(FrameKind::Descriptors);
        let records = flat.into_iter().flat_map(|flat| records_of(flat, 0..flat.records.len() as u32));
        records.filter_map(|record| Some((record.relation?, record.payload)))
    }

    /// The position, when the kind is `Progress`.
    pub fn progress(&self) -> Option<Lsn> {
        (self.kind == FrameKind::Progress).then_some(self.header.last_lsn)
    }

    /// The archive when the kind is `wanted`; it was checked when the frame was made and its bytes never change.
    fn flat(&self, wanted: FrameKind) -> Option<&ArchivedFlat> {
        (self.kind == wanted).then(|| self.access().expect("checked when the frame was read"))
    }
}

/// Everything the accessors rely on: tables that lie inside each other, and agree with the header.
fn check_flat(header: &RawHeader, flat: &ArchivedFlat) -> Result<(), String> {
    if flat.pieces.len() != header.pieces as usize || flat.records.len() != header.records as usize {
        return Err("number of transactions or changes differs from the header's".to_owned());
    }
    let ends = flat.records.iter().map(|meta| meta.end.to_native());
    check_ends("change", ends, flat.heap.len())?;
    match header.kind() {
        Some(FrameKind::Transactions) => {
            let ends = flat.pieces.iter().map(|meta| meta.records_end.to_native());
            check_ends("transaction", ends, flat.records.len())?;
            check_order(header, flat)
        }
        _ => Ok(()),
    }
}

fn check_ends(what: &str, ends: impl Iterator<Item = u32>, expected: usize) -> Result<(), String> {
    let mut last = 0;
    for end in ends {
        if end < last {
            return Err(format!("a {what} ends at {end}, before {last} where it begins"));
        }
        last = end;
    }
    if last as usize == expected { Ok(()) } else { Err(format!("the last {what} ends at {last}, expected {expected}")) }
}

fn check_order(header: &RawHeader, flat: &ArchivedFlat) -> Result<(), String> {
    let mut previous = None;
    for meta in flat.pieces.iter() {
        let end = meta.end_lsn.to_native();
        if previous.is_some_and(|previous| previous >= end) {
            return Err(format!("transaction that ends at {} is out of order", Lsn::from_u64(end)));
        }
        previous = Some(end);
    }
    let first = flat.pieces.first().map(|meta| Lsn::from_u64(meta.end_lsn.to_native()));
    let last = previous.map(Lsn::from_u64);
    if first == Some(header.first_lsn) && last == Some(header.last_lsn) {
        return Ok(());
    }
    Err("positions of the transactions differ from the header's".to_owned())
}

/// One transaction, or the part of it that is in one frame.
pub struct Piece<'a> {
    flat: &'a ArchivedFlat,
    meta: &'a ArchivedPieceMeta,
    records: Range<u32>,
}

impl<'a> Piece<'a> {
    /// Which transaction; the same in each of its pieces.
    pub fn info(&self) -> TransactionInfo {
        TransactionInfo {
            xid: Xid(self.meta.xid.to_native()),
            commit_lsn: Lsn::from_u64(self.meta.commit_lsn.to_native()),
            end_lsn: Lsn::from_u64(self.meta.end_lsn.to_native()),
            commit_time: PgTimestamp(self.meta.commit_time.to_native()),
        }
    }

    /// Whether the transaction begins here.
    pub fn is_first(&self) -> bool {
        self.meta.flags.to_native() & piece_flags::FIRST != 0
    }

    /// Whether the transaction ends here.
    pub fn is_last(&self) -> bool {
        self.meta.flags.to_native() & piece_flags::LAST != 0
    }

    /// Whether a record of it was given to [`FrameBuilder::push_message`](crate::FrameBuilder::push_message).
    pub fn has_messages(&self) -> bool {
        self.meta.flags.to_native() & piece_flags::MESSAGES != 0
    }

    /// Number of changes and Relation messages.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Its changes and Relation messages, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        records_of(self.flat, self.records.clone())
    }
}

fn records_of(flat: &ArchivedFlat, records: Range<u32>) -> impl Iterator<Item = Record<'_>> {
    let metas: &[ArchivedRecordMeta] = &flat.records;
    let before = records.start.checked_sub(1).and_then(|i| metas.get(i as usize));
    let mut start = before.map_or(0, |meta| meta.end.to_native());
    metas.get(records.start as usize..records.end as usize).unwrap_or_default().iter().map(move |meta| {
        let end = meta.end.to_native();
        let payload = flat.heap.get(start as usize..end as usize).unwrap_or_default();
        start = end;
        Record { relation: relation_id(meta.relation.to_native()), payload }
    })
}
