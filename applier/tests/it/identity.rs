//! REPLICA IDENTITY FULL and INDEX: which row is changed.

use std::sync::atomic::Ordering;

use crate::messages::{INT4, Null, TEXT, Table, t};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn full_changes_exactly_one_of_identical_rows_and_knows_nulls() {
    let schema = "CREATE TABLE d (a int, b text); INSERT INTO d VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, 'y')";
    let mut rig = Rig::new(schema).await;
    let d = Table::new(1, "d", &[(false, "a", INT4), (false, "b", TEXT)]).full();
    let end = rig.transaction(
        &[&d],
        &[
            d.update_full(&[t("1"), t("x")], &[t("1"), t("z")]),
            d.delete(&[Null, Null]),
            d.update_full(&[Null, t("y")], &[t("2"), Null]),
        ],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT a, b FROM d ORDER BY a, b"), "1|x\n1|z\n2|");
    rig.transaction(&[], &[d.delete(&[Null, Null])]);
    assert!(rig.stopped().await.message.contains("DELETE found no row in table public.d"));
}

/// Per type: two values that are `=` (or have no `=`), of which the second is to be deleted.
const LOOSE: &[(&str, u32, &str, &str)] = &[
    ("numeric", 1700, "1.0", "1.00"),
    ("float8", 701, "0", "-0"),
    ("interval", 1186, "24:00:00", "1 day"),
    ("jsonb", 3802, "{\"a\": 1.0}", "{\"a\": 1.00}"),
    ("json", 114, "{\"a\":1}", "{\"a\": 1}"),
    ("xml", 142, "<a/>", "<a></a>"),
    ("point", 600, "(1,2)", "(1,3)"),
    ("box", 603, "(1,4),(0,0)", "(2,2),(0,0)"),
    ("path", 602, "((1,1),(2,2))", "((3,3),(4,4))"),
    ("polygon", 604, "((0,0),(1,1),(2,0))", "((0,0),(1,1),(3,0))"),
    ("circle", 718, "<(0,0),1>", "<(5,5),1>"),
    ("numeric[]", 1231, "{1.0}", "{1.00}"),
    ("bpchar", 1042, "a", "a "),
    ("citext", 99_999, "Word", "word"),
];

#[tokio::test(flavor = "multi_thread")]
async fn d24_full_tells_values_apart_that_are_equal_but_not_identical() {
    let mut rig = Rig::new("CREATE EXTENSION citext").await;
    let mut end = decoder::Lsn::ZERO;
    for (at, (kind, oid, kept, gone)) in LOOSE.iter().enumerate() {
        rig.sql(&format!("CREATE TABLE t{at} (v {kind}); INSERT INTO t{at} VALUES ('{kept}'), ('{gone}')"));
        let btree = !["json", "xml", "point", "box", "path", "polygon", "circle"].contains(kind);
        if btree {
            rig.sql(&format!("CREATE INDEX ON t{at} (v)"));
        }
        let name: &'static str = Box::leak(format!("t{at}").into_boxed_str());
        let table = Table::new(1 + at as u32, name, &[(true, "v", *oid)]).full();
        end = rig.transaction(&[&table], &[table.delete(&[t(*gone)])]);
    }
    rig.apply(end).await;
    for (at, (kind, _, kept, _)) in LOOSE.iter().enumerate() {
        assert_eq!(rig.sql(&format!("SELECT format('%s', v) FROM t{at}")), *kept, "{kind}");
    }
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_works_on_partitions_and_with_columns_of_the_targets_own() {
    let schema = "CREATE TABLE p (gone int, a int, j json, own int DEFAULT 1, g int GENERATED ALWAYS AS (a + 1) STORED) \
                  PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); \
                  CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); ALTER TABLE p DROP gone; \
                  INSERT INTO p (a, j) VALUES (1, '{}'), (2, '{}')";
    let mut rig = Rig::new(schema).await;
    let p = Table::new(1, "p", &[(true, "j", 114), (true, "a", INT4)]).full();
    let end =
        rig.transaction(&[&p], &[p.update_full(&[t("{}"), t("1")], &[t("[]"), t("2")]), p.delete(&[t("{}"), t("2")])]);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT a, j, own, g FROM p"), "2|[]|1|3");
}

#[tokio::test(flavor = "multi_thread")]
async fn t032_full_uses_an_index() {
    let schema = "CREATE TABLE i (a int, n numeric, b text); INSERT INTO i SELECT g, g, g FROM generate_series(1, 20000) g; \
                  CREATE INDEX ON i USING hash (n); CREATE INDEX ON i (b) WHERE b = ''; ANALYZE i";
    let mut rig = Rig::new(schema).await;
    let i = Table::new(1, "i", &[(true, "a", INT4), (true, "n", 1700), (true, "b", TEXT)]).full();
    let deletes: Vec<_> =
        (1..=400).map(|n: u32| i.delete(&[t(n.to_string()), t(n.to_string()), t(n.to_string())])).collect();
    let end = rig.transaction(&[&i], &deletes);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT count(*), min(a) FROM i"), "19600|401");
    rig.sql("SELECT pg_stat_clear_snapshot()");
    crate::rig::answers(&rig, "SELECT idx_scan >= 400 FROM pg_stat_user_indexes WHERE indexrelname = 'i_n_idx'", "t")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn index_identity_and_nondeterministic_keys_find_their_rows() {
    let schema = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
                  CREATE TABLE c (id int, k text COLLATE ci NOT NULL UNIQUE, v text); \
                  INSERT INTO c VALUES (1, 'Key', 'a'), (2, 'other', 'b')";
    let mut rig = Rig::new(schema).await;
    let c =
        Table { identity: b'i', ..Table::new(1, "c", &[(false, "id", INT4), (true, "k", TEXT), (false, "v", TEXT)]) };
    let end = rig.transaction(
        &[&c],
        &[c.update_key(&[Null, t("KEY"), Null], &[t("1"), t("kEY"), t("c")]), c.delete(&[Null, t("OTHER"), Null])],
    );
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT * FROM c"), "1|kEY|c");
    // FULL distinguishes what the collation does not.
    let full = c.clone().full();
    rig.transaction(&[&full], &[full.delete(&[t("1"), t("KEY"), t("c")])]);
    assert!(rig.stopped().await.message.contains("DELETE found no row"));
}
