//! Reading frames from a file that nobody vouches for: recovery and inspection.
//!
//! Everything here uses pread, never the map: a bad block is then an error and not a signal that kills the process.

use std::path::PathBuf;
use std::sync::Arc;

use rkyv::util::AlignedVec;

use crate::error::IoError;
use crate::frame::{FRAME_ALIGN, FRAME_HEADER_BYTES, Frame, FrameBytes, RawHeader, frame_crc};
use crate::fs::{File, read_up_to};
use crate::header::{HEADER_BYTES, Header};

/// What the next frame must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) salt: u32,
    pub(crate) frame_no: u64,
    pub(crate) prev_crc: u32,
}

impl Chain {
    /// At the beginning of a segment.
    pub(crate) fn start_of(header: &Header) -> Chain {
        Chain { salt: header.salt, frame_no: header.first_frame_no, prev_crc: header.prev_crc }
    }

    /// After this frame.
    pub(crate) fn advance(&mut self, header: &RawHeader) {
        self.frame_no = header.frame_no + 1;
        self.prev_crc = header.crc;
    }

    /// Checks what can be checked without the payload.
    pub(crate) fn check_header(&self, header: &RawHeader) -> Result<(), String> {
        if !header.is_plausible() {
            return Err(format!("no frame, expected number {}", self.frame_no));
        }
        if header.frame_no != self.frame_no {
            return Err(format!("frame number {}, expected {}", header.frame_no, self.frame_no));
        }
        if header.prev_crc != self.prev_crc {
            return Err(format!("chain value {:08x}, expected {:08x}", header.prev_crc, self.prev_crc));
        }
        Ok(())
    }

    /// Checks the checksum of a whole frame.
    pub(crate) fn check_bytes(&self, header: &RawHeader, frame: &[u8]) -> Result<(), String> {
        let crc = frame_crc(self.salt, frame);
        if crc == header.crc { Ok(()) } else { Err(format!("checksum {crc:08x}, expected {:08x}", header.crc)) }
    }
}

/// Reads ahead of a scan.
pub(crate) struct Window {
    pub(crate) path: PathBuf,
    file: Arc<dyn File>,
    size: u64,
    start: u64,
    buffer: AlignedVec,
}

impl Window {
    const READ_AHEAD: u64 = 1 << 20;

    pub(crate) fn new(path: PathBuf, file: Arc<dyn File>) -> Result<Window, IoError> {
        let size = file.size().map_err(|error| IoError::new("stat", &path, error))?;
        Ok(Window { path, file, size, start: 0, buffer: AlignedVec::new() })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range; `None` when the file ends before.
    pub(crate) fn get(&mut self, offset: u64, len: u64) -> Result<Option<&[u8]>, IoError> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.size) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.fill(offset, len)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + len as usize))
    }

    fn fill(&mut self, offset: u64, len: u64) -> Result<(), IoError> {
        let wanted = len.max(Self::READ_AHEAD).min(self.size - offset);
        self.buffer.resize(wanted as usize, 0);
        let read = read_up_to(&*self.file, &mut self.buffer, offset);
        let read = read.map_err(|error| IoError::new("read", &self.path, error))?;
        self.buffer.resize(read, 0);
        self.start = offset;
        Ok(())
    }

    /// Reads anew what may have changed.
    pub(crate) fn forget(&mut self) {
        self.buffer.clear();
    }

    /// The header of a frame at an offset.
    fn raw_header(&mut self, offset: u64) -> Result<Option<RawHeader>, IoError> {
        let bytes = self.get(offset, FRAME_HEADER_BYTES as u64)?;
        Ok(bytes.and_then(|bytes| bytes.first_chunk()).map(RawHeader::decode))
    }
}

/// What is at an offset.
pub(crate) enum Found {
    /// The expected frame.
    Frame(Frame),
    /// Something else; the text says in what it differs.
    Bad(String),
    /// The expected frame by its checksum, but what was written makes no sense.
    Nonsense(String),
}

/// Steps through the frames of one segment.
pub(crate) struct Scan {
    pub(crate) window: Window,
    pub(crate) offset: u64,
    pub(crate) chain: Chain,
}

impl Scan {
    pub(crate) fn new(window: Window, header: &Header) -> Scan {
        Scan { window, offset: HEADER_BYTES as u64, chain: Chain::start_of(header) }
    }

    /// Looks at the current offset, and steps on when there is a frame.
    pub(crate) fn step(&mut self) -> Result<Found, IoError> {
        let Some(header) = self.window.raw_header(self.offset)? else {
            return Ok(Found::Bad("no room for a frame".to_owned()));
        };
        if let Err(what) = self.chain.check_header(&header) {
            return Ok(Found::Bad(what));
        }
        let Some(bytes) = self.window.get(self.offset, header.total_bytes())? else {
            return Ok(Found::Bad(format!("frame of {} bytes reaches beyond the file", header.total_bytes())));
        };
        if let Err(what) = self.chain.check_bytes(&header, bytes) {
            return Ok(Found::Bad(what));
        }
        let mut copy = AlignedVec::with_capacity(bytes.len());
        copy.extend_from_slice(bytes);
        Ok(match Frame::check(header, FrameBytes::Copied(copy)) {
            Ok(frame) => {
                self.offset += header.total_bytes();
                self.chain.advance(&header);
                Found::Frame(frame)
            }
            Err(what) => Found::Nonsense(what),
        })
    }

    /// Whether the expected frame was begun here, or one that should come later.
    pub(crate) fn is_torn_frame(&mut self) -> Result<bool, IoError> {
        let header = self.window.raw_header(self.offset)?;
        Ok(header.is_some_and(|header| header.is_plausible() && header.frame_no >= self.chain.frame_no))
    }

    /// What valid frames with higher numbers, at or after the current offset, say about how far the log had been
    /// synced; `None` when there are none.
    pub(crate) fn synced_by_later_frames(&mut self) -> Result<Option<u64>, IoError> {
        let mut synced = None;
        let mut offset = self.offset;
        while offset + FRAME_HEADER_BYTES as u64 <= self.window.size() {
            let step = match self.later_frame(offset)? {
                Some(header) => {
                    synced = synced.max(Some(header.synced));
                    header.total_bytes()
                }
                None => FRAME_ALIGN as u64,
            };
            offset += step;
        }
        Ok(synced)
    }

    fn later_frame(&mut self, offset: u64) -> Result<Option<RawHeader>, IoError> {
        // Every frame between has at least a header's bytes, which bounds how far the number can be ahead.
        let most = self.chain.frame_no + (self.window.size() - HEADER_BYTES as u64) / FRAME_HEADER_BYTES as u64;
        let Some(header) = self.window.raw_header(offset)? else {
            return Ok(None);
        };
        if !header.is_plausible() || header.frame_no < self.chain.frame_no || header.frame_no > most {
            return Ok(None);
        }
        let salt = self.chain.salt;
        let bytes = self.window.get(offset, header.total_bytes())?;
        Ok(bytes.filter(|bytes| frame_crc(salt, bytes) == header.crc).map(|_| header))
    }
}
