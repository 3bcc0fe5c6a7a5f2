//! Looking into a log without opening it: no lock, nothing is changed, a service may be running on it meanwhile.

use std::io;
use std::path::{Path, PathBuf};

use decoder::Lsn;

use crate::catalog::{self, Named, Opened, SegmentFile};
use crate::error::{Damage, IoError, OpenError, ReadError};
use crate::frame::{Frame, FrameKind};
use crate::fs::{Access, Fs, RealFs};
use crate::header::HEADER_BYTES;
use crate::log::Identity;
use crate::scan::{Found, Scan, Window};
use crate::tail::{self, Progress};

/// How often a directory is listed again when files vanish while they are being opened.
const LISTINGS_MAX: usize = 10;
/// How often a tail is looked at that seems damaged, each time somewhere else.
const LOOKS_MAX: usize = 10;

/// A log's files as they were when it was made.
pub struct Inspector {
    files: Vec<SegmentFile>,
    problems: Vec<OpenError>,
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overview {
    /// Every transaction with `end_lsn > first_lsn` and `<= end_lsn` is in the log.
    pub first_lsn: Lsn,
    /// End of the last whole transaction or progress mark.
    pub end_lsn: Lsn,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Number of segment files.
    pub segments: u64,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The file.
    pub path: PathBuf,
    /// Its number.
    pub seq: u64,
    /// Every transaction with `end_lsn > first_lsn` begins in it or later.
    pub first_lsn: Lsn,
    /// End of the last transaction that ends in it, or its last progress mark; `first_lsn` when there is none.
    pub last_lsn: Lsn,
    /// Of the file.
    pub bytes: u64,
    /// Of these, what frames use, the header included.
    pub used_bytes: u64,
    /// Number of frames.
    pub frames: u64,
    /// Number of transactions that end in it.
    pub transactions: u64,
    /// Whether another segment follows.
    pub sealed: bool,
}

/// What a check of everything found.
#[derive(Debug)]
pub struct Report {
    /// The segments that could be read, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Everything that is wrong; empty when the log is sound.
    pub problems: Vec<OpenError>,
}

/// Opens the log in a directory for inspection.
pub fn inspect(dir: &Path) -> Result<Inspector, OpenError> {
    inspect_on(&RealFs, dir)
}

/// Whose log a directory holds, and where it begins and ends; `None` when there is no segment.
///
/// A service may be writing it meanwhile: a frame that was read before it was whole, with whole ones behind it, looks like
/// damage. Damage is at the same place when one looks again.
///
/// # Errors
/// When what is needed to tell is damaged, or cannot be read.
pub fn overview(dir: &Path) -> Result<Option<(Identity, Overview)>, OpenError> {
    overview_on(&RealFs, dir)
}

pub(crate) fn overview_on(fs: &dyn Fs, dir: &Path) -> Result<Option<(Identity, Overview)>, OpenError> {
    let (mut looks, mut seen) = (1, None);
    loop {
        let inspector = inspect_on(fs, dir)?;
        match inspector.overview() {
            Err(OpenError::Damage(damage))
                if looks < LOOKS_MAX && seen != Some((damage.path.clone(), damage.offset)) =>
            {
                seen = Some((damage.path, damage.offset));
                looks += 1;
            }
            overview => return Ok(inspector.identity().cloned().zip(overview?)),
        }
    }
}

pub(crate) fn inspect_on(fs: &dyn Fs, dir: &Path) -> Result<Inspector, OpenError> {
    let mut attempts = 1;
    loop {
        let listing = catalog::list(fs, dir)?;
        match open_all(fs, &listing.segments) {
            // A running service trimmed it after it was listed.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound && attempts < LISTINGS_MAX => attempts += 1,
            Err(error) => return Err(error.into()),
            Ok((files, mut problems)) => {
                problems.extend(catalog::check_sequence(&listing.segments).err());
                return Ok(Inspector { files, problems });
            }
        }
    }
}

/// Opens what has a good header, and collects what is wrong with the others.
fn open_all(fs: &dyn Fs, named: &[Named]) -> Result<(Vec<SegmentFile>, Vec<OpenError>), IoError> {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for (at, segment) in named.iter().enumerate() {
        match catalog::open(fs, segment, Access::Read) {
            Ok(Opened::Good(file)) => files.push(file),
            // The next start removes it.
            Ok(Opened::NeverWritten(_)) if at + 1 == named.len() => {}
            Ok(Opened::NeverWritten(what)) => problems.push(catalog::damage(&segment.path, what).into()),
            Err(OpenError::Io(error)) => return Err(error),
            Err(error) => problems.push(error),
        }
    }
    Ok((files, problems))
}

impl Inspector {
    /// Whose stream it holds; `None` when there is no segment.
    pub fn identity(&self) -> Option<&Identity> {
        self.files.first().map(|file| &file.header.identity)
    }

