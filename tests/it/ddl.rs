//! DDL through the whole path: source, log, two targets; after each, definitions and rows are equal.

use std::process::Command;
use std::thread;
use std::time::Duration;

use cluster::Cluster;

use crate::postgres::{DATABASE, is_mixed, pg_dump, sql};
use crate::service::{CATCH_UP, Mirror, Service, until};

/// Statements for psql under headings: each statement is a transaction unless it says otherwise.
pub(crate) const CASES: &str = include_str!("sql/ddl.sql");
/// Begins a heading.
const HEADING: &str = "-- case: ";

/// A mirror with two targets and a service, all databases empty.
pub(crate) fn begin() -> (Mirror, Service) {
    let mirror = Mirror::new(2);
    mirror.set_up();
    let service = mirror.run();
    until("the service streams", CATCH_UP, || mirror.status()["source"]["state"] == "streaming");
    (mirror, service)
}

/// Runs each case at the source, and compares everything after it.
pub(crate) fn play(mirror: &Mirror, service: &Service, cases: &str) {
    play_as(mirror, service, cases, "postgres");
}

/// The same, as this role.
pub(crate) fn play_as(mirror: &Mirror, service: &Service, cases: &str, role: &str) {
    for case in cases.split(HEADING).skip(1) {
        let (name, script) = case.split_once('\n').unwrap();
        let ran = mirror.source.sql(DATABASE, &format!("SET SESSION AUTHORIZATION {role};\n{script}"));
        assert!(ran.is_ok(), "{name}: {ran:?}");
        assert_equal(mirror, service, name);
    }
}

/// Catches up, tables that are copied again included, and compares definitions, roles, rows, sequences and views.
pub(crate) fn assert_equal(mirror: &Mirror, service: &Service, what: &str) {
    mirror.catch_up(service);
    let level = || mirror.status()["targets"].as_array().unwrap().iter().all(|target| target["set_aside"].is_null());
    if !level() {
        until(&format!("{what}: no table is being copied again"), CATCH_UP, level);
        mirror.catch_up(service);
    }
    let (ours, theirs) = thread::scope(|scope| {
        let of = |cluster| scope.spawn(move || everything(cluster));
        let theirs: Vec<_> = mirror.targets.iter().map(of).collect();
        (everything(&mirror.source), theirs.into_iter().map(|task| task.join().unwrap()).collect::<Vec<_>>())
    });
    theirs.iter().for_each(|theirs| same(&ours, theirs, what));
    mirror.assert_same();
}

