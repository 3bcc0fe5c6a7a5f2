//! What schemas came to be called while transactions that describe their tables were still open.
//!
//! A transaction's tables are described by the catalog as it was at the change that needs them, and renaming a schema
//! waits for nobody who writes in it. So a description may come after the rename that makes it wrong, and everything that
//! follows on the connection goes by it:
//!
//! ```text
//! WAL     T2: insert into a.t │ T1: ALTER SCHEMA a RENAME TO b, commit │ T1: CREATE TABLE a.t …, commit │ T2: commit
//! stream  T1: schema a is b   │ T2: Relation 7 "a.t", Insert 7   ← belongs into b.t, and another table is called a.t
//! ```
//!
//! Each row's message says where in the WAL the change is, and the descriptions that it needs come right before it (their
//! own position is 0/0). A description from before a rename's commit, in a transaction that commits after it, gets the new
//! name:
//!
//! | description is of | its transaction commits | name |
//! | --- | --- | --- |
//! | before the rename's commit | before it | as it says: so it was called |
//! | before the rename's commit | with it: the renamer's own | as it says: the rename follows in the log |
//! | before the rename's commit | after it | the new one |
//! | after it | after it | as it says: the catalog has the new one |
//!
//! A relation that the transaction itself made keeps the name that its own message says. (What else such a transaction does
//! to objects of the schema is told by the old name: docs/ddl.md.)
//!
//! Renames are kept in a file until no transaction can come any more that began before them (the slot's `restart_lsn`):
//! the renamer may be in the log, and the open transaction be sent once more to a new process. A rename that was made while
//! the capture was blind counts from the transaction that tells of it, but not for relations that the same message tells of
//! as new.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use decoder::{Lsn, RelationId};
use serde::{Deserialize, Serialize};

/// So many are no reason to look whether all are needed.
const CROWDED: usize = 1000;

/// Of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renamed {
    /// Old and new names of schemas: all at once, so that two may have exchanged theirs.
    pub(crate) schemas: Vec<(String, String)>,
    /// OIDs of relations that it tells of as new.
    pub(crate) made: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rename {
    /// Where its transaction committed.
    at: u64,
    what: Renamed,
}

/// The renames that a transaction may still come from before of.
#[derive(Debug)]
pub(crate) struct SchemaNames {
    path: PathBuf,
    /// By position.
    renames: Vec<Rename>,
    /// With more, some may not be needed any more.
    crowded: usize,
}

impl SchemaNames {
    /// Those in this file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours.
    pub(crate) fn read(path: PathBuf) -> io::Result<SchemaNames> {
        let renames = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(SchemaNames { path, renames, crowded: CROWDED })
    }

    /// Where they are kept.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A new connection: no transaction is sent any more that began before the slot's `restart_lsn`, and everything that
    /// ends after the log is sent again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn restart(&mut self, restart_lsn: Lsn, log_end: Lsn) -> io::Result<()> {
        let count = self.renames.len();
        self.renames.retain(|rename| restart_lsn.as_u64() < rename.at && rename.at < log_end.as_u64());
        self.crowded = CROWDED.max(2 * self.renames.len());
        if self.renames.len() < count { self.write() } else { Ok(()) }
    }

    /// How many there are, if that is so many that a new connection should look which of them are needed.
    pub(crate) fn too_many(&self) -> Option<usize> {
        Some(self.renames.len()).filter(|count| *count > self.crowded)
    }

    /// Takes what a transaction renamed, in the order of its messages. Durable when it returns, so that it is there
    /// whenever the log has the transaction.
    ///
    /// # Errors
    /// The file cannot be written. It can be called again.
    pub(crate) fn add(&mut self, commit_lsn: Lsn, renamed: &[Renamed]) -> io::Result<()> {
        let at = commit_lsn.as_u64();
        // It was sent before.
        self.renames.retain(|rename| rename.at != at);
        self.renames.extend(renamed.iter().map(|what| Rename { at, what: what.clone() }));
        self.renames.sort_by_key(|rename| rename.at);
        self.write()
    }

    /// Nothing was renamed.
    pub(crate) fn is_empty(&self) -> bool {
        self.renames.is_empty()
    }

    /// What a relation's schema is called where a transaction commits that described it so for a change at `described`.
    pub(crate) fn current<'a>(
        &'a self,
        schema: &'a str,
        relation: RelationId,
        described: Lsn,
        commit_lsn: Lsn,
    ) -> &'a str {
        let is_between = |rename: &&Rename| described.as_u64() < rename.at && rename.at < commit_lsn.as_u64();
        let renames = self.renames.iter().filter(is_between).filter(|rename| !rename.what.made.contains(&relation.0));
        renames.fold(schema, |name, rename| {
            rename.what.schemas.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new.as_str())
        })
    }

    /// A Relation message for a change at `described` with the schema's name where its transaction commits; `None` where
    /// that is the one it has.
    pub(crate) fn brought_up_to_date(&self, message: &[u8], described: Lsn, commit_lsn: Lsn) -> Option<Vec<u8>> {
        with_schema(message, |schema, relation| {
            let current = self.current(schema, relation, described, commit_lsn);
            (current != schema).then(|| current.to_owned())
        })
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&self.renames)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

