//! Which rows go where, by the rules of native replication: tables whose shape differs, replica identities, TRUNCATE,
//! triggers and constraints, partitions, and what becomes of rows that are not there.

use crate::compare::assert_same_rows;
use crate::service::{CATCH_UP, Mirror, until};

const SHAPES_AT_SOURCE: &str = "
    CREATE TABLE reordered (a int PRIMARY KEY, b text, c numeric, d date);
    CREATE TABLE dropped (gone int, id int PRIMARY KEY, also_gone text, v text);
    ALTER TABLE dropped DROP gone, DROP also_gone;
    CREATE TABLE other_types (id int PRIMARY KEY, v varchar(10), n int, r real, at timestamp, e char(5));
    CREATE TABLE generated (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
    CREATE TABLE not_generated_there (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
    CREATE TABLE generated_there (id int PRIMARY KEY, v int, twice int);
    CREATE TABLE generated_there_full (id int, v int, twice int);
    ALTER TABLE generated_there_full REPLICA IDENTITY FULL;
    CREATE TABLE identity_there (id int PRIMARY KEY, v int);";

const SHAPES_AT_TARGET: &str = "
    CREATE TABLE reordered (d date, extra text DEFAULT 'local', c numeric, local_id int GENERATED ALWAYS AS IDENTITY,
        b text, size int GENERATED ALWAYS AS (length(b)) STORED, a int PRIMARY KEY, seen timestamptz DEFAULT now());
    CREATE TABLE dropped (id int PRIMARY KEY, gone int, v text);
    ALTER TABLE dropped DROP gone;
    CREATE TABLE other_types (id bigint PRIMARY KEY, v text, n numeric, r double precision, at timestamp(0), e varchar);
    CREATE TABLE generated (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
    CREATE TABLE not_generated_there (id int PRIMARY KEY, v int, twice int DEFAULT 7);
    CREATE TABLE generated_there (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 200) STORED);
    CREATE TABLE generated_there_full (id int, v int, twice int GENERATED ALWAYS AS (v * 200) STORED);
    CREATE TABLE identity_there (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);";

const SHAPES_CHANGES: &str = "
    INSERT INTO reordered SELECT g, 'b' || g, g / 7.0, date '2026-01-01' + g FROM generate_series(1, 1000) g;
    UPDATE reordered SET b = 'changed' WHERE a % 3 = 0;
    UPDATE reordered SET a = a + 10000, c = NULL WHERE a % 5 = 0;
    DELETE FROM reordered WHERE a % 7 = 0;
    INSERT INTO dropped SELECT g, 'v' || g FROM generate_series(1, 100) g;
    UPDATE dropped SET v = NULL WHERE id % 2 = 0;
    DELETE FROM dropped WHERE id < 10;
    INSERT INTO other_types SELECT g, 'v' || g, g, g / 8.0, '2026-01-01', 'e' FROM generate_series(1, 100) g;
    UPDATE other_types SET id = id + 1000, v = 'key' WHERE id % 2 = 0;
    DELETE FROM other_types WHERE id < 10;
    INSERT INTO generated SELECT g, g FROM generate_series(1, 10) g;
    UPDATE generated SET v = -v;
    INSERT INTO not_generated_there SELECT g, g FROM generate_series(1, 10) g;
    UPDATE not_generated_there SET v = -v;
    INSERT INTO generated_there SELECT g, g, g FROM generate_series(1, 10) g;
    UPDATE generated_there SET v = 5, twice = 6 WHERE id = 3;
    INSERT INTO generated_there_full SELECT g, g, g FROM generate_series(1, 10) g;
    UPDATE generated_there_full SET v = 5, twice = 6 WHERE id = 3; DELETE FROM generated_there_full WHERE id = 4;
    INSERT INTO identity_there SELECT g * 10, g FROM generate_series(1, 10) g;
    UPDATE identity_there SET id = 5 WHERE id = 50;";

#[test]
fn t001_t008_t011_t014_columns_go_by_name_and_a_targets_own_stay_its_own() {
    let mirror = Mirror::new(1);
    mirror.at_source(SHAPES_AT_SOURCE);
    mirror.at_target(0, SHAPES_AT_TARGET);
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO reordered VALUES (-1, 'first', 1, NULL)");
    mirror.catch_up(&service);
    mirror.at_target(0, "UPDATE reordered SET extra = 'kept', seen = 'epoch' WHERE a = -1");
    mirror.at_source("UPDATE reordered SET b = 'second' WHERE a = -1");
    mirror.at_source(SHAPES_CHANGES);
    mirror.catch_up(&service);

    let rows = |table: &str, columns: &str| {
        let query = format!("SELECT {columns} FROM {table} ORDER BY 1");
        assert_eq!(mirror.at_source(&query), mirror.at_target(0, &query), "{table}");
    };
    rows("reordered", "a, b, c, d");
    rows("dropped", "id, v");
    rows("other_types", "id, v, n, r, at, rtrim(e::text)");
    rows("generated", "id, v, twice");
    rows("not_generated_there", "id, v");
    rows("generated_there", "id, v");
    rows("generated_there_full", "id, v");
    rows("identity_there", "id, v");
    let expect = |query: &str, wanted: &str| assert_eq!(mirror.at_target(0, query).trim(), wanted, "{query}");
    expect("SELECT extra, seen = 'epoch', size FROM reordered WHERE a = -1", "kept|t|6");
    expect("SELECT count(*) FROM reordered WHERE a > 0 AND extra <> 'local'", "0");
    expect("SELECT count(DISTINCT local_id) = count(*) AND min(local_id) > 0 FROM reordered", "t");
    expect("SELECT DISTINCT twice FROM not_generated_there", "7");
    expect("SELECT twice FROM generated_there WHERE id = 3", "1000");
    service.sigterm();
    mirror.undo();
}

const IDENTITIES: &str = "
    CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE FUNCTION checked(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        'BEGIN PERFORM count(*) FROM pg_class WHERE oid = 1; RETURN $1 + 1; END';
    CREATE TABLE nothing (id int PRIMARY KEY, v text);
    ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE duplicates (id int, v text, toasted text);
    ALTER TABLE duplicates REPLICA IDENTITY FULL;
    ALTER TABLE duplicates ALTER toasted SET STORAGE EXTERNAL;
    CREATE TABLE indexed (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, v text);
    CREATE UNIQUE INDEX indexed_a ON indexed (a) INCLUDE (v);
    CREATE UNIQUE INDEX indexed_b ON indexed (b);
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_a;
    CREATE TABLE empty ();
    ALTER TABLE empty REPLICA IDENTITY FULL;
    CREATE TABLE toasted (id int PRIMARY KEY, t text, b bytea, j jsonb, n int);
    ALTER TABLE toasted ALTER t SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL, ALTER j SET STORAGE EXTERNAL;
    CREATE TABLE included (id int, v text, PRIMARY KEY (id) INCLUDE (v));
    CREATE TABLE collated (k text COLLATE folded PRIMARY KEY, v int);
    CREATE TABLE collated_full (k text COLLATE folded, v int);
    ALTER TABLE collated_full REPLICA IDENTITY FULL;
    CREATE TABLE full_dropped (gone int, id int, v text, w int GENERATED ALWAYS AS (id + 1) STORED, gone_too int);
    ALTER TABLE full_dropped REPLICA IDENTITY FULL;
    ALTER TABLE full_dropped DROP gone, DROP gone_too;
    CREATE TABLE full_default (id int, v text);
    ALTER TABLE full_default REPLICA IDENTITY FULL;
    CREATE TABLE full_indexed (id int, v text);
    CREATE INDEX ON full_indexed (id);
    ALTER TABLE full_indexed REPLICA IDENTITY FULL;
    CREATE TABLE expressions (id int PRIMARY KEY, v int);
    CREATE INDEX ON expressions (checked(v)) WHERE checked(v) > 3;
    CREATE TABLE rewritten (id int PRIMARY KEY, v text);
    CREATE TABLE truncated (id serial PRIMARY KEY, v text);
    CREATE TABLE truncated_too (id int PRIMARY KEY);
    CREATE TABLE referencing (id int PRIMARY KEY REFERENCES truncated_too);
    CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM toasted;";

const IDENTITIES_CHANGES: &str = "
    INSERT INTO nothing SELECT g, 'v' FROM generate_series(1, 10) g;
    INSERT INTO duplicates SELECT g % 10, 'v', repeat('toast', 1000) FROM generate_series(1, 100) g;
    INSERT INTO duplicates SELECT NULL, NULL, NULL FROM generate_series(1, 10) g;
    UPDATE duplicates SET v = 'one of several' WHERE ctid IN (SELECT min(ctid) FROM duplicates GROUP BY id);
    DELETE FROM duplicates WHERE ctid IN (SELECT max(ctid) FROM duplicates GROUP BY id);
    UPDATE duplicates SET id = id + 1 WHERE v IS NOT NULL;
    INSERT INTO indexed SELECT g, g + 1000, g + 2000, 'v' FROM generate_series(1, 100) g;
    UPDATE indexed SET v = 'a' WHERE id % 2 = 0;
    UPDATE indexed SET a = -a WHERE id % 3 = 0; DELETE FROM indexed WHERE id % 7 = 0;
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_b;
    UPDATE indexed SET v = 'b' WHERE id % 4 = 0;
    UPDATE indexed SET a = a + 5000, b = -b WHERE id % 5 = 0; DELETE FROM indexed WHERE id % 9 = 0;
    INSERT INTO empty SELECT FROM generate_series(1, 5);
    DELETE FROM empty WHERE ctid = (SELECT min(ctid) FROM empty);
    INSERT INTO toasted SELECT g, repeat('t' || g, 3000), convert_to(repeat('b' || g, 3000), 'UTF8'),
        jsonb_build_object('j', repeat('j' || g, 3000)), 0 FROM generate_series(1, 30) g;
    UPDATE toasted SET n = 1;
    UPDATE toasted SET id = id + 100 WHERE id % 2 = 0;
    UPDATE toasted SET t = 'short' WHERE id % 3 = 0;
    UPDATE toasted SET id = id + 1000, b = NULL WHERE id % 5 = 0;
    UPDATE toasted SET t = NULL, j = '{}' WHERE id % 7 = 0;
    INSERT INTO included VALUES (1, 'one'), (2, 'two'); UPDATE included SET v = 'uno' WHERE id = 1;
    UPDATE included SET id = 3 WHERE id = 2; DELETE FROM included WHERE id = 1;
    INSERT INTO collated VALUES ('Key', 1), ('other', 1); UPDATE collated SET k = 'KEY', v = 2 WHERE k = 'key';
    UPDATE collated SET v = 3 WHERE k = 'key'; DELETE FROM collated WHERE k = 'OTHER';
    INSERT INTO collated_full VALUES ('Key', 1), ('KEY', 1), ('key', 1);
    UPDATE collated_full SET v = 2 WHERE k COLLATE \"C\" = 'KEY'; DELETE FROM collated_full WHERE k COLLATE \"C\" = 'key';
    INSERT INTO full_dropped (id, v) SELECT g, 'v' FROM generate_series(1, 10) g;
    UPDATE full_dropped SET v = 'w' WHERE id % 2 = 0; DELETE FROM full_dropped WHERE id < 4;
    INSERT INTO full_default SELECT g, 'v' FROM generate_series(1, 10) g;
    INSERT INTO full_indexed SELECT g, 'v' FROM generate_series(1, 20000) g;
    INSERT INTO expressions SELECT g, g FROM generate_series(1, 10) g; UPDATE expressions SET v = v + 1;
    INSERT INTO rewritten SELECT g, 'v' FROM generate_series(1, 1000) g;
    INSERT INTO truncated (v) SELECT 'v' FROM generate_series(1, 10) g; TRUNCATE truncated RESTART IDENTITY;
    INSERT INTO truncated (v) VALUES ('again');
    INSERT INTO truncated_too SELECT generate_series(1, 10); INSERT INTO referencing SELECT generate_series(1, 10);
    TRUNCATE truncated_too CASCADE; INSERT INTO truncated_too VALUES (7);
    TRUNCATE truncated, truncated_too, referencing; INSERT INTO truncated_too VALUES (8); INSERT INTO referencing VALUES (8);
    REFRESH MATERIALIZED VIEW seen;";

#[test]
fn t001_t006_t009_t010_t012_t032_b1_b5_b7_b8_rows_are_found_whatever_identifies_them() {
    let mirror = Mirror::new(1);
    mirror.everywhere(IDENTITIES);
    if mirror.source.installation().major() >= 18 {
        // From 18 on the server refuses to change a row whose identity has generated columns that are not published.
        mirror.everywhere("ALTER TABLE full_dropped DROP w");
    }
    mirror.set_up();
    mirror.at_target(0, "SELECT setval('truncated_id_seq', 77)");
    let service = mirror.run();
    mirror.at_source(IDENTITIES_CHANGES);
    mirror.catch_up(&service);
    mirror.assert_same();
    assert_eq!(mirror.at_target(0, "SELECT last_value FROM truncated_id_seq").trim(), "1", "RESTART IDENTITY was lost");
    // The server does not take an UPDATE that no subscriber could find the row of.
    assert!(mirror.source.sql("app", "UPDATE nothing SET v = 'w'").is_err());

    mirror.everywhere(
        "ALTER TABLE rewritten ADD added timestamptz NOT NULL DEFAULT clock_timestamp(), ALTER v TYPE varchar(20);
         ALTER TABLE full_default ADD added int DEFAULT 8;",
    );
    let before = mirror.at_target(0, "SELECT count(*) FROM rewritten");
    mirror.at_source(
        "UPDATE rewritten SET added = 'epoch'; UPDATE full_default SET v = 'w' WHERE id = 1; DELETE FROM full_default WHERE id = 2;
         UPDATE full_default SET added = NULL WHERE id = 3; UPDATE full_default SET v = 'x' WHERE id = 3;
         UPDATE full_indexed SET v = 'w' WHERE id % 100 = 0; DELETE FROM full_indexed WHERE id % 1000 = 1;",
    );
    mirror.catch_up(&service);
    mirror.assert_same();
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM rewritten"), before, "rewritten rows were replayed");
    service.sigterm();
    until("FULL is seen to have used the index (t032)", CATCH_UP, || {
        let scans = "SELECT idx_scan >= 200 FROM pg_stat_user_indexes WHERE relname = 'full_indexed'";
        mirror.at_target(0, scans).trim() == "t"
    });
    mirror.undo();
}

const ENFORCED: &str = "
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, v text);
    CREATE TABLE audit (id int PRIMARY KEY, v int);
    CREATE TABLE swallowed (id int PRIMARY KEY, v int);";

/// Constraints and triggers that the source does not have.
const TRIGGERS: &str = "
    CREATE TABLE fired (what text);
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NEW; END';
    CREATE TRIGGER ordinary BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION fire();
    CREATE TRIGGER replica BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION fire();
    CREATE TRIGGER always AFTER UPDATE OF v ON audit FOR EACH ROW EXECUTE FUNCTION fire();
    ALTER TABLE audit ENABLE REPLICA TRIGGER replica, ENABLE ALWAYS TRIGGER always;
    CREATE FUNCTION filter() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN BEGIN RAISE EXCEPTION ''no''; EXCEPTION WHEN OTHERS THEN RETURN NULL; END; END';
    CREATE TRIGGER filter BEFORE INSERT OR UPDATE OR DELETE ON swallowed FOR EACH ROW EXECUTE FUNCTION filter();
    ALTER TABLE swallowed ENABLE REPLICA TRIGGER filter;";

#[test]
fn t003_b11_foreign_keys_rest_replica_triggers_fire_and_progress_advances_under_them() {
    let mirror = Mirror::new(1);
    mirror.everywhere(ENFORCED);
    mirror.at_target(0, TRIGGERS);
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1, 'a'), (2, 2, 'b');
         INSERT INTO audit VALUES (1, 1), (2, 2), (3, 3); UPDATE audit SET v = 9 WHERE id = 1;
         INSERT INTO swallowed SELECT g, g FROM generate_series(1, 100) g;",
    );
    mirror.catch_up(&service);
    // No parent there, and no child is taken along by a cascade of the target's own.
    mirror.at_target(0, "SET session_replication_role = replica; DELETE FROM parent WHERE id = 1");
    mirror.at_source("INSERT INTO child VALUES (3, 1, 'orphan on the target'); UPDATE child SET v = 'c' WHERE id = 1");
    mirror.catch_up(&service);
    mirror.at_target(0, "SET session_replication_role = replica; INSERT INTO parent VALUES (1)");
    mirror.at_source("DELETE FROM parent WHERE id = 2");
    mirror.catch_up(&service);

    let fired = mirror.at_target(0, "SELECT what, count(*) FROM fired GROUP BY 1 ORDER BY 1");
    assert_eq!(fired.trim(), "always|1\nreplica|3");
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM swallowed").trim(), "0");
    mirror.at_source("DROP TABLE swallowed");
    mirror.assert_same();

    // B11: what was swallowed counts as applied, also over a restart.
    service.kill9();
    let service = mirror.run();
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM fired").trim(), "4");
    mirror.finish(service);
}

