//! Installation and preflight on real servers.

use std::time::Duration;

use capture::preflight::{Finding, Level, check_source, check_target};
use capture::{Error, Installation, Outcome, Step};
use cluster::Cluster;
use config::{Pattern, Selection};
use tokio_postgres::{Client, NoTls};

fn source() -> Cluster {
    Cluster::builder().set("wal_level", "logical").start().unwrap()
}

async fn connect(cluster: &Cluster, user: &str) -> Client {
    let conninfo = cluster.conninfo("postgres").with("user", user).to_string();
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn superuser(cluster: &Cluster) -> Client {
    let conninfo = cluster.conninfo("postgres").to_string();
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn installation(tables: &[&str], exclude: &[&str]) -> Installation {
    let patterns = |texts: &[&str]| texts.iter().map(|t| Pattern::parse(t).unwrap()).collect();
    Installation {
        slot: "walcast".into(),
        publication: "wal\"cast's".into(),
        selection: Selection::new(patterns(tables), patterns(exclude)),
        passwords: false,
    }
}

fn outcomes(steps: &[Step]) -> Vec<Outcome> {
    steps.iter().map(|s| s.outcome.clone()).collect()
}

async fn published(client: &Client, wanted: &Installation) -> Vec<String> {
    let tables = capture::published_tables(client, &wanted.publication).await.unwrap();
    tables.iter().map(|t| format!("{}.{}({})", t.schema, t.table, t.columns.join(","))).collect()
}

/// The finding that has this text in it.
fn finding<'a>(findings: &'a [Finding], text: &str) -> &'a Finding {
    let found = findings.iter().find(|f| f.text.contains(text));
    found.unwrap_or_else(|| panic!("nothing says \"{text}\" in {findings:#?}"))
}

fn no_failure(findings: &[Finding]) {
    assert!(findings.iter().all(|f| f.level != Level::Fail), "{findings:#?}");
}

