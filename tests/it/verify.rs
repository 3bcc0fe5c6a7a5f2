//! `walcast verify`: every kind of difference is found, none is made up, and rows are repaired.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::load::SCHEMA;
use crate::random::cycles;
use crate::service::{CATCH_UP, Mirror, Service, until};

/// A comparison's report, and whether the exit status said "equal".
fn verify(mirror: &Mirror, further: &[&str]) -> (Value, bool) {
    let output = mirror.run_cli(&[&["verify", "berlin", "--json"], further].concat());
    (report(&output), output.status.success())
}

fn report(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let parsed = serde_json::from_str(&stdout);
    parsed.unwrap_or_else(|error| panic!("{error}\n{stdout}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// What is in a list of the report, as `table kind key`.
fn listed(report: &Value, list: &str) -> Vec<String> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let line = |entry: &Value| ["table", "kind", "key"].map(|name| text(entry, name)).join(" ").trim_end().to_owned();
    report[list].as_array().unwrap().iter().map(line).collect()
}

fn assert_equal(mirror: &Mirror) {
    let (report, equal) = verify(mirror, &[]);
    assert!(equal && report["equal"] == true, "{report:#}");
    assert!(!report["tables"].as_array().unwrap().is_empty(), "nothing was compared");
    assert_eq!(mirror.at_source("SELECT count(*) FROM pg_replication_slots").trim(), "1", "a slot was left");
}

/// The service, once it answers: a comparison that comes first would apply by itself and keep it out.
fn running(mirror: &Mirror) -> Service {
    let service = mirror.run();
    until("the service streams", CATCH_UP, || mirror.status()["source"]["state"] == "streaming");
    service
}

/// A command that has to fail, with what it says.
fn refusal(mirror: &Mirror, arguments: &[&str]) -> String {
    let output = mirror.run_cli(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{stderr}");
    stderr
}

const SEEDED: &str = "
    CREATE ROLE reader;
    CREATE TABLE item (id serial PRIMARY KEY, v text, n int);
    CREATE INDEX item_v ON item (v);
    CREATE SEQUENCE free;
    GRANT SELECT ON item TO reader;";

const SEEDED_ROWS: &str = "
    INSERT INTO account SELECT g, 0, g, 'note ' || g FROM generate_series(1, 2000) g;
    INSERT INTO item (v, n) SELECT 'v' || g, g FROM generate_series(1, 100) g;
    SELECT nextval('free') FROM generate_series(1, 10);";

/// Among rows that the load does not touch.
const DAMAGE: &str = "
    DELETE FROM account WHERE id IN (17, 18);
    INSERT INTO account VALUES (-5, 0, 1, NULL);
    UPDATE account SET note = 'other' WHERE id = 1000;
    UPDATE account SET note = NULL WHERE id = 1001;
    DROP INDEX item_v;
    REVOKE SELECT ON item FROM reader;
    GRANT INSERT ON item TO reader;
    ALTER TABLE item ALTER n TYPE bigint;
    SELECT setval('item_id_seq', 5), setval('free', 20);";

const FOUND: [&str; 10] = [
    "public.account changed id = 1000",
    "public.account changed id = 1001",
    "public.account extra id = -5",
    "public.account missing id = 17",
    "public.account missing id = 18",
    "public.free sequence value",
    "public.item acl reader",
    "public.item column n",
    "public.item index item_v",
    "public.item_id_seq sequence value",
];

#[test]
fn a_difference_of_every_kind_is_found_under_load_and_rows_are_repaired() {
    let mirror = Mirror::new(1);
    mirror.everywhere(SCHEMA);
    mirror.everywhere(SEEDED);
    mirror.set_up();
    let service = running(&mirror);
    mirror.at_source(SEEDED_ROWS);
    mirror.at_target(0, "SELECT setval('item_id_seq', 100), setval('free', 10)");
    mirror.catch_up(&service);
    while_written(&mirror, &service, false, || {
        assert_equal(&mirror);
        mirror.at_target(0, DAMAGE);
        let (found, equal) = verify(&mirror, &[]);
        let mut differences = listed(&found, "differences");
        differences.sort();
        assert_eq!(differences, FOUND, "{found:#}");
        assert!(!equal);
        let item = &found["differences"].as_array().unwrap().iter().find(|d| d["kind"] == "column").unwrap();
        assert_eq!((item["source"].as_str(), item["target"].as_str()), (Some("integer"), Some("bigint")));

        let (repaired, equal) = verify(&mirror, &["--repair"]);
        let left = ["public.item column n", "public.item index item_v", "public.item acl reader"];
        assert_eq!(listed(&repaired, "differences"), left, "{repaired:#}");
        assert!(!equal && repaired["repaired"] == 7);
        mirror.at_target(
            0,
            "CREATE INDEX item_v ON item (v); ALTER TABLE item ALTER n TYPE int;
            GRANT SELECT ON item TO reader; REVOKE INSERT ON item FROM reader",
        );
        assert_equal(&mirror);
    });
    let records = "SELECT kind, table_name, key FROM walcast.repaired WHERE lsn > '0/0' AND repaired_by = current_user
        AND repaired_at > now() - interval '1 hour' ORDER BY 1, 2, 3";
    let wanted = "changed|account|id = 1000\nchanged|account|id = 1001\nextra|account|id = -5\nmissing|account|id = 17\n\
        missing|account|id = 18\nsequence|free|10\nsequence|item_id_seq|100";
    assert_eq!(mirror.at_target(0, records).trim(), wanted);
    mirror.finish(service);
}

/// One round of small transactions of every kind, on rows that are the writer's own.
fn writes(writer: u64, round: u64) -> String {
    let first = writer * 1_000_000 + round * 100;
    let mine = format!("writer = {writer} AND id > {}", first.saturating_sub(1000));
    format!(
        "INSERT INTO account SELECT g, {writer}, 0, NULL FROM generate_series({first}, {first} + 30) g;
        UPDATE account SET amount = amount + 1, note = repeat('n{round}', 500) WHERE {mine} AND id % 3 = 0;
        BEGIN; DELETE FROM account WHERE {mine} AND id % 7 = 0; INSERT INTO journal VALUES ({writer}, {round}, 'deleted'); COMMIT;
        UPDATE account SET id = id + 50 WHERE {mine} AND id % 100 < 50 AND id % 11 = 0;
        BEGIN; UPDATE account SET note = '' WHERE {mine}; SAVEPOINT a; DELETE FROM account WHERE {mine}; ROLLBACK TO a; COMMIT;"
    )
}

/// Truncates, and has a transaction open for a while.
fn disturbance(_: u64, round: u64) -> String {
    format!(
        "INSERT INTO staging SELECT g, {round} FROM generate_series(1, 3000) g;
        BEGIN; DELETE FROM staging WHERE id % 3 = 0; TRUNCATE staging; INSERT INTO staging VALUES (1, {round}); COMMIT;
        TRUNCATE staging;
        BEGIN; INSERT INTO slow VALUES ({round}); SELECT pg_sleep(0.4); UPDATE slow SET n = n WHERE n = {round}; COMMIT;"
    )
}

/// Does `what` while there are writers, which wait for the target now and then: it must not fall ever further behind.
fn while_written(mirror: &Mirror, service: &Service, disturbed: bool, what: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let write = |writer: u64, script: fn(u64, u64) -> String| {
        for round in 1_u64.. {
            mirror.at_source(&script(writer, round));
            if round % 5 == 0 {
                mirror.catch_up_one(0, service);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| write(1, writes));
        scope.spawn(|| write(2, writes));
        if disturbed {
            scope.spawn(|| write(3, disturbance));
        }
        let _stops = OnDrop(&stop);
        what();
    });
}

/// Ends the writers also when a comparison fails, or the scope would wait for them for ever.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_made_up_while_tables_are_written_truncated_and_transactions_stay_open() {
    let mirror = Mirror::new(1);
    mirror.everywhere(SCHEMA);
    mirror.everywhere("CREATE TABLE staging (id int PRIMARY KEY, n int); CREATE TABLE slow (n int PRIMARY KEY);");
    mirror.set_up();
    let service = running(&mirror);
    while_written(&mirror, &service, true, || {
        for _ in 0..cycles("WALCAST_VERIFY_CYCLES", 10) {
            assert_equal(&mirror);
        }
    });
    mirror.finish(service);
}

const IDENTITY: &str = r#"
    CREATE TABLE copies (a int, t text);
    CREATE TABLE loose (id int PRIMARY KEY, n numeric, f float8, j jsonb, i interval, c char(5), p point, x int[], r int4range,
        g int GENERATED ALWAYS AS (id + 1) STORED);
    CREATE TABLE keyed_loosely (k numeric PRIMARY KEY, v int);
    CREATE TABLE wide (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text, b text, c bytea);
    CREATE SCHEMA "S""1; --";
    CREATE TABLE "S""1; --"."T'a
b.\" ("k ""1"" $$" int, "where" text, "ü" text, PRIMARY KEY ("where", "k ""1"" $$"));
    CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
    CREATE TABLE nothing ();
    ALTER TABLE nothing REPLICA IDENTITY FULL;
    ALTER TABLE copies REPLICA IDENTITY FULL;"#;

const IDENTITY_ROWS: &str = r#"
    INSERT INTO copies SELECT 1, 'one' FROM generate_series(1, 5);
    INSERT INTO copies VALUES (2, NULL), (2, ''), (2, ''), (NULL, NULL), (3, E'tab\t"quote"\n,()');
    INSERT INTO loose VALUES (1, 1.0, '-0', '{"a": 1.0}', '1 day', 'a', '(1,-0)', '[0:1]={1,2}', '[1,5)'),
        (2, 1.0, '0', '{"a": 1.0}', '1 day', 'a', '(1,0)', '{1,2}', '[1,5)'), (3, NULL, NULL, 'null', NULL, '', NULL, '{}', 'empty');
    INSERT INTO keyed_loosely VALUES (1.0, 1), (2, 2);
    INSERT INTO wide (a, b, c) SELECT CASE g % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN repeat('"'',\(', 5000) ELSE 'NULL' END,
        CASE g % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE E'a\\b' END, decode(repeat('00ff', g), 'hex') FROM generate_series(1, 300) g;
    INSERT INTO "S""1; --"."T'a
b.\" VALUES (1, E'x''y"z\\', 'ß'), (2, '', NULL);
    INSERT INTO parted SELECT g, 'v' FROM generate_series(0, 199) g;
    INSERT INTO nothing DEFAULT VALUES;"#;

/// What `=` would not see, among others.
const IDENTITY_DAMAGE: &str = r#"
    DELETE FROM copies WHERE ctid = (SELECT min(ctid) FROM copies WHERE a = 1);
    INSERT INTO copies VALUES (2, NULL), (2, NULL);
    UPDATE copies SET t = '' WHERE a IS NULL;
    UPDATE loose SET n = 1.00 WHERE id = 1;
    UPDATE loose SET f = '-0', p = '(1,-0)' WHERE id = 2;
    UPDATE loose SET j = '{"a": 1.00}', i = '24 hours', x = '[0:1]={1,2}' WHERE id = 3;
    UPDATE keyed_loosely SET k = 1.00 WHERE k = 1;
    UPDATE wide SET a = '' WHERE id = 4;
    UPDATE wide SET b = NULL WHERE id = 3;
    DELETE FROM wide WHERE id = 7;
    DELETE FROM "S""1; --"."T'a
b.\" WHERE "where" = '';
    UPDATE "S""1; --"."T'a
b.\" SET "ü" = 'ss';
    UPDATE parted SET v = 'w' WHERE id IN (50, 150);
    INSERT INTO nothing DEFAULT VALUES;"#;

const IDENTITY_FOUND: [&str; 17] = [
    r#""S""1; --"."T'a\nb.\" changed where = x'y"z\, "k ""1"" $$" = 1"#,
    r#""S""1; --"."T'a\nb.\" missing where = , "k ""1"" $$" = 2"#,
    "public.copies extra (,\"\")",
    "public.copies extra (2,)",
    "public.copies missing (,)",
    "public.copies missing (1,one)",
    "public.keyed_loosely extra k = 1.00",
    "public.keyed_loosely missing k = 1.0",
    "public.loose changed id = 1",
    "public.loose changed id = 2",
    "public.loose changed id = 3",
    "public.nothing extra ()",
    "public.parted_1 changed id = 50",
    "public.parted_2 changed id = 150",
    "public.wide changed id = 3",
    "public.wide changed id = 4",
    "public.wide missing id = 7",
];

#[test]
fn d24_rows_are_told_apart_by_their_text_whatever_their_types_and_names() {
    let mirror = Mirror::new(1);
    mirror.everywhere(IDENTITY);
    mirror.set_up();
    let service = running(&mirror);
    mirror.at_source(IDENTITY_ROWS);
    mirror.at_target(0, "SELECT setval('wide_id_seq', 300)");
    mirror.catch_up(&service);
    assert_equal(&mirror);
    mirror.at_target(0, IDENTITY_DAMAGE);
    let (found, equal) = verify(&mirror, &["--jobs", "3"]);
    let mut differences = listed(&found, "differences");
    differences.sort();
    assert!(!equal);
    assert_eq!(differences, IDENTITY_FOUND, "{found:#}");
    let copies = found["differences"].as_array().unwrap().iter().find(|d| d["key"] == "(2,)").unwrap();
    assert_eq!(copies["target"], "2 copies");

    let (one, _) = verify(&mirror, &["--table", "public.wide", "--repair"]);
    assert!(one["equal"] == true && one["repaired"] == 3, "{one:#}");
    assert_eq!(one["tables"].as_array().unwrap().len(), 1);
    let (rest, equal) = verify(&mirror, &["--repair"]);
    assert!(equal, "{rest:#}");
    assert_equal(&mirror);
    mirror.at_source("INSERT INTO copies VALUES (9, 'after'); UPDATE wide SET b = 'after'; DELETE FROM keyed_loosely");
    mirror.finish(service);
}

/// More rows than one transaction of a repair takes, and more than are listed.
#[test]
fn a_target_that_lost_a_whole_table_is_repaired_in_portions() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE big (id int PRIMARY KEY, v text NOT NULL, u int UNIQUE)");
    mirror.set_up();
    let service = running(&mirror);
    mirror.at_source("INSERT INTO big SELECT g, repeat('x', 100) || g, -g FROM generate_series(1, 20000) g");
    mirror.catch_up(&service);
    mirror.at_target(0, "DELETE FROM big; INSERT INTO big SELECT -g, 'wrong', -g FROM generate_series(1, 3000) g");
    let (found, equal) = verify(&mirror, &[]);
    let table = &found["tables"][0];
    assert!(!equal && table["source_rows"] == 20000 && table["target_rows"] == 3000, "{table}");
    assert_eq!(found["differences"].as_array().unwrap().len(), 1000, "listed");
    let (repaired, equal) = verify(&mirror, &["--repair"]);
    assert!(equal && repaired["repaired"] == 23000, "{repaired:#}");
    mirror.finish(service);
}

/// The service has sequences follow the source's; one that somebody set on the target is at fault.
#[test]
fn sequences_are_followed_and_one_that_somebody_set_is_a_difference() {
    let mirror = Mirror::new(1);
    mirror.at_source("CREATE TABLE item (id serial PRIMARY KEY, v text); CREATE SEQUENCE free");
    mirror.at_source("INSERT INTO item (v) SELECT 'copied' FROM generate_series(1, 10); SELECT nextval('free')");
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "berlin"]);
    let service = running(&mirror);
    assert_equal(&mirror);
    mirror.at_source("INSERT INTO item (v) SELECT 'streamed' FROM generate_series(1, 10); SELECT nextval('free')");
    mirror.catch_up(&service);
    let (level, equal) = verify(&mirror, &[]);
    assert!(equal && listed(&level, "differences").is_empty() && listed(&level, "notes").is_empty(), "{level:#}");
    mirror.at_target(0, "SELECT setval('item_id_seq', 3)");
    let (stale, equal) = verify(&mirror, &[]);
    assert!(!equal, "{stale:#}");
    assert_eq!(listed(&stale, "differences"), ["public.item_id_seq sequence value"]);
    let (repaired, equal) = verify(&mirror, &["--repair"]);
    assert!(equal && repaired["repaired"] == 1 && listed(&repaired, "notes").is_empty(), "{repaired:#}");
    assert_eq!(mirror.at_target(0, "SELECT nextval('item_id_seq'), nextval('free')").trim(), "21|3");
    service.sigterm();
    mirror.undo();
}