/// The first line that differs says more than two long texts.
fn same(ours: &str, theirs: &str, what: &str) {
    let missing = |these: &str, those: &str| {
        let those: Vec<&str> = those.lines().collect();
        these
            .lines()
            .filter(|line| !those.contains(line))
            .take(8)
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    if ours != theirs {
        let (only_ours, only_theirs) = (missing(ours, theirs), missing(theirs, ours));
        let differing = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
        panic!("{what}: differs\n  first: {differing:?}\n  source:\n{only_ours}  target:\n{only_theirs}");
    }
}

fn everything(cluster: &Cluster) -> String {
    definitions(cluster) + &roles(cluster) + &values(cluster)
}

/// What `pg_dump` says of the schema, without walcast's own objects.
pub(crate) fn definitions(cluster: &Cluster) -> String {
    let mut command = Command::new(pg_dump());
    command.args(["--schema-only", "--exclude-schema=walcast", "-d", &cluster.conninfo(DATABASE).to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // Comments hold versions, \restrict a random key; publication, event triggers and walcast's logins are of one side.
    let is_own = |line: &str| line.contains("walcast_") || line.contains("walcast.") || line.ends_with("TO walcast;");
    let meant = |line: &&str| !line.is_empty() && !line.starts_with("--") && !line.starts_with('\\') && !is_own(line);
    let mixed = is_mixed();
    text.lines()
        .filter(meant)
        .filter_map(|line| if mixed { whatever_version(line) } else { Some(line.to_owned()) })
        .map(|line| line + "\n")
        .collect()
}

/// Without what versions have in different words: everybody could create in `public` before 15, views name the table of each
/// column before 16, there is one more privilege on tables from 17 on, and from 18 on NOT NULL has a name that stays when its
/// table is renamed.
fn whatever_version(line: &str) -> Option<String> {
    let version_tells = line.contains(" SCHEMA public ") || line.starts_with("GRANT ") || line.starts_with("REVOKE ");
    let unnamed = match (line.split_once(" CONSTRAINT "), line.split_once(" NOT NULL")) {
        (Some((column, _)), Some((_, rest))) => format!("{column} NOT NULL{rest}"),
        _ => line.to_owned(),
    };
    let is_body = unnamed.starts_with(' ');
    (!version_tells).then(|| if is_body { unqualified(&unnamed) } else { unnamed })
}

/// Words without those before their dots.
fn unqualified(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        let word_at = kept.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        match c {
            '.' if word_at < kept.len() => kept.truncate(word_at),
            _ => kept.push(c),
        }
    }
    kept
}

fn roles(cluster: &Cluster) -> String {
    sql(
        cluster,
        "SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
                rolconnlimit, rolvaliduntil, shobj_description(oid, 'pg_authid')
            FROM pg_authid WHERE rolname !~ '^(pg_|walcast)' ORDER BY rolname;
         SELECT 'member', roleid::regrole, member::regrole, admin_option FROM pg_auth_members
            WHERE member::regrole::text !~ '^(pg_|walcast)' ORDER BY roleid::regrole::text, member::regrole::text;
         SELECT 'setting', setrole::regrole, setconfig FROM pg_db_role_setting WHERE setrole::regrole::text <> 'walcast'
            ORDER BY setrole::regrole::text, setdatabase <> 0;
         SELECT 'database', datdba::regrole, a FROM pg_database, unnest(coalesce(datacl, acldefault('d', datdba))) a
            WHERE datname = current_database() AND a::text !~ '^walcast=' ORDER BY a::text;",
    ) + "\n"
}

/// Values of sequences, and rows of materialized views.
fn values(cluster: &Cluster) -> String {
    let statements = "
        SELECT format('SELECT %L, last_value, is_called FROM %I.%I;', c.oid::regclass, n.nspname, c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind = 'S' AND nspname <> 'walcast' ORDER BY c.oid::regclass::text;
        SELECT format('SELECT %L, m FROM %s m ORDER BY m::text;', c.oid::regclass, c.oid::regclass)
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relkind = 'm' AND relispopulated AND nspname <> 'walcast' ORDER BY c.oid::regclass::text";
    sql(cluster, &sql(cluster, statements))
}

#[test]
fn every_kind_of_ddl_arrives_with_the_rows_around_it() {
    let (mirror, service) = begin();
    play(&mirror, &service, CASES);
    assert!(!service.messages().contains("ERROR"), "{}", service.messages());
    mirror.finish(service);
}

#[test]
fn d07_values_of_an_enum_are_used_in_the_next_transactions_of_one_batch() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE TYPE mood AS ENUM ('m0'); CREATE TABLE t (id int PRIMARY KEY, m mood)");
    mirror.catch_up(&service);
    // While nothing is applied, everything gathers to be one batch.
    mirror.walcast(&["pause", "berlin"]);
    let script: String = (1..=30)
        .map(|n| {
            format!(
                "INSERT INTO t SELECT {n} * 1000 + g, 'm{}' FROM generate_series(1, 50) g;
            ALTER TYPE mood ADD VALUE 'm{n}';
            INSERT INTO t VALUES ({n}, 'm{n}');\n",
                n - 1
            )
        })
        .collect();
    mirror.at_source(&script);
    mirror.walcast(&["resume", "berlin"]);
    assert_equal(&mirror, &service, "D07");
    mirror.finish(service);
}

#[test]
fn d39_a_reader_of_the_target_is_waited_for_and_keeps_nobody_else_waiting() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)");
    mirror.catch_up(&service);
    let reader = "BEGIN; SELECT count(*) FROM t; SELECT pg_sleep(3600)";
    let mut command = Command::new(mirror.targets[0].installation().client("psql").unwrap());
    let conninfo = mirror.targets[0].conninfo(DATABASE).to_string();
    let mut reader =
        command.args(["-X", "-q", "-d", &conninfo, "-c", reader]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the reader reads", CATCH_UP, || mirror.at_target(0, asleep).trim() == "1");
    mirror.at_source("ALTER TABLE t ADD v text DEFAULT 'x'; INSERT INTO t VALUES (101)");
    mirror.catch_up_one(1, &service);
    until("the target says what it waits for", CATCH_UP, || {
        mirror.target_status(0)["last_error"].as_str().is_some_and(|text| text.contains("lock timeout"))
    });
    assert_eq!(mirror.target_status(0)["state"], "catching_up", "it is no error that stops a target");
    // Whoever comes now waits no longer than the attempt under way.
    mirror.at_target(0, "SET statement_timeout = '30s'; SELECT count(*) FROM t");
    mirror.at_target(0, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    reader.wait().unwrap();
    assert_equal(&mirror, &service, "D39");
    mirror.finish(service);
}

/// Before 16 a source does not say that tables of a renamed schema have another name.
#[test]
fn d11_rows_follow_their_table_through_names_of_its_schema() {
    let (mirror, service) = begin();
    let schemas = |one: &str, two: &str| {
        format!("INSERT INTO {one}.t VALUES ({{n}}, 'one'); INSERT INTO {two}.t VALUES ({{n}}, 'two')")
    };
    let step = |script: &str, one: &str, two: &str, n: u32| {
        mirror.at_source(&format!("{script};\n{}", schemas(one, two).replace("{n}", &n.to_string())));
        mirror.catch_up(&service);
        // A new session of the applier does not pass the message again.
        mirror.walcast(&["pause", "berlin"]);
        mirror.walcast(&["resume", "berlin"]);
        mirror.at_source(&schemas(one, two).replace("{n}", &(100 + n).to_string()));
        mirror.catch_up(&service);
    };
    let tables = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int PRIMARY KEY, v text); \
        CREATE TABLE b.t (id int PRIMARY KEY, v text)";
    step(tables, "a", "b", 1);
    step("ALTER SCHEMA a RENAME TO c", "c", "b", 2);
    // Each gets the other's name, and rows come in the same transaction and after it.
    let swap = "ALTER SCHEMA c RENAME TO x; ALTER SCHEMA b RENAME TO c; ALTER SCHEMA x RENAME TO b";
    let within = schemas("b", "c").replace("{n}", "3");
    step(&format!("BEGIN; INSERT INTO c.t VALUES (30, 'one'); {swap}; {within}; COMMIT"), "b", "c", 4);
    step(
        "BEGIN; ALTER SCHEMA b RENAME TO y; UPDATE y.t SET v = 'first'; ALTER SCHEMA y RENAME TO b; COMMIT",
        "b",
        "c",
        5,
    );
    // The table of b goes where another of the same name then is, and comes to be called as it was described last.
    let moves = "ALTER SCHEMA b RENAME TO d; CREATE SCHEMA b; ALTER TABLE d.t SET SCHEMA b; \
        CREATE TABLE d.t (id int PRIMARY KEY, v text); INSERT INTO d.t VALUES (1, 'third')";
    step(moves, "b", "c", 6);
    for at in 0..2 {
        let kinds = "SELECT (SELECT string_agg(DISTINCT v, ' ' ORDER BY v) FROM b.t), (SELECT string_agg(DISTINCT v, ' ') FROM c.t)";
        assert_eq!(mirror.at_target(at, kinds).trim(), "first one|two");
    }
    assert_equal(&mirror, &service, "schemas that are renamed");
    mirror.finish(service);
}

/// A transaction that is open meanwhile describes its table by the old name, when another one is called so.
#[test]
fn d11_a_schema_is_renamed_while_others_write_in_it() {
    let mirror = Mirror::with(2, &[("logical_decoding_work_mem", "64kB")], "");
    mirror.set_up();
    let mut service = mirror.run();
    mirror.at_source("CREATE TABLE gate (id int PRIMARY KEY)");
    let table = |schema: &str| format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id int PRIMARY KEY, v text)");
    // Of the few rows the source tells at the commit, of the many before.
    for (round, rows, killed) in [(0, 3, false), (1, 3, true), (2, 20_000, false), (3, 20_000, true)] {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        mirror.at_source(&table(&old));
        let open = format!(
            "BEGIN; INSERT INTO {old}.t SELECT g, repeat('o', 90) FROM generate_series(1, {rows}) g;
             DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate WHERE id = {round}) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$;
             INSERT INTO {new}.t VALUES (-1, 'o'); COMMIT"
        );
        service = std::thread::scope(|scope| {
            let mut service = service;
            let other = scope.spawn(|| mirror.at_source(&open));
            let writes = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND query LIKE 'DO%'";
            until("the other transaction writes", CATCH_UP, || mirror.at_source(writes).trim() == "1");
            mirror.at_source(&format!("ALTER SCHEMA {old} RENAME TO {new}"));
            mirror.at_source(&format!("{}; INSERT INTO {old}.t VALUES (-2, 'n')", table(&old)));
            mirror.catch_up(&service);
            if killed {
                service.kill9();
                service = mirror.run();
            }
            mirror.at_source(&format!("INSERT INTO gate VALUES ({round})"));
            other.join().unwrap();
            service
        });
        mirror.at_source(&format!("INSERT INTO {new}.t VALUES (-3, 'o'); INSERT INTO {old}.t VALUES (-4, 'n')"));
        mirror.catch_up(&service);
        for at in 0..2 {
            let found = format!("SELECT (SELECT count(*) FROM {new}.t), (SELECT count(*) FROM {old}.t)");
            assert_eq!(mirror.at_target(at, &found).trim(), format!("{}|2", rows + 2), "round {round}");
        }
    }
    assert_equal(&mirror, &service, "a schema that is renamed while others write in it");
    mirror.finish(service);
}

