//! What stops a target, what is retried, and how it goes on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use applier::{Desired, Error, State, TargetOptions};
use decoder::Xid;

use crate::checkpoint::plain_role;
use crate::messages::{INT4, Null, TEXT, Table, t};
use crate::rig::{Rig, answers, patiently};

fn items() -> Table {
    Table::new(100, "items", &[(true, "id", INT4), (false, "v", TEXT)])
}

const SCHEMA: &str = "CREATE TABLE items (id int PRIMARY KEY, v text)";

#[tokio::test(flavor = "multi_thread")]
async fn t001_a_missing_row_stops_exactly_its_transaction_until_it_is_repaired() {
    let mut rig = Rig::new(SCHEMA).await;
    let items = items();
    let good = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
    let bad = rig.transaction(&[], &[items.insert(&[t("2"), t("b")]), items.update(&[t("9"), t("secret")])]);
    let later = rig.transaction(&[], &[items.delete(&[t("1"), Null])]);
    let mut running = rig.start();
    let status = running.state(State::Stopped).await;
    let why = status.last_error.expect("an error");
    assert_eq!((why.lsn, why.relation.as_deref()), (Some(bad), Some("public.items")));
    assert_eq!(why.xid, Some(Xid(0x21)));
    assert_eq!(why.message, "UPDATE found no row in table public.items");
    assert!(why.hint.is_some() && !format!("{why:?}").contains("secret"));
    assert_eq!(status.applied_lsn, Some(good));
    assert_eq!(rig.sql("SELECT * FROM items"), "1|a", "nothing of the failed transaction");
    rig.sql("INSERT INTO items VALUES (9, 'here')");
    running.desired.send(Desired::Run).expect("a task");
    running.applied(later).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT * FROM items ORDER BY id"), "2|b\n9|secret");
    assert!(rig.seen.fallbacks.load(Ordering::SeqCst) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_twice_there_stop_the_target() {
    let mut rig = Rig::new("CREATE TABLE items (id int, v text); INSERT INTO items VALUES (1, 'a'), (1, 'b')").await;
    let items = items();
    rig.transaction(&[&items], &[items.delete(&[t("1"), Null])]);
    assert_eq!(rig.stopped().await.message, "DELETE found 2 rows in table public.items, expected 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn t029_a_duplicate_is_named_and_exactly_that_transaction_can_be_skipped() {
    let mut rig = Rig::new(SCHEMA).await;
    rig.sql("INSERT INTO items VALUES (2, 'mine')");
    let items = items();
    rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
    let bad = rig.transaction(&[], &[items.insert(&[t("3"), t("c")]), items.insert(&[t("2"), t("b")])]);
    let last = rig.transaction(&[], &[items.insert(&[t("4"), t("d")])]);
    let mut running = rig.start();
    let why = running.state(State::Stopped).await.last_error.expect("an error");
    assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("23505")));
    assert!(matches!(running.skip(last).await, Err(Error::NotStoppedThere { .. })));
    running.skip(bad).await.expect("skipped");
    running.applied(last).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT id FROM items ORDER BY id"), "1\n2\n4");
    let record = rig.sql("SELECT slot, lsn, xid, reason FROM walcast.skipped");
    assert_eq!(record, format!("walcast|{bad}|33|a test's \\ 'reason'"));
    assert_eq!(rig.checkpoint().await, Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_on_the_target_is_named() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY); CREATE VIEW w AS SELECT 1 AS id").await;
    let items = items();
    let bad = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
    let why = rig.stopped().await;
    assert_eq!(why.message, "column \"v\" of table public.items does not exist on the target");
    assert_eq!((why.lsn, why.relation.as_deref()), (Some(bad), Some("public.items")));
    rig.sql("DROP TABLE items");
    assert_eq!(rig.stopped().await.message, "table public.items does not exist on the target");
    rig.sql("ALTER VIEW w RENAME TO items");
    assert_eq!(rig.stopped().await.message, "public.items is not a table on the target");
}

#[tokio::test(flavor = "multi_thread")]
async fn x12_bad_values_stop_without_being_shown() {
    let mut rig = Rig::new("CREATE TABLE items (id int PRIMARY KEY, v int)").await;
    let items = items();
    rig.transaction(&[&items], &[items.insert(&[t("1"), t("secret")])]);
    let why = rig.stopped().await;
    assert_eq!(why.sqlstate.as_deref(), Some("22P02"));
    assert!(!format!("{why:?}").contains("secret"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_deferred_constraint_trigger_is_found_at_commit() {
    let schema = "CREATE TABLE items (id int PRIMARY KEY, v text); \
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 2 THEN RAISE 'no'; END IF; RETURN NULL; END$$; \
         CREATE CONSTRAINT TRIGGER no AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no(); \
         ALTER TABLE items ENABLE ALWAYS TRIGGER no";
    let mut rig = Rig::new(schema).await;
    let items = items();
    let good = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
    let bad = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
    rig.transaction(&[], &[items.insert(&[t("3"), t("c")])]);
    let why = rig.stopped().await;
    assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("P0001")));
    assert_eq!(rig.checkpoint().await, Some(good));
    assert_eq!(rig.sql("SELECT id FROM items"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_a_session_that_is_terminated_in_a_batch_loses_and_doubles_nothing() {
    let mut rig = Rig::new(SCHEMA).await;
    let items = items();
    let mut running = rig.start();
    let first = rig.transaction(&[&items], &[items.insert(&[t("0"), t("x")])]);
    running.applied(first).await;
    let mut last = first;
    for round in 0..40 {
        let rows: Vec<_> = (0..50).map(|n| items.insert(&[t((1 + round * 50 + n).to_string()), t("x")])).collect();
        last = rig.transaction(&[], &rows);
        if round % 10 == 0 {
            rig.sql(TERMINATE);
        }
    }
    running.applied(last).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*), count(DISTINCT id) FROM items"), "2001|2001");
    assert!(rig.seen.retries.load(Ordering::SeqCst) > 0);
}

const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE application_name = 'walcast test' AND datname = current_database()";

#[tokio::test(flavor = "multi_thread")]
async fn f21_a_backend_killed_while_it_waits_for_a_lock_is_retried() {
    let mut rig = Rig::new(SCHEMA).await;
    let items = items();
    rig.sql("INSERT INTO items VALUES (1, 'a')");
    let conninfo = rig.options().conninfo;
    let mut blocker = connection::Wire::connect(&conninfo, &[]).await.expect("a session");
    blocker.simple_query("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let end = rig.transaction(&[&items], &[items.update(&[t("1"), t("b")])]);
    let mut running = rig.start();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walcast test' \
                   AND datname = current_database() AND wait_event_type = 'Lock'";
    answers(&rig, waiting, "1").await;
    assert_eq!(rig.sql(TERMINATE), "1");
    running.until(|status| status.last_error.is_some()).await;
    blocker.simple_query("COMMIT").await.expect("released");
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT v FROM items"), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_target_has_no_session_and_goes_on_where_it_was() {
    let mut rig = Rig::new(SCHEMA).await;
    let items = items();
    let mut running = rig.start();
    let first = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
    running.applied(first).await;
    running.desired.send(Desired::Paused).expect("a task");
    running.state(State::Paused).await;
    let second = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
    assert!(matches!(running.skip(second).await, Err(Error::NotStoppedThere { .. })));
    assert_eq!(rig.sql("SELECT count(*) FROM items"), "1");
    running.desired.send(Desired::Run).expect("a task");
    running.applied(second).await;
    running.state(State::Streaming).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*) FROM items"), "2");
}

/// A batch fails while the next one is on its way: at a row, then at COMMIT, when the next one begins a transaction that
/// nothing but its checkpoint keeps from being committed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_behind_a_batch_that_fails_is_not_applied() {
    let at_row = "CREATE TRIGGER no BEFORE INSERT";
    let at_commit = "CREATE CONSTRAINT TRIGGER no AFTER INSERT";
    for (trigger, when) in [(at_row, ""), (at_commit, "DEFERRABLE INITIALLY DEFERRED")] {
        let schema = format!(
            "{SCHEMA}; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN IF NEW.id = 2 THEN PERFORM pg_advisory_xact_lock(2); RAISE 'no'; END IF; RETURN NEW; END$$; \
             {trigger} ON items {when} FOR EACH ROW EXECUTE FUNCTION no(); ALTER TABLE items ENABLE ALWAYS TRIGGER no"
        );
        for mut rig in [Rig::new(&schema).await, plain_role(&schema).await] {
            let items = items();
            // The rig's transactions are old: nothing shall be waited for because of that.
            let options = TargetOptions { batch_max_delay: Duration::ZERO, ..rig.options() };
            let mut running = rig.start_with(options);
            let good = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
            // Once it is flushed, the target is not asked for that any more, which would let nothing be sent meanwhile.
            running.until(|status| status.checkpoint_lsn == Some(good)).await;
            let conninfo = rig.cluster.conninfo(&rig.database);
            let conninfo = conninfo.to_string().parse().expect("a connection string");
            let mut blocker = connection::Wire::connect(&conninfo, &[]).await.expect("a session");
            blocker.simple_query("SELECT pg_advisory_lock(2)").await.expect("a lock");
            let bad = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walcast test' \
                           AND datname = current_database() AND wait_event = 'advisory'";
            answers(&rig, waiting, "1").await;
            running.status.mark_unchanged();
            let last = rig.transaction(&[], &[items.insert(&[t("3"), t("c")])]);
            patiently(running.status.changed()).await.expect("sent in time").expect("a task");
            blocker.simple_query("SELECT pg_advisory_unlock(2)").await.expect("unlocked");
            let why = running.state(State::Stopped).await.last_error.expect("an error");
            assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("P0001")), "{trigger}");
            assert_eq!(rig.checkpoint().await, Some(good));
            assert_eq!(rig.sql("SELECT id FROM items"), "1", "{trigger}");
            rig.sql("DROP TRIGGER no ON items");
            running.desired.send(Desired::Run).expect("a task");
            running.applied(last).await;
            running.stop().await;
            assert_eq!(rig.sql("SELECT id FROM items ORDER BY id"), "1\n2\n3");
        }
    }
}

/// What is committed is told at once, though what was sent behind it, or is being sent, waits for somebody's lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_applied_as_soon_as_it_is_committed_whatever_waits_behind_it() {
    for rows in [1, 300] {
        let mut rig = Rig::new(SCHEMA).await;
        rig.sql("INSERT INTO items VALUES (1000, 'a')");
        let items = items();
        let conninfo = rig.cluster.conninfo(&rig.database).to_string().parse().expect("a connection string");
        let mut blocker = connection::Wire::connect(&conninfo, &[]).await.expect("a session");
        blocker.simple_query("BEGIN; UPDATE items SET v = 'locked' WHERE id = 1000").await.expect("a lock");
        rig.batch_max_rows = 1;
        let free = rig.transaction(&[&items], &[items.insert(&[t("0"), t("a")])]);
        let mut changes = vec![items.update(&[t("1000"), t("b")])];
        changes.extend((1..rows).map(|id: i32| items.insert(&[t(id.to_string()), t("a")])));
        let blocked = rig.transaction(&[], &changes);
        let mut running = rig.start();
        running.applied(free).await;
        let oldest = running.status.borrow().oldest_unapplied;
        assert!(oldest.is_some(), "the one behind it is not applied");
        blocker.simple_query("COMMIT").await.expect("released");
        running.applied(blocked).await;
        running.stop().await;
        assert_eq!(rig.seen.transactions.load(Ordering::SeqCst), 2);
        assert_eq!(rig.sql("SELECT count(*) FROM items"), (rows + 1).to_string());
    }
}
