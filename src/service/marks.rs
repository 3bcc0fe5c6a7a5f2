//! Small facts that outlive the process, as files in the log's directory: which targets are paused, and where the log
//! began. Losing one in a crash of the machine loses nothing that cannot be said again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use decoder::Lsn;

use crate::failure::{Failure, Result};

const ORIGIN: &str = "origin";

/// Where a log began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The slot's `confirmed_flush_lsn` at that time.
    pub lsn: Lsn,
    /// The source's `system_identifier`.
    pub system_id: u64,
}

/// The facts of one log.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    dir: PathBuf,
}

impl Marks {
    /// Those in this directory.
    pub(crate) fn new(log_dir: &Path) -> Marks {
        Marks { dir: log_dir.to_owned() }
    }

    /// Whether the operator paused this target.
    pub(crate) fn is_paused(&self, target: &str) -> bool {
        self.paused_path(target).exists()
    }

    /// Remembers whether this target is paused.
    ///
    /// # Errors
    /// The file cannot be written or removed.
    pub(crate) fn set_paused(&self, target: &str, paused: bool) -> Result<()> {
        let path = self.paused_path(target);
        match paused {
            true => write(&path, ""),
            false => remove(&path),
        }
    }

    /// Whose log it is and where it began when it was new; `None` when that is not known.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let text = fs::read_to_string(self.dir.join(ORIGIN)).ok()?;
        let (lsn, system_id) = text.trim().split_once(' ')?;
        Some(Origin { lsn: lsn.parse().ok()?, system_id: system_id.parse().ok()? })
    }

    /// Remembers it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn set_origin(&self, origin: Origin) -> Result<()> {
        write(&self.dir.join(ORIGIN), &format!("{} {}\n", origin.lsn, origin.system_id))
    }

    /// Names of targets are of `[a-z0-9_-]`, so they make file names.
    fn paused_path(&self, target: &str) -> PathBuf {
        self.dir.join(format!("{target}.paused"))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| Failure::because(format!("could not write \"{}\"", path.display()), &e))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Failure::because(format!("could not remove \"{}\"", path.display()), &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_remembered_until_it_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::new(dir.path());
        assert!(!marks.is_paused("berlin"));
        marks.set_paused("berlin", true).unwrap();
        assert!(Marks::new(dir.path()).is_paused("berlin") && !marks.is_paused("tokyo"));
        marks.set_paused("berlin", false).unwrap();
        marks.set_paused("berlin", false).unwrap();
        assert!(!marks.is_paused("berlin"));
    }

    #[test]
    fn the_origin_is_whole_or_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::new(dir.path());
        assert_eq!(marks.origin(), None);
        let origin = Origin { lsn: Lsn::from_u64(0x1_0000_0010), system_id: u64::MAX };
        marks.set_origin(origin).unwrap();
        assert_eq!(marks.origin(), Some(origin));
        std::fs::write(dir.path().join("origin"), "garbage").unwrap();
        assert_eq!(marks.origin(), None);
    }
}
