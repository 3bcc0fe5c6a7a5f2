//! The table of contents of a dump, as `pg_restore -l -v` prints it.

use std::collections::BTreeSet;

/// The catalogs that entries are told by.
pub(crate) const PG_CLASS: u32 = 1259;
pub(crate) const PG_CONSTRAINT: u32 = 2606;

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its number in the dump.
    pub(crate) id: u32,
    /// The catalog it is from, and its OID there; zeros for what belongs to another object.
    pub(crate) object: (u32, u32),
    /// Its kind in words, then its names, in one line.
    pub(crate) text: String,
    /// What has to be there before it.
    pub(crate) depends: Vec<u32>,
}

impl Entry {
    pub(crate) fn is_foreign_key(&self) -> bool {
        self.object.0 == PG_CONSTRAINT && self.text.starts_with("FK CONSTRAINT ")
    }

    /// Whether it says something of another object, and is of no use without that.
    fn is_about_another(&self) -> bool {
        ["COMMENT ", "ACL ", "SECURITY LABEL "].iter().any(|kind| self.text.starts_with(kind))
    }
}

/// Reads the list. Names in it are made harmless by `pg_restore`: they hold no line ends.
pub(crate) fn parse(list: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in list.lines() {
        if let Some(ids) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = entries.last_mut() {
                entry.depends = ids.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            }
        } else if let Some(entry) = parse_entry(line) {
            entries.push(entry);
        }
    }
    entries
}

fn parse_entry(line: &str) -> Option<Entry> {
    let (id, rest) = line.split_once("; ")?;
    let (class, rest) = rest.split_once(' ')?;
    let (oid, text) = rest.split_once(' ')?;
    Some(Entry {
        id: id.parse().ok()?,
        object: (class.parse().ok()?, oid.parse().ok()?),
        text: text.to_owned(),
        depends: Vec::new(),
    })
}

/// The entries without these objects and without what is said of them.
pub(crate) fn without(entries: Vec<Entry>, excluded: &BTreeSet<(u32, u32)>) -> Vec<Entry> {
    let dropped: BTreeSet<u32> = entries.iter().filter(|e| excluded.contains(&e.object)).map(|e| e.id).collect();
    let about_dropped = |e: &Entry| e.is_about_another() && e.depends.iter().any(|id| dropped.contains(id));
    entries.into_iter().filter(|e| !dropped.contains(&e.id) && !about_dropped(e)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
;
; Archive created at 2026-01-01 00:00:00 UTC
;     TOC Entries: 5
;
; Selected TOC Entries:
;
5; 2615 2200 SCHEMA - public postgres
215; 1259 16385 TABLE public a;b 1; 1259 1 postgres
;\tdepends on: 5
3300; 6104 16400 PUBLICATION - walcast postgres
3301; 0 0 COMMENT - PUBLICATION walcast postgres
;\tdepends on: 3300
3302; 6106 16401 PUBLICATION TABLE public walcast t postgres
;\tdepends on: 3300 215
";

    #[test]
    fn entries_have_their_objects_and_dependencies() {
        let entries = parse(LIST);
        assert_eq!(entries.iter().map(|e| e.id).collect::<Vec<_>>(), [5, 215, 3300, 3301, 3302]);
        assert_eq!((entries[1].object, entries[1].depends.as_slice()), ((1259, 16385), &[5][..]));
        assert_eq!(entries[4].depends, [3300, 215]);
    }

    #[test]
    fn what_is_said_of_an_excluded_object_goes_with_it() {
        let excluded = BTreeSet::from([(6104, 16400), (6106, 16401)]);
        let left = without(parse(LIST), &excluded);
        assert_eq!(left.iter().map(|e| e.id).collect::<Vec<_>>(), [5, 215]);
    }
}
