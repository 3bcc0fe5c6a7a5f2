//! One transaction's changes until its commit: in memory while it is small, beyond that in a file.
//!
//! A spool file is scratch: never fsynced, nothing of it was acknowledged, after a crash the server sends the
//! transaction again. Entry: `length u32 | subtransaction xid u32 | relation u32 | change message`, little-endian;
//! the length counts the message only.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use decoder::{Lsn, RelationId, Xid};
use hashbrown::HashSet;

const ENTRY_HEADER: usize = 12;
/// What is read back at once from a file.
const READ_BUFFER: usize = 1 << 20;

/// A spool file or its directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use spool file or directory \"{path}\"", path = path.display())]
pub struct SpoolError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// One change on its way through a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// The (sub)transaction that made it; the transaction's own outside a stream.
    pub(crate) xid: Xid,
    /// What it is about; `None` for messages, types and TRUNCATE.
    pub(crate) relation: Option<RelationId>,
    /// Tag byte.
    pub(crate) tag: u8,
    /// The message after tag and stream xid.
    pub(crate) rest: &'a [u8],
}

/// The changes of one transaction in progress.
pub(crate) struct Spool {
    path: PathBuf,
    /// Entries not yet in the file.
    memory: Vec<u8>,
    /// `memory` is written out when it holds this much.
    memory_max: usize,
    file: Option<SpoolFile>,
    rolled_back: HashSet<u32>,
    has_messages: bool,
    /// Of each description, in order: where in the WAL the change is that it was sent for, if that has come.
    described: Vec<Lsn>,
    /// How many of them have their change.
    dated: usize,
}

struct SpoolFile {
    file: File,
    /// Bytes written so far; a write that failed half-way is repeated from here.
    length: u64,
}

impl Spool {
    /// An empty spool that will use `path` when it outgrows `memory_max` bytes.
    pub(crate) fn new(path: PathBuf, memory_max: usize) -> Spool {
        let rolled_back = HashSet::new();
        Spool {
            path,
            memory: Vec::new(),
            memory_max,
            file: None,
            rolled_back,
            has_messages: false,
            described: Vec::new(),
            dated: 0,
        }
    }

    /// Adds a change. The memory bound may be passed by one change.
    pub(crate) fn push(&mut self, entry: Entry<'_>) {
        let length = u32::try_from(entry.rest.len() + 1).expect("a protocol message is below 2 GiB");
        self.memory.extend_from_slice(&length.to_le_bytes());
        self.memory.extend_from_slice(&entry.xid.0.to_le_bytes());
        self.memory.extend_from_slice(&entry.relation.map_or(0, |relation| relation.0).to_le_bytes());
        self.memory.push(entry.tag);
        self.has_messages |= entry.tag == b'M';
        if entry.tag == b'R' {
            self.described.push(Lsn::MAX);
        }
        self.memory.extend_from_slice(entry.rest);
    }

    /// The descriptions that came since the last change were sent for this one.
    pub(crate) fn date_descriptions(&mut self, change: Lsn) {
        self.described[self.dated..].fill(change);
        self.dated = self.described.len();
    }

    /// Where the changes are that the descriptions were sent for, in the order of the descriptions.
    pub(crate) fn described(&self) -> &[Lsn] {
        &self.described
    }

    /// No change at all was added since the last [`Spool::clear`].
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.is_none()
    }

    /// A logical message is in it, rolled back or not.
    pub(crate) fn has_messages(&self) -> bool {
        self.has_messages
    }

    /// More is in memory than should be: [`Spool::write_out`] is due.
    pub(crate) fn is_full(&self) -> bool {
        self.memory.len() >= self.memory_max
    }

    /// Moves what is in memory to the file. After an error (a full disk) nothing is lost and it can be called again.
    pub(crate) fn write_out(&mut self) -> Result<(), SpoolError> {
        self.try_write_out().map_err(|source| SpoolError { path: self.path.clone(), source })
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(SpoolFile { file: create(&self.path)?, length: 0 });
        }
        if let Some(spool) = &mut self.file {
            spool.file.write_all_at(&self.memory, spool.length)?;
            spool.length += self.memory.len() as u64;
        }
        self.memory.clear();
        self.memory.shrink_to(self.memory_max * 2);
        Ok(())
    }

    /// The changes of this subtransaction will be passed over. Relation descriptions stay: see ARCHITECTURE.md.
    pub(crate) fn roll_back(&mut self, subxid: Xid) {
        self.rolled_back.insert(subxid.0);
    }

    /// Bytes on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.length)
    }

    /// Hands every change that was not rolled back to `each`, in order.
    pub(crate) fn replay<E: From<SpoolError>>(
        &mut self,
        mut each: impl FnMut(Option<RelationId>, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rolled_back = &self.rolled_back;
        let mut pass = |header: Header, message: &[u8]| {
            let skipped = rolled_back.contains(&header.xid) && message.first() != Some(&b'R');
            if skipped { Ok(()) } else { each((header.relation != 0).then_some(RelationId(header.relation)), message) }
        };
        if let Some(spool) = &mut self.file {
            replay_file(&self.path, spool, &mut pass)?;
        }
        let mut rest = self.memory.as_slice();
        while let Some((header, after)) = Header::split(rest) {
            let (message, after) = after.split_at(header.length);
            pass(header, message)?;
            rest = after;
        }
        Ok(())
    }

    /// Empties it for the next transaction and removes its file.
    pub(crate) fn clear(&mut self) {
        self.memory.clear();
        self.rolled_back.clear();
        self.has_messages = false;
        self.described.clear();
        self.dated = 0;
        self.remove_file();
    }

    fn remove_file(&mut self) {
        if self.file.take().is_some()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a spool file");
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.remove_file();
    }
}

