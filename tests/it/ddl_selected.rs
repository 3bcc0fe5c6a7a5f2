//! Publications of some tables: what comes to be selected arrives with all of its rows, and nothing else does.

use crate::postgres::DATABASE;
use crate::service::{CATCH_UP, Mirror, Service, until};

fn begin() -> (Mirror, Service) {
    let mirror = Mirror::new(2);
    let selection = "tables = [\"public.*\", \"shop.*\"]\nexclude = [\"*.tmp_*\"]\npublication =";
    mirror.reconfigure(|text| text.replacen("publication =", selection, 1));
    mirror.everywhere("CREATE SCHEMA shop; CREATE SCHEMA other; CREATE TABLE first (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    (mirror, service)
}

/// Waits until the targets have these tables with the source's rows, and no table of the names beside.
fn assert_tables(mirror: &Mirror, service: &Service, tables: &[&str], absent: &[&str]) {
    mirror.catch_up(service);
    until("no table is being copied again", CATCH_UP, || {
        mirror.names().iter().enumerate().all(|(at, _)| mirror.target_status(at)["set_aside"].is_null())
    });
    mirror.catch_up(service);
    for (at, name) in mirror.names().iter().enumerate() {
        for table in tables {
            let rows = format!("SELECT t FROM {table} t ORDER BY t::text");
            assert_eq!(mirror.at_target(at, &rows), mirror.at_source(&rows), "{table} on {name}");
        }
        for table in absent {
            let found = mirror.at_target(at, &format!("SELECT to_regclass('{table}')"));
            assert_eq!(found.trim(), "", "{table} on {name}");
        }
    }
}

#[test]
fn a_new_table_that_is_selected_simply_arrives() {
    let (mirror, service) = begin();
    mirror.at_source(
        "CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1);
            CREATE TABLE shop.numbered (id serial PRIMARY KEY, v text);
         BEGIN; CREATE TABLE in_one (id int PRIMARY KEY); INSERT INTO in_one SELECT generate_series(1, 10); COMMIT;
         INSERT INTO shop.numbered (v) VALUES ('a'); CREATE TABLE other.not_selected (id int PRIMARY KEY);
             INSERT INTO other.not_selected VALUES (1);
         CREATE TABLE tmp_1 (id int); INSERT INTO tmp_1 VALUES (1); UPDATE tmp_1 SET id = 2",
    );
    assert_tables(&mirror, &service, &["plain", "shop.numbered", "in_one"], &["other.not_selected", "tmp_1"]);
    mirror.at_source(
        "CREATE TABLE filled AS SELECT g AS id, random() AS r FROM generate_series(1, 1000) g;
            ALTER TABLE filled ADD PRIMARY KEY (id);
         UPDATE filled SET r = 0 WHERE id = 7; ALTER TABLE plain ADD v int DEFAULT 3;
             ALTER TABLE other.not_selected ADD v int;
         CREATE TABLE shop.parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE shop.part PARTITION OF shop.parted DEFAULT; INSERT INTO shop.parted VALUES (1)",
    );
    assert_tables(&mirror, &service, &["plain", "filled", "shop.parted"], &["other.not_selected", "tmp_1"]);
    mirror.at_source(
        "ALTER TABLE tmp_1 RENAME TO kept; INSERT INTO kept VALUES (3);
        ALTER TABLE other.not_selected SET SCHEMA shop; INSERT INTO shop.not_selected VALUES (2, 2)",
    );
    assert_tables(&mirror, &service, &["kept", "shop.not_selected"], &["tmp_1", "other.not_selected"]);
    mirror.at_source("DROP TABLE kept; DROP TABLE plain");
    assert_tables(&mirror, &service, &["filled"], &["kept", "plain"]);
    assert!(!service.messages().contains("ERROR"), "{}", service.messages());
    service.sigterm();
    mirror.undo();
}

#[test]
fn what_a_user_without_privileges_makes_is_published_and_a_locked_publication_stops_nobody() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain");
    mirror.at_source(
        "SET SESSION AUTHORIZATION plain; CREATE TABLE by_plain (id int PRIMARY KEY);
            INSERT INTO by_plain VALUES (1)",
    );
    assert_tables(&mirror, &service, &["by_plain"], &[]);
    // The publication is locked by a transaction that made a table.
    let psql = mirror.source.installation().client("psql").unwrap();
    let conninfo = mirror.source.conninfo(DATABASE).to_string();
    let script = "BEGIN; CREATE TABLE slow (id int PRIMARY KEY); INSERT INTO slow VALUES (1); SELECT pg_sleep(3600)";
    let mut command = std::process::Command::new(psql);
    let mut slow = command.args(["-X", "-q", "-d", &conninfo, "-c", script]).spawn().unwrap();
    until("the slow transaction sleeps", CATCH_UP, || {
        mirror.at_source("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").trim() == "1"
    });
    mirror.at_source("CREATE TABLE beside (id int PRIMARY KEY); INSERT INTO beside VALUES (1), (2)");
    mirror.at_source("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    slow.wait().unwrap();
    let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'beside'";
    until("the ticker publishes it", CATCH_UP, || mirror.at_source(published).trim() == "1");
    assert_tables(&mirror, &service, &["beside"], &["slow"]);
    service.sigterm();
    mirror.undo();
}

#[test]
fn tables_that_a_new_configuration_selects_are_copied() {
    let (mirror, service) = begin();
    mirror.at_source(
        "CREATE TABLE other.late (id int PRIMARY KEY, v text UNIQUE);
        INSERT INTO other.late SELECT g, g FROM generate_series(1, 100) g;
        CREATE VIEW seen AS SELECT id FROM other.late; CREATE TABLE child (id int PRIMARY KEY REFERENCES other.late);
        CREATE OR REPLACE VIEW seen AS SELECT id, v FROM other.late; COMMENT ON VIEW seen IS 'waits'",
    );
    assert_tables(&mirror, &service, &["first", "child"], &["other.late", "seen"]);
    until("the status says what waits", CATCH_UP, || {
        let waits = mirror.target_status(0)["pending_objects"].to_string();
        waits.contains("VIEW public.seen") && waits.contains("TABLE public.child")
    });
    service.sigterm();
    mirror.reconfigure(|text| text.replacen("\"shop.*\"", "\"shop.*\", \"other.late\"", 1));
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    mirror.at_source("INSERT INTO other.late VALUES (1000, 'y')");
    assert_tables(&mirror, &service, &["other.late", "seen"], &[]);
    let made = "SELECT string_agg(conname, ' ' ORDER BY conname), obj_description('seen'::regclass) FROM pg_constraint \
                WHERE conrelid IN ('child'::regclass, 'other.late'::regclass) AND contype <> 'n'";
    assert_eq!(mirror.at_target(0, made), mirror.at_source(made));
    until("nothing waits", CATCH_UP, || mirror.target_status(0)["pending_objects"].is_null());
    mirror.walcast(&["check"]);
    service.sigterm();
    mirror.undo();
}