    /// From headers and the tail only.
    fn overview(&self) -> Result<Option<Overview>, OpenError> {
        let Some(first) = self.files.first() else { return Ok(None) };
        let end_lsn = tail::scan_tail(&self.files)?.end.end_lsn;
        let bytes = self.files.iter().map(|file| file.header.size).sum();
        let segments = self.files.len() as u64;
        Ok(Some(Overview { first_lsn: first.header.first_lsn, end_lsn, bytes, segments }))
    }

    /// Reads and checks every frame: checksum, chain, inner structure, order of transactions.
    ///
    /// # Errors
    /// Only when the operating system can't read; damage is in the report.
    pub fn check(mut self) -> Result<Report, OpenError> {
        let mut report = Report { segments: Vec::new(), problems: std::mem::take(&mut self.problems) };
        let mut progress: Option<Progress> = None;
        for index in 0..self.files.len() {
            // After damage, the next segment is read from its own start.
            let state = progress.take().unwrap_or_else(|| Progress::new(&self.files, index));
            let (summary, outcome) = self.check_segment(index, state)?;
            report.segments.extend(summary);
            match outcome {
                Ok(state) => progress = state,
                Err(damage) => report.problems.push(damage.into()),
            }
        }
        Ok(report)
    }

    /// Checks one segment; no summary when it was recycled meanwhile, no state when nothing can follow.
    fn check_segment(&self, index: usize, mut progress: Progress) -> Result<Checked, OpenError> {
        let Some(file) = self.files.get(index) else { return Ok((None, Ok(None))) };
        if let Err(damage) = progress.enter(index, file) {
            return Ok((None, Err(damage)));
        }
        let mut walk = Walk::new(&self.files, index)?;
        let mut summary = SegmentSummary::new(file, index + 1 < self.files.len());
        loop {
            let offset = walk.scan.offset;
            let outcome = match walk.step() {
                Ok(Step::Frame(frame)) => match progress.accept(index, offset, &frame) {
                    Ok(()) => {
                        summary.add(&frame, walk.scan.offset);
                        continue;
                    }
                    Err(what) => Err(Damage { path: file.path.clone(), offset, what }),
                },
                Ok(Step::NextSegment) => Ok(Some(progress)),
                Ok(Step::End) => Ok(None),
                Ok(Step::Gone) => return Ok((None, Ok(None))),
                Err(OpenError::Damage(damage)) => Err(damage),
                Err(error) => return Err(error),
            };
            return Ok((Some(summary), outcome));
        }
    }

