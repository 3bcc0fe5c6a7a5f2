//! What dies or is taken away, and that nothing is lost or doubled by it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Cluster;

use crate::compare::assert_same_rows;
use crate::load::{SCHEMA, SOURCE_SETTINGS, Source, under_load};
use crate::postgres::{DATABASE, sql};
use crate::random::{Random, cycles};
use crate::service::{CATCH_UP, Mirror, SLOT, SMALL_SEGMENTS, until};

/// How soon something that does not depend on load is seen.
const SOON: Duration = Duration::from_secs(30);

/// How often each fault is made to happen.
fn rounds() -> u32 {
    cycles("WALCAST_FAULT_CYCLES", 5)
}

fn loaded_mirror(source_settings: &[(&str, &str)]) -> Mirror {
    let settings: Vec<_> = SOURCE_SETTINGS.iter().chain(source_settings).copied().collect();
    let mirror = Mirror::with(2, &settings, SMALL_SEGMENTS);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    mirror
}

#[test]
fn f02_dying_at_each_failpoint_of_the_applier_loses_and_doubles_nothing() {
    let mirror = loaded_mirror(&[]);
    let mut next = 0;
    let mut write = || {
        next += 1;
        mirror.at_source(&format!(
            "BEGIN; INSERT INTO account SELECT {next} * 1000 + g, 1, g, NULL FROM generate_series(1, 20) g;
             INSERT INTO journal VALUES (1, {next}, 'some'); COMMIT;
             BEGIN; UPDATE account SET amount = amount + 1 WHERE id % 7 = 0; INSERT INTO journal VALUES (1, {next}, 'all'); COMMIT;
             DELETE FROM account WHERE id = {next} * 1000 + 3; INSERT INTO journal VALUES (1, {next}, 'one');"
        ));
    };
    for point in ["before_begin", "after_nth_row", "before_commit", "after_commit_before_reply"] {
        for count in 1..=rounds() {
            let mut service = mirror.run_with(&[("WALCAST_FAILPOINTS", &format!("{point}={count}"))]);
            until(&format!("the service dies {point}"), CATCH_UP, || {
                write();
                service.ended().is_some()
            });
            let status = service.ended().unwrap();
            assert_eq!(status.signal(), Some(6), "{point}: {status}:\n{}", service.messages());
        }
    }
    let service = mirror.run();
    mirror.finish(service);
}

#[test]
fn f03_killing_a_targets_server_under_load_loses_and_doubles_nothing_there() {
    let mirror = loaded_mirror(&[]);
    let mut random = Random::from_environment();
    let service = mirror.run();
    under_load(&mirror.source, Source::Steady, &mut random, |random| {
        for _ in 0..rounds() {
            let applied = || sql(&mirror.targets[1], "SELECT count(*) FROM journal").trim().parse::<u64>().unwrap();
            // Not a wait for anything: when the server dies is what is drawn by lot.
            thread::sleep(Duration::from_millis(random.within(50..800)));
            mirror.targets[0].kill9().unwrap();
            let before = applied();
            until("the other target is applied to meanwhile", CATCH_UP, || applied() > before);
            mirror.targets[0].resume().unwrap();
            until("the target is connected again", CATCH_UP, || mirror.target_status(0)["last_error"].is_null());
        }
    });
    mirror.finish(service);
}

#[test]
fn f04_killing_the_sources_server_under_load_loses_and_doubles_nothing() {
    let mirror = loaded_mirror(&[]);
    let mut random = Random::from_environment();
    let service = mirror.run();
    for cycle in 0..rounds() {
        under_load(&mirror.source, Source::Killed, &mut random, |random| {
            thread::sleep(Duration::from_millis(random.within(50..1200)));
            if cycle % 2 == 0 { mirror.source.kill9().unwrap() } else { mirror.source.stop_immediate().unwrap() }
        });
        mirror.source.resume().unwrap();
        until("the service streams again", CATCH_UP, || mirror.status()["source"]["state"] == "streaming");
    }
    // The source tells that transactions under way have died with it only when it next logs what runs: at a checkpoint.
    mirror.at_source("CHECKPOINT");
    mirror.finish(service);
}

