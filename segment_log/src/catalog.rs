//! The segment files of a directory and their headers, as found; nothing is changed here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use decoder::Lsn;

use crate::error::{Damage, IoError, OpenError};
use crate::fs::{Access, File, Fs, read_up_to};
use crate::header::{FORMAT_VERSION, HEADER_BYTES, Header, HeaderError, parse_file_name};
use crate::log::Identity;
use crate::retention::{FREE, TEMPORARY};

/// A file name that says it is a segment.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    pub(crate) seq: u64,
    first_lsn: Lsn,
}

/// What is in the directory.
pub(crate) struct Listing {
    /// By number.
    pub(crate) segments: Vec<Named>,
    /// Files that a crash left.
    pub(crate) leftovers: Vec<PathBuf>,
}

/// A segment file with a good header.
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) file: Arc<dyn File>,
}

/// Lists a directory; files of others (lock, socket, spools) are passed over.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Listing, OpenError> {
    let names = fs.list(dir).map_err(|error| IoError::new("list", dir, error))?;
    let mut listing = Listing { segments: Vec::new(), leftovers: Vec::new() };
    for name in names {
        let path = dir.join(&name);
        if name.ends_with(&format!(".seg{TEMPORARY}")) || name.ends_with(FREE) {
            listing.leftovers.push(path);
        } else if name.ends_with(".seg") {
            let (seq, first_lsn) = parse_file_name(&name).ok_or_else(|| damage(&path, "not the name of a segment"))?;
            listing.segments.push(Named { path, seq, first_lsn });
        }
    }
    listing.segments.sort_by_key(|segment| (segment.seq, segment.first_lsn));
    Ok(listing)
}

/// Refuses numbers that are missing or there twice.
pub(crate) fn check_sequence(segments: &[Named]) -> Result<(), OpenError> {
    for (first, second) in segments.iter().zip(segments.iter().skip(1)) {
        if first.seq == second.seq {
            let (first, second, seq) = (first.path.clone(), second.path.clone(), first.seq);
            return Err(OpenError::Duplicate { seq, first, second });
        }
        if first.seq + 1 != second.seq {
            return Err(OpenError::Missing { missing: first.seq + 1, next: second.path.clone() });
        }
    }
    Ok(())
}

/// What a segment's file turned out to be.
pub(crate) enum Opened {
    Good(SegmentFile),
    /// Too short for a header, or nothing but zeros: what a crash while it was made may leave.
    NeverWritten(&'static str),
}

/// Opens a segment and reads its header.
pub(crate) fn open(fs: &dyn Fs, named: &Named, access: Access) -> Result<Opened, OpenError> {
    let path = &named.path;
    let file = fs.open(path, access).map_err(|error| IoError::new("open", path, error))?;
    let mut bytes = vec![0; HEADER_BYTES];
    let read = read_up_to(&*file, &mut bytes, 0).map_err(|error| IoError::new("read", path, error))?;
    bytes.truncate(read);
    let header = match Header::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderError::Short { .. }) => return Ok(Opened::NeverWritten("shorter than a header")),
        Err(HeaderError::Zero) if is_all_zero(&*file).map_err(|error| IoError::new("read", path, error))? => {
            return Ok(Opened::NeverWritten("nothing but zeros"));
        }
        Err(HeaderError::Zero) => return Err(damage(path, "header is nothing but zeros").into()),
        Err(HeaderError::Damaged(what)) => return Err(damage(path, what).into()),
        Err(HeaderError::Version { found }) => {
            return Err(OpenError::Version { path: path.clone(), found, expected: FORMAT_VERSION });
        }
    };
    if (header.seq, header.first_lsn) != (named.seq, named.first_lsn) {
        return Err(damage(path, "name differs from the header").into());
    }
    Ok(Opened::Good(SegmentFile { path: path.clone(), header, file }))
}

/// Whether the file still has the header it was opened with.
pub(crate) fn has_header(segment: &SegmentFile) -> Result<bool, IoError> {
    let mut bytes = vec![0; HEADER_BYTES];
    let read = read_up_to(&*segment.file, &mut bytes, 0);
    read.map_err(|error| IoError::new("read", &segment.path, error))?;
    Ok(Header::decode(&bytes).is_ok_and(|header| header == segment.header))
}

fn is_all_zero(file: &dyn File) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let read = read_up_to(file, &mut buffer, offset)?;
        if read == 0 || buffer.iter().take(read).any(|byte| *byte != 0) {
            return Ok(read == 0);
        }
        offset += read as u64;
    }
}

/// Damage of the header.
pub(crate) fn damage(path: &Path, what: &str) -> Damage {
    Damage { path: path.to_owned(), offset: 0, what: what.to_owned() }
}

/// Refuses a segment of another stream.
pub(crate) fn check_identity(file: &SegmentFile, expected: &Identity) -> Result<(), OpenError> {
    let found = &file.header.identity;
    let parts: [(&'static str, String, String); 5] = [
        ("system", found.system_id.to_string(), expected.system_id.to_string()),
        ("timeline", found.timeline.to_string(), expected.timeline.to_string()),
        ("database", format!("{:?}", found.database), format!("{:?}", expected.database)),
        ("slot", format!("{:?}", found.slot), format!("{:?}", expected.slot)),
        ("publication", format!("{:?}", found.publication), format!("{:?}", expected.publication)),
    ];
    match parts.into_iter().find(|(_, found, expected)| found != expected) {
        Some((what, found, expected)) => Err(OpenError::Foreign { path: file.path.clone(), what, found, expected }),
        None => Ok(()),
    }
}
