//! One table copied again while everything else goes on.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::ledger::writing;
use crate::load::SCHEMA;
use crate::random::{Random, cycles};
use crate::service::{CATCH_UP, Mirror, Service, until};

/// What the target's tables lose, and what the source's have.
const DAMAGE: &str =
    "DELETE FROM journal WHERE step % 2 = 0; INSERT INTO journal SELECT 7, 7, 'too much' FROM generate_series(1, 500);
    UPDATE journal SET what = 'changed' WHERE step % 3 = 0";

const RESYNC: [&str; 4] = ["resync", "berlin", "--table", "public.journal"];

fn mirror() -> (Mirror, Service) {
    let mirror = Mirror::new(2);
    mirror.everywhere(SCHEMA);
    mirror.everywhere("ALTER TABLE journal REPLICA IDENTITY FULL");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "INSERT INTO journal SELECT 3, g, repeat('x', 100) FROM generate_series(1, 20000) g;
         INSERT INTO account SELECT g, 1, g, NULL FROM generate_series(1, 1000) g",
    );
    mirror.catch_up(&service);
    (mirror, service)
}

fn assert_level(mirror: &Mirror) {
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM walcast.checkpoint WHERE slot LIKE '% %'").trim(), "0");
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM walcast.copied WHERE start_lsn IS NULL").trim(), "0");
    assert!(!mirror.log_dir().join("berlin.resyncing").exists());
}

#[test]
fn a_table_is_copied_again_under_load_and_the_others_go_on() {
    let (mirror, service) = mirror();
    writing(&mirror, || {
        mirror.at_target(0, DAMAGE);
        let told = mirror.walcast(&RESYNC);
        assert!(told.contains("is level with the others"), "{told}");
    });
    assert_level(&mirror);
    service.kill9();
    let service = mirror.run();
    mirror.finish(service);
}

#[test]
fn a_table_is_copied_again_while_the_service_is_down() {
    let (mirror, service) = mirror();
    service.sigterm();
    mirror.at_target(0, DAMAGE);
    mirror.at_source("UPDATE account SET amount = 0; INSERT INTO journal VALUES (5, 5, 'later')");
    mirror.walcast(&RESYNC);
    assert_level(&mirror);
    let service = mirror.run();
    mirror.finish(service);
}

#[test]
fn a_target_that_stopped_over_a_table_goes_on_once_that_is_copied_again() {
    let (mirror, service) = mirror();
    mirror.at_target(0, DAMAGE);
    mirror.at_source("UPDATE journal SET what = 'as in no row there' WHERE step = 2; UPDATE account SET amount = 1");
    mirror.until_stopped(0);
    mirror.walcast(&RESYNC);
    assert_level(&mirror);
    mirror.finish(service);
}

#[test]
fn a_target_is_copied_again_with_what_is_made_of_its_tables() {
    let (mirror, service) = mirror();
    mirror.everywhere(
        "CREATE MATERIALIZED VIEW steps AS SELECT step, count(*) FROM journal GROUP BY step;
         CREATE MATERIALIZED VIEW all_steps AS SELECT count(*) FROM steps",
    );
    mirror.at_target(0, DAMAGE);
    mirror.at_target(0, "REFRESH MATERIALIZED VIEW steps; REFRESH MATERIALIZED VIEW all_steps");
    let told = mirror.walcast(&["resync", "berlin"]);
    assert!(!told.contains("goes on where it stopped"), "{told}");
    mirror.catch_up(&service);
    for view in ["steps", "all_steps"] {
        let sql = format!("SELECT string_agg(v::text, ',' ORDER BY v::text COLLATE \"C\") FROM {view} v");
        assert_eq!(mirror.at_target(0, &sql), mirror.at_source(&sql), "{view}");
    }
    mirror.finish(service);
}

#[test]
fn a_table_that_is_not_published_is_refused() {
    let (mirror, service) = mirror();
    let refused = mirror.run_cli(&["resync", "berlin", "--table", "public.nosuch"]);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("table \"public.nosuch\" is not published"), "{stderr}");
    mirror.finish(service);
}

/// Until the command has ended well, the table is behind and the status says so; the other tables are not.
#[test]
fn f31_killed_anywhere_the_same_command_goes_on() {
    let (mirror, service) = mirror();
    let mut service = Some(service);
    let mut random = Random::from_environment();
    writing(&mirror, || {
        for point in ["after_slot=1", "during_copy=2", "after_table=1"] {
            mirror.at_target(0, DAMAGE);
            let mut command = mirror.command(&RESYNC);
            assert!(!command.env("WALCAST_FAILPOINTS", point).output().unwrap().status.success(), "{point}");
            let status = mirror.target_status(0);
            assert_eq!(status["set_aside"], serde_json::json!(["public.journal"]), "{status}");
        }
        for _ in 0..cycles("WALCAST_RESYNC_CYCLES", 4) {
            let quiet =
                |mut command: std::process::Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut command = quiet(mirror.command(&RESYNC)).unwrap();
            // Not a wait for anything: how long it lives is what is drawn by lot.
            thread::sleep(Duration::from_millis(random.within(20..1500)));
            match random.within(0..3) {
                0 => command.kill().unwrap(),
                1 => {
                    service.take().unwrap().kill9();
                    // It may do the service's work itself by now, and holds the log then.
                    command.wait().unwrap();
                    service = Some(mirror.run());
                    // Or the next command would do its work, and the service find the log in use.
                    until("the service answers", CATCH_UP, || mirror.status()["source"]["state"] != "offline");
                }
                _ => drop(mirror.at_target(
                    0,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
                )),
            }
            command.wait().unwrap();
        }
        until("the command succeeds", CATCH_UP, || mirror.run_cli(&RESYNC).status.success());
    });
    assert_level(&mirror);
    mirror.finish(service.unwrap());
}
