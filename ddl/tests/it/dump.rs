//! What `pg_dump -s` says of a database, entry by entry.

use std::collections::BTreeSet;
use std::process::Command;

use cluster::Cluster;

/// Entries of the dump without walcast's own objects. Their order is by OID where nothing else settles it.
pub(crate) fn entries(server: &Cluster, database: &str) -> BTreeSet<String> {
    let program = server.installation().client("pg_dump").expect("no pg_dump beside the server");
    let options = ["-s", "--no-publications", "--no-subscriptions", "--exclude-schema=walcast"];
    let conninfo = server.conninfo(database).to_string();
    let output = Command::new(program).args(options).arg("--dbname").arg(conninfo).output().unwrap();
    assert!(output.status.success(), "pg_dump of {database}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let entries = text.split("\n--\n-- Name: ").skip(1).map(str::to_owned);
    entries.filter(|entry| !is_own(entry)).map(|entry| normal(&entry)).collect()
}

fn is_own(entry: &str) -> bool {
    let title = entry.lines().next().unwrap_or_default();
    title.contains("Type: EVENT TRIGGER") || title.contains("Type: DATABASE") || title.starts_with("walcast;")
}

/// Without what is another in each dump, or depends on the order of entries.
fn normal(entry: &str) -> String {
    let varies =
        |line: &&str| line.starts_with("\\unrestrict") || line.starts_with("-- PostgreSQL database dump complete");
    let settings = |line: &&str| line.starts_with("SET default_table");
    entry
        .lines()
        .filter(|line| !varies(line) && !settings(line) && *line != "--" && !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What only one of them has.
pub(crate) fn differences(source: &BTreeSet<String>, target: &BTreeSet<String>) -> Vec<String> {
    assert!(!source.is_empty(), "the dump is empty");
    let missing = source.difference(target).map(|entry| format!("only on the source: {entry}"));
    missing.chain(target.difference(source).map(|entry| format!("only on the target: {entry}"))).collect()
}
