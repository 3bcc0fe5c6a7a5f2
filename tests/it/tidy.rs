//! Rules of this repository that no other tool keeps.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_MAX: usize = 140;
const FILE_MAX: usize = 800;
/// Put together here so that this file does not break its own rule.
const FORBIDDEN: [&str; 3] = [concat!("db", "g!("), concat!("to", "do!("), concat!("unimpl", "emented!(")];

#[test]
fn sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(
        files.iter().any(|file| file.ends_with("tests/it/tidy.rs")),
        "sources were not found in {}",
        root.display()
    );
    let complaints: Vec<_> = files.iter().flat_map(|file| complaints(root, file)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if entry.file_type().unwrap().is_dir() {
            let generated = name == "target" || name.starts_with('.');
            if !generated {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn complaints(root: &Path, file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let name = file.strip_prefix(root).unwrap().display();
    let lines = text.lines().count();
    let mut found = Vec::new();
    if lines > FILE_MAX {
        found.push(format!("{name}: {lines} lines, at most {FILE_MAX} are allowed"));
    }
    for (line, number) in text.lines().zip(1..) {
        found.extend(line_complaint(line).map(|complaint| format!("{name}:{number}: {complaint}")));
    }
    found
}

fn line_complaint(line: &str) -> Option<String> {
    let width = line.chars().count();
    let forbidden = FORBIDDEN.iter().find(|word| line.contains(**word)).map(|word| format!("{word}…) is not allowed"));
    forbidden.or_else(|| (width > LINE_MAX).then(|| format!("{width} characters, at most {LINE_MAX} are allowed")))
}

#[test]
fn a_leftover_macro_and_a_long_line_are_found() {
    assert!(line_complaint(&format!("let x = {}y);", FORBIDDEN[0])).is_some());
    assert!(line_complaint(&"é".repeat(LINE_MAX + 1)).unwrap().starts_with("141 characters"));
    assert_eq!(line_complaint(&"é".repeat(LINE_MAX)), None);
}
