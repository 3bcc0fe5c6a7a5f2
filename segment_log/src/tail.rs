//! Finds where a log ends: the scan behind the table in `recovery.rs`.

use std::collections::VecDeque;

use decoder::Lsn;

use crate::catalog::SegmentFile;
use crate::error::{Damage, OpenError};
use crate::frame::{Frame, FrameKind, Piece};
use crate::header::HEADER_BYTES;
use crate::scan::{Chain, Found, Scan, Window};

/// A place between two frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Which of the files.
    pub(crate) index: usize,
    pub(crate) offset: u64,
    pub(crate) chain: Chain,
    /// End of the last whole transaction before.
    pub(crate) end_lsn: Lsn,
}

/// What the scan found out.
pub(crate) struct Tail {
    /// The first file that was scanned.
    pub(crate) from: usize,
    /// Where the log ends.
    pub(crate) end: Mark,
    /// Whether there is something behind the end that has to go.
    pub(crate) torn: bool,
    /// Where the frames of each scanned file end.
    ends: Vec<u64>,
    /// The first frame that nothing says was synced.
    unsynced: Option<(usize, u64)>,
}

/// A range of one file.
pub(crate) struct Part {
    pub(crate) index: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Tail {
    /// Where the frames of a file end, when it was scanned.
    pub(crate) fn end_of(&self, index: usize) -> Option<u64> {
        self.ends.get(index.checked_sub(self.from)?).copied()
    }

    /// What was found to be whole, and is not known to be on disk.
    pub(crate) fn unsynced_parts(&self) -> impl Iterator<Item = Part> {
        let (first, offset) = self.unsynced.unwrap_or((self.end.index, self.end.offset));
        (first..=self.end.index).map(move |index| Part {
            index,
            from: if index == first { offset } else { HEADER_BYTES as u64 },
            to: if index == self.end.index { self.end.offset } else { self.end_of(index).unwrap_or_default() },
        })
    }
}

/// The state of the scan.
pub(crate) struct Progress {
    /// Transaction that has begun and not ended.
    open: Option<Lsn>,
    end_lsn: Lsn,
    /// Behind the last frame that ends between transactions.
    good: Option<Mark>,
    /// Every frame with a number below is on disk.
    synced: u64,
    /// Number and place of the frames from `synced` on.
    unsynced: VecDeque<(u64, usize, u64)>,
    ends: Vec<u64>,
}

/// The first file that has to be scanned: all frames before it were known to be synced, and no transaction goes across.
fn first_to_scan(files: &[SegmentFile]) -> usize {
    let synced = files.last().map_or(0, |last| last.header.synced);
    let nexts = files.iter().skip(1);
    let mut from = nexts.take_while(|next| next.header.first_frame_no <= synced).count();
    while from > 0 && files.get(from).is_some_and(|file| file.header.open.is_some()) {
        from -= 1;
    }
    from
}

/// Scans the last files; `files` is not empty.
pub(crate) fn scan_tail(files: &[SegmentFile]) -> Result<Tail, OpenError> {
    let from = first_to_scan(files);
    let mut progress = Progress::new(files, from);
    let mut torn = false;
    for (index, file) in files.iter().enumerate().skip(from) {
        let mut scan = Scan::new(Window::new(file.path.clone(), file.file.clone())?, &file.header);
        progress.enter(index, file)?;
        let what = progress.scan_file(index, &mut scan)?;
        progress.ends.push(scan.offset);
        if files.get(index + 1).is_some_and(|next| joins(&scan.chain, next)) {
            continue;
        }
        torn = judge(files, index, &mut scan, what)?;
        break;
    }
    progress.finish(from, torn, files)
}

/// Whether a segment begins where the chain is.
pub(crate) fn joins(chain: &Chain, next: &SegmentFile) -> bool {
    (next.header.first_frame_no, next.header.prev_crc) == (chain.frame_no, chain.prev_crc)
}

/// Tells a torn tail from damage: there is no expected frame where the scan stands, and no segment goes on from there.
/// Returns whether there is anything to cut.
pub(crate) fn judge(files: &[SegmentFile], index: usize, scan: &mut Scan, what: String) -> Result<bool, OpenError> {
    let expected = scan.chain.frame_no;
    let remains = scan.synced_by_later_frames()?;
    let mut synced = remains.unwrap_or(0);
    for later in files.iter().skip(index + 1) {
        let mut frames = Scan::new(Window::new(later.path.clone(), later.file.clone())?, &later.header);
        synced = synced.max(later.header.synced).max(frames.synced_by_later_frames()?.unwrap_or(0));
        if later.header.first_frame_no <= expected {
            let what = format!("begins with frame {}, expected {expected} or later", later.header.first_frame_no);
            return Err(Damage { path: later.path.clone(), offset: 0, what }.into());
        }
    }
    if synced > expected {
        let path = scan.window.path.clone();
        let what = format!("{what}; the log had been synced up to frame {}", synced - 1);
        return Err(Damage { path, offset: scan.offset, what }.into());
    }
    let truncated = files.get(index).is_some_and(|file| scan.window.size() < file.header.size);
    Ok(remains.is_some() || truncated || index + 1 < files.len() || scan.is_torn_frame()?)
}

impl Progress {
    pub(crate) fn new(files: &[SegmentFile], from: usize) -> Progress {
        let header = files.get(from).map(|file| &file.header);
        Progress {
            open: header.and_then(|header| header.open),
            end_lsn: header.map_or(Lsn::ZERO, |header| header.first_lsn),
            good: None,
            synced: files.iter().map(|file| file.header.synced).max().unwrap_or(0),
            unsynced: VecDeque::new(),
            ends: Vec::new(),
        }
    }

