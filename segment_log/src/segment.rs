//! One open segment file: what is written, and the part of it that readers may see.
//!
//! The map is the crate's only unsafe code. Its contract: the directory is ours alone (0700, ours, flock), so nobody
//! else truncates or changes a file; the writer writes each byte once, before it is published, and never again while
//! this value lives; a file is recycled only after this value is gone.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapRaw, UncheckedAdvice};
use rkyv::util::AlignedVec;

use crate::error::{Damage, IoError, ReadError};
use crate::frame::{FRAME_HEADER_BYTES, Frame, FrameBytes, RawHeader};
use crate::fs::{File, read_up_to};
use crate::header::Header;
use crate::scan::Chain;

/// `sealed_end` of a segment that is still written.
const UNSEALED: u64 = u64::MAX;

/// An open segment file.
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    size: u64,
    map: Option<MmapRaw>,
    /// Bytes below are written for good and may be read.
    readable: AtomicU64,
    /// The first frame number that is no longer in this segment.
    sealed_end: AtomicU64,
}

impl Segment {
    /// Maps the file; nothing of it can be read yet.
    pub(crate) fn new(header: Header, path: &Path, file: Arc<dyn File>) -> Result<Segment, IoError> {
        let size = file.size().map_err(|error| IoError::new("stat", path, error))?;
        let map = file.map().map_err(|error| IoError::new("mmap", path, error))?;
        let (readable, sealed_end) = (AtomicU64::new(0), AtomicU64::new(UNSEALED));
        Ok(Segment { header, path: path.to_owned(), file, size, map, readable, sealed_end })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Lets readers see everything below `offset`.
    pub(crate) fn publish(&self, offset: u64) {
        assert!(offset <= self.size, "published {offset} of a segment of {} bytes", self.size);
        let before = self.readable.swap(offset, Ordering::Release);
        assert!(before <= offset, "published {offset} after {before}");
    }

    /// Says that frame `end` is in the next segment.
    pub(crate) fn seal(&self, end: u64) {
        self.sealed_end.store(end, Ordering::Release);
    }

    /// Whether frame `number` is in a later segment.
    pub(crate) fn ends_before(&self, number: u64) -> bool {
        self.sealed_end.load(Ordering::Acquire) <= number
    }

    pub(crate) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    /// Lets the kernel take the map's pages of this range back from the process; they stay in its page cache.
    ///
    /// Without it, every page that any cursor ever read of a segment counts as the process's memory until the segment
    /// is trimmed.
    pub(crate) fn release(&self, range: Range<u64>) {
        let Some(map) = &self.map else { return };
        let end = range.end.min(map.len() as u64);
        let start = range.start.min(end);
        // SAFETY: for a shared map of a file, MADV_DONTNEED only drops page table entries: whoever still reads a frame
        // there, this process or another, finds the same bytes again.
        let advised =
            unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start as usize, (end - start) as usize) };
        if let Err(error) = advised {
            tracing::debug!(path = %self.path.display(), %error, "cannot give pages of the log's map back");
        }
    }

    /// The bytes of a range that has been published; `None` when it has not, or there is no map.
    pub(crate) fn published_bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        let map = self.map.as_ref()?;
        let limit = self.readable().min(map.len() as u64);
        if range.start > range.end || range.end > limit {
            return None;
        }
        // SAFETY: the range lies inside the map and below `readable`, so by this module's contract its bytes were
        // written before the store that `readable()` synchronised with, and stay as they are while `self`, and with
        // it the map, lives; the slice borrows `self`.
        Some(unsafe {
            std::slice::from_raw_parts(map.as_ptr().add(range.start as usize), (range.end - range.start) as usize)
        })
    }

    /// Reads and checks the frame at `offset`, which is below `readable`.
    pub(crate) fn read_frame(self: &Arc<Self>, offset: u64, chain: &Chain) -> Result<Frame, ReadError> {
        let damaged = |what: String| Damage { path: self.path.clone(), offset, what };
        let beyond = || damaged("frame reaches beyond what was written".to_owned());
        let header_end = offset + FRAME_HEADER_BYTES as u64;
        let raw = self.bytes(offset..header_end)?.ok_or_else(beyond)?;
        let raw = RawHeader::decode(raw.as_slice().first_chunk().ok_or_else(beyond)?);
        chain.check_header(&raw).map_err(damaged)?;
        let bytes = self.bytes(offset..offset + raw.total_bytes())?.ok_or_else(beyond)?;
        chain.check_bytes(&raw, bytes.as_slice()).map_err(damaged)?;
        Ok(Frame::check(raw, bytes).map_err(damaged)?)
    }

    fn bytes(self: &Arc<Self>, range: Range<u64>) -> Result<Option<FrameBytes>, IoError> {
        if range.end > self.readable() {
            return Ok(None);
        }
        if self.map.is_some() {
            return Ok(Some(FrameBytes::Mapped(Arc::clone(self), range)));
        }
        let mut copy = AlignedVec::new();
        copy.resize((range.end - range.start) as usize, 0);
        let read = read_up_to(&*self.file, &mut copy, range.start);
        let read = read.map_err(|error| IoError::new("read", &self.path, error))?;
        Ok((read == copy.len()).then_some(FrameBytes::Copied(copy)))
    }
}
