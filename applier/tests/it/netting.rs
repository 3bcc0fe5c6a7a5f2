//! The net tier against the ordered one: the same history leads to the same rows.

use std::sync::atomic::Ordering;

use crate::history::{Kind, Random, Source};
use crate::messages::{INT4, Null, TEXT, Table, Toast, t};
use crate::rig::Rig;

const TRANSACTIONS: usize = 250;
const NUMERIC: u32 = 1700;
const BPCHAR: u32 = 1042;
const TIMESTAMP: u32 = 1114;

const TEXTS: &[&str] = &["a", "", "\\N", "\\.", "a\tb\nc\r\\", "{\"x\"}", "ümläut", "NULL", "a' \"b"];
const LONG: &[&str] = &["one long value", "another \\ long value", "a third\tone"];

const SCHEMA: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'so happy'); CREATE DOMAIN feeling AS mood; \
    CREATE DOMAIN code AS varchar(8) CHECK (VALUE <> 'bad'); \
    CREATE TABLE plain (id int PRIMARY KEY, n int, v text, w text, local text DEFAULT 'here'); \
    CREATE TABLE two (a int PRIMARY KEY, b int UNIQUE, v text); \
    CREATE TABLE whole (x int, v text, w text, n numeric); \
    CREATE TABLE composed (w text, k2 numeric, k1 text, v text, PRIMARY KEY (k1, k2)); \
    CREATE TABLE typed (k char(5) PRIMARY KEY, c code, m mood, f feeling, t timestamp(0), a text[], n numeric(6, 1), r regclass); \
    CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, w text, \
        twice int GENERATED ALWAYS AS (id * 2) STORED); \
    CREATE TABLE watched (id int PRIMARY KEY, v text); \
    CREATE TABLE seen (at serial PRIMARY KEY, what text); \
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
        INSERT INTO public.seen (what) VALUES (concat_ws(' ', TG_OP, to_jsonb(OLD), to_jsonb(NEW))); RETURN NULL; END$$; \
    CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION see(); \
    ALTER TABLE watched ENABLE ALWAYS TRIGGER see";

const TABLES: [&str; 7] = ["plain", "two", "whole", "composed", "typed", "ident", "watched"];

