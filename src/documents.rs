//! The documents, checked against the code: what is made from it is as it would be made now, and what it refers to exists.
//!
//! `WALCAST_WRITE_DOCS=1 cargo test -p walcast -p config documents` makes the references anew.

use std::fs;
use std::path::{Path, PathBuf};

mod commands;
mod guarantees;
mod links;
mod mentions;
mod metrics;

/// The repository's files of this kind in its first folder, in `docs` and below.
fn documents() -> Vec<PathBuf> {
    let root = root();
    let mut found = markdown_in(root);
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        found.extend(markdown_in(&folder));
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
    assert!(found.iter().any(|path| path.ends_with("docs/tutorial.md")), "the tutorial is not in {}", root.display());
    found.sort();
    found
}

fn markdown_in(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Panics unless the document is this text; with `WALCAST_WRITE_DOCS` set it is written instead.
fn assert_made(name: &str, text: &str) {
    let path = root().join(name);
    if std::env::var_os("WALCAST_WRITE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = || text.lines().zip(found.lines().chain(std::iter::repeat(""))).find(|(made, there)| made != there);
    assert!(
        found == text,
        "{name} is not what the code says; hint: WALCAST_WRITE_DOCS=1 cargo test documents\nfirst difference: {:?}",
        differs()
    );
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