    /// Goes on in a file.
    pub(crate) fn enter(&mut self, index: usize, file: &SegmentFile) -> Result<(), Damage> {
        let expected = (self.open, self.open.unwrap_or(self.end_lsn));
        if (file.header.open, file.header.first_lsn) != expected {
            let what = format!("begins at {}, expected {}", file.header.first_lsn, expected.1);
            return Err(Damage { path: file.path.clone(), offset: 0, what });
        }
        self.note_good(index, HEADER_BYTES as u64, Chain::start_of(&file.header));
        Ok(())
    }

    fn note_good(&mut self, index: usize, offset: u64, chain: Chain) {
        if self.open.is_none() {
            self.good = Some(Mark { index, offset, chain, end_lsn: self.end_lsn });
        }
    }

    /// Takes in the frames of a file; returns what is wrong with the first place that has none.
    fn scan_file(&mut self, index: usize, scan: &mut Scan) -> Result<String, OpenError> {
        loop {
            let offset = scan.offset;
            let accepted = match scan.step()? {
                Found::Frame(frame) => self.accept(index, offset, &frame),
                Found::Bad(what) => return Ok(what),
                Found::Nonsense(what) => Err(what),
            };
            accepted.map_err(|what| Damage { path: scan.window.path.clone(), offset, what })?;
            self.note_good(index, scan.offset, scan.chain);
        }
    }

    pub(crate) fn accept(&mut self, index: usize, offset: u64, frame: &Frame) -> Result<(), String> {
        self.synced = self.synced.max(frame.header().synced);
        self.unsynced.push_back((frame.number(), index, offset));
        while self.unsynced.front().is_some_and(|(number, ..)| *number < self.synced) {
            self.unsynced.pop_front();
        }
        match frame.kind() {
            FrameKind::Descriptors => Ok(()),
            FrameKind::Transactions => frame.pieces().try_for_each(|piece| self.accept_piece(&piece)),
            FrameKind::Progress if self.open.is_some() => Err("progress mark inside a transaction".to_owned()),
            FrameKind::Progress => self.advance_to(frame.last_lsn()),
        }
    }

    fn accept_piece(&mut self, piece: &Piece<'_>) -> Result<(), String> {
        let end = piece.info().end_lsn;
        let continues = self.open.is_some();
        if continues == piece.is_first() || self.open.is_some_and(|open| open != end) {
            return Err(format!("piece of the transaction that ends at {end} does not follow what is before it"));
        }
        // In a first segment that begins inside a transaction, the position has been set to its end.
        if piece.is_last() {
            self.open = None;
            if !(continues && end == self.end_lsn) {
                self.advance_to(end)?;
            }
        } else {
            self.open = Some(end);
        }
        Ok(())
    }

    fn advance_to(&mut self, lsn: Lsn) -> Result<(), String> {
        if lsn <= self.end_lsn {
            return Err(format!("position {lsn} follows {}", self.end_lsn));
        }
        self.end_lsn = lsn;
        Ok(())
    }

    fn finish(self, from: usize, torn: bool, files: &[SegmentFile]) -> Result<Tail, OpenError> {
        let Some(end) = self.good else {
            let path = files.get(from).map(|file| file.path.clone()).unwrap_or_default();
            let what = "begins inside a transaction whose end is missing".to_owned();
            return Err(Damage { path, offset: HEADER_BYTES as u64, what }.into());
        };
        let torn = torn || self.open.is_some();
        let unsynced = self.unsynced.front().map(|(_, index, offset)| (*index, *offset));
        // What is cut off need not be written again.
        let unsynced = unsynced.filter(|place| *place < (end.index, end.offset));
        Ok(Tail { from, end, torn, ends: self.ends, unsynced })
    }
}
