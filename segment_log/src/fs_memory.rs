//! A file system in memory that can break any operation, die in the middle, and lose power.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use memmap2::MmapRaw;

use crate::fs::{Access, File, Fs};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Reproducible random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What happens at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with EIO, once; an fsync that fails has lost what it was to write.
    Io,
    /// It and every later one fail with ENOSPC where they need room.
    NoSpace,
    /// The process is gone: it and every later operation fails.
    Death,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last fsync.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Change {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Since the directory's last fsync.
    changes: Vec<Change>,
    inodes: Vec<Inode>,
    locked: bool,
    operations: u64,
    fault: Option<(u64, Fault)>,
    short_writes: Option<Rng>,
}

/// The file system; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct MemoryFs(Arc<Mutex<State>>);

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
        Change::Unlink(path) => drop(names.remove(path)),
        Change::Rename(from, to) => {
            let inode = names.remove(from).unwrap();
            names.insert(to.clone(), inode);
        }
    }
}

impl State {
    /// Counts an operation; the error it is to fail with.
    fn operation(&mut self, needs_room: bool) -> io::Result<()> {
        self.operations += 1;
        let eio = || io::Error::from_raw_os_error(5);
        match self.fault {
            Some((at, Fault::Io)) if at == self.operations => Err(eio()),
            Some((at, Fault::Death)) if at <= self.operations => Err(eio()),
            Some((at, Fault::NoSpace)) if at <= self.operations && needs_room => Err(io::Error::from_raw_os_error(28)),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the `n`-th operation from now fail; 1 is the next.
    pub(crate) fn fail_at(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + n, fault));
    }

    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    pub(crate) fn write_short(&self, rng: Rng) {
        self.state().short_writes = Some(rng);
    }

    /// What was not fsynced is kept, lost or scrambled, sector by sector; directory changes survive up to some point.
    pub(crate) fn lose_power(&self, rng: &mut Rng) {
        let state = &mut *self.state();
        let survivors = rng.below(state.changes.len() as u64 + 1) as usize;
        state.changes.iter().take(survivors).for_each(|change| apply(&mut state.durable_names, change));
        state.names = state.durable_names.clone();
        state.changes.clear();
        for inode in &mut state.inodes {
            let mode = rng.below(4);
            inode.durable.resize(if inode.durable.is_empty() && mode == 0 { 0 } else { inode.live.len() }, 0);
            for (at, bytes) in std::mem::take(&mut inode.pending) {
                lose_some(&mut inode.durable, at, &bytes, mode, rng);
            }
            inode.live = inode.durable.clone();
        }
    }

    /// Names of the files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.names[path]].live.clone()
    }

    /// Replaces or makes a file, durably.
    pub(crate) fn put(&self, path: &Path, content: Vec<u8>) {
        let state = &mut *self.state();
        state.inodes.push(Inode { live: content.clone(), durable: content, pending: Vec::new() });
        state.names.insert(path.to_owned(), state.inodes.len() - 1);
        state.durable_names.insert(path.to_owned(), state.inodes.len() - 1);
    }

    /// Removes a file, durably.
    pub(crate) fn take(&self, path: &Path) -> Vec<u8> {
        let content = self.content(path);
        self.state().names.remove(path);
        self.state().durable_names.remove(path);
        content
    }

    /// Another one with the same files, all durable.
    pub(crate) fn copy(&self) -> MemoryFs {
        let copy = MemoryFs::default();
        self.files().iter().for_each(|path| copy.put(path, self.content(path)));
        copy
    }
}

/// Brings a part of a write to disk: nothing, everything, or each sector by chance, some of them as garbage.
fn lose_some(durable: &mut Vec<u8>, at: usize, bytes: &[u8], mode: u64, rng: &mut Rng) {
    let mut done = 0;
    while done < bytes.len() {
        let len = (SECTOR - (at + done) % SECTOR).min(bytes.len() - done);
        let (from, to) = (at + done, at + done + len);
        let kept = mode == 1 || (mode >= 2 && rng.one_in(2));
        if kept && durable.len() < to {
            durable.resize(to, 0);
        }
        if kept && mode == 3 && rng.one_in(4) {
            durable[from..to].iter_mut().for_each(|byte| *byte = rng.next() as u8);
        } else if kept {
            durable[from..to].copy_from_slice(&bytes[done..done + len]);
        }
        done += len;
    }
}

struct MemoryFile {
    fs: MemoryFs,
    inode: usize,
}

struct Lock(MemoryFs);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Fs for MemoryFs {
    fn prepare_dir(&self, _dir: &Path) -> io::Result<Result<(), String>> {
        Ok(Ok(()))
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(self.state().names.keys().map(name).collect())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let was_locked = std::mem::replace(&mut self.state().locked, true);
        Ok(if was_locked { None } else { Some(Box::new(Lock(self.clone()))) })
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.operation(false)?;
        Ok(Arc::new(MemoryFile { fs: self.clone(), inode: state.inode(path)? }))
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let result = state.operation(true);
        let inode = state.inodes.len();
        // As with fallocate: the file exists even when its blocks could not be reserved.
        let size = if result.is_ok() { size as usize } else { 0 };
        state.inodes.push(Inode { live: vec![0; size], ..Inode::default() });
        state.change(Change::Link(path.to_owned(), inode));
        result?;
        Ok(Arc::new(MemoryFile { fs: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(true)?;
        state.inode(from)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(false)?;
        state.inode(path)?;
        state.change(Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation(false)?;
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }
}

impl File for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.fs.state().inodes[self.inode].live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.fs.state();
        let live = &state.inodes[self.inode].live;
        let rest = live.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.fs.state();
        let result = state.operation(false);
        let len = match (&result, &mut state.short_writes) {
            (Err(_), None) => bytes.len() / 2,
            (Err(_), Some(rng)) => rng.below(bytes.len() as u64) as usize,
            (Ok(()), Some(rng)) => 1 + rng.below(bytes.len() as u64) as usize,
            (Ok(()), None) => bytes.len(),
        };
        let (inode, at) = (&mut state.inodes[self.inode], offset as usize);
        inode.live.resize(inode.live.len().max(at + len), 0);
        inode.live[at..at + len].copy_from_slice(&bytes[..len]);
        inode.pending.push((at, bytes[..len].to_vec()));
        result.map(|()| len)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.fs.state();
        let result = state.operation(false);
        let inode = &mut state.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if result.is_ok() {
            inode.durable.resize(inode.live.len(), 0);
            pending.iter().for_each(|(at, bytes)| inode.durable[*at..at + bytes.len()].copy_from_slice(bytes));
        }
        result
    }

    fn map(&self) -> io::Result<Option<MmapRaw>> {
        Ok(None)
    }
}
