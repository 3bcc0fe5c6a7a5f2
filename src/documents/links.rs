//! Links from document to document.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{documents, name};

/// What `[text](link)` and `![text](link)` lead to, outside blocks.
fn links(document: &str) -> Vec<String> {
    let mut inside = false;
    let text: Vec<&str> = document
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect();
    let text = text.join("\n");
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The names by which headings are linked to.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings =
        document.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|text| text.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Why a link leads nowhere.
fn complaint(from: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if file.is_empty() { from.to_owned() } else { from.parent().unwrap().join(file) };
    if !path.exists() {
        return Some(format!("{}: there is no {file}", name(from)));
    }
    let missing = !anchor.is_empty() && !anchors(&fs::read_to_string(&path).unwrap()).contains(anchor);
    missing.then(|| format!("{}: there is no chapter {link}", name(from)))
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for path in documents() {
        let all = links(&fs::read_to_string(&path).unwrap());
        seen += all.len();
        complaints.extend(all.iter().filter_map(|link| complaint(&path, link)));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    assert!(seen > 30, "{seen} links found");
}

#[test]
fn every_document_is_in_the_index() {
    let index = super::root().join("docs/README.md");
    let linked = links(&fs::read_to_string(&index).unwrap());
    for path in documents().iter().filter(|path| **path != index) {
        if let Ok(below) = path.strip_prefix(super::root().join("docs")) {
            let below = below.to_string_lossy();
            assert!(linked.iter().any(|link| *link == below), "docs/README.md does not name {below}");
        }
    }
}

#[test]
fn a_link_to_nothing_is_found() {
    let here = super::root().join("README.md");
    assert!(complaint(&here, "docs/nothing.md").is_some() && complaint(&here, "#nothing-of-the-kind").is_some());
    assert_eq!(complaint(&here, "#quick-start"), None);
    assert_eq!(links("a [b](c.md#d) e\n```\n[x](y)\n```\n![f](g.png)"), ["c.md#d", "g.png"]);
}
