//! DDL in the stream: in its place between rows, exactly once, under its own settings.

use std::sync::atomic::Ordering;

use applier::State;

use crate::messages::{INT4, TEXT, Table, t};
use crate::rig::{self, Rig, answers, patiently};
use crate::source::Source;

const SCHEMA: &str = "CREATE TABLE items (id int PRIMARY KEY, v text)";
const COLUMNS: &str = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) \
     FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped";

async fn pair(schema: &str) -> (Rig, Source) {
    let rig = Rig::new(schema).await;
    let source = Source::new(&rig, schema);
    (rig, source)
}

/// Both sides answer the same.
fn assert_equal(rig: &Rig, source: &Source, queries: &[&str]) {
    for query in queries {
        assert_eq!(rig.sql(query), source.sql(rig, query), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d33_ddl_between_the_rows_of_one_transaction_is_in_its_place() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    source.sql(
        &rig,
        "BEGIN; INSERT INTO items VALUES (1, 'a'); ALTER TABLE items ADD b int; INSERT INTO items VALUES (2, 'b', 20); \
         ALTER TABLE items DROP b; ALTER TABLE items ADD b text; INSERT INTO items VALUES (3, 'c', 'thirty'); \
         UPDATE items SET b = 'one' WHERE id = 1; COMMIT; \
         ALTER TABLE items RENAME TO things; INSERT INTO things VALUES (4, 'd', 'four'); ALTER TABLE things RENAME TO items",
    );
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    assert_equal(&rig, &source, &["SELECT * FROM items ORDER BY id", COLUMNS]);
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
    assert_eq!(rig.seen.rows.load(Ordering::SeqCst), 5, "rows before a message are counted, too");
    assert_eq!(rig.seen.done.lock().expect("no panic").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn d03_rows_of_create_table_as_come_before_its_message() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    source.sql(
        &rig,
        "CREATE TABLE made AS SELECT n AS id, now() AS at, repeat('x', 100) AS pad FROM generate_series(1, 20000) n; \
         BEGIN; INSERT INTO items SELECT n, 'many' FROM generate_series(1, 3000) n; \
         SELECT id, 'into' AS v INTO other FROM made WHERE id < 5; CREATE TABLE third AS TABLE other; \
         INSERT INTO third VALUES (9, 'after'); ALTER TABLE third ADD PRIMARY KEY (id); DELETE FROM third WHERE id = 1; COMMIT; \
         CREATE TABLE IF NOT EXISTS third AS SELECT 77 AS id, 'not made' AS v",
    );
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    let rows = ["made", "other", "third", "items"]
        .map(|table| format!("SELECT count(*), md5(string_agg(x::text, ',' ORDER BY id)) FROM {table} x"));
    assert_equal(&rig, &source, &rows.each_ref().map(String::as_str));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_transaction_with_ddl_in_its_midst_is_netted_around_it() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    rig.batch_max_rows = 500;
    source.sql(
        &rig,
        "BEGIN; INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 4000) n; \
         UPDATE items SET v = 'old' WHERE id % 7 = 0; ALTER TABLE items ADD w int; \
         UPDATE items SET w = id WHERE id % 3 = 0; DELETE FROM items WHERE id % 5 = 0; \
         INSERT INTO items SELECT n, 'new', n FROM generate_series(5001, 6000) n; COMMIT; \
         UPDATE items SET w = 0 WHERE w IS NULL",
    );
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    let rows = "SELECT count(*), md5(string_agg(x::text, ',' ORDER BY id)) FROM items x";
    assert_equal(&rig, &source, &[rows, COLUMNS]);
    assert!(rig.seen.net.load(Ordering::SeqCst) > 0);
    assert_eq!(rig.seen.fallbacks.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn d07_an_enum_value_is_committed_before_it_is_used() {
    const MOOD: &str = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE items (id int PRIMARY KEY, m mood)";
    let (mut rig, mut source) = pair(MOOD).await;
    source.sql(
        &rig,
        "INSERT INTO items VALUES (1, 'sad'); ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'; INSERT INTO items VALUES (2, 'ok')",
    );
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    assert_equal(&rig, &source, &["SELECT * FROM items ORDER BY m", "SELECT enum_range(NULL::mood)"]);
    assert_eq!(rig.seen.batches.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_dying_around_the_commit_of_ddl_applies_it_exactly_once() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    for n in 1..=5 {
        source.sql(
            &rig,
            &format!(
                "BEGIN; INSERT INTO items (id) VALUES ({n}); ALTER TABLE items ADD c{n} int DEFAULT {n}; \
                 INSERT INTO items (id, v) VALUES (10 + {n}, 'after'); CREATE TABLE made{n} AS TABLE items; COMMIT"
            ),
        );
    }
    let end = source.stream(&mut rig);
    let points =
        ["before_begin=1", "before_commit=1", "after_commit_before_reply=1", "after_nth_row=3", "before_commit=2"];
    for point in points {
        assert!(!rig.apply_in_child(end, point), "{point}");
    }
    assert!(rig.apply_in_child(end, ""));
    let rows = [1, 2, 3, 4, 5].map(|n| format!("SELECT * FROM made{n} ORDER BY id"));
    assert_equal(&rig, &source, &rows.each_ref().map(String::as_str));
    assert_equal(&rig, &source, &["SELECT * FROM items ORDER BY id", COLUMNS]);
}

/// What `f02_…` starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "for a process that may die"]
async fn in_a_process_of_its_own() {
    rig::apply_as_child().await;
}

/// A session on the target that holds a lock on `items` until it is ended.
struct Holder(std::thread::JoinHandle<()>);

impl Holder {
    fn new(rig: &Rig) -> Holder {
        let (cluster, database) = (rig.cluster.clone(), rig.database.clone());
        let lock =
            "SET application_name = 'holder'; BEGIN; LOCK TABLE items IN ACCESS SHARE MODE; SELECT pg_sleep(600)";
        Holder(std::thread::spawn(move || {
            cluster.sql(&database, lock).expect_err("it is ended");
        }))
    }

    fn end(self, rig: &Rig) {
        rig.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
        self.0.join().expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d39_ddl_waits_for_a_lock_only_briefly_and_is_tried_again() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    source.sql(&rig, "ALTER TABLE items ADD w int; INSERT INTO items VALUES (1, 'a', 1)");
    let end = source.stream(&mut rig);
    let holder = Holder::new(&rig);
    answers(&rig, "SELECT count(*) FROM pg_locks WHERE relation = 'items'::regclass AND granted", "1").await;
    let mut running = rig.start();
    let status = running.until(|status| status.last_error.is_some()).await;
    let error = status.last_error.expect("an error");
    assert_eq!((error.sqlstate.as_deref(), status.state), (Some("55P03"), State::CatchingUp), "{error:?}");
    let seen = rig.seen.clone();
    let retried = patiently(async {
        while seen.retries.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    });
    assert!(retried.await.is_some());
    holder.end(&rig);
    running.applied(end).await;
    running.stop().await;
    assert_equal(&rig, &source, &["SELECT * FROM items", COLUMNS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d43_ddl_that_cannot_be_done_stops_the_target_with_its_statement() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    rig.sql("CREATE TABLE other (id int); CREATE VIEW seen AS SELECT v FROM items");
    source.sql(&rig, "INSERT INTO items VALUES (1, 'a')");
    let before = source.stream(&mut rig);
    source.sql(&rig, "BEGIN; INSERT INTO items VALUES (2, 'b'); ALTER TABLE items DROP v; COMMIT");
    let bad = source.stream(&mut rig);
    let why = rig.stopped().await;
    assert_eq!((why.lsn, why.sqlstate.as_deref()), (Some(bad), Some("2BP01")), "{why:?}");
    assert!(why.message.contains("DROP COLUMN \"v\"") && why.hint.is_some(), "{why:?}");
    assert_eq!(rig.checkpoint().await, Some(before));
    rig.sql("DROP VIEW seen");
    rig.apply(bad).await;
    assert_equal(&rig, &source, &["SELECT * FROM items ORDER BY id", COLUMNS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d05_a_rewritten_table_is_set_aside_and_the_others_go_on() {
    const TWO: &str = "CREATE TABLE items (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)";
    let (mut rig, mut source) = pair(TWO).await;
    source.sql(
        &rig,
        "INSERT INTO items VALUES (1, 'a'); ALTER TABLE items ADD r double precision DEFAULT random(); \
         INSERT INTO items VALUES (2, 'b', 0); INSERT INTO other VALUES (1)",
    );
    let end = source.stream(&mut rig);
    let mut running = rig.start();
    let status = running.applied(end).await;
    assert_eq!(status.recopy, [("public".to_owned(), "items".to_owned())]);
    running.stop().await;
    assert_equal(&rig, &source, &["SELECT * FROM other", COLUMNS]);
    assert_eq!(rig.sql("SELECT count(*) FROM items WHERE id = 2"), "0");
    assert_eq!(rig.sql("SELECT schema_name, table_name, start_lsn FROM walcast.copied"), "public|items|");
    // A copy that is being caught up is of no use once the columns are others.
    let lane = rig.options().identity.lane("public", "items");
    let values = format!("'{}', '{}', '{end}'", lane.system_id, lane.slot);
    rig.sql(&format!("INSERT INTO walcast.checkpoint (system_id, slot, lsn) VALUES ({values})"));
    for (ddl, lanes) in [("COMMENT ON TABLE items IS 'rewritten'", "1"), ("ALTER TABLE items ADD w int", "0")] {
        source.sql(&rig, ddl);
        let end = source.stream(&mut rig);
        rig.apply(end).await;
        assert_eq!(rig.sql("SELECT count(*) FROM walcast.checkpoint WHERE slot LIKE 'walcast %'"), lanes, "{ddl}");
    }
    // After a restart it still is to be copied; under another name as well, and gone it is not.
    source.sql(&rig, "ALTER TABLE items RENAME TO things; INSERT INTO things VALUES (3, 'c', 1)");
    let renamed = source.stream(&mut rig);
    let mut running = rig.start();
    let status = running.applied(renamed).await;
    assert_eq!(status.recopy, [("public".to_owned(), "things".to_owned())]);
    source.sql(&rig, "DROP TABLE things; CREATE TABLE things (id int); INSERT INTO things VALUES (7)");
    let again = source.stream(&mut rig);
    assert!(running.applied(again).await.recopy.is_empty());
    running.stop().await;
    assert_equal(&rig, &source, &["SELECT * FROM things"]);
    assert_eq!(rig.sql("SELECT count(*) FROM walcast.copied"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_follow_the_source_forward_and_back() {
    const SEQUENCES: &str = "CREATE SEQUENCE up; CREATE SEQUENCE down INCREMENT -5 MINVALUE -1000 START -1; \
         CREATE SEQUENCE \"o'd\\d \"\"x\"";
    let (mut rig, mut source) = pair(SEQUENCES).await;
    source.sql(&rig, "SELECT nextval('up') FROM generate_series(1, 10); SELECT nextval('down'), nextval('down')");
    source.sql(&rig, "SELECT setval('\"o''d\\d \"\"x\"', 42, false)");
    source.tick(&rig);
    let end = source.stream(&mut rig);
    rig.sql("SELECT setval('up', 3)");
    rig.apply(end).await;
    let values = ["up", "down", "\"o'd\\d \"\"x\""].map(|name| format!("SELECT last_value, is_called FROM {name}"));
    let values = values.each_ref().map(String::as_str);
    assert_equal(&rig, &source, &values);
    source.sql(&rig, "SELECT setval('up', 2); SELECT setval('down', -1, false)");
    source.tick(&rig);
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    assert_equal(&rig, &source, &values);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_after_ddl_are_written_under_the_settings_of_those_before_it() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    rig.sql(
        "CREATE TABLE settings (id int, name text, setting text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
             INSERT INTO public.settings SELECT NEW.id, s.name, s.setting FROM pg_settings s; RETURN NULL; END$$; \
         CREATE TRIGGER note AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note(); \
         ALTER TABLE items ENABLE ALWAYS TRIGGER note",
    );
    let both = "INSERT INTO items VALUES (1); ALTER TABLE items ADD w int; INSERT INTO items VALUES (2)";
    source.sql(&rig, &format!("BEGIN; {both}; COMMIT"));
    let end = source.stream(&mut rig);
    rig.apply(end).await;
    let differ = "SELECT b.name, b.setting, a.setting FROM settings b JOIN settings a USING (name) \
         WHERE b.id = 1 AND a.id = 2 AND b.setting <> a.setting";
    assert_eq!(rig.sql(differ), "");
    assert_eq!(rig.sql("SELECT count(DISTINCT id), count(*) > 200 FROM settings"), "2|t");
}

#[tokio::test(flavor = "multi_thread")]
async fn d22_a_table_that_no_message_makes_is_named() {
    let mut rig = Rig::new(SCHEMA).await;
    let unseen = Table::new(7, "unseen", &[(true, "id", INT4)]);
    let bad = rig.transaction(&[&unseen], &[unseen.insert(&[t("1")])]);
    let why = rig.stopped().await;
    assert_eq!((why.lsn, why.message.as_str()), (Some(bad), "table public.unseen does not exist on the target"));
    let hint = why.hint.expect("a hint");
    assert!(hint.contains("captured") && hint.contains("resync"), "{hint}");
}

/// Before messages were verified, the log took any that had walcast's prefix.
#[tokio::test(flavor = "multi_thread")]
async fn x05_a_message_in_an_older_log_is_not_obeyed() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    let items = Table::new(7, "items", &[(true, "id", INT4), (false, "v", TEXT)]);
    source.sql(&rig, "ALTER TABLE items ADD forged int");
    let message = source.last_message(&rig);
    let info = rig.begin();
    rig.push(&items.describe());
    rig.push_unverified(&message);
    rig.push(&items.insert(&[t("1"), t("a")]));
    rig.commit();
    rig.append();
    rig.apply(info.end_lsn).await;
    assert_eq!(rig.sql("SELECT * FROM items"), "1|a");
    assert_eq!(rig.sql(COLUMNS), "id integer, v text");
    let verified = source.stream(&mut rig);
    rig.apply(verified).await;
    assert_equal(&rig, &source, &[COLUMNS]);
}

#[tokio::test(flavor = "multi_thread")]
async fn x05_a_schema_of_somebody_elses_is_not_used() {
    let (mut rig, mut source) = pair(SCHEMA).await;
    source.sql(&rig, "ALTER TABLE items ADD w int");
    let end = source.stream(&mut rig);
    rig.sql("DROP ROLE IF EXISTS intruder; CREATE ROLE intruder; ALTER SCHEMA walcast OWNER TO intruder");
    let why = rig.stopped().await;
    assert_eq!(why.message, "schema walcast on the target belongs to another role");
    rig.sql("ALTER SCHEMA walcast OWNER TO postgres; DROP ROLE intruder");
    rig.apply(end).await;
    assert_equal(&rig, &source, &[COLUMNS]);
}

/// A table is caught up by itself after it was copied again: the target's own applier sees to DDL.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_leaves_ddl_alone_and_ends_where_its_table_has_other_columns() {
    const TWO: &str = "CREATE TABLE items (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)";
    let (mut rig, mut source) = pair(TWO).await;
    let lane = rig.options().identity.lane("public", "items");
    applier::declare(&rig.options().conninfo, &lane, crate::rig::START).await.expect("declared");
    source.sql(
        &rig,
        "INSERT INTO items VALUES (1, 'a'); ALTER TABLE other ADD v text; CREATE INDEX ON items (v); INSERT INTO items VALUES (2, 'b')",
    );
    let end = source.stream(&mut rig);
    let only = Some(("public".to_owned(), "items".to_owned()));
    let options = applier::TargetOptions { only, identity: lane, ..rig.options() };
    let mut running = rig.start_with(options);
    running.applied(end).await;
    assert_eq!(
        rig.sql("SELECT count(*), (SELECT count(*) FROM pg_indexes WHERE tablename = 'items') FROM items"),
        "2|1"
    );
    source.sql(&rig, "ALTER TABLE items ADD w int; INSERT INTO items VALUES (3, 'c', 3)");
    source.stream(&mut rig);
    let why = running.state(State::Stopped).await.last_error.expect("an error");
    assert_eq!(why.message, "table public.items was altered while it was copied again");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x07_a_login_that_is_no_superuser_needs_what_an_administrator_makes() {
    let mut rig = crate::checkpoint::plain_role(SCHEMA).await;
    let mut source = Source::new(&rig, SCHEMA);
    source.sql(&rig, "INSERT INTO items VALUES (1, 'a'); ALTER TABLE items ADD w int");
    source.stream(&mut rig);
    let why = rig.stopped().await;
    assert_eq!(why.message, "the target lacks functions that DDL needs");
    assert!(why.hint.is_some_and(|hint| hint.contains("setup --target NAME --print-sql")));
    assert_eq!(rig.sql("SELECT * FROM items"), "1|a", "what comes before is applied");
}

/// Also a superuser has the statements that run an owner's code run as the owner, from the first one on.
#[tokio::test(flavor = "multi_thread")]
async fn x05_code_in_ddl_runs_as_its_owner_though_the_login_is_a_superuser() {
    const OWNED: &str = "CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (1, 'a'); \
         CREATE FUNCTION who() RETURNS text LANGUAGE sql VOLATILE AS 'SELECT current_user::text'";
    let (mut rig, mut source) = pair(OWNED).await;
    let owner = format!("owner_of_{}", rig.database);
    for database in [&rig.database, source.database()] {
        let owned = format!("ALTER TABLE items OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}");
        let made =
            format!("DO $$ BEGIN CREATE ROLE {owner}; EXCEPTION WHEN duplicate_object THEN NULL; END $$; {owned}");
        rig.cluster.sql(database, &made).expect("SQL that works");
    }
    source.sql(&rig, "ALTER TABLE items ADD CONSTRAINT c CHECK (who() <> 'postgres') NOT VALID");
    source.sql(&rig, &format!("SET ROLE {owner}; ALTER TABLE items VALIDATE CONSTRAINT c"));
    let end = source.stream(&mut rig);
    let options = rig.options();
    let roles = ddl::RoleOptions { replicate: true, adopt: vec![owner], ..Default::default() };
    let ddl = applier::DdlOptions { token: rig::token("a token"), roles, ..options.ddl.clone() };
    let mut running = rig.start_with(applier::TargetOptions { ddl, ..options });
    running.applied(end).await;
    running.stop().await;
    assert_equal(&rig, &source, &["SELECT conname, convalidated FROM pg_constraint WHERE conname = 'c'"]);
}
