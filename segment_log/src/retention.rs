//! Segment files come and go: creation, trimming, and recycling in between.
//!
//! A recycled file has its blocks allocated and written, which makes fdatasync about twice as fast as on a fresh one.
//! Its old frames stay in it; they don't count, because the new header has another salt.
//!
//! ```text
//! create   *.tmp (fallocate) or *.free ── header, fdatasync ── rename to *.seg, fsync directory
//! trim     *.seg ── rename to *.free or unlink ── fsync directory
//! ```
//!
//! So a `.seg` file always has its header, and whatever else a crash leaves is removed at the next start.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use decoder::Lsn;

use crate::error::IoError;
use crate::fs::{Access, File, Fs, write_all_at};
use crate::header::Header;
use crate::log::Shared;
use crate::segment::Segment;

/// Ending of a file that is being created.
pub(crate) const TEMPORARY: &str = ".tmp";
/// Ending of a file that waits to be used again.
pub(crate) const FREE: &str = ".free";
/// Files kept for use again: enough to go on while targets catch up in steps, little beside the log itself.
const SPARES_MAX: usize = 2;

/// Trimmed files of the ordinary size.
#[derive(Default)]
pub(crate) struct Spares(Vec<PathBuf>);

/// Why there is no new segment.
pub(crate) enum CreateError {
    /// Nothing was left behind; try again later.
    DiskFull {
        /// Size of the file that did not fit.
        bytes: u64,
    },
    /// Nobody knows what is on disk.
    Fatal(IoError),
}

impl Shared {
    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the segment that this header describes, from a spare file when there is one.
pub(crate) fn create_segment(shared: &Shared, header: Header) -> Result<Arc<Segment>, CreateError> {
    let (fs, dir) = (&*shared.fs, &shared.options.dir);
    if header.size == shared.options.segment_size {
        let spare = shared.spares().0.pop();
        if let Some(path) = spare {
            let file = fs.open(&path, Access::ReadWrite);
            let file = file.map_err(|error| CreateError::Fatal(IoError::new("open", &path, error)))?;
            return finish(fs, dir, header, &path, file);
        }
    }
    match create_fresh(fs, dir, header.clone()) {
        // What is kept for later may be just what is lacking now.
        Err(CreateError::DiskFull { .. }) if discard_spares(shared)? => create_fresh(fs, dir, header),
        result => result,
    }
}

/// Makes it from a new file.
pub(crate) fn create_fresh(fs: &dyn Fs, dir: &Path, header: Header) -> Result<Arc<Segment>, CreateError> {
    let path = dir.join(format!("{}{TEMPORARY}", header.file_name()));
    let bytes = header.size;
    match fs.create(&path, bytes) {
        Ok(file) => finish(fs, dir, header, &path, file),
        Err(error) => Err(give_up(fs, &path, bytes, IoError::new("create", &path, error))),
    }
}

/// Writes the header and gives the file its name.
fn finish(
    fs: &dyn Fs,
    dir: &Path,
    header: Header,
    path: &Path,
    file: Arc<dyn File>,
) -> Result<Arc<Segment>, CreateError> {
    let (bytes, target) = (header.size, dir.join(header.file_name()));
    let named = write_header(&header, path, &*file)
        .and_then(|()| fs.rename(path, &target).map_err(|error| IoError::new("rename", path, error)));
    named.map_err(|error| give_up(fs, path, bytes, error))?;
    fs.sync_dir(dir).map_err(|error| CreateError::Fatal(IoError::new("fsync", dir, error)))?;
    Ok(Arc::new(Segment::new(header, &target, file).map_err(CreateError::Fatal)?))
}

fn write_header(header: &Header, path: &Path, file: &dyn File) -> Result<(), IoError> {
    let bytes = header.encode().map_err(|long| {
        let text = format!("names of {} bytes do not fit the header", long.0);
        IoError::new("write", path, io::Error::new(io::ErrorKind::InvalidInput, text))
    })?;
    write_all_at(file, &bytes[..], 0).map_err(|error| IoError::new("write", path, error))?;
    file.sync().map_err(|error| IoError::new("fsync", path, error))
}

/// Removes what was begun. Only a full disk can be waited out; after a failed fsync that is not so even then.
fn give_up(fs: &dyn Fs, path: &Path, bytes: u64, error: IoError) -> CreateError {
    if !error.is_disk_full() || error.operation == "fsync" {
        return CreateError::Fatal(error);
    }
    match fs.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            CreateError::Fatal(IoError::new("remove", path, error))
        }
        _ => CreateError::DiskFull { bytes },
    }
}

/// Removes the spare files; false when there were none.
fn discard_spares(shared: &Shared) -> Result<bool, CreateError> {
    let spares = std::mem::take(&mut shared.spares().0);
    for path in &spares {
        shared.fs.unlink(path).map_err(|error| CreateError::Fatal(IoError::new("remove", path, error)))?;
    }
    Ok(!spares.is_empty())
}

/// Gives up segments; see [`Log::trim`](crate::Log::trim).
pub(crate) fn trim(shared: &Shared, below: Lsn) -> Result<(), IoError> {
    // One at a time: a file that can't be removed goes back to where it was.
    let _guard = shared.trimming.lock().unwrap_or_else(PoisonError::into_inner);
    let below = below.min(shared.positions().durable.lsn());
    while let Some(segment) = take_first(shared, below) {
        tracing::debug!(segment = %segment.path.display(), %below, "segment trimmed");
        if let Err(error) = remove(shared, &segment) {
            let mut segments = shared.segments();
            segments.push_front(segment);
            shared.publish_sizes(&segments);
            return Err(error);
        }
        let dir = &shared.options.dir;
        // A directory that may come back with a hole in it is as bad as a lost write.
        shared.fs.sync_dir(dir).map_err(|error| {
            shared.fail(IoError::new("fsync", dir, io::Error::from(error.kind())));
            IoError::new("fsync", dir, error)
        })?;
    }
    Ok(())
}

/// Takes the first segment off the list when nothing of it is needed.
fn take_first(shared: &Shared, below: Lsn) -> Option<Arc<Segment>> {
    let mut segments = shared.segments();
    let total: u64 = segments.iter().map(|segment| segment.size()).sum();
    let (first, second) = (segments.front()?, segments.get(1)?);
    if second.header.first_lsn > below || total - first.size() < shared.options.retain_min {
        return None;
    }
    let first = segments.pop_front();
    shared.publish_sizes(&segments);
    first
}

/// Takes a segment's file out of the log: keeps it for use again, or removes it.
fn remove(shared: &Shared, segment: &Arc<Segment>) -> Result<(), IoError> {
    let (fs, path) = (&*shared.fs, &segment.path);
    // It is off the list, so nobody can get at it any more: the last reference means that no frame or cursor reads it.
    let reusable = Arc::strong_count(segment) == 1 && segment.size() == shared.options.segment_size;
    let mut spares = shared.spares();
    if reusable && spares.0.len() < SPARES_MAX {
        let spare = path.with_extension(FREE.trim_start_matches('.'));
        fs.rename(path, &spare).map_err(|error| IoError::new("rename", path, error))?;
        spares.0.push(spare);
        return Ok(());
    }
    fs.unlink(path).map_err(|error| IoError::new("remove", path, error))
}

/// A salt no earlier life of the file is likely to have had: 32 bits of the process's random hash keys.
pub(crate) fn random_salt() -> u32 {
    RandomState::new().hash_one(SystemTime::now()) as u32
}

/// Now, in microseconds since 1970.
pub(crate) fn unix_micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