struct Header {
    length: usize,
    xid: u32,
    relation: u32,
}

impl Header {
    /// Takes a header off the front. These bytes are our own: only their number can be short, at the end.
    fn split(bytes: &[u8]) -> Option<(Header, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<ENTRY_HEADER>()?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some((Header { length: word(0) as usize, xid: word(4), relation: word(8) }, rest))
    }
}

fn replay_file<E: From<SpoolError>>(
    path: &Path,
    spool: &mut SpoolFile,
    pass: &mut impl FnMut(Header, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| SpoolError { path: path.to_owned(), source };
    spool.file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut reader = io::BufReader::with_capacity(READ_BUFFER, (&spool.file).take(spool.length));
    let mut message = Vec::new();
    let mut left = spool.length;
    while left > 0 {
        let header = read_entry(&mut reader, &mut message).map_err(failed)?;
        left = left.saturating_sub((ENTRY_HEADER + message.len()) as u64);
        pass(header, &message)?;
        message.clear();
        message.shrink_to(READ_BUFFER);
    }
    Ok(())
}

fn read_entry(reader: &mut impl Read, message: &mut Vec<u8>) -> io::Result<Header> {
    let mut bytes = [0; ENTRY_HEADER];
    reader.read_exact(&mut bytes)?;
    let (header, _) = Header::split(&bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
    message.resize(header.length, 0);
    reader.read_exact(message)?;
    Ok(header)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// An empty directory for spool files under the log's directory; what an earlier process left there is removed.
pub(crate) fn prepare_directory(log_dir: &Path) -> Result<PathBuf, SpoolError> {
    let dir = log_dir.join("spool");
    let removed = match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let made = removed.and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(&dir));
    made.map_err(|source| SpoolError { path: dir.clone(), source })?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(xid: u32, rest: &[u8]) -> Entry<'_> {
        Entry { xid: Xid(xid), relation: Some(RelationId(7)), tag: b'I', rest }
    }

    fn replayed(spool: &mut Spool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        spool
            .replay(|relation, message| -> Result<(), SpoolError> {
                assert_eq!(relation, Some(RelationId(7)));
                all.push(message.to_vec());
                Ok(())
            })
            .expect("replays");
        all
    }

    #[test]
    fn changes_come_back_in_order_from_file_and_memory() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("1.spool");
        let mut spool = Spool::new(path.clone(), 64);
        for number in 0..100_u8 {
            spool.push(entry(1, &vec![number; usize::from(number) * 3]));
            if spool.is_full() {
                spool.write_out().expect("writes");
            }
        }
        assert!(spool.file_bytes() > 0);
        let all = replayed(&mut spool);
        assert_eq!(all.len(), 100);
        for (number, message) in all.iter().enumerate() {
            assert_eq!(message, &[&b"I"[..], &vec![number as u8; number * 3]].concat());
        }
        spool.clear();
        assert!(!path.exists());
        assert_eq!(replayed(&mut spool), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn rolled_back_subtransactions_are_passed_over_but_their_relations_stay() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut spool = Spool::new(dir.path().join("1.spool"), 1 << 20);
        spool.push(entry(1, b"kept"));
        spool.push(entry(2, b"gone"));
        spool.push(Entry { tag: b'R', ..entry(2, b"relation") });
        spool.push(entry(3, b"nested, released into 2 and gone with it"));
        spool.push(entry(1, b"kept too"));
        spool.roll_back(Xid(3));
        spool.roll_back(Xid(2));
        assert_eq!(replayed(&mut spool), [&b"Ikept"[..], b"Rrelation", b"Ikept too"]);
    }

    #[test]
    fn a_prepared_directory_is_empty() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let spool_dir = prepare_directory(dir.path()).expect("made");
        std::fs::write(spool_dir.join("9.spool"), b"left over").expect("written");
        let again = prepare_directory(dir.path()).expect("made again");
        assert_eq!(std::fs::read_dir(again).expect("listed").count(), 0);
    }
}
