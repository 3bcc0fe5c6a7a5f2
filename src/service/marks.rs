//! Small facts that outlive the process, as files in the log's directory: which targets are paused, which are being
//! copied and need the log from where, and where the log began. Losing one in a crash of the machine loses nothing that
//! cannot be said again; a copy whose log is gone is refused, not continued.

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

/// A table that is copied again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resync {
    /// The log is kept from here.
    pub from: Lsn,
    /// Schema and name.
    pub table: (String, String),
    /// The service does it by itself, not a command.
    pub by_service: bool,
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

    /// From where the log is kept for a target that is being copied; `None` when it is not. A mark that cannot be read
    /// counts as one that the log has long left behind.
    pub(crate) fn bootstrapping(&self, target: &str) -> Option<Lsn> {
        let text = fs::read_to_string(self.bootstrapping_path(target));
        match text {
            Ok(text) => Some(text.trim().parse().unwrap_or(Lsn::ZERO)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(Lsn::ZERO),
        }
    }

    /// Remembers it, or that it is over.
    ///
    /// # Errors
    /// The file cannot be written or removed.
    pub(crate) fn set_bootstrapping(&self, target: &str, from: Option<Lsn>) -> Result<()> {
        let path = self.bootstrapping_path(target);
        match from {
            Some(lsn) => replace(&path, &format!("{lsn}\n")),
            None => remove(&path),
        }
    }

    /// The table that is copied again. A mark that cannot be read counts as none.
    pub(crate) fn resyncing(&self, target: &str) -> Option<Resync> {
        let text = fs::read_to_string(self.resyncing_path(target)).ok()?;
        let (lsn, schema, table, by_service) = serde_json::from_str::<(String, String, String, bool)>(&text).ok()?;
        Some(Resync { from: lsn.parse().ok()?, table: (schema, table), by_service })
    }

    /// Remembers it, or that it is over.
    ///
    /// # Errors
    /// The file cannot be written or removed.
    pub(crate) fn set_resyncing(&self, target: &str, resync: Option<&Resync>) -> Result<()> {
        let path = self.resyncing_path(target);
        match resync {
            Some(Resync { from, table: (schema, table), by_service }) => {
                replace(&path, &serde_json::json!([from.to_string(), schema, table, by_service]).to_string())
            }
            None => remove(&path),
        }
    }

    /// What a target's functions know the service by; a secret.
    pub(crate) fn token(&self, target: &str) -> Option<String> {
        let text = fs::read_to_string(self.token_path(target)).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// Remembers it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn set_token(&self, target: &str, token: &str) -> Result<()> {
        replace(&self.token_path(target), &format!("{token}\n"))
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

    fn bootstrapping_path(&self, target: &str) -> PathBuf {
        self.dir.join(format!("{target}.bootstrapping"))
    }

    fn token_path(&self, target: &str) -> PathBuf {
        self.dir.join(format!("{target}.token"))
    }

    fn resyncing_path(&self, target: &str) -> PathBuf {
        self.dir.join(format!("{target}.resyncing"))
    }
}

/// Writes a file that is at no time there in part.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    write(&new, text)?;
    fs::rename(&new, path).map_err(|e| Failure::because(format!("could not write \"{}\"", path.display()), &e))
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
    fn a_pin_is_remembered_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::new(dir.path());
        assert_eq!(marks.bootstrapping("berlin"), None);
        marks.set_bootstrapping("berlin", Some(Lsn::from_u64(0x10))).unwrap();
        marks.set_bootstrapping("berlin", Some(Lsn::from_u64(0x20))).unwrap();
        assert_eq!(Marks::new(dir.path()).bootstrapping("berlin"), Some(Lsn::from_u64(0x20)));
        assert_eq!(marks.bootstrapping("tokyo"), None);
        std::fs::write(dir.path().join("berlin.bootstrapping"), "garbage").unwrap();
        assert_eq!(marks.bootstrapping("berlin"), Some(Lsn::ZERO), "it is a copy that the log has left behind");
        marks.set_bootstrapping("berlin", None).unwrap();
        assert_eq!(marks.bootstrapping("berlin"), None);
    }

    #[test]
    fn a_table_that_is_copied_again_is_remembered_by_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::new(dir.path());
        let table = ("a.b\n".to_owned(), "\"c\" d".to_owned());
        let resync = Resync { from: Lsn::from_u64(7), table, by_service: true };
        marks.set_resyncing("berlin", Some(&resync)).unwrap();
        assert_eq!(marks.resyncing("berlin"), Some(resync));
        marks.set_resyncing("berlin", None).unwrap();
        assert_eq!(marks.resyncing("berlin"), None);
    }

    #[test]
    fn a_token_is_kept_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::new(dir.path());
        assert_eq!(marks.token("berlin"), None);
        marks.set_token("berlin", "abc").unwrap();
        assert_eq!(marks.token("berlin").as_deref(), Some("abc"));
        let mode = std::fs::metadata(dir.path().join("berlin.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
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
