//! Workers against one session: the same rows, and no state in between that the source did not have.

use std::sync::atomic::Ordering;

use decoder::Lsn;

use crate::checkpoint::plain_role;
use crate::history::{Kind, Random, Source};
use crate::messages::{INT4, TEXT, Table, t};
use crate::rig::{Rig, Seen, answers};

const WORKERS: u32 = 4;

/// None of these can be netted: two unique indexes, no key, a key that changes often.
const SCHEMA: &str = "\
    CREATE TABLE many (a int PRIMARY KEY, b int UNIQUE, v text); \
    CREATE TABLE few (a int PRIMARY KEY, b int UNIQUE, v text); \
    CREATE TABLE whole (x int, v text, w text); \
    CREATE TABLE items (id int PRIMARY KEY, v text)";

fn sources() -> Vec<Source> {
    let two = |id, name| Table::new(id, name, &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    let whole = Table::new(3, "whole", &[(true, "x", INT4), (true, "v", TEXT), (true, "w", TEXT)]);
    let text = Kind::Of(&["a", "", "ümläut", "a' \"b"]);
    let long = Kind::Toasted(&["one long value", "another \\ long value"]);
    vec![
        Source::new(two(1, "many"), &[Kind::Int(100_000), Kind::Int(1_000_000), text], &[&[0], &[1]]),
        Source::new(two(1 + 1, "few"), &[Kind::Int(40), Kind::Int(60), text], &[&[0], &[1]]),
        Source::new(whole.full(), &[Kind::Int(50), text, long], &[]),
    ]
}

fn rows(rig: &Rig) -> String {
    let table = |name: &str| format!("SELECT '{name}', t::text FROM {name} t ORDER BY t::text COLLATE \"C\";");
    rig.sql(&["many", "few", "whole"].map(table).concat())
}

/// Transactions that mostly touch `many`, seldom the rows that all want.
fn fill(rigs: &mut [&mut Rig], random: &mut Random, sources: &mut [Source], transactions: usize) -> Lsn {
    let mut end = Lsn::ZERO;
    for _ in 0..transactions {
        let count = 1 + random.below(8);
        let messages: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let at = if random.once_in(60) { 1 + random.below(2) } else { 0 };
                sources[at].change(random)
            })
            .collect();
        for rig in &mut *rigs {
            end = rig.transaction(&[], &messages);
        }
    }
    end
}

fn describe(rigs: &mut [&mut Rig], sources: &[Source]) {
    let tables: Vec<&Table> = sources.iter().map(|source| &source.table).collect();
    for rig in rigs {
        rig.transaction(&tables, &[]);
    }
}