const PARTITIONS_AT_SOURCE: &str = "
    CREATE TABLE leaves (id int, k text, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    CREATE TABLE leaves_a PARTITION OF leaves FOR VALUES IN ('a');
    CREATE TABLE leaves_b (v text, k text NOT NULL, id int NOT NULL);
    ALTER TABLE leaves ATTACH PARTITION leaves_b FOR VALUES IN ('b');
    CREATE TABLE rooted (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
    CREATE TABLE rooted_low PARTITION OF rooted FOR VALUES FROM (0) TO (100);
    CREATE TABLE rooted_high PARTITION OF rooted FOR VALUES FROM (100) TO (200) PARTITION BY HASH (id);
    CREATE TABLE rooted_high_0 PARTITION OF rooted_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE rooted_high_1 PARTITION OF rooted_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);";

/// The source's leaves are a partitioned and a plain table of their own here; of the other, only the root is there,
/// cut in another way.
const PARTITIONS_AT_TARGET: &str = "
    CREATE TABLE leaves_a (k text, id int, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF leaves_a FOR VALUES FROM (0) TO (50);
    CREATE TABLE part_2 (v text, id int NOT NULL, k text NOT NULL);
    ALTER TABLE leaves_a ATTACH PARTITION part_2 DEFAULT;
    CREATE TABLE leaves_b (id int, v text, k text, PRIMARY KEY (k, id));
    CREATE TABLE rooted (v text, id int, k int, PRIMARY KEY (k, id)) PARTITION BY HASH (k);
    CREATE TABLE bucket_0 PARTITION OF rooted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE bucket_1 PARTITION OF rooted FOR VALUES WITH (MODULUS 2, REMAINDER 1);";

#[test]
fn t013_partitions_are_by_leaf_or_by_root_and_may_be_cut_otherwise_on_the_target() {
    let mirror = Mirror::new(1);
    mirror.reconfigure(|text| text.replace("[log]", "tables = [\"public.*\"]\n[log]"));
    mirror.at_source(PARTITIONS_AT_SOURCE);
    mirror.at_target(0, PARTITIONS_AT_TARGET);
    // A publication has one mode for all its tables: the leaves are published by themselves.
    mirror.at_source(
        "CREATE PUBLICATION walcast_it FOR TABLE leaves_a, leaves_b, rooted WITH (publish_via_partition_root)",
    );
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "INSERT INTO leaves SELECT g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'v' FROM generate_series(1, 100) g;
         UPDATE leaves SET v = 'w' WHERE id % 3 = 0; UPDATE leaves SET k = 'b' WHERE id % 4 = 0;
         UPDATE leaves SET id = id + 200 WHERE k = 'a' AND id % 6 = 0; DELETE FROM leaves WHERE id % 10 = 5;
         INSERT INTO rooted SELECT g, g, 'v' FROM generate_series(1, 199) g; UPDATE rooted SET v = 'w' WHERE id % 3 = 0;
         UPDATE rooted SET k = 199 - k WHERE id % 5 = 0; DELETE FROM rooted WHERE id % 11 = 0; TRUNCATE rooted_low;",
    );
    mirror.catch_up(&service);
    let rows = |table: &str| {
        let query = format!("SELECT id, k, v FROM {table} ORDER BY 1, 2");
        assert_eq!(mirror.at_source(&query), mirror.at_target(0, &query), "{table}");
    };
    rows("leaves_a");
    rows("leaves_b");
    // A leaf that is not published by itself: its TRUNCATE is not, either.
    let high = "SELECT id, k, v FROM rooted WHERE k >= 100 ORDER BY 1, 2";
    assert_eq!(mirror.at_source(high), mirror.at_target(0, high));
    assert_ne!(mirror.at_target(0, "SELECT count(*) FROM rooted WHERE k < 100").trim(), "0");
    mirror.at_source("TRUNCATE rooted; TRUNCATE leaves; INSERT INTO leaves VALUES (1, 'a', 'x'), (60, 'a', 'y')");
    mirror.catch_up(&service);
    rows("rooted");
    rows("leaves_a");
    rows("leaves_b");
    service.sigterm();
    mirror.at_source("DROP PUBLICATION walcast_it");
    mirror.undo();
}

#[test]
fn t028_t031_row_filters_and_column_lists_of_the_publication_hold() {
    let mirror = Mirror::new(1);
    if mirror.source.installation().major() < 15 {
        eprintln!("nothing to test: row filters and column lists came with PostgreSQL 15");
        return;
    }
    mirror.reconfigure(|text| text.replace("[log]", "tables = [\"public.*\"]\n[log]"));
    mirror.everywhere(
        "CREATE TABLE filtered (id int PRIMARY KEY, v int, t text); ALTER TABLE filtered ALTER t SET STORAGE EXTERNAL;
         ALTER TABLE filtered REPLICA IDENTITY FULL;",
    );
    mirror.at_source("CREATE TABLE listed (id int PRIMARY KEY, shown text, secret text)");
    mirror.at_target(0, "CREATE TABLE listed (id int PRIMARY KEY, secret text DEFAULT 'own', shown text)");
    mirror.at_source(
        "CREATE PUBLICATION walcast_it FOR TABLE filtered WHERE (v > 10 AND t IS NOT NULL), TABLE listed (id, shown)",
    );
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "INSERT INTO filtered SELECT g, g, repeat('t', 5000) FROM generate_series(1, 20) g;
         UPDATE filtered SET v = v + 5; UPDATE filtered SET v = 0 WHERE id = 20; UPDATE filtered SET v = v + 1 WHERE id = 19;
         DELETE FROM filtered WHERE id = 18 OR id = 1;
         INSERT INTO listed SELECT g, 'shown', 'secret' FROM generate_series(1, 10) g;
         UPDATE listed SET secret = 'still'; UPDATE listed SET shown = 'changed', id = id + 100 WHERE id < 4;
         DELETE FROM listed WHERE id = 10;",
    );
    mirror.catch_up(&service);
    let query = "SELECT id, v, length(t) FROM filtered WHERE v > 10 ORDER BY 1";
    assert_eq!(mirror.at_source(query), mirror.at_target(0, query));
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM filtered WHERE v <= 10").trim(), "0");
    let query = "SELECT id, shown FROM listed ORDER BY 1";
    assert_eq!(mirror.at_source(query), mirror.at_target(0, query));
    assert_eq!(mirror.at_target(0, "SELECT DISTINCT secret FROM listed").trim(), "own");
    service.sigterm();
    assert!(!mirror.walcast(&["log", "dump"]).contains("secret"), "an unpublished column is in the log");
    mirror.at_source("DROP PUBLICATION walcast_it");
    mirror.undo();
}

