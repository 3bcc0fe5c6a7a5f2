//! Targets made from nothing while the source is written: equal afterwards, whatever happens on the way.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use cluster::Cluster;
use rustix::process::{Pid, Signal, kill_process};

use crate::ddl::definitions;
use crate::load::{SCHEMA, SOURCE_SETTINGS, Source, under_load};
use crate::postgres::{DATABASE, sql};
use crate::random::{Random, cycles};
use crate::service::{CATCH_UP, Mirror, SMALL_SEGMENTS, Service, until};

mod again;
mod considerate;
mod published;

const EVERYTHING: &str = include_str!("sql/bootstrap.sql");
/// What `setup` and the test's own load need beside.
const SOON: Duration = Duration::from_secs(30);
/// The signal that a failpoint ends the process with.
const ABORTED: i32 = 6;

/// Sequences, large objects, materialized views, roles.
fn rest(cluster: &Cluster) -> String {
    let sequences =
        "SELECT format('SELECT %L, last_value, is_called FROM %I.%I', c.oid::regclass, n.nspname, c.relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'S' AND nspname <> 'walcast' ORDER BY c.oid::regclass::text";
    let statements = sql(cluster, sequences).lines().map(|line| format!("{line};\n")).collect::<String>();
    let others = "
        SELECT oid, lomowner::regrole, lomacl, obj_description(oid, 'pg_largeobject'), md5(lo_get(oid))
            FROM pg_largeobject_metadata ORDER BY 1;
        SELECT * FROM app.mat ORDER BY 1; SELECT * FROM app.mat_of_mat;
        SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' AND relnamespace <> coalesce(to_regnamespace('walcast'), 0)
            ORDER BY 1;
        SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolconnlimit, rolvaliduntil,
            rolpassword IS NULL FROM pg_authid WHERE rolname !~ '^(pg|walcast)_' ORDER BY 1;
        SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members
            WHERE member::regrole::text !~ '^(pg|walcast)_' ORDER BY 1, 2;";
    sql(cluster, &(statements + others))
}

fn assert_equal(mirror: &Mirror, at: usize) {
    let target = &mirror.targets[at];
    crate::compare::assert_same_rows(&mirror.source, target);
    similar_asserts(&definitions(&mirror.source), &definitions(target));
    similar_asserts(&rest(&mirror.source), &rest(target));
}