#[test]
fn it_works_without_the_service_and_says_what_is_wrong_with_a_request() {
    let mirror = Mirror::new(2);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE alone (id int)");
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "--no-copy", "berlin"]);
    let service = running(&mirror);
    mirror.at_source("INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g");
    mirror.catch_up_one(0, &service);
    let refused = refusal(&mirror, &["verify", "berlin", "--table", "public.nosuch"]);
    assert!(refused.contains("no table public.nosuch") && refused.contains("public.alone"), "{refused}");
    let refused = refusal(&mirror, &["verify", "tokyo"]);
    assert!(refused.contains("has no checkpoint") && refused.contains("walcast bootstrap tokyo"), "{refused}");
    assert!(refusal(&mirror, &["verify", "nosuch"]).contains("no target \"nosuch\""));
    service.sigterm();

    mirror.at_source("INSERT INTO t SELECT g, 'w' FROM generate_series(101, 200) g; DELETE FROM t WHERE id = 5");
    assert_equal(&mirror);
    mirror.at_target(0, "UPDATE t SET v = 'x' WHERE id = 7");
    assert_eq!(listed(&verify(&mirror, &[]).0, "differences"), ["public.t changed id = 7"]);
    let repaired = mirror.walcast(&["verify", "berlin", "--repair"]);
    assert!(
        repaired.contains("equal, 1 repaired") && repaired.contains("target \"berlin\" equals the source"),
        "{repaired}"
    );
    let service = running(&mirror);
    mirror.catch_up_one(0, &service);
    assert_equal(&mirror);
    service.sigterm();
    mirror.undo();
}
