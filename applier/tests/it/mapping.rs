//! How changes reach the target's tables.

use std::sync::atomic::Ordering;

use crate::messages::{INT4, INT8, Null, TEXT, Table, Toast, b, t, truncate};
use crate::rig::{Rig, patiently};

fn items() -> Table {
    Table::new(100, "items", &[(true, "id", INT4), (false, "name", TEXT), (false, "big", TEXT)])
}

#[tokio::test(flavor = "multi_thread")]
async fn t001_t008_columns_go_by_name_and_extra_ones_stay_local() {
    let mut rig = Rig::new(
        "CREATE TABLE items (extra int DEFAULT 7, big text, name varchar(20), id bigint PRIMARY KEY, \
         twice bigint GENERATED ALWAYS AS (id * 2) STORED)",
    )
    .await;
    let items = items();
    let end = rig.transaction(
        &[&items],
        &[
            items.insert(&[t("1"), t("one"), Null]),
            items.insert(&[t("2"), t("two"), t("")]),
            items.insert(&[t("3"), Null, t("x")]),
        ],
    );
    rig.apply(end).await;
    rig.sql("UPDATE items SET extra = 8 WHERE id = 1");
    let end = rig.transaction(&[], &[items.update(&[t("1"), t("uno"), t("B")]), items.delete(&[t("2"), Null, Null])]);
    rig.apply(end).await;
    let rows = rig.sql("SELECT id, name, big, extra, twice FROM items ORDER BY id");
    assert_eq!(rows, "1|uno|B|8|2\n3||x|7|6");
    assert_eq!(rig.seen.rows.load(Ordering::SeqCst), 5);
    assert_eq!(rig.seen.tables.lock().expect("unpoisoned").get("public.items"), Some(&5));
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_toast_is_kept_also_in_a_key_update() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, name text, big text)").await;
    let items = items();
    let end = rig.transaction(
        &[&items],
        &[
            items.insert(&[t("1"), t("a"), t("B".repeat(9000))]),
            items.update(&[t("1"), t("b"), Toast]),
            items.update_key(&[t("1"), Null, Null], &[t("2"), t("c"), Toast]),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT id, name, length(big) FROM items"), "2|c|9000");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_values_are_cast_where_the_target_has_another_type() {
    let mut rig = Rig::new("CREATE TABLE n (id bigint PRIMARY KEY, v text, w numeric(6,2), c int)").await;
    let n = Table::new(1, "n", &[(true, "id", INT4), (false, "v", INT4), (false, "w", INT8), (false, "c", TEXT)]);
    let int4 = |n: i32| b(n.to_be_bytes());
    let end = rig.transaction(
        &[&n],
        &[
            n.insert(&[int4(1), int4(-5), b(12i64.to_be_bytes()), b(*b"42")]),
            n.insert(&[int4(2), Null, Null, Null]),
            n.update(&[int4(2), int4(9), Null, Null]),
            n.update_key(&[int4(1), Null, Null, Null], &[int4(3), int4(-5), b(12i64.to_be_bytes()), Null]),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT * FROM n ORDER BY id"), "2|9||\n3|-5|12.00|");
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_always_columns_are_overridden_and_replaced() {
    let schema = "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, local text DEFAULT 'l', \
                  up text GENERATED ALWAYS AS (upper(v)) STORED); \
                  CREATE TABLE s (k int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, big text)";
    let mut rig = Rig::new(schema).await;
    let a = Table::new(1, "a", &[(true, "id", INT4), (false, "v", TEXT)]);
    let s = Table::new(2, "s", &[(true, "k", INT4), (false, "n", INT4), (false, "big", TEXT)]);
    let end = rig.transaction(
        &[&a, &s],
        &[
            a.insert(&[t("5"), t("x")]),
            a.insert(&[t("6"), t("y")]),
            a.update(&[t("5"), t("xx")]),
            a.update_key(&[t("6"), Null], &[t("60"), t("yy")]),
            s.insert(&[t("1"), t("11"), t("large")]),
            s.update(&[t("1"), t("12"), Toast]),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT id, v, local, up FROM a ORDER BY id"), "5|xx|l|XX\n60|yy|l|YY");
    assert_eq!(rig.sql("SELECT k, n, big FROM s"), "1|12|large");
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn t013_partitions_are_routed_and_inheritance_children_left_alone() {
    let schema = "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
                  CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
                  CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); \
                  CREATE TABLE parent (id int, v text); CREATE TABLE child () INHERITS (parent); \
                  INSERT INTO child VALUES (1, 'mine')";
    let mut rig = Rig::new(schema).await;
    let columns = [(true, "id", INT4), (false, "v", TEXT)];
    let (p, parent) = (Table::new(1, "p", &columns), Table::new(2, "parent", &columns));
    let end = rig.transaction(
        &[&p, &parent],
        &[
            p.insert(&[t("1"), t("a")]),
            p.insert(&[t("11"), t("b")]),
            p.update_key(&[t("1"), Null], &[t("12"), t("moved")]),
            parent.insert(&[t("1"), t("ours")]),
            parent.update(&[t("1"), t("changed")]),
            truncate(&[&parent], 0),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT tableoid::regclass, id, v FROM p ORDER BY id"), "p2|11|b\np2|12|moved");
    assert_eq!(rig.sql("SELECT tableoid::regclass, id, v FROM parent"), "child|1|mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn t010_truncate_keeps_its_flags() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, s serial); CREATE TABLE c (id int REFERENCES a); \
                  INSERT INTO a VALUES (1), (2); INSERT INTO c VALUES (1)";
    let mut rig = Rig::new(schema).await;
    let a = Table::new(1, "a", &[(true, "id", INT4), (false, "s", INT4)]);
    let c = Table::new(2, "c", &[(false, "id", INT4)]);
    let end = rig.transaction(&[&a, &c], &[truncate(&[&a, &c], 2)]);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT count(*) FROM a"), "0");
    assert_eq!(rig.sql("INSERT INTO a (id) VALUES (9) RETURNING s"), "1");
    rig.sql("INSERT INTO c VALUES (9)");
    let end = rig.transaction(&[], &[truncate(&[&a], 1)]);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT count(*) FROM c"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn t003_replica_triggers_fire_and_may_filter_rows_and_foreign_keys_do_not() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY); \
         CREATE TABLE f (id int PRIMARY KEY, a int REFERENCES a, v text); \
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS \
            $$BEGIN IF NEW.v = 'drop' THEN RETURN NULL; END IF; RETURN NEW; END$$; \
         CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON f FOR EACH ROW EXECUTE FUNCTION keep(); \
         ALTER TABLE f ENABLE REPLICA TRIGGER keep";
    let mut rig = Rig::new(schema).await;
    let f = Table::new(1, "f", &[(true, "id", INT4), (false, "a", INT4), (false, "v", TEXT)]);
    let end = rig.transaction(
        &[&f],
        &[
            f.insert(&[t("1"), t("77"), t("stay")]),
            f.insert(&[t("2"), t("77"), t("drop")]),
            f.update(&[t("1"), t("78"), t("drop")]),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT * FROM f"), "1|77|stay");
    // A row that is missing is still found out.
    let end = rig.transaction(&[], &[f.update(&[t("2"), t("1"), t("x")])]);
    let why = rig.stopped().await;
    assert_eq!(why.lsn, Some(end));
    assert!(why.message.contains("did not find exactly one row in table public.f"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_progress_advances_when_triggers_swallow_everything() {
    let schema = "CREATE TABLE f (id int PRIMARY KEY); \
         CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS \
            $$BEGIN BEGIN RAISE 'no'; EXCEPTION WHEN OTHERS THEN RETURN NULL; END; END$$; \
         CREATE TRIGGER raise BEFORE INSERT ON f FOR EACH ROW EXECUTE FUNCTION raise(); \
         ALTER TABLE f ENABLE ALWAYS TRIGGER raise";
    let mut rig = Rig::new(schema).await;
    let f = Table::new(1, "f", &[(true, "id", INT4)]);
    let end = rig.transaction(&[&f], &[f.insert(&[t("1")])]);
    rig.apply(end).await;
    assert_eq!(rig.checkpoint().await, Some(end));
    assert_eq!(rig.sql("SELECT count(*) FROM f"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn x01_hostile_names_stay_names() {
    const NAME: &str = "x\"; DROP TABLE safe; --'\\$$%\n\u{202e}é";
    let quoted = NAME.replace('"', "\"\"");
    let mut rig = Rig::new(&format!(
        "CREATE TABLE safe (); CREATE SCHEMA \"{quoted}\"; \
         CREATE TABLE \"{quoted}\".\"{quoted}\" (\"{quoted}\" int PRIMARY KEY, \"user\" text)"
    ))
    .await;
    let table = Table { schema: NAME, ..Table::new(1, NAME, &[(true, NAME, INT4), (false, "user", TEXT)]) };
    let end = rig.transaction(
        &[&table],
        &[table.insert(&[t("1"), t("'; --")]), table.update(&[t("1"), t("\\x\"'")]), table.insert(&[t("2"), Null])],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql(&format!("SELECT \"user\" FROM \"{quoted}\".\"{quoted}\" WHERE \"{quoted}\" = 1")), "\\x\"'");
    assert_eq!(rig.sql("SELECT count(*) FROM safe"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relation_announced_anew_and_a_table_altered_behind_our_back_are_looked_up_again() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, name text, big text)").await;
    let items = items();
    let mut running = rig.start();
    let end = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a"), t("b")])]);
    running.applied(end).await;
    // The target's column changes its type: the cached plan is useless.
    rig.sql("ALTER TABLE items ALTER name TYPE varchar(30), ALTER big TYPE varchar(40)");
    let end =
        rig.transaction(&[], &[items.update(&[t("1"), t("aa"), t("bb")]), items.insert(&[t("2"), t("c"), t("d")])]);
    running.applied(end).await;
    // The source adds a column.
    rig.sql("ALTER TABLE items ADD more int");
    let mut wider = items.clone();
    wider.columns.push((false, "more", INT4));
    let end = rig.transaction(&[&wider], &[wider.insert(&[t("3"), t("e"), t("f"), t("9")])]);
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT * FROM items ORDER BY id"), "1|aa|bb|\n2|c|d|\n3|e|f|9");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_nothing_but_the_key_still_needs_its_row() {
    let mut rig = Rig::new("CREATE TABLE k (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)").await;
    let k = Table::new(1, "k", &[(true, "id", INT4)]);
    let end = rig.transaction(&[&k], &[k.insert(&[t("1")]), k.update(&[t("1")])]);
    rig.apply(end).await;
    rig.transaction(&[], &[k.update(&[t("2")])]);
    assert!(rig.stopped().await.message.contains("UPDATE found no row in table public.k"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_columns_takes_rows() {
    let mut rig = Rig::new("CREATE TABLE none (); CREATE TABLE extra (v int DEFAULT 3)").await;
    let (none, extra) = (Table::new(1, "none", &[]).full(), Table::new(2, "extra", &[]));
    let end =
        rig.transaction(&[&none, &extra], &[none.insert(&[]), none.insert(&[]), none.delete(&[]), extra.insert(&[])]);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT (SELECT count(*) FROM none), (SELECT min(v) FROM extra)"), "1|3");
}

/// Nothing fails by it, so that only looking again shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_made_later_is_noticed_in_a_running_session() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE seen (id int); \
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
            $$BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END$$";
    let mut rig = Rig::new(schema).await;
    let table = Table::new(1, "t", &[(true, "id", INT4), (false, "v", TEXT)]);
    // What comes and goes in a batch is netted to nothing, unless each change is for a trigger to see.
    let come_and_go: Vec<_> = (0..200)
        .flat_map(|id| [table.insert(&[t(id.to_string()), t("")]), table.delete(&[t(id.to_string()), t("")])])
        .collect();
    let mut running = rig.start();
    let first = rig.transaction(&[&table], &come_and_go);
    running.applied(first).await;
    rig.sql("CREATE TRIGGER see AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE t ENABLE ALWAYS TRIGGER see");
    let noticed = patiently(async {
        while rig.sql("SELECT count(*) FROM seen") == "0" {
            let next = rig.transaction(&[], &come_and_go);
            running.applied(next).await;
        }
    });
    assert!(noticed.await.is_some(), "the trigger was not noticed");
    running.stop().await;
}