/// A service that refuses to go on: one line, a hint, exit status 1.
fn refused(mirror: &Mirror, expected: &str) {
    let output = mirror.run_cli(&["run"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let complaints: Vec<_> = stderr.lines().filter(|line| line.starts_with("walcast: ")).collect();
    assert!(complaints.len() == 1 && complaints[0].contains(expected), "{expected:?} is not in:\n{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{stderr}");
}

#[test]
fn f17_what_is_in_the_log_reaches_the_targets_though_the_slot_is_lost() {
    let mirror = Mirror::new(2);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (1)");
    mirror.catch_up(&service);
    mirror.walcast(&["pause", "tokyo"]);
    mirror.targets[0].stop_fast().unwrap();
    mirror.at_source("INSERT INTO t SELECT generate_series(2, 1000)");
    let end = mirror.at_source("SELECT pg_current_wal_lsn()");
    until("the log has it", SOON, || {
        let durable = mirror.status()["log"]["durable_lsn"].as_str().unwrap().to_owned();
        mirror.at_source(&format!("SELECT '{durable}'::pg_lsn >= '{}'", end.trim())).trim() == "t"
    });
    service.sigterm();
    until("the slot is free", SOON, || mirror.slot("active") == "f");
    mirror.at_source(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));

    let mut service = mirror.run();
    until("the service says what is wrong", SOON, || service.messages().contains("the stream stopped"));
    assert!(service.ended().is_none(), "it ended though berlin lacks rows: {}", service.messages());
    mirror.targets[0].resume().unwrap();
    // A target that is paused is not waited for.
    until("the service ends", SOON, || service.ended().is_some());
    assert_eq!(service.ended().unwrap().code(), Some(1));
    let lost = format!("walcast: replication slot \"{SLOT}\" does not exist");
    assert!(service.messages().contains(&lost), "{}", service.messages());
    assert_same_rows(&mirror.source, &mirror.targets[0]);
    mirror.undo();
}

#[test]
fn f18_another_consumer_is_waited_for_and_a_second_service_or_a_gap_is_refused() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t SELECT generate_series(1, 10)");
    mirror.catch_up(&service);
    refused(&mirror, "log");
    mirror.at_source("INSERT INTO t VALUES (11)");
    mirror.catch_up(&service);
    service.sigterm();

    // It asks for nothing and says nothing, so that the slot stays where it is.
    if let Some(program) = mirror.source.installation().client("pg_recvlogical") {
        let conninfo = mirror.source.conninfo(DATABASE).to_string();
        let names = format!("publication_names={SLOT}");
        let mut consumer = Command::new(program)
            .args(["-d", &conninfo, "-S", SLOT, "--start", "-s", "0", "-F", "0", "-f", "/dev/null"])
            .args(["-o", "proto_version=1", "-o", &names])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the other consumer has the slot", SOON, || mirror.slot("active") == "t");
        let service = mirror.run();
        until("the service retries", SOON, || mirror.status()["source"]["state"] == "retrying");
        consumer.kill().unwrap();
        consumer.wait().unwrap();
        mirror.at_source("INSERT INTO t VALUES (12)");
        mirror.catch_up(&service);
        service.sigterm();
    }

    until("the slot is free", SOON, || mirror.slot("active") == "f");
    mirror.at_source("INSERT INTO t VALUES (13)");
    mirror.at_source(&format!("SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())"));
    refused(&mirror, "gap");
    mirror.at_source(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
    refused(&mirror, &format!("replication slot \"{SLOT}\" does not exist"));
    mirror.at_source("INSERT INTO t VALUES (14)");
    mirror.walcast(&["setup"]);
    refused(&mirror, "gap");
    assert_eq!(
        mirror.at_target(0, "SELECT count(*) FROM t WHERE id > 12").trim(),
        "0",
        "something was applied over a gap"
    );
    mirror.undo();
}

#[test]
fn f27_an_idle_slot_advances_while_others_write() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.set_up();
    mirror.at_source("CREATE UNLOGGED TABLE unpublished (id int)");
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (1)");
    mirror.catch_up(&service);
    for _ in 0..3 {
        mirror
            .source
            .sql("postgres", "DROP TABLE IF EXISTS busy; CREATE TABLE busy AS SELECT generate_series(1, 5000)")
            .unwrap();
        mirror.at_source("INSERT INTO unpublished VALUES (1)");
        let written = mirror.at_source("SELECT pg_current_wal_lsn()");
        let (written, confirmed) = (written.trim(), format!("confirmed_flush_lsn >= '{}'", written.trim()));
        until("the slot advances", SOON, || mirror.slot(&confirmed) == "t");
        // The targets have it, too: with nothing between, they are where the source is.
        mirror.walcast(&["wait", "berlin", "--lsn", written, "--timeout", "30"]);
    }
    mirror.finish(service);
}

