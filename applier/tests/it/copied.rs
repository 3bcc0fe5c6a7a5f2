//! Tables that a copy has ahead of the checkpoint: what the log brings of them too is passed over, up to the boundary.

use std::sync::atomic::Ordering;

use applier::{Desired, State};
use decoder::Lsn;

use crate::messages::{INT4, TEXT, Table, t, truncate};
use crate::rig::Rig;

const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, v text); \
    CREATE TABLE b (id int PRIMARY KEY, v text, a int REFERENCES a)";
const ROWS: &str = "SELECT coalesce(string_agg(id || v, ' ' ORDER BY id), '') FROM ";

fn a() -> Table {
    Table::new(1, "a", &[(true, "id", INT4), (false, "v", TEXT)])
}

fn b() -> Table {
    Table::new(2, "b", &[(true, "id", INT4), (false, "v", TEXT)])
}

/// The copy of `table` is complete as of `start` (NULL: it is being made again), and holds the row `1copy`.
fn copied(rig: &Rig, table: &str, start: Option<Lsn>) {
    let start = start.map_or("NULL".to_owned(), |lsn| format!("'{lsn}'"));
    let identity = rig.options().identity;
    let values = format!("'{}', '{}', 'public', '{table}', {start}", identity.system_id, identity.slot);
    rig.sql(&format!(
        "INSERT INTO walcast.copied (system_id, slot, schema_name, table_name, start_lsn) VALUES ({values}) \
        ON CONFLICT (system_id, slot, schema_name, table_name) DO UPDATE SET start_lsn = excluded.start_lsn; \
        INSERT INTO {table} VALUES (1, 'copy') ON CONFLICT DO NOTHING"
    ));
}

fn just_after(lsn: Lsn) -> Lsn {
    Lsn::from_u64(lsn.as_u64() + 1)
}

fn insert(table: &Table, id: usize, v: &str) -> Vec<u8> {
    table.insert(&[t(id.to_string()), t(v)])
}