    /// Every frame from the segment that holds `from` up to the first one behind `to`; an error ends it. The last
    /// pieces may be of a transaction whose end is not there, or not yet.
    pub fn frames(&self, from: Lsn, to: Lsn) -> impl Iterator<Item = Result<Frame, ReadError>> {
        let at = self.files.partition_point(|file| file.header.first_lsn <= from).saturating_sub(1);
        let mut frames = Frames { files: &self.files, index: at, walk: None };
        let mut failed = false;
        std::iter::from_fn(move || {
            let next = if failed { None } else { frames.next_frame().transpose() };
            failed = matches!(next, Some(Err(_)));
            next.filter(|frame| !frame.as_ref().is_ok_and(|frame| frame.header().first_lsn > to))
        })
        .fuse()
    }
}

/// What the check of one segment came to: its summary, and the state behind it or the damage in it.
type Checked = (Option<SegmentSummary>, Result<Option<Progress>, Damage>);

/// Frames across segments.
struct Frames<'a> {
    files: &'a [SegmentFile],
    index: usize,
    walk: Option<Walk<'a>>,
}

impl Frames<'_> {
    fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        while self.index < self.files.len() {
            let mut walk = match self.walk.take() {
                Some(walk) => walk,
                None => Walk::new(self.files, self.index).map_err(read_error)?,
            };
            match walk.step().map_err(read_error)? {
                Step::Frame(frame) => {
                    self.walk = Some(walk);
                    return Ok(Some(frame));
                }
                Step::NextSegment | Step::Gone => self.index += 1,
                Step::End => self.index = self.files.len(),
            }
        }
        Ok(None)
    }
}

fn read_error(error: OpenError) -> ReadError {
    match error {
        OpenError::Io(error) => ReadError::Io(error),
        OpenError::Damage(damage) => ReadError::Damage(damage),
        other => ReadError::Damage(Damage { path: PathBuf::new(), offset: 0, what: other.to_string() }),
    }
}

/// What comes next in a segment.
enum Step {
    Frame(Frame),
    /// The next segment goes on from here.
    NextSegment,
    /// The log ends here.
    End,
    /// The service recycled the file while it was read.
    Gone,
}

/// Steps through one segment that may be in use.
struct Walk<'a> {
    files: &'a [SegmentFile],
    index: usize,
    scan: Scan,
}

impl<'a> Walk<'a> {
    fn new(files: &'a [SegmentFile], index: usize) -> Result<Walk<'a>, OpenError> {
        let file = &files[index];
        let scan = Scan::new(Window::new(file.path.clone(), file.file.clone())?, &file.header);
        Ok(Walk { files, index, scan })
    }

    fn step(&mut self) -> Result<Step, OpenError> {
        let what = match self.scan.step()? {
            Found::Frame(frame) => return Ok(Step::Frame(frame)),
            Found::Bad(what) | Found::Nonsense(what) => what,
        };
        if self.is_recycled()? {
            return Ok(Step::Gone);
        }
        if self.files.get(self.index + 1).is_some_and(|next| tail::joins(&self.scan.chain, next)) {
            return Ok(Step::NextSegment);
        }
        let Err(damage) = tail::judge(self.files, self.index, &mut self.scan, what) else {
            return Ok(Step::End);
        };
        // The service may have been writing the frame while it was read.
        self.scan.window.forget();
        match self.scan.step()? {
            Found::Frame(frame) => Ok(Step::Frame(frame)),
            _ => Err(damage),
        }
    }

    /// Whether the file has got another header since it was opened.
    fn is_recycled(&self) -> Result<bool, OpenError> {
        let file = &self.files[self.index];
        Ok(!catalog::has_header(file)?)
    }
}

impl SegmentSummary {
    fn new(file: &SegmentFile, sealed: bool) -> SegmentSummary {
        let header = &file.header;
        SegmentSummary {
            path: file.path.clone(),
            seq: header.seq,
            first_lsn: header.first_lsn,
            last_lsn: header.first_lsn,
            bytes: header.size,
            used_bytes: HEADER_BYTES as u64,
            frames: 0,
            transactions: 0,
            sealed,
        }
    }

    fn add(&mut self, frame: &Frame, end: u64) {
        self.frames += 1;
        self.used_bytes = end;
        let ended = frame.pieces().filter(|piece| piece.is_last()).count() as u64;
        self.transactions += ended;
        if ended > 0 || frame.kind() == FrameKind::Progress {
            self.last_lsn = frame.last_lsn();
        }
    }
}
