//! Large transactions and many small ones.

use std::sync::atomic::Ordering;

use crate::messages::{INT4, Null, TEXT, Table, t};
use crate::rig::Rig;

/// Bytes that this process may grow by while it applies.
const GROWTH_MAX: u64 = 96 << 20;

const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_millis(20);

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    // Pages of files, such as the log's map, are not this process's own.
    let shared: u64 = statm.split(' ').nth(2).and_then(|n| n.parse().ok()).expect("a number");
    (pages - shared) * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_a_transaction_of_a_million_rows_is_applied_in_bounded_memory() {
    const ROWS: u32 = 1_000_000;
    let mut rig = Rig::new("CREATE UNLOGGED TABLE big (id int PRIMARY KEY, v text)").await;
    let big = Table::new(1, "big", &[(true, "id", INT4), (false, "v", TEXT)]);
    let info = rig.begin();
    rig.push(&big.describe());
    for n in 0..ROWS {
        rig.push(&big.insert(&[t(n.to_string()), t("a value of some length")]));
    }
    for n in 0..10_000 {
        rig.push(&big.update(&[t(n.to_string()), t("changed")]));
        rig.push(&big.delete(&[t((n + 500_000).to_string()), Null]));
    }
    rig.commit();
    rig.append();
    let before = resident_bytes();
    let mut running = rig.start();
    let mut peak = 0;
    // Sampled while waiting.
    while tokio::time::timeout(SAMPLE_EVERY, running.applied(info.end_lsn)).await.is_err() {
        peak = peak.max(resident_bytes());
        let error = running.status.borrow().last_error.clone();
        assert!(error.is_none(), "{error:?}");
    }
    running.stop().await;
    assert!(peak.saturating_sub(before) < GROWTH_MAX, "grew from {before} to {peak} bytes");
    assert_eq!(rig.sql("SELECT count(*), count(*) FILTER (WHERE v = 'changed') FROM big"), "990000|10000");
    assert_eq!(rig.seen.batches.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_transactions_share_batches_and_a_bad_one_is_still_found() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, v text)").await;
    let items = Table::new(1, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    let mut bad = decoder::Lsn::ZERO;
    rig.transaction(&[&items], &[]);
    for n in 0..3000 {
        let id = if n == 2500 { 7 } else { n };
        let end = rig.transaction(&[], &[items.insert(&[t(id.to_string()), t("x")])]);
        if n == 2500 {
            bad = end;
        }
    }
    let why = rig.stopped().await;
    assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("23505")));
    assert_eq!(rig.sql("SELECT count(*), max(id) FROM items"), "2500|2499");
    let batches = rig.seen.batches.load(Ordering::SeqCst);
    assert!(batches < 600, "{batches} batches");
    assert!(rig.seen.single.load(Ordering::SeqCst) <= 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_fifty_megabytes_and_a_row_of_nulls_arrive() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, v text)").await;
    let items = Table::new(1, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    let huge = "x".repeat(50 << 20);
    let end = rig.transaction(
        &[&items],
        &[items.insert(&[t("1"), t(huge)]), items.insert(&[t("2"), Null]), items.update(&[t("2"), t("y")])],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT id, length(v) FROM items ORDER BY id"), "1|52428800\n2|1");
}