/// The first line that differs says more than two long texts.
fn similar_asserts(ours: &str, theirs: &str) {
    let differing = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    assert_eq!(differing, None, "source and target differ");
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

/// No slot but the service's, no session of a bootstrap, no program.
fn assert_nothing_left(mirror: &Mirror) {
    until("temporary slots are gone", SOON, || {
        mirror.at_source("SELECT FROM pg_replication_slots WHERE temporary").trim().is_empty()
            && mirror.at_source("SELECT count(*) FROM pg_replication_slots WHERE temporary").trim() == "0"
    });
    for cluster in mirror.targets.iter().chain([&mirror.source]) {
        until("sessions of the bootstrap are gone", SOON, || {
            let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'walcast bootstrap%'";
            sql(cluster, left).trim() == "0"
        });
    }
}

/// The end of a test with [`EVERYTHING`], whose publication is not walcast's to remove.
fn finish(mirror: Mirror, service: Service) {
    mirror.everywhere("DROP PUBLICATION IF EXISTS elsewhere");
    mirror.finish(service);
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// With parts so small that most tables have several.
fn in_parts(mut command: Command) -> Command {
    command.env(bootstrap::PART_BYTES_VARIABLE, "16384");
    command
}

#[test]
fn f31_a_target_made_under_load_equals_the_source() {
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.at_source(&format!("{SCHEMA}{EVERYTHING}"));
    mirror.walcast(&["setup"]);
    // Without a service, and with nobody writing.
    mirror.walcast(&["bootstrap", "berlin"]);
    assert_equal(&mirror, 0);
    let service = mirror.run();
    mirror.catch_up_one(0, &service);
    under_load(&mirror.source, Source::Steady, &mut random, |_| {
        mirror.at_source("ALTER DATABASE app SET log_statement = 'all'");
        let output = in_parts(mirror.command(&["bootstrap", "tokyo", "--jobs", "3"])).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let told = String::from_utf8(output.stdout).unwrap();
        mirror.at_source("ALTER DATABASE app RESET log_statement");
        let statements = std::fs::read_to_string(mirror.source.log_file()).unwrap();
        assert!(statements.contains("ctid < '("), "no table was copied in parts");
        assert!(told.contains("tokyo: copied") && told.contains("continues from"), "{told}");
    });
    mirror.catch_up(&service);
    for at in 0..2 {
        assert_equal(&mirror, at);
        mirror.walcast(&["verify", mirror.names()[at]]);
    }
    assert_nothing_left(&mirror);
    let again = mirror.run_cli(&["bootstrap", "tokyo"]);
    assert!(!again.status.success() && stderr(&again).contains("has been copied already"), "{}", stderr(&again));
    finish(mirror, service);
}

#[test]
fn f31_a_killed_command_goes_on_where_it_stopped() {
    let mirror = Mirror::new(1);
    mirror.at_source(EVERYTHING);
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    let mut random = Random::from_environment();
    let copies = "SELECT string_agg(format('%s %s', table_name, copied_at), ',' ORDER BY 1) FROM walcast.copied";
    let points =
        ["after_slot=1", "after_pre_data=1", "during_copy=2", "after_table=4", "after_indexes=1", "before_declare=1"];
    let mut copied = String::new();
    for point in points {
        let mut command = in_parts(mirror.command(&["bootstrap", "berlin", "--jobs", "2"]));
        let output = command.env("WALCAST_FAILPOINTS", point).output().unwrap();
        assert_eq!(output.status.signal(), Some(ABORTED), "{point}: {}\n{}", output.status, stderr(&output));
        assert_nothing_left(&mirror);
        if mirror.at_target(0, "SELECT to_regclass('walcast.copied')").trim() != "" {
            let now = mirror.at_target(0, copies);
            assert!(now.starts_with(copied.trim()) || copied.trim().split(',').all(|row| now.contains(row)), "{point}");
            copied = now;
        }
        // What is written in between is in no snapshot before.
        let n = random.within(1..1000);
        mirror.at_source(&format!(
            "INSERT INTO app.everything (t, p) VALUES ('between', {n}); UPDATE app.everything SET t = 'changed' WHERE n % 50 = {};
             INSERT INTO app.line (id, parent) SELECT 2000 + max(id), max(id) FROM app.everything;
             DELETE FROM app.line WHERE id = (SELECT max(id) FROM app.line WHERE parent < 2000);
             UPDATE app.part SET k = k + 10000 WHERE k = {n}",
            n % 50
        ));
        assert_eq!(mirror.target_status(0)["state"], "bootstrapping");
    }
    let told = mirror.walcast(&["bootstrap", "berlin"]);
    assert!(told.contains("goes on where it stopped"), "{told}");
    assert!(copied.trim().split(',').all(|row| mirror.at_target(0, copies).contains(row)), "a table was copied again");
    mirror.catch_up(&service);
    mirror.at_source("REFRESH MATERIALIZED VIEW app.mat; REFRESH MATERIALIZED VIEW app.mat_of_mat");
    assert_equal(&mirror, 0);
    assert_nothing_left(&mirror);
    finish(mirror, service);
}

#[test]
fn f31_whoever_is_killed_at_random_the_target_ends_equal() {
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.at_source(&format!("{SCHEMA}{EVERYTHING}"));
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "berlin"]);
    let first = mirror.run();
    let cycles = cycles("WALCAST_BOOTSTRAP_CYCLES", 6);
    let service = under_load(&mirror.source, Source::Steady, &mut random, |random| {
        let (mut service, mut how) = (first, "bootstrap");
        for _ in 0..cycles {
            let command = mirror.command(&[how, "tokyo", "--jobs", "2"]);
            let split = random.within(0..2) == 0;
            let command = if split { in_parts(command) } else { command }.spawn().unwrap();
            // Not a wait for anything: how long the command lives is what is drawn by lot.
            thread::sleep(Duration::from_millis(random.within(50..2500)));
            let (again, status) = kill_something(&mirror, random.within(0..4), service, command);
            service = again;
            if status.success() {
                how = "resync";
            }
        }
        mirror.walcast(&[how, "tokyo"]);
        service
    });
    mirror.catch_up(&service);
    mirror.assert_same();
    mirror.walcast(&["verify", "tokyo"]);
    assert_nothing_left(&mirror);
    finish(mirror, service);
}

