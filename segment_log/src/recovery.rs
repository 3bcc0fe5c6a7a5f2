//! What is done with the files that are there when a log is opened.
//!
//! | found | done |
//! | --- | --- |
//! | nothing | a first segment that begins at `Options::start` |
//! | `*.tmp`, `*.free` | removed: a segment being made, or kept for use again |
//! | last segment short or all zeros | removed: its creation was not finished |
//! | any other segment with a bad header | damage |
//! | a `.seg` file with another name, or a name that differs from its header | damage |
//! | another identity, another format version | refused |
//! | a number missing between two segments, or twice | refused |
//! | frames up to the end, nothing after them | go on there |
//! | a bad frame, and no valid frame after it | torn tail: cut there |
//! | a bad frame, and valid ones after it of which none says that it had been synced | torn tail: cut there |
//! | a bad frame, and a later frame or segment that says it had been synced | damage |
//! | a frame with the right checksum that makes no sense | damage |
//! | a transaction without its end at the tail | cut before its first frame, in an earlier segment if it began there |
//! | a first segment that begins inside a transaction whose end is missing | damage: only a durable one is trimmed so |
//!
//! Cutting removes the later segments, newest first, zeroes the rest of the segment from its back, and fsyncs. Then the frames that
//! nothing says were synced are written again and fsynced: the kernel may hold them in memory only, and may have
//! reported the failure to write them to the process that is gone.
//!
//! Frames are read from the first segment that may hold unsynced ones: its successors' headers say how far the log
//! had been synced when they were made. Older ones are checked by whoever reads them, and by `walcast log check`; so
//! the time of a start does not grow with the log.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::catalog::{self, Named, Opened, SegmentFile};
use crate::error::{Damage, IoError, OpenError};
use crate::fs::{Access, File, Fs, read_up_to, write_all_at, zero_range};
use crate::header::{HEADER_BYTES, Header};
use crate::log::Options;
use crate::retention::{self, CreateError};
use crate::scan::{Chain, Found, Scan, Window};
use crate::segment::Segment;
use crate::syncer::DurableLsn;
use crate::tail::{Mark, Tail, scan_tail};

/// A log whose end is known.
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) last: Arc<Segment>,
    /// Where the next frame goes in the last segment.
    pub(crate) offset: u64,
    pub(crate) chain: Chain,
    pub(crate) durable: DurableLsn,
}

/// Makes the first segment of a new log.
pub(crate) fn create_first(fs: &dyn Fs, options: &Options) -> Result<Recovered, OpenError> {
    let header = Header {
        identity: options.identity.clone(),
        salt: retention::random_salt(),
        seq: 1,
        first_lsn: options.start,
        open: None,
        first_frame_no: 1,
        prev_crc: 0,
        synced: 1,
        created_unix_micros: retention::unix_micros(),
        size: options.segment_size,
    };
    let created = retention::create_fresh(fs, &options.dir, header);
    let last = created.map_err(|error| match error {
        CreateError::DiskFull { bytes } => OpenError::DiskFull { dir: options.dir.clone(), bytes },
        CreateError::Fatal(error) => error.into(),
    })?;
    last.publish(HEADER_BYTES as u64);
    let durable = DurableLsn::of_synced_segments(std::slice::from_ref(&last), options.start)?;
    let segments = VecDeque::from([Arc::clone(&last)]);
    Ok(Recovered { segments, offset: HEADER_BYTES as u64, chain: Chain::start_of(&last.header), durable, last })
}

/// Finds the end of the log in the directory, and makes it durable; `None` when there is no log.
pub(crate) fn recover(fs: &dyn Fs, options: &Options) -> Result<Option<Recovered>, OpenError> {
    let listing = catalog::list(fs, &options.dir)?;
    remove(fs, &options.dir, &listing.leftovers)?;
    catalog::check_sequence(&listing.segments)?;
    let files = open_segments(fs, options, &listing.segments)?;
    if files.is_empty() {
        return Ok(None);
    }
    check_headers(&files)?;
    let tail = scan_tail(&files)?;
    let cut = files.iter().skip(tail.end.index + 1).rev().map(|file| file.path.clone()).collect::<Vec<_>>();
    remove(fs, &options.dir, &cut)?;
    repair(&files, &tail)?;
    assemble(files, tail).map(Some)
}

/// Removes files, in this order.
fn remove(fs: &dyn Fs, dir: &Path, paths: &[impl AsRef<Path>]) -> Result<(), IoError> {
    for path in paths.iter().map(AsRef::as_ref) {
        tracing::info!(file = %path.display(), "removing what a crash left");
        fs.unlink(path).map_err(|error| IoError::new("remove", path, error))?;
        fs.sync_dir(dir).map_err(|error| IoError::new("fsync", dir, error))?;
    }
    Ok(())
}