/// A Relation message that calls the relation's schema this; `None`: it does already, or is no such message.
fn with_schema(message: &[u8], new_name: impl FnOnce(&str, RelationId) -> Option<String>) -> Option<Vec<u8>> {
    const ID: usize = 5;
    let relation = RelationId(u32::from_be_bytes(message.get(1..ID)?.try_into().ok()?));
    let rest = message.get(ID..).filter(|_| message.first() == Some(&b'R'))?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let name = new_name(std::str::from_utf8(&rest[..end]).ok()?, relation)?;
    Some([&message[..ID], name.as_bytes(), &rest[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(names: &[(&str, &str)]) -> Renamed {
        let schemas = names.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
        Renamed { schemas, made: vec![9] }
    }

    fn lsn(at: u64) -> Lsn {
        Lsn::from_u64(at)
    }

    #[test]
    fn a_description_from_before_a_rename_gets_the_name_that_was_given() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut names = SchemaNames::read(dir.path().join("names")).expect("no file");
        names.add(lsn(200), &[pairs(&[("b", "c")])]).expect("written");
        names.add(lsn(100), &[pairs(&[("a", "x")]), pairs(&[("x", "b")])]).expect("written");
        names.add(lsn(300), &[pairs(&[("c", "d"), ("d", "c")])]).expect("written");
        let of = |described, commit| {
            ["a", "c", "z"].map(|name| names.current(name, RelationId(7), lsn(described), lsn(commit)))
        };
        assert_eq!(of(50, 90), ["a", "c", "z"], "committed before");
        assert_eq!(of(50, 100), ["a", "c", "z"], "the renamer itself");
        assert_eq!(of(50, 150), ["b", "c", "z"]);
        assert_eq!(of(50, 250), ["c", "c", "z"]);
        assert_eq!(of(50, 350), ["d", "d", "z"], "two that exchanged their names");
        assert_eq!(of(100, 350), ["a", "d", "z"], "by the catalog after the first");
        assert_eq!(of(310, 350), ["a", "c", "z"]);
        assert_eq!(names.current("a", RelationId(9), lsn(50), lsn(350)), "a", "was made there, says the rename");
    }

    #[test]
    fn what_is_kept_outlives_the_process_and_goes_when_it_is_needed_no_more() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("names");
        let mut names = SchemaNames::read(path.clone()).expect("no file");
        for _ in 0..2 {
            names.add(lsn(100), &[pairs(&[("a", "b")])]).expect("written");
        }
        names.add(lsn(200), &[pairs(&[("b", "c")])]).expect("written");
        let mut again = SchemaNames::read(path.clone()).expect("read");
        assert_eq!(again.renames, names.renames);
        assert_eq!(again.renames.len(), 2);
        again.restart(lsn(99), lsn(208)).expect("nothing to do");
        assert_eq!(again.renames.len(), 2);
        again.restart(lsn(99), lsn(200)).expect("written");
        assert_eq!(again.renames.len(), 1, "the second comes again");
        again.add(lsn(200), &[pairs(&[("b", "c")])]).expect("written");
        again.restart(lsn(100), lsn(208)).expect("written");
        assert_eq!(SchemaNames::read(path.clone()).expect("read").renames, again.renames);
        assert_eq!(again.renames.len(), 1);
        fs::write(&path, "{").expect("written");
        SchemaNames::read(path).expect_err("none of ours");
    }

    #[test]
    fn only_the_schema_of_a_description_is_replaced() {
        let message = b"R\0\0\0\x07old\0table\0d\0\0";
        let renamed = with_schema(message, |name, relation| {
            (relation == RelationId(7) && name == "old").then(|| "longer".to_owned())
        });
        assert_eq!(renamed.as_deref(), Some(&b"R\0\0\0\x07longer\0table\0d\0\0"[..]));
        assert_eq!(with_schema(message, |_, _| None), None);
        assert_eq!(with_schema(b"I\0\0\0\x07old\0", |_, _| Some("new".to_owned())), None);
        assert_eq!(with_schema(b"R\0\0\0\x07old", |_, _| Some("new".to_owned())), None);
        assert_eq!(with_schema(b"R\0", |_, _| Some("new".to_owned())), None);
    }
}
