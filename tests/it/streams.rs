//! Transactions that are streamed while they are in progress, or prepared: with savepoints, DDL and messages in them.

use std::thread;

use crate::postgres::sql;
use crate::service::{CATCH_UP, Mirror, SMALL_SEGMENTS, until};

/// About 200 kB, which is more than `logical_decoding_work_mem` here.
fn rows(from: u32, columns: &str, values: &str) -> String {
    let to = from + 999;
    format!("INSERT INTO t (id, v{columns}) SELECT g, repeat('v', 100){values} FROM generate_series({from}, {to}) g;\n")
}

#[test]
fn t015_t016_t017_t018_t019_t020_streamed_transactions_arrive_without_what_was_rolled_back() {
    let mirror = Mirror::with(2, &[("logical_decoding_work_mem", "64kB")], SMALL_SEGMENTS);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text)");
    // The columns that the source's transaction will add.
    (0..2).for_each(|at| drop(mirror.at_target(at, "ALTER TABLE t ADD added int, ADD late text DEFAULT 'late'")));
    mirror.set_up();
    let service = mirror.run();
    let ddl = [
        "BEGIN;\n",
        &rows(0, "", ""),
        "ALTER TABLE t ADD added int;\n",
        &rows(1000, ", added", ", g"),
        "SELECT pg_logical_emit_message(true, 'other', repeat('m', 200000)), pg_logical_emit_message(false, 'walcast', 'x');\n",
        "SAVEPOINT a; ALTER TABLE t ADD undone int;\n",
        &rows(2000, ", undone", ", g"),
        "SAVEPOINT b; UPDATE t SET v = 'undone'; ROLLBACK TO a;\n",
        &rows(2500, ", added", ", -g"),
        "SAVEPOINT c; ALTER TABLE t ADD late text DEFAULT 'late';\n",
        &rows(4000, ", added, late", ", g, 'l' || g"),
        "RELEASE c; DELETE FROM t WHERE id % 10 = 0; UPDATE t SET v = 'kept', id = -id WHERE id % 7 = 0;\n",
        "COMMIT;\n",
    ];
    mirror.at_source(&ddl.concat());
    // A whole abort, one of nested savepoints, and one that only a message outlives.
    mirror.at_source(&["BEGIN;\n", &rows(10_000, "", ""), &rows(11_000, "", ""), "ROLLBACK;\n"].concat());
    let nested: String = (0..50).map(|n| format!("SAVEPOINT s{n}; {}", rows(20_000 + n * 1000, "", ""))).collect();
    mirror.at_source(&format!("BEGIN;\n{nested} ROLLBACK TO s40; ROLLBACK TO s7; {} COMMIT;", rows(90_000, "", "")));
    mirror
        .at_source("BEGIN; SELECT pg_logical_emit_message(false, 'walcast', 'from an aborted transaction'); ROLLBACK");
    mirror.catch_up(&service);
    mirror.assert_same();
    assert_eq!(
        mirror.at_target(0, "SELECT count(*) FROM t WHERE v = 'undone' OR id BETWEEN 10000 AND 12999").trim(),
        "0"
    );
    mirror.finish(service);
}

#[test]
fn t021_a_prepared_transaction_arrives_whole_when_it_is_committed() {
    let mirror = Mirror::with(1, &[("logical_decoding_work_mem", "64kB")], SMALL_SEGMENTS);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text)");
    mirror.set_up();
    let service = mirror.run();
    let prepared = |name: &str, from: u32| format!("BEGIN;\n{} PREPARE TRANSACTION '{name}';", rows(from, "", ""));
    mirror.at_source(&prepared("kept", 0));
    mirror.at_source(&prepared("undone", 10_000));
    mirror.at_source("BEGIN; PREPARE TRANSACTION 'empty'; COMMIT PREPARED 'empty'; INSERT INTO t VALUES (-1, 'other')");
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM t").trim(), "1");
    // Both sides die in between.
    service.kill9();
    mirror.source.kill9().unwrap();
    mirror.source.resume().unwrap();
    let service = mirror.run();
    mirror.at_source("COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'undone'");
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM t").trim(), "1001");
    mirror.finish(service);
}

#[test]
fn a_large_transaction_in_progress_does_not_hold_up_those_who_wait() {
    let mirror = Mirror::with(1, &[("logical_decoding_work_mem", "64kB")], SMALL_SEGMENTS);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE go (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    let in_progress = [
        "BEGIN;\n",
        &rows(0, "", ""),
        "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;\nCOMMIT;",
    ];
    let in_progress = in_progress.concat();
    thread::scope(|scope| {
        scope.spawn(|| sql(&mirror.source, &in_progress));
        let begun = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'DO %' AND pid <> pg_backend_pid()";
        until("the transaction is in progress", CATCH_UP, || mirror.at_source(begun).trim() == "t");
        let waited = mirror.run_cli(&["wait", "berlin", "--timeout", "30"]);
        // Before anything can fail: the scope waits for it.
        mirror.at_source("INSERT INTO go VALUES (1)");
        assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    });
    mirror.finish(service);
}