#[test]
fn f30_sigterm_under_load_is_obeyed_at_once_and_frees_the_slot() {
    let mirror = loaded_mirror(&[]);
    let mut random = Random::from_environment();
    under_load(&mirror.source, Source::Steady, &mut random, |random| {
        for _ in 0..rounds() {
            let service = mirror.run();
            // Before it listens to signals there is nothing to obey.
            thread::sleep(Duration::from_millis(random.within(100..1500)));
            let asked = Instant::now();
            service.sigterm();
            eprintln!("stopped within {:?}", asked.elapsed());
            until("the slot is free", SOON, || mirror.slot("active") == "f");
        }
    });
    let service = mirror.run();
    mirror.finish(service);
}

#[test]
fn a_large_transaction_is_not_cut_off_by_the_walsenders_timeout() {
    let settings = [("wal_sender_timeout", "2s"), ("logical_decoding_work_mem", "64kB")];
    let mirror = Mirror::with(1, &settings, SMALL_SEGMENTS);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text, w int)");
    mirror.set_up();
    let service = mirror.run();
    let streaming = || mirror.status()["source"]["state"] == "streaming";
    until("the service streams", SOON, streaming);
    let walsender = || mirror.at_source("SELECT pid FROM pg_stat_replication");
    let before = walsender();
    let rows = |from: u32, count: u32| {
        format!("INSERT INTO t SELECT g, repeat('x', 50), 0 FROM generate_series({from}, {}) g;\n", from + count - 1)
    };
    thread::scope(|scope| {
        // In pieces, so that the two are decoded interleaved.
        scope.spawn(|| {
            let pieces: String = (0..20).map(|piece| rows(1 + piece * 10_000, 10_000)).collect();
            mirror.at_source(&format!("BEGIN;\n{pieces}COMMIT;"));
        });
        scope.spawn(|| {
            let pieces: String = (0..10).map(|piece| rows(1_000_001 + piece * 10_000, 10_000)).collect();
            mirror.at_source(&format!("BEGIN;\n{pieces}SAVEPOINT s; UPDATE t SET w = 1 WHERE id > 1000000; ROLLBACK;"));
        });
    });
    mirror.catch_up(&service);
    mirror.at_source("BEGIN; UPDATE t SET w = w + 1; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT");
    mirror.catch_up(&service);
    assert_eq!(walsender(), before, "the source cut the service off:\n{}", service.messages());
    assert!(!mirror.source.log_tail(usize::MAX).contains("replication timeout"));
    mirror.finish(service);
}

#[test]
fn a_paused_target_stays_paused_over_a_restart_and_then_catches_up() {
    let mirror = Mirror::new(2);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (1)");
    mirror.catch_up(&service);
    mirror.walcast(&["pause", "berlin"]);
    mirror.at_source("INSERT INTO t VALUES (2)");
    mirror.catch_up_one(1, &service);
    service.sigterm();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (3)");
    mirror.catch_up_one(1, &service);
    assert_eq!(mirror.target_status(0)["state"], "paused");
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM t").trim(), "1");
    mirror.walcast(&["resume", "berlin"]);
    mirror.finish(service);
}

/// Ends the sessions that are applying to a target.
fn terminate_appliers(target: &Cluster) {
    sql(
        target,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'walcast%' AND pid <> pg_backend_pid()",
    );
}

/// A user's transaction that waits for what the applier has when the applier waits for what it has.
const DEADLOCK: &str = "
    SET deadlock_timeout = '1h';
    BEGIN;
    UPDATE t SET v = -1 WHERE id = 2;
    SELECT 'holds';
    DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
    UPDATE t SET v = -1 WHERE id = 1;
    ROLLBACK;";

#[test]
fn f21_a_deadlock_and_a_terminated_session_are_retried() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v int)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g");
    mirror.catch_up(&service);

    let target = &mirror.targets[0];
    thread::scope(|scope| {
        scope.spawn(|| sql(target, DEADLOCK));
        let held = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 't'::regclass AND mode = 'RowExclusiveLock'";
        until("the user's transaction holds a row", SOON, || sql(target, held).trim() == "t");
        mirror.at_source("BEGIN; UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2; COMMIT");
    });
    mirror.catch_up(&service);
    mirror.assert_same();
    assert!(target.log_tail(usize::MAX).contains("deadlock detected"));

    terminate_appliers(target);
    mirror.at_source("UPDATE t SET v = 2");
    mirror.catch_up(&service);
    assert!(target.log_tail(usize::MAX).contains("terminating connection due to administrator command"));
    assert!(!service.messages().contains(" stopped "), "{}", service.messages());
    mirror.finish(service);
}
