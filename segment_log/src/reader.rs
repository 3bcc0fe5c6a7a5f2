//! Cursors: each target reads the log at its own pace.

use std::sync::Arc;

use decoder::Lsn;

use crate::error::ReadError;
use crate::frame::Frame;
use crate::header::HEADER_BYTES;
use crate::log::Shared;
use crate::scan::Chain;
use crate::segment::Segment;

/// What a cursor has read is kept in the process's memory up to so many bytes.
const RESIDENT_MAX: u64 = 4 << 20;

/// Tails the log from a position on.
///
/// It yields frames in the order of the log, each checked once. A frame of a transaction that spans frames is yielded
/// only when the whole transaction has been appended. Wait for more with [`Log::watch`](crate::Log::watch): mark the
/// channel as seen, then read until `None`, then wait for a change.
pub struct Cursor {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    offset: u64,
    /// The segment's map was given back below this offset.
    released: u64,
    chain: Chain,
}

impl Cursor {
    pub(crate) fn open(shared: Arc<Shared>, after: Lsn) -> Result<Cursor, ReadError> {
        let segment = {
            let segments = shared.segments();
            let at = segments.partition_point(|segment| segment.header.first_lsn <= after);
            at.checked_sub(1).and_then(|at| segments.get(at)).cloned()
        };
        let first_lsn = shared.positions().first_lsn;
        let segment = segment.ok_or(ReadError::Desync { after, first_lsn })?;
        let chain = Chain::start_of(&segment.header);
        Ok(Cursor { shared, segment, offset: HEADER_BYTES as u64, released: 0, chain })
    }

    /// The next frame; `None` at the head of the log.
    ///
    /// # Errors
    /// Damage, or that the log failed. A cursor that was left so far behind that its segment's successor was trimmed
    /// gets [`ReadError::Desync`].
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        if let Some(fatal) = self.shared.failure() {
            return Err(fatal.into());
        }
        while self.segment.ends_before(self.chain.frame_no) {
            self.enter_next_segment()?;
        }
        if self.offset >= self.segment.readable() {
            return Ok(None);
        }
        let frame = self.segment.read_frame(self.offset, &self.chain)?;
        self.offset += frame.bytes();
        self.chain.advance(frame.header());
        if self.offset - self.released > 2 * RESIDENT_MAX {
            self.release_to(self.offset - RESIDENT_MAX);
        }
        Ok(Some(frame))
    }

    /// Number of the segment that the last frame was in. In each of them, relations are described anew before their changes.
    pub fn segment(&self) -> u64 {
        self.segment.header.seq
    }

    fn release_to(&mut self, offset: u64) {
        self.segment.release(self.released..offset);
        self.released = offset;
    }

    fn enter_next_segment(&mut self) -> Result<(), ReadError> {
        let seq = self.segment.header.seq + 1;
        let next = {
            let segments = self.shared.segments();
            let first = segments.front().map_or(seq, |segment| segment.header.seq);
            seq.checked_sub(first).and_then(|at| segments.get(at as usize)).cloned()
        };
        let Some(next) = next else {
            let first_lsn = self.shared.positions().first_lsn;
            return Err(ReadError::Desync { after: self.segment.header.first_lsn, first_lsn });
        };
        self.release_to(self.offset);
        self.released = 0;
        self.chain = Chain::start_of(&next.header);
        self.offset = HEADER_BYTES as u64;
        self.segment = next;
        Ok(())
    }
}