fn parallel(seen: &Seen) -> u64 {
    seen.parallel.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_lead_to_the_same_rows_as_one_session() {
    let mut random = Random::seeded();
    let (mut shared, mut alone) = (Rig::new(SCHEMA).await, Rig::new(SCHEMA).await);
    (shared.workers, shared.batch_max_rows, alone.batch_max_rows) = (WORKERS, 400, 1);
    let mut sources = sources();
    describe(&mut [&mut shared, &mut alone], &sources);
    // Workers have nothing of a batch with a TRUNCATE, and rest after it: some histories have one in each that is tried.
    let mut rounds = 0..40;
    while rounds.next().is_some_and(|round| round < 4 || parallel(&shared.seen) < 2) {
        let end = fill(&mut [&mut shared, &mut alone], &mut random, &mut sources, 300);
        shared.apply(end).await;
        alone.apply(end).await;
        assert_eq!(rows(&shared), rows(&alone));
        assert_eq!(shared.checkpoint().await, Some(end));
    }
    assert!(parallel(&shared.seen) > 1 && parallel(&alone.seen) == 0);
    let counted = |rig: &Rig| rig.seen.rows.load(Ordering::SeqCst);
    assert_eq!(counted(&shared), counted(&alone));
}

/// Rows that anybody can count: the n-th transaction inserts n, into a table that cannot be netted.
fn numbered(rig: &mut Rig, numbers: std::ops::Range<u32>) -> Lsn {
    let many = Table::new(1, "many", &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    rig.transaction(&[&many], &[]);
    let mut end = Lsn::ZERO;
    for n in numbers {
        rig.begin_and_commit(&[many.insert(&[t(n.to_string()), t(n.to_string()), t("x")])], &mut end);
    }
    rig.append();
    end
}

/// Some rows take long: what comes after them is ready before.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_transactions_come_in_the_sources_order_and_the_checkpoint_with_them() {
    let mut rig = plain_role(SCHEMA).await;
    rig.sql(&format!(
        "CREATE FUNCTION slow(a int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN \
            PERFORM pg_sleep(0.02) WHERE a % 200 = 199; RETURN true; END$$; \
         ALTER TABLE many ADD CHECK (slow(a)); GRANT ALL ON many TO {}",
        rig.user
    ));
    (rig.workers, rig.batch_max_rows) = (WORKERS, 2000);
    let end = numbered(&mut rig, 0..6000);
    let conninfo = rig.cluster.conninfo(&rig.database).to_string();
    let conninfo = connection::Conninfo::parse(&conninfo).expect("a connection string");
    let reader = connection::connect_client(&conninfo, "reader", &[]).await.expect("a session");
    let mut running = rig.start();
    let mut states = 0;
    loop {
        // One statement: one snapshot. A transaction ends 0x30 after its begin, and they begin 0x100 after each other.
        let sql = "SELECT count(*), coalesce(max(a) + 1, 0)::bigint, \
            (SELECT greatest(((max(lsn) - '0/2130') / 256)::bigint + 1, 0) FROM walcast.checkpoint) FROM many";
        let row = reader.query_one(sql, &[]).await.expect("an answer");
        let (count, next, at): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(count, next, "one is missing before the last");
        assert_eq!(count, at, "the checkpoint does not fit");
        states += u32::from(count > 2000 && count < 6000);
        if count == 6000 {
            break;
        }
    }
    running.applied(end).await;
    running.stop().await;
    assert!(parallel(&rig.seen) > 0 && states > 10, "{states} states between the first batch and the last transaction");
}

/// Each transaction takes the unique value that the one before has freed.
#[tokio::test(flavor = "multi_thread")]
async fn unique_values_that_are_handed_on_are_applied_in_order() {
    let mut rig = Rig::new(SCHEMA).await;
    (rig.workers, rig.batch_max_rows) = (WORKERS, 1000);
    let many = Table::new(1, "many", &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    numbered(&mut rig, 0..500);
    let mut end = Lsn::ZERO;
    for n in 500..3000_u32 {
        let messages = [many.delete(&[t((n - 500).to_string()), crate::messages::Null, crate::messages::Null])];
        rig.begin_and_commit(&messages, &mut end);
        let inserted = [many.insert(&[t(n.to_string()), t((n % 500).to_string()), t("y")])];
        rig.begin_and_commit(&inserted, &mut end);
    }
    rig.append();
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT count(*), min(a), count(DISTINCT b), min(v) FROM many"), "500|2500|500|y");
    assert_eq!(rig.checkpoint().await, Some(end));
}

/// The second unit takes a unique value before the first one has, which then waits for it and has a table to look up: the
/// second waits for the first, and only the target can see that. (Row 5 makes workers look fast, so that they are used again.)
#[tokio::test(flavor = "multi_thread")]
async fn units_that_wait_for_each_other_are_found_out() {
    let mut rig = Rig::new(SCHEMA).await;
    rig.sql(
        "CREATE FUNCTION slow(a int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN \
            PERFORM pg_sleep(0.5) WHERE a IN (5, 50000); RETURN true; END$$; ALTER TABLE many ADD CHECK (slow(a))",
    );
    (rig.workers, rig.batch_max_rows) = (WORKERS, 1000);
    let half = numbered(&mut rig, 0..2000);
    let mut running = rig.start();
    running.applied(half).await;
    assert!(parallel(&rig.seen) > 0);
    let many = Table::new(1, "many", &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    let items = Table::new(4, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    let row = |a: u32, b: u32| [t(a.to_string()), t(b.to_string()), t("x")];
    let mut end = rig.transaction(&[&items], &[]);
    rig.begin_and_commit(&[many.insert(&row(50_000, 50_000))], &mut end);
    rig.begin_and_commit(&[many.update(&row(50_000, 50_001))], &mut end);
    rig.begin_and_commit(&[items.insert(&[t("1"), t("x")])], &mut end);
    for n in 0..400 {
        let b = if n == 61 { 50_000 } else { 60_000 + n };
        rig.begin_and_commit(&[many.insert(&row(60_000 + n, b))], &mut end);
    }
    rig.append();
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*), count(DISTINCT b) FROM many"), "2401|2401");
    assert!(rig.seen.fallbacks.load(Ordering::SeqCst) > 0, "they did not wait for each other");
}

/// A table with triggers that fire is never divided: they may read what they like.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_fire_see_the_sources_order() {
    let schema = SCHEMA.to_owned()
        + "; CREATE TABLE seen (at serial PRIMARY KEY, many bigint); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \
           $$BEGIN INSERT INTO public.seen (many) SELECT count(*) FROM public.many; RETURN NULL; END$$; \
           CREATE TRIGGER see AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION see(); \
           ALTER TABLE items ENABLE ALWAYS TRIGGER see";
    let mut rig = Rig::new(&schema).await;
    (rig.workers, rig.batch_max_rows) = (WORKERS, 500);
    let many = Table::new(1, "many", &[(true, "a", INT4), (false, "b", INT4), (false, "v", TEXT)]);
    let items = Table::new(4, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    rig.transaction(&[&many, &items], &[]);
    let mut end = Lsn::ZERO;
    for n in 0..2000_u32 {
        rig.begin_and_commit(&[many.insert(&[t(n.to_string()), t(n.to_string()), t("x")])], &mut end);
        if n % 400 == 399 {
            rig.begin_and_commit(&[items.insert(&[t(n.to_string()), t("x")])], &mut end);
        }
    }
    rig.append();
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT string_agg(many::text, ' ' ORDER BY at) FROM seen"), "400 800 1200 1600 2000");
}

/// Whoever comes after a crash takes over where the workers were, exactly.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_target_is_where_the_last_worker_was() {
    let deaths = [
        ("before_commit=3", WORKERS),
        ("before_commit=9", 1),
        ("after_commit_before_reply=9", WORKERS),
        ("after_nth_row=12", 1),
    ];
    for (failpoint, workers_then) in deaths {
        let mut rig = Rig::new(SCHEMA).await;
        (rig.workers, rig.batch_max_rows) = (WORKERS, 1000);
        let end = numbered(&mut rig, 0..4000);
        assert!(!rig.apply_in_child(end, failpoint), "{failpoint}: it did not die");
        rig.workers = workers_then;
        rig.apply(end).await;
        assert_eq!(rig.sql("SELECT count(*), max(a) FROM many"), "4000|3999", "{failpoint}");
        assert_eq!(rig.checkpoint().await, Some(end), "{failpoint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_whose_sessions_are_ended_lose_nothing() {
    let mut rig = Rig::new(SCHEMA).await;
    (rig.workers, rig.batch_max_rows) = (WORKERS, 1000);
    let end = numbered(&mut rig, 0..20_000);
    let mut running = rig.start();
    let end_one = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name LIKE 'walcast test worker%' ORDER BY random() LIMIT 1";
    let mut ended = 0;
    for rows in [2000, 5000, 9000] {
        running.until(|status| status.applied_lsn >= Some(Lsn::from_u64(0x2000 + rows * 0x100))).await;
        ended += u32::from(rig.sql(end_one) == "t");
    }
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*), max(a) FROM many"), "20000|19999");
    assert!(ended > 0, "no worker was there to be ended");
}

/// A worker's server process may outlive its client, and commit what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_on_while_a_worker_of_another_session_is_alive() {
    let mut rig = Rig::new(SCHEMA).await;
    (rig.workers, rig.batch_max_rows) = (WORKERS, 1000);
    let half = numbered(&mut rig, 0..2000);
    let mut running = rig.start();
    running.applied(half).await;
    let held = "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks JOIN pg_stat_activity a USING (pid) \
        WHERE locktype = 'advisory' AND objsubid = 1 AND datname = current_database() AND application_name = ";
    let key = rig.sql(&format!("{held} 'walcast test worker 2'"));
    running.stop().await;
    let (cluster, database) = (rig.cluster.clone(), rig.database.clone());
    let script =
        format!("SET application_name = 'holder {database}'; SELECT pg_advisory_lock({key}); SELECT pg_sleep(600)");
    let holder = std::thread::spawn(move || cluster.sql(&database, &script).expect_err("it is ended"));
    answers(&rig, &format!("{held} 'holder {}'", rig.database), &key).await;
    let end = numbered(&mut rig, 2000..2100);
    let mut running = rig.start();
    let fenced = running.until(|status| status.last_error.is_some()).await;
    assert_eq!(fenced.last_error.expect("an error").message, "another session applies to this target");
    let application = format!("application_name = 'holder {}'", rig.database);
    rig.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {application}"));
    holder.join().expect("no panic");
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*) FROM many"), "2100");
}