/// Opens them all; a last one that was never written is removed.
fn open_segments(fs: &dyn Fs, options: &Options, named: &[Named]) -> Result<Vec<SegmentFile>, OpenError> {
    let mut files = Vec::with_capacity(named.len());
    for (at, named_segment) in named.iter().enumerate() {
        match catalog::open(fs, named_segment, Access::ReadWrite)? {
            Opened::Good(file) => {
                catalog::check_identity(&file, &options.identity)?;
                files.push(file);
            }
            Opened::NeverWritten(_) if at + 1 == named.len() => {
                remove(fs, &options.dir, std::slice::from_ref(&named_segment.path))?;
            }
            Opened::NeverWritten(what) => return Err(catalog::damage(&named_segment.path, what).into()),
        }
    }
    Ok(files)
}

/// Checks that the headers follow each other.
fn check_headers(files: &[SegmentFile]) -> Result<(), Damage> {
    for (first, second) in files.iter().zip(files.iter().skip(1)) {
        let (before, after) = (&first.header, &second.header);
        if before.first_frame_no > after.first_frame_no || before.first_lsn > after.first_lsn {
            return Err(catalog::damage(&second.path, "begins before the segment that precedes it"));
        }
    }
    Ok(())
}

/// Cuts the tail and writes again what may never have reached the disk.
fn repair(files: &[SegmentFile], tail: &Tail) -> Result<(), IoError> {
    let Some(last) = files.get(tail.end.index) else { return Ok(()) };
    if tail.torn {
        tracing::info!(file = %last.path.display(), offset = tail.end.offset, "cutting the torn tail of the log");
        cut(last, &tail.end)?;
    }
    for part in tail.unsynced_parts() {
        let Some(file) = files.get(part.index) else { continue };
        rewrite(&*file.file, part.from, part.to).map_err(|error| IoError::new("write", &file.path, error))?;
    }
    Ok(())
}

/// Zeroes the rest of the segment, and fsyncs, from the back to the front: whenever the power fails, what is left is a
/// shorter tail. With a hole in it, the frames behind would say that the missing ones had been synced, which is damage.
/// Frames none of which vouches for another one of them may go together.
fn cut(segment: &SegmentFile, end: &Mark) -> Result<(), IoError> {
    let (mut frames, mut from) = frames_from(segment, end)?;
    let mut to = segment.header.size;
    loop {
        let zeroed = zero_range(&*segment.file, from, to);
        zeroed.map_err(|error| IoError::new("write", &segment.path, error))?;
        segment.file.sync().map_err(|error| IoError::new("fsync", &segment.path, error))?;
        let Some(last) = frames.last() else { return Ok(()) };
        let synced = last.synced.min(last.number);
        let kept = frames.partition_point(|frame| frame.number < synced);
        to = from;
        from = frames.get(kept).map_or(end.offset, |frame| frame.offset);
        frames.truncate(kept);
    }
}

/// A whole frame that is to be cut off.
struct Placed {
    number: u64,
    synced: u64,
    offset: u64,
}

/// The whole frames behind a place, and where they end.
fn frames_from(segment: &SegmentFile, mark: &Mark) -> Result<(Vec<Placed>, u64), IoError> {
    let window = Window::new(segment.path.clone(), segment.file.clone())?;
    let mut scan = Scan { window, offset: mark.offset, chain: mark.chain };
    let mut frames = Vec::new();
    loop {
        let offset = scan.offset;
        let Found::Frame(frame) = scan.step()? else { return Ok((frames, offset)) };
        frames.push(Placed { number: frame.number(), synced: frame.header().synced, offset });
    }
}

fn rewrite(file: &dyn File, mut from: u64, to: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; (1 << 20).min(to.saturating_sub(from) as usize)];
    while from < to {
        let wanted = (to - from).min(buffer.len() as u64) as usize;
        let read = read_up_to(file, buffer.get_mut(..wanted).unwrap_or_default(), from)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(file, buffer.get(..read).unwrap_or_default(), from)?;
        from += read as u64;
    }
    Ok(())
}

/// Maps the segments, and fsyncs those that were scanned.
fn assemble(files: Vec<SegmentFile>, tail: Tail) -> Result<Recovered, OpenError> {
    let mut segments = Vec::with_capacity(tail.end.index + 1);
    for file in files.into_iter().take(tail.end.index + 1) {
        segments.push(Arc::new(Segment::new(file.header, &file.path, file.file)?));
    }
    for (index, (segment, next)) in segments.iter().zip(segments.iter().skip(1)).enumerate() {
        segment.publish(tail.end_of(index).unwrap_or(segment.size()));
        segment.seal(next.header.first_frame_no);
    }
    let durable = DurableLsn::of_synced_segments(segments.get(tail.from..).unwrap_or_default(), tail.end.end_lsn)?;
    let last = segments.last().map(Arc::clone).expect("the tail ends in a segment");
    last.publish(tail.end.offset);
    let (offset, chain) = (tail.end.offset, tail.end.chain);
    Ok(Recovered { segments: segments.into(), last, offset, chain, durable })
}
