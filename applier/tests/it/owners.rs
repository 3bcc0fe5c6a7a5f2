//! X05, X07: a login that is no superuser, and tables whose rows cannot be written without running their owner's code.

use applier::{DdlOptions, TargetOptions};
use capture::target::Target as Setup;

use crate::messages::{INT4, Null, TEXT, Table, t, truncate};
use crate::rig::{self, Rig, START};

const TOKEN: &str = "a token that only the program knows";

/// `who` notes as whom it runs, and what it can reach. What it can, it tries: on the login's or a superuser's rights it
/// would leave traces.
const SCHEMA: &str = "CREATE SCHEMA walcast; CREATE TABLE victim (id int PRIMARY KEY, v text); \
     CREATE TABLE log (who text, at text); GRANT INSERT ON log TO PUBLIC; \
     DO $$ BEGIN CREATE ROLE owner_of_code; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
     DO $$ BEGIN CREATE ROLE least LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
     CREATE FUNCTION who(at text) RETURNS boolean LANGUAGE plpgsql AS $body$ DECLARE s text; BEGIN \
         INSERT INTO public.log VALUES (current_user, at); \
         FOREACH s IN ARRAY ARRAY['RESET ROLE', 'DELETE FROM public.victim', 'UPDATE walcast.checkpoint SET lsn = \
         ''0/0''', 'DEALLOCATE ALL', \
             'CREATE TEMP TABLE victim (a int)'] LOOP \
             BEGIN EXECUTE s; INSERT INTO public.log VALUES ('worked', s); EXCEPTION WHEN OTHERS THEN NULL; END; \
         END LOOP; PERFORM set_config('datestyle', 'SQL, DMY', false); RETURN true; END $body$; \
     ALTER FUNCTION who(text) OWNER TO owner_of_code; \
     CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN PERFORM public.who(TG_NAME); RETURN \
     NULL; END $body$; \
     ALTER FUNCTION fired() OWNER TO owner_of_code; \
     CREATE TABLE code (id int PRIMARY KEY, v text CHECK (public.who('check')), extra int DEFAULT 7); \
     CREATE CONSTRAINT TRIGGER late AFTER INSERT ON code DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION \
     fired(); \
     CREATE TRIGGER emptied BEFORE TRUNCATE ON code EXECUTE FUNCTION fired(); \
     ALTER TABLE code ENABLE ALWAYS TRIGGER late; ALTER TABLE code ENABLE ALWAYS TRIGGER emptied; ALTER TABLE code \
     OWNER TO owner_of_code; \
     GRANT INSERT, SELECT, UPDATE, DELETE ON code TO PUBLIC";

async fn prepared() -> (Rig, TargetOptions) {
    let mut rig = Rig::undeclared(rig::shared_cluster(), SCHEMA);
    let digest = rig.sql(&format!("SELECT encode(sha256('{TOKEN}'), 'hex')"));
    let setup = Setup {
        login: "least".into(),
        digest: Some(digest),
        adopt: vec!["owner_of_code".into()],
        tables: applier::tables_sql().into(),
        replicated: vec![("public".into(), "code".into()), ("public".into(), "victim".into())],
        ..Setup::default()
    };
    rig.sql(&format!("BEGIN; {} COMMIT", capture::target::setup_sql(&setup)));
    rig.user = "least".into();
    rig.declare(START).await.expect("declared");
    let options = rig.options();
    let ddl = DdlOptions { token: rig::token(TOKEN), ..options.ddl.clone() };
    (rig, TargetOptions { ddl, ..options })
}

fn table(name: &'static str, id: u32) -> Table {
    Table::new(id, name, &[(true, "id", INT4), (false, "v", TEXT)])
}

#[tokio::test(flavor = "multi_thread")]
async fn x05_rows_of_a_table_with_code_in_its_way_are_written_as_its_owner() {
    let (mut rig, options) = prepared().await;
    let (code, victim) = (table("code", 1), table("victim", 2));
    let end = rig.transaction(
        &[&code, &victim],
        &[
            victim.insert(&[t("1"), t("kept")]),
            code.insert(&[t("1"), t("a'\\\"{},")]),
            code.insert(&[t("2"), Null]),
            code.insert(&[t("3"), t("")]),
            code.update(&[t("2"), t("two")]),
            code.update_key(&[t("3"), Null], &[t("4"), t("four")]),
            code.delete(&[t("1"), Null]),
            victim.insert(&[t("2"), t("2026-11-21")]),
        ],
    );
    let mut running = rig.start_with(options.clone());
    running.applied(end).await;
    rig.user = "postgres".into();
    let rows = "SELECT string_agg(id || coalesce(v, '-') || extra, ' ' ORDER BY id) FROM code";
    assert_eq!(rig.sql(rows), "2two7 4four7");
    assert_eq!(rig.sql("SELECT count(*) FROM victim"), "2");
    assert_eq!(rig.sql("SELECT DISTINCT who FROM log"), "owner_of_code");
    assert_eq!(rig.sql("SELECT string_agg(DISTINCT at, ' ' ORDER BY at) FROM log"), "check late");
    let end = rig.transaction(&[], &[truncate(&[&code], 0), code.insert(&[t("9"), t("after")])]);
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql(rows), "9after7");
    assert_eq!(rig.sql("SELECT DISTINCT who FROM log WHERE at = 'emptied'"), "owner_of_code");
}

/// Before 15 a partition's clones of its parent's triggers count as internal.
#[tokio::test(flavor = "multi_thread")]
async fn x05_a_trigger_that_fires_only_for_a_partition_runs_as_its_owner() {
    let (mut rig, options) = prepared().await;
    rig.user = "postgres".into();
    rig.sql(
        "DROP TABLE code; CREATE TABLE code (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF code DEFAULT; \
         CREATE TRIGGER late AFTER INSERT ON code FOR EACH ROW EXECUTE FUNCTION fired(); \
         ALTER TABLE part ENABLE ALWAYS TRIGGER late; \
         ALTER TABLE code OWNER TO owner_of_code; ALTER TABLE part OWNER TO owner_of_code",
    );
    rig.user = "least".into();
    let part = table("part", 1);
    let end = rig.transaction(&[&part], &[part.insert(&[t("1"), t("a")])]);
    let mut running = rig.start_with(options);
    running.applied(end).await;
    running.stop().await;
    rig.user = "postgres".into();
    assert_eq!(rig.sql("SELECT DISTINCT at, who FROM log"), "late|owner_of_code");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_its_owner_would_make_of_no_row_stops_the_target() {
    let (mut rig, options) = prepared().await;
    let code = table("code", 1);
    rig.transaction(&[&code], &[code.update(&[t("1"), t("not there")])]);
    let mut running = rig.start_with(options);
    let why = running.state(applier::State::Stopped).await.last_error.expect("an error");
    running.stop().await;
    assert!(why.message.contains("public.code"), "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn x07_an_owner_who_is_not_walcasts_stops_the_target() {
    let (mut rig, options) = prepared().await;
    rig.user = "postgres".into();
    rig.sql("DELETE FROM walcast.role");
    let code = table("code", 1);
    rig.transaction(&[&code], &[code.insert(&[t("1"), t("a")])]);
    let mut running = rig.start_with(options);
    let why = running.state(applier::State::Stopped).await.last_error.expect("an error");
    running.stop().await;
    assert!(why.message.contains("not walcast's"), "{why:?}");
}