#[tokio::test]
async fn setup_can_be_repeated_and_teardown_leaves_nothing() {
    let server = source();
    let mut client = superuser(&server).await;
    let wanted = installation(&["*"], &[]);
    client
        .batch_execute("create table t (a int primary key, b text, c int generated always as (a) stored)")
        .await
        .unwrap();
    let (done, unchanged) = (vec![Outcome::Done; 4], vec![Outcome::Unchanged; 4]);
    assert_eq!(outcomes(&capture::setup(&mut client, &wanted).await.unwrap()), done);
    assert_eq!(outcomes(&capture::setup(&mut client, &wanted).await.unwrap()), unchanged);
    let slot = capture::slot(&client, "walcast").await.unwrap().unwrap();
    assert_eq!((slot.plugin.as_deref(), slot.two_phase, slot.active_pid), (Some("pgoutput"), false, None));
    assert!(
        slot.confirmed_flush_lsn.is_some()
            && slot.confirmed_flush_lsn <= Some(capture::current_lsn(&client).await.unwrap())
    );
    assert_eq!(published(&client, &wanted).await, ["public.t(a,b)"]);

    assert_eq!(outcomes(&capture::teardown(&mut client, &wanted).await.unwrap()), done);
    assert_eq!(outcomes(&capture::teardown(&mut client, &wanted).await.unwrap()), unchanged);
    let left: i64 = client
        .query_one(
            "select (select count(*) from pg_replication_slots) + (select count(*) from pg_publication) \
             + (select count(*) from pg_namespace where nspname = 'walcast') + (select count(*) from pg_event_trigger)",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_printed_sql_is_what_setup_does() {
    let server = source();
    let client = superuser(&server).await;
    let wanted = installation(&["*"], &[]);
    for sql in capture::pending_sql(&client, &wanted).await.unwrap() {
        client.batch_execute(&sql).await.unwrap();
    }
    assert_eq!(capture::pending_sql(&client, &wanted).await.unwrap(), Vec::<String>::new());
    no_failure(&check_source(&client, &wanted).await);
}

#[tokio::test]
async fn x06_a_role_without_privileges_is_told_what_to_have_run_and_then_looks_at_catalogs_itself() {
    let server = source();
    let admin = superuser(&server).await;
    admin.batch_execute("create role service login replication; create table t (a int primary key)").await.unwrap();
    let mut service = connect(&server, "service").await;
    let wanted = installation(&["*"], &[]);
    let patience = Duration::from_secs(10);
    assert_eq!(capture::tick(&mut service, true, patience).await.unwrap(), None, "nothing is installed");
    let error = capture::setup(&mut service, &wanted).await.unwrap_err();
    assert!(!error.to_string().contains('\n') && error.hint().is_some_and(|h| h.contains("--print-sql")), "{error}");
    let left = "select count(*) from pg_namespace where nspname = 'walcast'";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0, "half of it was installed");

    let printed = capture::pending_sql(&service, &wanted).await.unwrap();
    let script: String = printed.iter().map(|sql| format!("{sql};\n")).collect();
    // The slot needs a transaction of its own.
    let (script, slot) = script.split_at(script.find("select pg_catalog.pg_create_logical").unwrap());
    admin.batch_execute(script).await.unwrap();
    admin.batch_execute(slot).await.unwrap();
    assert_eq!(outcomes(&capture::setup(&mut service, &wanted).await.unwrap()), vec![Outcome::Unchanged; 4]);
    no_failure(&check_source(&service, &wanted).await);
    let tick = capture::tick(&mut service, true, patience).await.unwrap().unwrap();
    assert_eq!((tick.blind, tick.failed), (Vec::<String>::new(), 0));
    admin.batch_execute("alter event trigger walcast_drop disable; create role later").await.unwrap();
    let tick = capture::tick(&mut service, false, patience).await.unwrap().unwrap();
    assert_eq!((tick.blind, tick.roles), (vec!["walcast_drop is not enabled always".to_owned()], 1));
    let findings = check_source(&service, &wanted).await;
    assert_eq!(finding(&findings, "walcast_drop is not enabled always").level, Level::Fail);
}

#[tokio::test]
async fn a_tick_waits_for_another_one_but_not_for_ever() {
    let server = source();
    let mut client = superuser(&server).await;
    capture::setup(&mut client, &installation(&["*"], &[])).await.unwrap();
    let other = superuser(&server).await;
    other.batch_execute("begin isolation level repeatable read; select walcast.tick()").await.unwrap();
    let error = capture::tick(&mut client, false, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::Waiting) && error.hint().is_some(), "{error}");
    let waiting = tokio::spawn(async move { capture::tick(&mut client, false, Duration::from_secs(60)).await });
    other.batch_execute("commit").await.unwrap();
    assert!(waiting.await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn another_version_or_configuration_is_replaced_and_then_everything_is_compared() {
    let server = source();
    let mut client = superuser(&server).await;
    let mut wanted = installation(&["*"], &[]);
    capture::setup(&mut client, &wanted).await.unwrap();
    client.batch_execute("create role r password 'x'").await.unwrap();
    capture::tick(&mut client, false, Duration::from_secs(10)).await.unwrap();
    wanted.passwords = true;
    let findings = check_source(&client, &wanted).await;
    assert_eq!(finding(&findings, "of another version or configuration").level, Level::Warn);
    let steps = capture::setup(&mut client, &wanted).await.unwrap();
    assert_eq!(outcomes(&steps), [Outcome::Unchanged, Outcome::Unchanged, Outcome::Done, Outcome::Unchanged]);
    let tick = capture::tick(&mut client, false, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(tick.roles, 1, "the password is told: {tick:?}");
}

#[tokio::test]
async fn x01_only_the_selected_tables_are_published_whatever_their_names() {
    let server = source();
    let mut client = superuser(&server).await;
    client
        .batch_execute(
            "create schema \"S \"\"; drop table x\"; create table \"S \"\"; drop table x\".\"t.*\" (a int primary key); \
             create table public.keep (a int primary key); create table public.drop_me (a int primary key); \
             create table public.p (a int primary key) partition by list (a); \
             create table public.p1 partition of public.p for values in (1); \
             create table public.p2 partition of public.p for values in (2)",
        )
        .await
        .unwrap();
    let wanted = installation(&["public.*", r#""S ""; drop table x"."t.*""#], &["public.drop_*", "public.p2"]);
    capture::setup(&mut client, &wanted).await.unwrap();
    let hostile = "S \"; drop table x.t.*(a)";
    assert_eq!(published(&client, &wanted).await, [hostile, "public.keep(a)", "public.p1(a)"]);
    no_failure(&check_source(&client, &wanted).await);

    // What comes to be selected is published by the capture, with those who make it.
    client
        .batch_execute("create table public.later (a int primary key); create table public.drop_it (a int)")
        .await
        .unwrap();
    no_failure(&check_source(&client, &wanted).await);
    assert_eq!(published(&client, &wanted).await.len(), 4);
    client.batch_execute("alter table drop_it rename to kept; alter table keep rename to drop_it").await.unwrap();
    let steps = capture::setup(&mut client, &wanted).await.unwrap();
    assert_eq!(outcomes(&steps), vec![Outcome::Unchanged; 4]);
    assert_eq!(published(&client, &wanted).await, [hostile, "public.kept(a)", "public.later(a)", "public.p1(a)"]);
    // What an event trigger did not see is published by the next tick.
    client.batch_execute("alter event trigger walcast_ddl_end disable; create table unseen (a int)").await.unwrap();
    let findings = check_source(&client, &wanted).await;
    assert_eq!(finding(&findings, "does not cover public.unseen").level, Level::Fail);
    capture::setup(&mut client, &wanted).await.unwrap();
    no_failure(&check_source(&client, &wanted).await);

    let error = capture::setup(&mut client, &installation(&["*"], &[])).await.unwrap_err();
    assert!(matches!(error, Error::PublicationKind { .. }) && error.hint().is_some(), "{error}");
}

#[tokio::test]
async fn what_somebody_else_made_is_neither_used_nor_removed() {
    let server = source();
    let mut client = superuser(&server).await;
    let wanted = installation(&["*"], &[]);
    client.batch_execute("create publication \"wal\"\"cast's\" for all tables; create schema walcast").await.unwrap();
    client.batch_execute("select pg_create_logical_replication_slot('walcast', 'test_decoding')").await.unwrap();
    let error = capture::setup(&mut client, &wanted).await.unwrap_err();
    assert_eq!(error.to_string(), "slot \"walcast\" exists but its output plugin is test_decoding, not pgoutput");
    assert!(capture::teardown(&mut client, &wanted).await.is_err());
    client.batch_execute("select pg_drop_replication_slot('walcast')").await.unwrap();
    let steps = capture::teardown(&mut client, &wanted).await.unwrap();
    assert!(
        matches!(&steps[2..], [Step { outcome: Outcome::Kept(_), .. }, Step { outcome: Outcome::Kept(_), .. }]),
        "{steps:?}"
    );
}

#[tokio::test]
async fn check_says_what_a_source_lacks() {
    let server = Cluster::builder().set("wal_level", "replica").set("max_replication_slots", "0").start().unwrap();
    let client = superuser(&server).await;
    client
        .batch_execute(
            "create role plain login; create table no_key (a int); create unlogged table u (a int primary key); \
             create table k (a int primary key); select lo_create(0)",
        )
        .await
        .unwrap();
    let wanted = installation(&["*"], &[]);
    let plain = connect(&server, "plain").await;
    let findings = check_source(&plain, &wanted).await;
    for text in
        ["wal_level is replica", "lacks REPLICATION", "none is free", "publication \"wal\"cast's\" does not exist"]
    {
        assert_eq!(finding(&findings, text).level, Level::Fail, "{text}");
    }
    for text in ["replica identity: public.no_key", "not replicated: public.u", "1 large objects are not replicated"] {
        assert_eq!(finding(&findings, text).level, Level::Warn, "{text}");
    }
    assert!(findings.iter().all(|f| f.level == Level::Pass || f.hint.is_some()), "{findings:#?}");
    client.batch_execute("create role rds_replication; grant rds_replication to plain").await.unwrap();
    assert_eq!(finding(&check_source(&plain, &wanted).await, "the role may replicate").level, Level::Pass);
}

#[tokio::test]
async fn setup_failures_have_hints() {
    let server = Cluster::builder().set("wal_level", "replica").start().unwrap();
    let mut client = superuser(&server).await;
    client.batch_execute("create role plain login").await.unwrap();
    let mut plain = connect(&server, "plain").await;
    let error = capture::setup(&mut plain, &installation(&["public.*"], &[])).await.unwrap_err();
    assert!(error.hint().is_some_and(|h| h.contains("--print-sql")), "{error}");
    let error = capture::setup(&mut client, &installation(&["*"], &[])).await.unwrap_err();
    assert!(error.to_string().starts_with("could not make the slot: "), "{error}");
    assert_eq!(error.hint(), Some("set wal_level = logical on the source and restart it"));
}

#[tokio::test]
async fn check_says_what_a_target_lacks() {
    let server = source();
    let mut client = superuser(&server).await;
    let wanted = installation(&["*"], &[]);
    client
        .batch_execute(
            "create table whole (a int primary key, b int); create table narrow (a int primary key, b int); \
             create table \"gone\nfar\" (a int primary key); create table guarded (a int primary key)",
        )
        .await
        .unwrap();
    capture::setup(&mut client, &wanted).await.unwrap();
    let published = capture::published_tables(&client, &wanted.publication).await.unwrap();

    let target = Cluster::builder().start().unwrap();
    let client = superuser(&target).await;
    let empty = check_target(&client, Some(&published)).await;
    assert_eq!(finding(&empty, "none of the 4 published tables exists yet").level, Level::Warn);
    client.batch_execute("create schema walcast").await.unwrap();
    let emptied = check_target(&client, Some(&published)).await;
    assert_eq!(finding(&emptied, "tables are missing").level, Level::Fail);
    client.batch_execute("drop schema walcast").await.unwrap();
    client
        .batch_execute(
            "create role plain login; create table whole (b int, a int primary key, extra int default 1); \
             create table narrow (a int primary key); grant select on narrow to plain; \
             create table guarded (a int primary key); alter table guarded enable row level security; \
             create function f() returns trigger language plpgsql as 'begin return new; end'; \
             create trigger tr before insert on whole for each row execute function f(); \
             alter table whole enable always trigger tr",
        )
        .await
        .unwrap();
    let findings = check_target(&client, Some(&published)).await;
    assert_eq!(finding(&findings, "a replication origin can keep the checkpoint").level, Level::Pass);
    assert_eq!(finding(&findings, "tables are missing: public.\"gone\\nfar\"").level, Level::Fail);
    assert_eq!(finding(&findings, "columns are missing: b of public.narrow").level, Level::Fail);
    assert_eq!(finding(&findings, "triggers will fire: public.whole").level, Level::Warn);
    assert_eq!(finding(&findings, "no row security applies").level, Level::Pass);

    let plain = connect(&target, "plain").await;
    let findings = check_target(&plain, Some(&published)).await;
    assert_eq!(finding(&findings, "session_replication_role cannot be set").level, Level::Fail);
    assert_eq!(finding(&findings, "neither a replication origin nor a table").level, Level::Fail);
    assert_eq!(finding(&findings, "INSERT+UPDATE+DELETE+TRUNCATE on public.narrow").level, Level::Fail);
    assert_eq!(finding(&findings, "row security applies to the role: public.guarded").level, Level::Fail);

    client
        .batch_execute(
            "grant create on database postgres to plain; alter role plain set default_transaction_read_only = on",
        )
        .await
        .unwrap();
    let plain = connect(&target, "plain").await;
    let findings = check_target(&plain, None).await;
    assert_eq!(finding(&findings, "the database is read-only").level, Level::Fail);
    assert_eq!(finding(&findings, "walcast.checkpoint can keep").level, Level::Pass);
}
