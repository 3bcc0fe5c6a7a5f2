//! Whether two databases hold the same rows.

use std::collections::BTreeMap;
use std::fmt::Write;

use cluster::Cluster;

use crate::postgres::{quoted, sql};

/// How many rows of a difference are shown for each side.
const SHOWN: usize = 5;
/// How much of a row is shown.
const SHOWN_WIDTH: usize = 300;

/// Every table's name with its columns, as hexadecimal text because names may hold whatever parts lines and fields.
const COLUMNS: &str = "
    SELECT encode(convert_to(n.nspname, 'UTF8'), 'hex'), encode(convert_to(c.relname, 'UTF8'), 'hex'),
           string_agg(encode(convert_to(a.attname, 'UTF8'), 'hex'), ',' ORDER BY a.attnum)
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'walcast')
    GROUP BY 1, 2 ORDER BY 1, 2";

struct Table {
    name: String,
    /// The source's columns as one row value; further columns of a target are its own affair.
    row: String,
}

/// Panics with what differs unless every table of `source` has the same rows in `target`.
pub(crate) fn assert_same_rows(source: &Cluster, target: &Cluster) {
    let differences = differences(source, target);
    assert!(differences.is_empty(), "{source:?} and {target:?} differ:\n{differences}");
}

/// What differs, in words; empty if nothing does.
pub(crate) fn differences(source: &Cluster, target: &Cluster) -> String {
    differences_of(&tables(source), source, target)
}

/// The same of some tables of schema `public` alone.
pub(crate) fn differences_in(source: &Cluster, target: &Cluster, names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("\"public\".{}", quoted(name))).collect();
    let tables: Vec<_> = tables(source).into_iter().filter(|table| names.contains(&table.name)).collect();
    assert_eq!(tables.len(), names.len(), "the source lacks some of {names:?}");
    differences_of(&tables, source, target)
}

fn differences_of(tables: &[Table], source: &Cluster, target: &Cluster) -> String {
    assert!(!tables.is_empty(), "the source has no tables to compare");
    let (ours, theirs) = (digests(source, tables), digests(target, tables));
    let pairs = tables.iter().zip(ours.iter().zip(&theirs));
    pairs.filter(|(_, (ours, theirs))| ours != theirs).map(|(table, _)| difference(table, source, target)).collect()
}

fn tables(cluster: &Cluster) -> Vec<Table> {
    sql(cluster, COLUMNS).lines().map(parse_table).collect()
}

fn parse_table(line: &str) -> Table {
    let fields: Vec<_> = line.split('|').collect();
    let columns: Vec<_> =
        fields[2].split(',').filter(|name| !name.is_empty()).map(|name| quoted(&unhex(name))).collect();
    let name = format!("{}.{}", quoted(&unhex(fields[0])), quoted(&unhex(fields[1])));
    Table { name, row: format!("ROW({})", columns.join(", ")) }
}

fn unhex(text: &str) -> String {
    let bytes = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// For each table: how many rows, and two sums of halves of their digests. Equal rows more than once count as often.
fn digests(cluster: &Cluster, tables: &[Table]) -> Vec<String> {
    let half = |from: usize| format!("coalesce(sum(('x' || substr(d, {from}, 15))::bit(60)::bigint), 0)");
    let query = |table: &Table| {
        let rows = format!("SELECT md5({}::text) AS d FROM {}", table.row, table.name);
        format!("SELECT count(*), {}, {} FROM ({rows}) AS rows;\n", half(1), half(16))
    };
    let script: String = tables.iter().map(query).collect();
    let digests: Vec<_> = sql(cluster, &script).lines().map(str::to_string).collect();
    assert_eq!(digests.len(), tables.len());
    digests
}

fn difference(table: &Table, source: &Cluster, target: &Cluster) -> String {
    let (ours, theirs) = (rows(source, table), rows(target, table));
    let mut text = format!("{}: {} rows at the source, {} at the target\n", table.name, total(&ours), total(&theirs));
    describe_excess(&mut text, "only at the source", &ours, &theirs);
    describe_excess(&mut text, "only at the target", &theirs, &ours);
    text
}

/// Each row's text with how often it is there.
fn rows(cluster: &Cluster, table: &Table) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for row in sql(cluster, &format!("SELECT quote_literal({}::text) FROM {}", table.row, table.name)).lines() {
        *rows.entry(row.to_string()).or_default() += 1;
    }
    rows
}

fn total(rows: &BTreeMap<String, usize>) -> usize {
    rows.values().sum()
}

fn describe_excess(text: &mut String, title: &str, rows: &BTreeMap<String, usize>, others: &BTreeMap<String, usize>) {
    let excess = |(row, count): (&String, &usize)| count.checked_sub(others.get(row).copied().unwrap_or(0));
    let found: Vec<_> =
        rows.iter().filter_map(|entry| excess(entry).filter(|&n| n > 0).map(|n| (entry.0, n))).collect();
    for (row, count) in found.iter().take(SHOWN) {
        let shown: String = row.chars().take(SHOWN_WIDTH).collect();
        writeln!(text, "  {title}: {count} × {shown}").unwrap();
    }
    if found.len() > SHOWN {
        writeln!(text, "  {title}: {} more", found.len() - SHOWN).unwrap();
    }
}

#[test]
fn the_comparison_names_a_missing_a_doubled_and_a_changed_row() {
    let (installation, _) = crate::postgres::versions(0);
    let [one, other] = [0; 2].map(|_| crate::postgres::start(&installation, &[]));
    for cluster in [&one, &other] {
        sql(
            cluster,
            "CREATE TABLE \"a|b\"\"\n\" (id int, t text); INSERT INTO \"a|b\"\"\n\" VALUES (1, E'x\\ny'), (2, NULL)",
        );
        sql(cluster, "CREATE TABLE empty (); CREATE TABLE doubled (id int); INSERT INTO doubled VALUES (7)");
    }
    assert_same_rows(&one, &other);

    sql(
        &other,
        "INSERT INTO doubled VALUES (7); UPDATE \"a|b\"\"\n\" SET t = '' WHERE id = 2; ALTER TABLE empty ADD extra int",
    );
    let differences = differences(&one, &other);
    assert!(differences.contains("\"doubled\": 1 rows at the source, 2 at the target"), "{differences}");
    assert!(differences.contains("only at the target: 1 × '(7)'"), "{differences}");
    assert!(differences.contains("only at the source: 1 × '(2,)'"), "{differences}");
    assert!(differences.contains("only at the target: 1 × '(2,\"\")'"), "{differences}");
    assert!(!differences.contains("empty"), "{differences}");
}
