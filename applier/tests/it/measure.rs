//! How fast the ordered tier is: `cargo test --release -p applier --test it measure -- --ignored --nocapture
//! --test-threads 1`.

use std::time::{Duration, Instant};

use crate::messages::{INT4, TEXT, Table, Value, t};
use crate::rig::Rig;

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit_once(") ").expect("a name").1;
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

async fn measure(what: &str, rig: &Rig, rows: u64, transactions: u64, end: decoder::Lsn) {
    let (started, cpu_before) = (Instant::now(), cpu());
    let mut running = rig.start();
    running.applied(end).await;
    let (wall, cpu) = (started.elapsed(), cpu() - cpu_before);
    running.stop().await;
    let per_second = |n: u64| n as f64 / wall.as_secs_f64();
    println!(
        "{what}: {:.0} rows/s, {:.0} transactions/s, {wall:?}, client CPU {cpu:?}",
        per_second(rows),
        per_second(transactions)
    );
    assert_eq!(rig.seen.fallbacks.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[ignore = "a measurement, for release builds"]
#[tokio::test(flavor = "multi_thread")]
async fn single_row_updates_of_a_ten_column_table() {
    let columns = "c1 text, c2 text, c3 text, c4 text, c5 text, c6 text, c7 text, c8 text, c9 text";
    let mut rig = Rig::new(&format!(
        "CREATE TABLE ten (id int PRIMARY KEY, {columns}) WITH (fillfactor = 50); \
         INSERT INTO ten SELECT g, 'a','b','c','d','e','f','g','h','i' FROM generate_series(0, 99999) g; VACUUM ANALYZE ten"
    ))
    .await;
    rig.batch_max_rows = 10_000;
    let names = ["id", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    let columns: Vec<_> = names.iter().map(|n| (*n == "id", *n, if *n == "id" { INT4 } else { TEXT })).collect();
    let ten = Table::new(1, "ten", &columns);
    let row = |n: u32| -> Vec<Value> {
        (0..10).map(|c| t(if c == 0 { n.to_string() } else { "changed value".into() })).collect()
    };
    rig.transaction(&[&ten], &[]);
    let mut end = decoder::Lsn::ZERO;
    for n in 0..100_000u32 {
        rig.begin_and_commit(&[ten.update(&row(n.wrapping_mul(7919) % 100_000))], &mut end);
    }
    rig.append();
    measure("updates, 10 columns", &rig, 100_000, 100_000, end).await;
}

#[ignore = "a measurement, for release builds"]
#[tokio::test(flavor = "multi_thread")]
async fn pgbench_like_transactions() {
    let mut rig = Rig::new(
        "CREATE TABLE a (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor = 100); \
         CREATE TABLE t (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)); \
         CREATE TABLE b (bid int PRIMARY KEY, bbalance int, filler char(88)); \
         CREATE TABLE h (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)); \
         INSERT INTO a SELECT g, 1, 0, '' FROM generate_series(1, 1000000) g; \
         INSERT INTO t SELECT g, 1, 0, '' FROM generate_series(1, 100) g; \
         INSERT INTO b SELECT g, 0, '' FROM generate_series(1, 10) g; VACUUM ANALYZE",
    )
    .await;
    rig.batch_max_rows = std::env::var("BATCH").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let bpchar = 1042;
    let key = |id: u32, name, columns: &[&'static str]| {
        let columns: Vec<_> =
            columns.iter().enumerate().map(|(n, c)| (n == 0, *c, if *c == "filler" { bpchar } else { INT4 })).collect();
        Table::new(id, name, &columns)
    };
    let a = key(1, "a", &["aid", "bid", "abalance", "filler"]);
    let tellers = key(2, "t", &["tid", "bid", "tbalance", "filler"]);
    let b = key(3, "b", &["bid", "bbalance", "filler"]);
    let h = key(4, "h", &["tid", "bid", "aid", "delta", "mtime", "filler"]);
    rig.transaction(&[&a, &tellers, &b, &h], &[]);
    let mut end = decoder::Lsn::ZERO;
    let filler = || t(" ".repeat(84));
    for n in 0..40_000u32 {
        let (aid, tid, bid) = (n.wrapping_mul(7_919) % 1_000_000 + 1, n % 100 + 1, n % 10 + 1);
        let s = |n: u32| t(n.to_string());
        rig.begin_and_commit(
            &[
                a.update(&[s(aid), s(1), s(n), filler()]),
                tellers.update(&[s(tid), s(1), s(n), filler()]),
                b.update(&[s(bid), s(n), filler()]),
                h.insert(&[s(tid), s(bid), s(aid), s(n), t("2026-01-01 00:00:00.123456"), Value::Null]),
            ],
            &mut end,
        );
    }
    rig.append();
    measure("pgbench", &rig, 160_000, 40_000, end).await;
}

/// Each transaction inserts a row and updates another one, in a table with two unique indexes: for workers. `WAIT`: seconds
/// that the target waits for each row, as it would for pages of a disk.
#[ignore = "a measurement, for release builds"]
#[tokio::test(flavor = "multi_thread")]
async fn two_unique_indexes_by_workers() {
    let wait = std::env::var("WAIT").unwrap_or_else(|_| "0".into());
    let transactions: u32 = if wait == "0" { 60_000 } else { 6_000 };
    for workers in [1, 2, 4, 8, 16] {
        let mut rig = Rig::new(&format!(
            "CREATE TABLE two (id int PRIMARY KEY, code int UNIQUE, a text, b text); \
             INSERT INTO two SELECT g, g, 'a', 'b' FROM generate_series(0, 99999) g; VACUUM ANALYZE two; \
             CREATE FUNCTION wait() RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep({wait}); RETURN true; END$$"
        ))
        .await;
        if wait != "0" {
            rig.sql("ALTER TABLE two ADD CHECK (wait()) NOT VALID");
        }
        (rig.workers, rig.batch_max_rows) = (workers, transactions / 6);
        let two =
            Table::new(1, "two", &[(true, "id", INT4), (false, "code", INT4), (false, "a", TEXT), (false, "b", TEXT)]);
        let row = |n: u32, a: &str| [t(n.to_string()), t(n.to_string()), t(a), t("b")];
        rig.transaction(&[&two], &[]);
        let mut end = decoder::Lsn::ZERO;
        for n in 0..transactions {
            let changes =
                [two.insert(&row(100_000 + n, "new")), two.update(&row(n.wrapping_mul(7919) % 100_000, "changed"))];
            rig.begin_and_commit(&changes, &mut end);
        }
        rig.append();
        let (rows, transactions) = (2 * u64::from(transactions), u64::from(transactions));
        measure(&format!("{workers} workers, wait {wait}"), &rig, rows, transactions, end).await;
    }
}
