//! docs/guarantees.md names the tests that show what it says.

use std::fs;

use super::root;

/// `file: name` of each test that a line beginning with "Shown by" names.
fn named(document: &str) -> Vec<(String, String)> {
    let mut lines = document.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("Shown by") {
            let mut paragraph = line.to_owned();
            while let Some(next) = lines.next_if(|next| !next.is_empty()) {
                paragraph += next;
            }
            let tests = paragraph.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            found.extend(tests.iter().map(|test| {
                let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test} is not FILE::TEST"));
                (file.to_owned(), name.to_owned())
            }));
        }
    }
    found
}

/// Whether a source has a test of this name, that runs.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &&str| {
        let line = line.trim_start_matches("async ");
        line.strip_prefix("fn ").is_some_and(|rest| rest.split('(').next() == Some(name))
    };
    let at = lines.iter().position(is_it);
    let attributes =
        |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
    at.is_some_and(|at| {
        let test = attributes(at).any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        test && !attributes(at).any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_guarantee_is_shown_by_tests_that_exist() {
    let document = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let tests = named(&document);
    for (file, name) in &tests {
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(has_test(&source, name), "{file} has no test {name}");
    }
    let (_, guaranteed) = document.split_once("## What is guaranteed").expect("a chapter of what is guaranteed");
    let guaranteed = guaranteed.split("\n## ").next().unwrap();
    for guarantee in guaranteed.split("\n### ").skip(1) {
        assert!(!named(guarantee).is_empty(), "no test shows: {}", guarantee.lines().next().unwrap());
    }
    assert!(tests.len() >= 12, "{} tests are named", tests.len());
}

#[test]
fn a_test_that_does_not_exist_or_run_is_found() {
    let source =
        "#[test]\nfn a() {}\n\nfn b() {}\n\n#[tokio::test]\nasync fn c() {}\n\n#[test]\n#[ignore]\nfn d() {}\n";
    let found: Vec<&str> = ["a", "b", "c", "d", "e"].into_iter().filter(|name| has_test(source, name)).collect();
    assert_eq!(found, ["a", "c"]);
    assert_eq!(named("Shown by `x.rs::a`,\n`y.rs::b`.\n\nmore `z`").len(), 2);
}
