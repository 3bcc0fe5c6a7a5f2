//! DDL mixed with rows under load, while the service and a target are killed: equal at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster::Cluster;

use crate::ddl::assert_equal;
use crate::load::{OnDrop, SCHEMA, SOURCE_SETTINGS, Source, under_load};
use crate::postgres::sql;
use crate::random::{Random, cycles};
use crate::service::{CATCH_UP, Mirror, SMALL_SEGMENTS, Service, until};

#[test]
fn ddl_among_rows_survives_kills_of_the_service_and_of_a_target() {
    let cycles = cycles("WALCAST_DDL_CYCLES", 4);
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.set_up();
    mirror.at_source(SCHEMA);
    mirror.at_source("CREATE ROLE r0; CREATE TABLE shifting (id bigserial PRIMARY KEY, c0 int)");
    let first = mirror.run();
    let service = under_load(&mirror.source, Source::Steady, &mut random, |random| {
        altering(&mirror.source, random, |random| {
            let mut service = first;
            for _ in 0..cycles {
                // Not a wait for anything: how long they live is what is drawn by lot.
                thread::sleep(Duration::from_millis(random.within(100..2000)));
                service = kill(&mirror, random, service);
            }
            service
        })
    });
    assert_equal(&mirror, &service, "after the load");
    assert!(!service.messages().contains(" ERROR "), "{}", service.messages());
    mirror.finish(service);
}

#[test]
fn d40_a_target_that_is_copied_while_the_schema_changes_ends_equal() {
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.at_source(SCHEMA);
    mirror.at_source("CREATE ROLE r0; CREATE TABLE shifting (id bigserial PRIMARY KEY, c0 int)");
    // A copy makes the roles that something depends on.
    mirror.at_source(
        "GRANT SELECT ON journal TO r0; INSERT INTO shifting (c0) SELECT g FROM generate_series(1, 20000) g",
    );
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    altering(&mirror.source, &mut random, |_| {
        for name in ["berlin", "tokyo"] {
            // Somebody may come between the snapshot and pg_dump's locks: then the same command goes on.
            until("the target is copied", CATCH_UP, || {
                let output = mirror.run_cli(&["bootstrap", name]);
                eprintln!("{name}: {}", String::from_utf8_lossy(&output.stderr));
                output.status.success()
            });
        }
    });
    assert_equal(&mirror, &service, "after the copies");
    mirror.finish(service);
}

fn kill(mirror: &Mirror, random: &mut Random, service: Service) -> Service {
    if random.within(0..2) == 0 {
        service.kill9();
        return mirror.run();
    }
    let at = usize::try_from(random.within(0..2)).unwrap();
    mirror.targets[at].kill9().unwrap();
    mirror.targets[at].resume().unwrap();
    until("the target is connected again", CATCH_UP, || {
        // A copy of a table that the kill ended is told there as well, until the next one is through.
        mirror.target_status(at)["last_error"].as_str().is_none_or(|text| text.contains("copied again"))
    });
    service
}

/// Does `what` while somebody alters the schema.
fn altering<T>(source: &Cluster, random: &mut Random, what: impl FnOnce(&mut Random) -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (mut other, stop) = (random.split(), &stop);
        scope.spawn(move || {
            let mut step = 1;
            while !stop.load(Ordering::Relaxed) {
                sql(source, &alteration(step, &mut other));
                step += 1;
                thread::sleep(Duration::from_millis(other.within(5..60)));
            }
        });
        let _stops = OnDrop(stop);
        what(random)
    })
}

/// Something about tables that nobody else alters, with rows before and after it.
fn alteration(step: u64, random: &mut Random) -> String {
    let (column, before) = (format!("c{step}"), step - 1);
    let rows = "INSERT INTO shifting DEFAULT VALUES; INSERT INTO journal VALUES (9, 0, 'ddl')";
    let new = format!("made_{step}");
    match random.within(0..9) {
        0 => format!("BEGIN; {rows}; ALTER TABLE shifting ADD {column} timestamptz DEFAULT now(); {rows}; COMMIT"),
        1 => format!(
            "CREATE TABLE {new} AS SELECT g AS id, random() AS r FROM generate_series(1, 500) g;
                ALTER TABLE {new} ADD PRIMARY KEY (id); UPDATE {new} SET r = 1 WHERE id % 3 = 0"
        ),
        2 => format!(
            "BEGIN; CREATE TABLE {new} (id serial PRIMARY KEY, v int); INSERT INTO {new} (v) VALUES (1), (2);
                SAVEPOINT s; ALTER TABLE {new} ADD w int; ROLLBACK TO s; COMMIT; GRANT SELECT ON {new} TO r0"
        ),
        3 => format!(
            "CREATE INDEX CONCURRENTLY ON shifting (c0, id); ALTER TABLE shifting ALTER c0 SET DEFAULT {step}; {rows}"
        ),
        4 => format!("CREATE ROLE r{step}; GRANT SELECT ON shifting TO r{step}; GRANT r0 TO r{step}; {rows}"),
        5 => format!(
            "BEGIN; {rows}; CREATE VIEW v{step} AS SELECT id FROM shifting; COMMENT ON VIEW v{step} IS '{before}';
                COMMIT"
        ),
        6 => format!(
            "BEGIN; UPDATE shifting SET c0 = {step}; ALTER TABLE shifting ADD {column} int;
                UPDATE shifting SET {column} = id; ALTER TABLE shifting DROP {column}; {rows}; COMMIT"
        ),
        7 => format!(
            "CREATE TYPE t{step} AS ENUM ('a'); CREATE TABLE {new} (id int PRIMARY KEY, m t{step});
                ALTER TYPE t{step} ADD VALUE 'b'; INSERT INTO {new} VALUES (1, 'b')"
        ),
        _ => format!(
            "CREATE TABLE {new} (id int PRIMARY KEY, v text);
                INSERT INTO {new} SELECT g, g FROM generate_series(1, 200) g;
                    ALTER TABLE {new} ADD r float8 DEFAULT random(); DELETE FROM {new} WHERE id % 2 = 0"
        ),
    }
}
