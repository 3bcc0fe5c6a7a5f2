//! Writers that keep the source busy with transactions of every kind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster::Cluster;

use crate::postgres::{DATABASE, sql};
use crate::random::Random;

const WRITERS: u64 = 3;
/// Writers rest while the slot is further behind, or there would be more than can be caught up with in the end: each
/// start of a walsender decodes anew what was not confirmed.
const BEHIND_MAX: &str = "
    SELECT pg_current_wal_lsn() - confirmed_flush_lsn > 8 * 1024 * 1024 FROM pg_replication_slots";
const PAUSE: Duration = Duration::from_millis(60);

/// Rows of `journal` have no key: one that arrives twice is there twice.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE account (id bigint PRIMARY KEY, writer int NOT NULL, amount bigint NOT NULL, note text);
    CREATE TABLE journal (writer int NOT NULL, step bigint NOT NULL, what text);
    ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
";

/// Small enough for transactions of a few hundred rows to be streamed while in progress.
pub(crate) const SOURCE_SETTINGS: [(&str, &str); 1] = [("logical_decoding_work_mem", "64kB")];

/// Whether the source may go away under its writers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Source {
    Steady,
    Killed,
}

/// Does `what` while writers are at work at the source.
pub(crate) fn under_load<T>(
    source: &Cluster,
    kind: Source,
    random: &mut Random,
    what: impl FnOnce(&mut Random) -> T,
) -> T {
    let stop = AtomicBool::new(false);
    // Keys of one load are not used again by the next.
    let step: u64 = sql(source, "SELECT coalesce(max(step), 0) + 100 FROM journal").trim().parse().unwrap();
    thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (mut random, stop) = (random.split(), &stop);
            scope.spawn(move || write_until(stop, source, kind, writer, step, &mut random));
        }
        let _stops_writers = OnDrop(&stop);
        what(random)
    })
}

/// Ends the writers also when `what` fails, or the scope would wait for them for ever.
pub(crate) struct OnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn write_until(stop: &AtomicBool, source: &Cluster, kind: Source, writer: u64, mut step: u64, random: &mut Random) {
    while !stop.load(Ordering::Relaxed) {
        let script: String = (0..10).map(|_| transaction(writer, &mut step, random)).collect();
        let result = source.sql(DATABASE, &script);
        assert!(kind == Source::Killed || result.is_ok(), "{result:?}");
        while !stop.load(Ordering::Relaxed) && source.sql(DATABASE, BEHIND_MAX).is_ok_and(|behind| behind.trim() == "t")
        {
            thread::sleep(PAUSE);
        }
    }
}

/// One transaction of a writer, in its own range of keys, so that writers never wait for each other.
fn transaction(writer: u64, step: &mut u64, random: &mut Random) -> String {
    *step += 1;
    let first = writer * 1_000_000_000 + *step * 10_000;
    let insert = |from: u64, count: u64| {
        format!(
            "INSERT INTO account SELECT g, {writer}, g, NULL FROM generate_series({from}, {}) g;\n",
            from + count - 1
        )
    };
    let journal = |what: &str| format!("INSERT INTO journal VALUES ({writer}, {step}, '{what}');\n");
    let recent = first.saturating_sub(30 * 10_000);
    let some = format!("WHERE writer = {writer} AND id > {recent} AND id % 7 = {}", random.within(0..7));
    let body = match random.within(0..12) {
        0..4 => insert(first, 1) + &journal("one"),
        4 => insert(first, random.within(500..5000)) + &journal("many"),
        5 => format!("UPDATE account SET amount = amount + 1, note = 'updated {step}' {some};\n") + &journal("update"),
        6 => {
            format!("UPDATE account SET note = repeat('long {step} ', 300) {some} AND id % 5 = 0;\n")
                + &journal("toast")
        }
        7 => {
            format!("UPDATE account SET id = id + 5000 {some} AND id % 10000 < 5000 AND id % 3 = 0;\n")
                + &journal("key")
        }
        8 => format!("DELETE FROM account {some} AND id % 2 = 0;\n") + &journal("delete"),
        9 => savepoints(&insert, &journal, first),
        10 => return format!("BEGIN;\n{}{}ROLLBACK;\n", insert(first, 3000), journal("rolled back")),
        _ => journal("alone"),
    };
    format!("BEGIN;\n{body}COMMIT;\n")
}

/// Large subtransactions of which the middle one, with a subtransaction of its own, is rolled back.
fn savepoints(insert: &dyn Fn(u64, u64) -> String, journal: &dyn Fn(&str) -> String, first: u64) -> String {
    let kept = insert(first, 800);
    let undone = insert(first + 1000, 800) + "SAVEPOINT b;\n" + &insert(first + 2000, 800) + "RELEASE b;\n";
    let again = insert(first + 1000, 10);
    format!(
        "{kept}SAVEPOINT a;\n{undone}{}ROLLBACK TO a;\n{again}SAVEPOINT c;\n{}RELEASE c;\n",
        journal("undone"),
        journal("savepoints")
    )
}
