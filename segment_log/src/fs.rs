//! The seam between the log and the file system, so that tests can lose power and break any operation.

use std::any::Any;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

/// What the log asks of a directory.
///
/// A change of the directory (create, rename, unlink) is on disk only after `sync_dir`, a write only after `sync`.
pub(crate) trait Fs: Send + Sync {
    /// Makes the directory (0700) when it is missing, and checks that nobody else can use it; the text says what is
    /// wrong.
    fn prepare_dir(&self, dir: &Path) -> io::Result<Result<(), String>>;
    /// Names of everything in it.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Takes an exclusive lock that lasts as long as the value; `None` when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
    /// Opens an existing file, never through a symbolic link.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Makes a new file (0600) of this size whose blocks are reserved.
    fn create(&self, path: &Path, size: u64) -> io::Result<Arc<dyn File>>;
    /// Renames within the directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the changes of the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// What the log asks of a file. Files never change their size.
pub(crate) trait File: Send + Sync {
    /// Its size.
    fn size(&self) -> io::Result<u64>;
    /// Reads at an offset; fewer bytes than asked for are no error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset; fewer bytes than asked for are no error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes all writes durable.
    fn sync(&self) -> io::Result<()>;
    /// A map of the whole file, where the file system keeps maps and writes coherent.
    fn map(&self) -> io::Result<Option<MmapRaw>>;
}

/// Writes all of it.
pub(crate) fn write_all_at(file: &dyn File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends; returns how many bytes.
pub(crate) fn read_up_to(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Overwrites a range with zeros.
pub(crate) fn zero_range(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let zeros = vec![0; CHUNK.min(to.saturating_sub(from)) as usize];
    while from < to {
        let len = CHUNK.min(to - from);
        write_all_at(file, zeros.get(..len as usize).unwrap_or(&zeros), from)?;
        from += len;
    }
    Ok(())
}

/// The operating system's.
pub(crate) struct RealFs;

struct RealFile {
    file: fs::File,
}

/// File systems on which a `MAP_SHARED` map and `pwrite` share one page cache (magic numbers of statfs(2)): ext2/3/4,
/// xfs, btrfs, tmpfs, overlayfs, f2fs. Elsewhere (NFS, FUSE, …) frames are read with pread.
const COHERENT_MAPS: [u64; 6] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0xF2F5_2010];

impl Fs for RealFs {
    fn prepare_dir(&self, dir: &Path) -> io::Result<Result<(), String>> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => sync_directory(dir.parent().unwrap_or(dir))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let metadata = fs::symlink_metadata(dir)?;
        Ok(check_directory(&metadata, rustix::process::geteuid().as_raw()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let file = options(Access::ReadWrite).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile { file: options(access).open(path)? }))
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Arc<dyn File>> {
        let file = RealFile { file: options(Access::ReadWrite).create_new(true).open(path)? };
        match rustix::fs::fallocate(&file.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            // Some file systems can't reserve; there, written blocks are the reservation.
            Err(rustix::io::Errno::OPNOTSUPP) => zero_range(&file, 0, size)?,
            Err(error) => return Err(error.into()),
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_directory(dir)
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
    fs::File::open(dir)?.sync_all()
}

fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// What is wrong with a log directory of this owner and mode.
fn check_directory(metadata: &fs::Metadata, uid: u32) -> Result<(), String> {
    if !metadata.is_dir() {
        return Err("is not a directory".to_owned());
    }
    if metadata.uid() != uid {
        return Err(format!("belongs to user {}, expected {uid}", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("has mode {mode:04o}, expected 0700"));
    }
    Ok(())
}

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn map(&self) -> io::Result<Option<MmapRaw>> {
        let magic = rustix::fs::fstatfs(&self.file)?.f_type as u64;
        if !COHERENT_MAPS.contains(&(magic & 0xFFFF_FFFF)) {
            return Ok(None);
        }
        memmap2::MmapOptions::new().map_raw_read_only(&self.file).map(Some)
    }
}