#[test]
fn d43_what_cannot_be_done_on_one_target_stops_that_one_and_can_be_skipped() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
    mirror.catch_up(&service);
    mirror.at_target(0, "INSERT INTO t VALUES (2, 1)");
    mirror.at_source("ALTER TABLE t ADD UNIQUE (v); INSERT INTO t VALUES (3, 3)");
    mirror.catch_up_one(1, &service);
    let error = mirror.until_stopped(0);
    for what in ["SQLSTATE 23505", "lsn ", "t", "hint: "] {
        assert!(error.contains(what), "{what:?} is not in {error}");
    }
    let lsn = error.split("lsn ").nth(1).unwrap().split([';', ')']).next().unwrap().to_owned();
    mirror.walcast(&["skip", "berlin", "--lsn", &lsn]);
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM walcast.skipped").trim(), "1");
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM pg_constraint WHERE conname = 't_v_key'").trim(), "0");
    // What was skipped is the operator's to do. It is not done by a later change of the same table.
    mirror.at_source("ALTER TABLE t ADD w int; INSERT INTO t VALUES (4, 4, 4)");
    mirror.catch_up(&service);
    mirror.at_target(0, "DELETE FROM t WHERE id = 2; ALTER TABLE t ADD UNIQUE (v)");
    assert_equal(&mirror, &service, "D43");
    mirror.finish(service);
}