#[test]
fn b6_rows_of_a_renamed_schema_go_to_the_table_that_has_the_name() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE SCHEMA sch1; CREATE TABLE sch1.t1 (id int PRIMARY KEY, v text)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO sch1.t1 SELECT g, 'before' FROM generate_series(1, 3) g");
    mirror.catch_up(&service);
    mirror.at_source(
        "BEGIN; ALTER SCHEMA sch1 RENAME TO sch2; CREATE SCHEMA sch1; CREATE TABLE sch1.t1 (id int PRIMARY KEY, v text); COMMIT",
    );
    mirror.at_source(
        "INSERT INTO sch1.t1 SELECT g, 'new' FROM generate_series(1, 5) g; UPDATE sch2.t1 SET v = 'renamed';
         BEGIN; DELETE FROM sch2.t1 WHERE id = 1; INSERT INTO sch1.t1 VALUES (6, 'both'); INSERT INTO sch2.t1 VALUES (6, 'both'); COMMIT",
    );
    mirror.finish(service);
}

#[test]
fn t001_t029_a_row_that_is_missing_or_there_already_stops_only_that_target() {
    let mirror = Mirror::new(2);
    mirror.everywhere(
        "CREATE TABLE keyed (id int PRIMARY KEY, v text);
         CREATE TABLE whole (id int, v text); ALTER TABLE whole REPLICA IDENTITY FULL;",
    );
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "INSERT INTO keyed SELECT g, 'v' FROM generate_series(1, 20) g; INSERT INTO whole SELECT * FROM keyed",
    );
    mirror.catch_up(&service);

    let stops = |damage: &str, change: &str, error: &str, repair: &str| {
        mirror.at_target(0, damage);
        mirror.at_source(change);
        let stopped = mirror.until_stopped(0);
        assert!(stopped.contains(error), "{change}: {stopped}");
        for part in ["relation public.", "lsn ", "xid ", "hint: "] {
            assert!(stopped.contains(part), "{part:?} is missing: {stopped}");
        }
        mirror.catch_up_one(1, &service);
        assert_same_rows(&mirror.source, &mirror.targets[1]);
        if !repair.is_empty() {
            mirror.at_target(0, repair);
            mirror.walcast(&["resume", "berlin"]);
            mirror.catch_up(&service);
            mirror.assert_same();
        }
        stopped
    };
    let put_back = |table: &str, id: u32| format!("INSERT INTO {table} VALUES ({id}, 'v')");
    stops(
        "DELETE FROM keyed WHERE id = 2",
        "BEGIN; INSERT INTO keyed VALUES (100, 'x'); UPDATE keyed SET v = 'w' WHERE id = 2; COMMIT",
        "UPDATE found no row in table public.keyed",
        &put_back("keyed", 2),
    );
    stops(
        "DELETE FROM keyed WHERE id = 3",
        "DELETE FROM keyed WHERE id = 3",
        "DELETE found no row in table public.keyed",
        &put_back("keyed", 3),
    );
    stops(
        "UPDATE whole SET v = 'other' WHERE id = 4",
        "UPDATE whole SET v = 'w' WHERE id = 4",
        "UPDATE found no row in table public.whole",
        "UPDATE whole SET v = 'v' WHERE id = 4",
    );
    stops(
        "DELETE FROM whole WHERE id = 5",
        "DELETE FROM whole WHERE id = 5",
        "DELETE found no row in table public.whole",
        &put_back("whole", 5),
    );

    // A duplicate, which is skipped: exactly that transaction, and on record.
    let stopped = stops(
        "INSERT INTO keyed VALUES (200, 'v')",
        "BEGIN; INSERT INTO keyed VALUES (200, 'v'), (201, 'skipped too'); COMMIT; INSERT INTO keyed VALUES (202, 'after')",
        "duplicate key value violates unique constraint \"keyed_pkey\"",
        "",
    );
    assert!(stopped.contains("SQLSTATE 23505"), "{stopped}");
    let lsn = stopped.split("lsn ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let refused = mirror.run_cli(&["skip", "berlin", "--lsn", "0/1"]);
    assert!(!refused.status.success(), "another transaction than the one that stopped the target was skipped");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hint: "), "{refused:?}");
    mirror.walcast(&["skip", "berlin", "--lsn", lsn, "--reason", "it's there"]);
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT lsn, reason FROM walcast.skipped").trim(), format!("{lsn}|it's there"));
    assert_eq!(mirror.at_target(0, "SELECT id FROM keyed WHERE id >= 200 ORDER BY 1").trim(), "200\n202");
    mirror.at_target(0, "INSERT INTO keyed VALUES (201, 'skipped too')");
    mirror.finish(service);
}