fn sources() -> Vec<Source> {
    let table = |id, name, columns: &[(bool, &'static str, u32)]| Table::new(id, name, columns);
    let plain = table(1, "plain", &[(true, "id", INT4), (false, "n", INT4), (false, "v", TEXT), (false, "w", TEXT)]);
    let two = table(2, "two", &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    let whole = table(3, "whole", &[(true, "x", INT4), (true, "v", TEXT), (true, "w", TEXT), (true, "n", NUMERIC)]);
    let composed =
        table(4, "composed", &[(true, "k1", TEXT), (true, "k2", NUMERIC), (false, "v", TEXT), (false, "w", TEXT)]);
    let typed = [("c", TEXT), ("m", TEXT), ("f", TEXT), ("t", TIMESTAMP), ("a", TEXT), ("n", NUMERIC), ("r", TEXT)];
    let typed = typed.map(|(name, type_oid)| (false, name, type_oid));
    let typed = table(5, "typed", &[&[(true, "k", BPCHAR)][..], &typed].concat());
    let ident = table(6, "ident", &[(true, "id", INT4), (false, "w", TEXT)]);
    let watched = table(7, "watched", &[(true, "id", INT4), (false, "v", TEXT)]);
    let (text, long) = (Kind::Of(TEXTS), Kind::Toasted(LONG));
    let number = Kind::Of(&["1", "1.0", "1.00", "2.5", "-2.50", "0"]);
    let mood = Kind::Of(&["sad", "ok", "so happy"]);
    let time = Kind::Of(&["2024-02-29 23:59:59", "infinity", "0044-03-15 12:00:00 BC"]);
    let array = Kind::Of(&["{}", "{NULL,\"NULL\",\"a\\\\b\"}", "[0:1]={x,y}"]);
    let class = Kind::Of(&["-", "pg_class", "4711"]);
    let key = Kind::Of(&["a", "a    ", "b    ", "ab\\", "'"]);
    vec![
        Source::new(plain, &[Kind::Int(30), Kind::Int(1000), text, long], &[&[0]]),
        Source::new(two, &[Kind::Int(12), Kind::Int(14), text], &[&[0], &[1]]),
        Source::new(whole.full(), &[Kind::Int(4), text, long, number], &[]),
        Source::new(composed, &[text, number, text, long], &[&[0, 1]]),
        Source::new(typed, &[key, Kind::Of(&["", "good", "\\"]), mood, mood, time, array, number, class], &[&[0]]),
        Source::new(ident, &[Kind::Int(20), long], &[&[0]]),
        Source::new(watched, &[Kind::Int(10), text], &[&[0]]),
    ]
}

/// All rows of all tables, in an order that does not depend on how they came; what triggers saw, in its order.
fn rows(rig: &Rig) -> Vec<String> {
    let table = |name: &str| format!("SELECT '{name}', t::text FROM {name} t ORDER BY t::text COLLATE \"C\";");
    let tables: String = TABLES.iter().map(|name| table(name)).collect();
    // Numbers that an aborted batch took are missing: they only give the order.
    rig.sql(&(tables + "SELECT 'seen', what FROM seen ORDER BY at")).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn netted_batches_lead_to_the_same_rows_as_the_changes_in_their_order() {
    let mut random = Random::seeded();
    let (mut netted, mut ordered) = (Rig::new(SCHEMA).await, Rig::new(SCHEMA).await);
    ordered.batch_max_rows = 1;
    let mut sources = sources();
    let described: Vec<Table> = sources.iter().map(|source| source.table.clone()).collect();
    let described: Vec<&Table> = described.iter().collect();
    netted.transaction(&described, &[]);
    let mut end = ordered.transaction(&described, &[]);
    for _ in 0..TRANSACTIONS {
        let count = 1 + random.below(20);
        let messages: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let at = random.below(sources.len());
                sources[at].change(&mut random)
            })
            .collect();
        netted.transaction(&[], &messages);
        end = ordered.transaction(&[], &messages);
    }
    netted.apply(end).await;
    ordered.apply(end).await;
    let rows = rows(&netted);
    assert_eq!(rows, self::rows(&ordered));
    for source in &sources {
        let name = format!("{}|", source.table.name);
        assert_eq!(rows.iter().filter(|row| row.starts_with(&name)).count(), source.len(), "{name}");
    }
    assert!(netted.seen.net.load(Ordering::SeqCst) > 0 && ordered.seen.net.load(Ordering::SeqCst) == 0);
    // A source's history never fails.
    assert_eq!((netted.seen.fallbacks.load(Ordering::SeqCst), ordered.seen.fallbacks.load(Ordering::SeqCst)), (0, 0));
}

/// A batch large enough to be netted: inserts of these keys, and what comes after them.
fn batch_with(table: &Table, keys: std::ops::Range<usize>, after: &[Vec<u8>]) -> Vec<Vec<u8>> {
    keys.map(|key| table.insert(&[t(key.to_string()), t("x")])).chain(after.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_targets_domain_refuses_is_not_cut_off() {
    let schema = "CREATE DOMAIN short AS varchar(3); CREATE TABLE items (id int PRIMARY KEY, v short)";
    let mut rig = Rig::new(schema).await;
    let items = Table::new(1, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    let filled = rig.transaction(&[&items], &batch_with(&items, 0..300, &[]));
    rig.apply(filled).await;
    let bad = rig.transaction(&[], &[items.update(&[t("1"), t("abcdef")])]);
    for n in 300..600 {
        rig.transaction(&[], &[items.insert(&[t(n.to_string()), t("x")])]);
    }
    let why = rig.stopped().await;
    assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("22001")));
    assert_eq!(rig.checkpoint().await, Some(filled));
    assert_eq!(rig.sql("SELECT v FROM items WHERE id = 1"), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_target_could_not_hold_hits_no_other_row() {
    for others in [0, 300] {
        let mut rig = Rig::new("CREATE TABLE items (k varchar(3) PRIMARY KEY, v text)").await;
        rig.sql("INSERT INTO items VALUES ('abc', 'mine')");
        let items = Table::new(1, "items", &[(true, "k", TEXT), (false, "v", TEXT)]);
        let wrong = [items.update(&[t("abcdef"), t("not mine")]), items.delete(&[t("abcd"), Null])];
        let bad = rig.transaction(&[&items], &batch_with(&items, 0..others, &wrong));
        let why = rig.stopped().await;
        assert_eq!((why.lsn, why.message.as_str()), (Some(bad), "UPDATE found no row in table public.items"));
        assert_eq!(rig.sql("SELECT * FROM items"), "abc|mine");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inserted_row_without_a_value_is_refused() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, v text)").await;
    let items = Table::new(1, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    let bad = rig.transaction(&[&items], &batch_with(&items, 0..300, &[items.insert(&[t("300"), Toast])]));
    assert_eq!(rig.stopped().await.lsn, Some(bad));
}