/// Kills one of those that take part, and brings it back. The command ends, one way or the other.
fn kill_something(mirror: &Mirror, which: u64, service: Service, mut command: Child) -> (Service, ExitStatus) {
    let service = match which {
        0 => {
            command.kill().unwrap();
            service
        }
        1 => {
            service.kill9();
            mirror.run()
        }
        2 => {
            mirror.targets[1].kill9().unwrap();
            mirror.targets[1].resume().unwrap();
            service
        }
        _ => {
            mirror.at_source(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'walcast bootstrap%'",
            );
            service
        }
    };
    let status = command.wait().unwrap();
    (service, status)
}

#[test]
fn a_target_that_is_not_empty_is_refused_by_name_and_left_alone() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')");
    mirror.walcast(&["setup"]);
    let refused = |arguments: &[&str], what: &str| {
        let output = mirror.run_cli(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(what) && stderr(&output).contains("hint: "), "{}", stderr(&output));
    };
    mirror.at_target(0, "CREATE TABLE other (id int); INSERT INTO other VALUES (7)");
    refused(&["bootstrap", "berlin"], "table public.other exists");
    refused(&["bootstrap", "berlin", "--schema-exists"], "lacks table public.t");
    mirror
        .at_target(0, "CREATE TABLE t (more int, v varchar, id bigint PRIMARY KEY); INSERT INTO t VALUES (1, 'x', 9)");
    refused(&["bootstrap", "berlin", "--schema-exists"], "table public.t has rows");
    assert_eq!(mirror.at_target(0, "SELECT to_regnamespace('walcast')").trim(), "", "something was left on the target");
    mirror.at_target(0, "TRUNCATE t");
    mirror.walcast(&["bootstrap", "berlin", "--schema-exists"]);
    assert_eq!(mirror.at_target(0, "SELECT id, v FROM t").trim(), "1|a");
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (2, 'b')");
    mirror.finish(service);
}

#[test]
fn a_target_that_was_removed_is_begun_anew() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    mirror.walcast(&["setup"]);
    let mut command = mirror.command(&["bootstrap", "berlin"]);
    let output = command.env("WALCAST_FAILPOINTS", "after_table=1").output().unwrap();
    assert_eq!(output.status.signal(), Some(ABORTED), "{}", stderr(&output));
    mirror.walcast(&["remove", "berlin"]);
    mirror.at_target(0, "DROP TABLE t");
    mirror.at_source("ALTER TABLE t ADD v text; INSERT INTO t VALUES (2, 'b')");
    mirror.walcast(&["bootstrap", "berlin"]);
    mirror.assert_same();
    mirror.undo();
}

#[test]
fn ddl_between_two_runs_is_said_and_nothing_is_made_of_two_schemas() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    mirror.walcast(&["setup"]);
    let mut command = mirror.command(&["bootstrap", "berlin"]);
    let output = command.env("WALCAST_FAILPOINTS", "after_table=1").output().unwrap();
    assert_eq!(output.status.signal(), Some(ABORTED), "{}", stderr(&output));
    mirror.at_source("ALTER TABLE t ADD v text");
    let output = mirror.run_cli(&["bootstrap", "berlin"]);
    assert!(stderr(&output).contains("schema has changed since this bootstrap was begun"), "{}", stderr(&output));
    mirror.at_source("ALTER TABLE t DROP v");
    mirror.walcast(&["bootstrap", "berlin"]);
    mirror.assert_same();
    mirror.undo();
}