#[test]
fn d05_stale_rows_of_a_rewritten_table_are_in_nobodys_way() {
    let (mirror, service) = begin();
    mirror.at_source(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 9) g;
        CREATE TABLE child (id int PRIMARY KEY, t int)",
    );
    mirror.catch_up(&service);
    for name in mirror.names() {
        mirror.walcast(&["pause", name]);
    }
    // What the stream does not carry makes v unique, positive and known.
    mirror.at_source("ALTER TABLE t ALTER v TYPE bigint USING id");
    mirror.at_source("CREATE UNIQUE INDEX ON t (v); ALTER TABLE t ADD CHECK (v > 0)");
    mirror.at_source("INSERT INTO t VALUES (10, 10); INSERT INTO child VALUES (1, 10)");
    // Without row 10, which comes with the copy, the key has to wait.
    mirror.at_source("ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t; INSERT INTO child VALUES (2, 10)");
    for name in mirror.names() {
        mirror.walcast(&["resume", name]);
    }
    let key = "SELECT count(*) FROM pg_constraint WHERE conname = 'child_t_fkey' AND convalidated";
    let has_key = |at: usize| mirror.at_target(at, key).trim() == "1";
    until("the key that waited is there", CATCH_UP, || has_key(0) && has_key(1));
    until("nothing waits", CATCH_UP, || mirror.target_status(0)["pending_objects"].is_null());
    assert_equal(&mirror, &service, "D05");
    mirror.finish(service);
}

#[test]
fn d22_what_was_done_without_event_triggers_is_noticed() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    mirror.catch_up(&service);
    mirror.at_source("ALTER EVENT TRIGGER walcast_ddl_end DISABLE");
    let is_blind =
        || mirror.status()["source"]["capture_error"].as_str().is_some_and(|e| e.contains("walcast_ddl_end"));
    until("the status says that DDL is not captured", Duration::from_secs(30), is_blind);
    assert_eq!(mirror.status()["source"]["state"], "streaming", "rows go on");
    mirror.at_source(
        "CREATE TABLE unseen (id int PRIMARY KEY, v text); ALTER TABLE t ADD v int;
        CREATE ROLE unseen_role; GRANT SELECT ON t TO unseen_role",
    );
    until("the table arrives all the same", CATCH_UP, || {
        mirror.at_target(0, "SELECT to_regclass('unseen') IS NOT NULL").trim() == "t"
    });
    mirror.walcast(&["setup"]);
    until("all is well again", Duration::from_secs(30), || mirror.status()["source"]["capture_error"].is_null());
    mirror.at_source(
        "INSERT INTO unseen VALUES (1, 'x'); UPDATE t SET v = 2;
        CREATE TABLE seen (id int PRIMARY KEY)",
    );
    assert_equal(&mirror, &service, "D22");
    assert_eq!(service.messages().matches("DDL is not captured").count(), 1, "{}", service.messages());
    mirror.finish(service);
}