/// Two transactions that a copy of `b` has and one that it has not, each with `width` rows of `a`; with the positions of
/// the third one.
fn history(rig: &mut Rig, width: usize) -> (Lsn, Lsn) {
    let (a, b) = (a(), b());
    let rows = |from: usize| -> Vec<Vec<u8>> { (from..from + width).map(|id| insert(&a, id, "a")).collect() };
    rig.transaction(&[&a, &b], &[vec![insert(&b, 1, "log")], rows(1000)].concat());
    rig.transaction(&[], &[rows(2000), vec![insert(&b, 9, "log"), b.delete(&[t("9"), t("")])]].concat());
    let info = rig.begin();
    for message in [rows(3000), vec![insert(&b, 2, "log"), b.update(&[t("1"), t("new")])]].concat() {
        rig.push(&message);
    }
    rig.commit();
    rig.append();
    (info.commit_lsn, info.end_lsn)
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_what_the_copy_has_is_passed_over_and_what_follows_is_applied() {
    // The ordered tier guarded and not, the net tier.
    for (width, net) in [(1, false), (60, false), (150, true)] {
        let mut rig = Rig::new(SCHEMA).await;
        let (commit_lsn, end_lsn) = history(&mut rig, width);
        copied(&rig, "b", Some(commit_lsn));
        rig.apply(end_lsn).await;
        assert_eq!(rig.sql(&format!("{ROWS} b")), "1new 2log", "width {width}");
        assert_eq!(rig.sql("SELECT count(*) FROM a"), (3 * width).to_string());
        assert_eq!(rig.seen.net.load(Ordering::SeqCst) > 0, net, "width {width}");
        assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0, "width {width}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_a_transaction_that_commits_just_before_the_copy_is_in_it() {
    let mut rig = Rig::new(SCHEMA).await;
    let (commit_lsn, end_lsn) = history(&mut rig, 1);
    copied(&rig, "b", Some(just_after(commit_lsn)));
    rig.apply(end_lsn).await;
    assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy");
    assert_eq!(rig.sql("SELECT count(*) FROM a"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_single_tier_passes_over_the_same() {
    let mut rig = Rig::new(SCHEMA).await;
    let (a, b) = (a(), b());
    copied(&rig, "b", Some(Lsn::MAX));
    rig.sql("INSERT INTO a VALUES (5, 'in the way')");
    let end = rig.transaction(&[&a, &b], &[insert(&b, 1, "log"), truncate(&[&b], 0), insert(&a, 5, "x")]);
    assert_eq!(rig.stopped().await.relation.as_deref(), Some("public.a"));
    rig.sql("DELETE FROM a");
    rig.apply(end).await;
    assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy");
    assert_eq!(rig.sql(&format!("{ROWS} a")), "5x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_of_several_tables_empties_only_those_that_are_behind() {
    for flags in [0, 1, 2] {
        let mut rig = Rig::new(SCHEMA).await;
        let (a, b) = (a(), b());
        let after = rig.transaction(&[&a, &b], &[insert(&a, 1, "a"), truncate(&[&a, &b], flags), insert(&a, 2, "a")]);
        copied(&rig, "b", Some(just_after(after)));
        rig.sql("UPDATE b SET a = NULL; INSERT INTO a VALUES (7, 'referred to'); UPDATE b SET a = 7");
        rig.apply(after).await;
        assert_eq!(rig.sql(&format!("{ROWS} a")), "2a", "flags {flags}");
        assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy", "flags {flags}");
        let last = rig.transaction(&[], &[truncate(&[&a, &b], flags)]);
        rig.sql("DELETE FROM walcast.copied");
        rig.apply(last).await;
        assert_eq!(rig.sql("SELECT count(*) FROM a, b"), "0", "flags {flags}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_bootstrapping_until_all_its_tables_are_level() {
    let mut rig = Rig::new(SCHEMA).await;
    let (a, b) = (a(), b());
    let start = Lsn::from_u64(0x3000);
    copied(&rig, "b", Some(start));
    let before = rig.transaction(&[&a, &b], &[insert(&a, 1, "a"), insert(&b, 1, "log")]);
    let mut running = rig.start();
    assert_eq!(running.applied(before).await.state, State::Bootstrapping);
    let mut last = rig.transaction(&[], &[insert(&b, 1, "log")]);
    while last < Lsn::from_u64(0x2f00) {
        last = rig.transaction(&[], &[insert(&b, 1, "log")]);
    }
    assert_eq!(running.applied(last).await.state, State::Bootstrapping);
    last = rig.transaction(&[], &[insert(&b, 2, "log")]);
    running.applied(last).await;
    running.state(State::Streaming).await;
    assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy 2log");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_copied_again_is_left_alone_from_the_answer_on() {
    let mut rig = Rig::new(SCHEMA).await;
    let (a, b) = (a(), b());
    let first = rig.transaction(&[&a, &b], &[insert(&a, 1, "a"), insert(&b, 2, "log")]);
    let mut running = rig.start();
    running.applied(first).await;
    copied(&rig, "b", None);
    running.reload().await.expect("reloaded");
    let second = rig.transaction(&[], &[insert(&a, 2, "a"), b.delete(&[t("2"), t("")])]);
    let status = running.applied(second).await;
    assert_ne!(status.state, State::Bootstrapping);
    assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy 2log");
    copied(&rig, "b", Some(second));
    running.reload().await.expect("reloaded");
    let third = rig.transaction(&[], &[b.delete(&[t("2"), t("")])]);
    running.applied(third).await;
    assert_eq!(rig.sql(&format!("{ROWS} b")), "1copy");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_rests_before_exactly_the_position_that_it_is_let_run_to() {
    for width in [1, 150] {
        let mut rig = Rig::new(SCHEMA).await;
        let running = rig.start();
        running.held_at(Lsn::ZERO).await;
        let (commit_lsn, end_lsn) = history(&mut rig, width);
        for (limit, rows, in_b) in [(commit_lsn, 2 * width, "1log"), (just_after(commit_lsn), 3 * width, "1new 2log")] {
            rig.sql("DELETE FROM walcast.copied");
            let status = running.held_at(limit).await;
            assert_eq!(status.applied_lsn == Some(end_lsn), limit > commit_lsn, "width {width}");
            assert_eq!(rig.sql("SELECT count(*) FROM a"), rows.to_string(), "width {width}");
            assert_eq!(rig.sql(&format!("{ROWS} b")), in_b, "width {width}");
        }
        let later = rig.transaction(&[], &[insert(&a(), 1, "a")]);
        let status = running.held_at(Lsn::ZERO).await;
        assert!(status.applied_lsn < Some(later));
        let mut released = running;
        released.desired.send_replace(Desired::Run);
        assert_eq!(released.applied(later).await.held, None);
        released.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_rests_can_be_paused_and_stopped() {
    let rig = Rig::new(SCHEMA).await;
    let mut running = rig.start();
    running.held_at(Lsn::ZERO).await;
    running.desired.send_replace(Desired::Paused);
    running.state(State::Paused).await;
    running.held_at(Lsn::ZERO).await;
    running.stop().await;
}