#[test]
fn a_target_is_copied_again_by_resync() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (t int REFERENCES t); \
        INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g; INSERT INTO u SELECT g FROM generate_series(1, 100) g");
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    mirror.walcast(&["bootstrap", "--all"]);
    mirror.catch_up(&service);
    mirror.at_target(
        0,
        "DELETE FROM u WHERE t < 50; UPDATE t SET v = 'other' WHERE id > 80; INSERT INTO t VALUES (1000, 'extra')",
    );
    mirror.walcast(&["resync", "berlin"]);
    mirror.at_source("INSERT INTO t VALUES (101, 'later')");
    mirror.finish(service);
}

#[test]
fn passwords_reach_the_programs_and_nobody_else() {
    const PASSWORD: &str = "s3cret:P\\a55'";
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    for cluster in mirror.targets.iter().chain([&mirror.source]) {
        sql(cluster, &format!("CREATE ROLE walcast SUPERUSER LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''")));
        cluster
            .write_hba(
                "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
            )
            .unwrap();
        cluster.reload().unwrap();
    }
    let given = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'").replace('\\', "\\\\");
    mirror.reconfigure(|text| text.replace("user=postgres", &format!("user=walcast password='{given}'")));
    mirror.walcast(&["setup"]);
    mirror.reconfigure(|text| {
        let at = text.rfind("s3cret").unwrap();
        format!("{}wrong{}", &text[..at], &text[at + 6..])
    });
    let output = mirror.run_cli(&["bootstrap", "berlin"]);
    assert!(stderr(&output).contains("password authentication failed"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("P\\a55") && !stderr(&output).contains("wrong:"), "{}", stderr(&output));
    mirror.reconfigure(|text| text.replace("wrong:", "s3cret:"));
    mirror.walcast(&["bootstrap", "berlin"]);
    mirror.assert_same();
    assert_nothing_left(&mirror);
    mirror.undo();
}

#[test]
fn a_snapshot_waits_for_open_transactions_and_says_so() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.walcast(&["setup"]);
    let source = mirror.source.conninfo(DATABASE).to_string();
    let psql = mirror.source.installation().client("psql").unwrap();
    let held = "BEGIN; INSERT INTO t VALUES (1); SELECT pg_advisory_lock(1), pg_sleep(3600)";
    let mut writer = Command::new(psql).args(["-X", "-q", "-d", &source, "-c", held]).spawn().unwrap();
    until("the writer writes", SOON, || {
        mirror.at_source("SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL").trim() == "1"
    });
    let out = mirror.log_dir().with_file_name("out");
    let file = std::fs::File::create(&out).unwrap();
    let mut command = mirror.command(&["bootstrap", "berlin"]);
    let mut waiting = command.stdout(file).spawn().unwrap();
    until("it says what it waits for", SOON, || {
        std::fs::read_to_string(&out).unwrap().contains("waits for transactions that are open on the source")
    });
    // Killed while its slot is being made, it leaves none.
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert_nothing_left(&mirror);
    mirror.at_source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid IS NOT NULL");
    writer.wait().unwrap();
    mirror.walcast(&["bootstrap", "berlin"]);
    mirror.assert_same();
    mirror.undo();
}

#[test]
fn an_interrupt_is_clean_and_says_how_to_go_on() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.at_source("INSERT INTO t SELECT generate_series(1, 1000)");
    mirror.walcast(&["setup"]);
    // Rows that take their time.
    mirror.at_target(
        0,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow();
         ALTER TABLE t ENABLE ALWAYS TRIGGER slow",
    );
    let arguments = ["bootstrap", "berlin", "--schema-exists"];
    let command = mirror.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    until("rows are being copied", CATCH_UP, || {
        let copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event = 'PgSleep'";
        mirror.at_target(0, copying).trim() == "1"
    });
    kill_process(Pid::from_child(&command), Signal::INT).unwrap();
    let output = command.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("interrupted\nhint: run the same command again"), "{}", stderr(&output));
    mirror.at_target(0, "ALTER TABLE t DISABLE TRIGGER slow");
    mirror.walcast(&arguments);
    assert_nothing_left(&mirror);
    mirror.assert_same();
    mirror.undo();
}
