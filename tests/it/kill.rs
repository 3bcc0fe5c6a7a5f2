//! The service is killed again and again under load, and every row is on every target exactly once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster::Cluster;

use crate::postgres::sql;
use crate::random::Random;
use crate::service::Mirror;

const WRITERS: u64 = 3;

/// Rows of `journal` have no key: one that arrives twice is there twice.
const SCHEMA: &str = "
    CREATE TABLE account (id bigint PRIMARY KEY, writer int NOT NULL, amount bigint NOT NULL, note text);
    CREATE TABLE journal (writer int NOT NULL, step bigint NOT NULL, what text);
    ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
";

/// Small enough for transactions of a few hundred rows to be streamed while in progress.
const SOURCE_SETTINGS: [(&str, &str); 1] = [("logical_decoding_work_mem", "64kB")];

#[test]
fn killing_the_service_at_random_loses_and_doubles_nothing() {
    let cycles = std::env::var("WALCAST_KILL_CYCLES").map_or(20, |text| text.parse().expect("WALCAST_KILL_CYCLES"));
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, "segment_size = \"1MiB\"");
    mirror.everywhere(SCHEMA);
    mirror.set_up();

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (mut random, source, stop) = (random.split(), &mirror.source, &stop);
            scope.spawn(move || write_until(stop, source, writer, &mut random));
        }
        let _stops_writers = OnDrop(&stop);
        kill_repeatedly(&mirror, cycles, &mut random);
    });
    let service = mirror.run();
    mirror.finish(service);
}

/// Ends the writers also when a cycle fails, or the scope would wait for them for ever.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn kill_repeatedly(mirror: &Mirror, cycles: u32, random: &mut Random) {
    for _ in 0..cycles {
        let service = mirror.run();
        // Not a wait for anything: how long the service lives is what is drawn by lot.
        thread::sleep(Duration::from_millis(random.within(20..2000)));
        service.kill9();
    }
}

fn write_until(stop: &AtomicBool, source: &Cluster, writer: u64, random: &mut Random) {
    let mut step = 0;
    while !stop.load(Ordering::Relaxed) {
        let script: String = (0..10).map(|_| transaction(writer, &mut step, random)).collect();
        sql(source, &script);
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
