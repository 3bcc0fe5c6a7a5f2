//! Temporary directories that do not pile up when their makers are killed.
//!
//! The maker holds a lock on a file in its directory for as long as it lives. A directory with such a file that nobody
//! holds has been left behind, and the next maker removes it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::error::Error;
use crate::owner::Owner;

const PREFIX: &str = "walcast-pg-";
const LOCK_FILE: &str = "lock";

/// A directory of the server's user. It is removed when dropped.
pub(crate) struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes an empty one among the system's temporary files.
    pub(crate) fn new(owner: Owner) -> Result<Scratch, Error> {
        static SWEEP: Once = Once::new();
        let parent = owner.temporary_root();
        SWEEP.call_once(|| sweep(&parent));
        Scratch::make(owner, parent)
    }

    /// Makes an empty one in `parent`, which the owner can enter.
    pub(crate) fn new_in(owner: Owner, parent: &Path) -> Result<Scratch, Error> {
        sweep(parent);
        Scratch::make(owner, parent.to_path_buf())
    }

    fn make(owner: Owner, parent: PathBuf) -> Result<Scratch, Error> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
        let directory = directory.map_err(Error::file("make a directory in", parent))?;
        let everyone_enters = Permissions::from_mode(0o711);
        fs::set_permissions(directory.path(), everyone_enters).map_err(Error::file("open", directory.path()))?;
        let lock = lock(directory.path()).map_err(Error::file("lock", directory.path()))?;
        owner.take(directory.path())?;
        Ok(Scratch { directory, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// The lock file gets its name when it is locked, so that nobody ever finds it free.
fn lock(directory: &Path) -> std::io::Result<File> {
    let unnamed = directory.join("lock.new");
    let file = File::create_new(&unnamed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(unnamed, directory.join(LOCK_FILE))?;
    Ok(file)
}

/// Removes what killed processes left behind in `parent`.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for directory in ours.map(|entry| entry.path()).filter(|path| is_abandoned(path)) {
        // Another process may be sweeping too, and what stays is harmless.
        drop(fs::remove_dir_all(directory));
    }
}

fn is_abandoned(directory: &Path) -> bool {
    let lock = File::open(directory.join(LOCK_FILE));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_abandoned_directory_is_swept_away() {
        let parent = tempfile::tempdir().unwrap();
        let [held, abandoned, foreign] =
            ["walcast-pg-1", "walcast-pg-2", "walcast-pg-3"].map(|name| parent.path().join(name));
        for directory in [&held, &abandoned, &foreign] {
            fs::create_dir(directory).unwrap();
        }
        let guard = lock(&held).unwrap();
        drop(lock(&abandoned).unwrap());
        sweep(parent.path());
        assert_eq!((held.exists(), abandoned.exists(), foreign.exists()), (true, false, true));
        drop(guard);
    }
}
