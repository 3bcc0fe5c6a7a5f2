//! X07: what a superuser sets up on a target, what the login can do then, and what `check` says of it.

use capture::Outcome;
use capture::preflight::{Finding, Level};
use capture::target::{self, Target};
use cluster::{Cluster, Installation, installations};
use tokio_postgres::{Client, NoTls};

async fn connect(server: &Cluster, user: Option<&str>) -> Client {
    let conninfo = server.conninfo("postgres");
    let conninfo = user.map_or(conninfo.to_string(), |user| server.conninfo("postgres").with("user", user).to_string());
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const TABLES: &str = "create table if not exists walcast.checkpoint (lsn pg_lsn)";

/// A target with a login that has nothing, and tables of three owners.
async fn prepared(installation: &Installation) -> (Cluster, Client, Target) {
    let server = Cluster::builder().installation(installation.clone()).start().unwrap();
    let admin = connect(&server, None).await;
    let schema = "create role \"Log in\" login; create role app; create role other; create schema \"S 1\"; \
         create table \"S 1\".\"T\" (id serial primary key); create table t (id int primary key); create table o (id \
         int primary key); \
         alter table \"S 1\".\"T\" owner to app; alter table t owner to app; alter table o owner to other";
    admin.batch_execute(schema).await.unwrap();
    let replicated = [("S 1", "T"), ("public", "t"), ("public", "o"), ("public", "not there")];
    let wanted = Target {
        login: "Log in".into(),
        digest: Some(target::digest(&admin, "token").await.unwrap()),
        adopt: vec!["app".into(), "postgres".into(), "nobody here".into()],
        tables: TABLES.into(),
        replicated: replicated.iter().map(|(schema, table)| ((*schema).into(), (*table).into())).collect(),
        ..Target::default()
    };
    (server, admin, wanted)
}

async fn set_up(admin: &Client, wanted: &Target) {
    admin.batch_execute(&format!("begin; {} commit", target::setup_sql(wanted))).await.unwrap();
}

fn level_of(findings: &[Finding], text: &str) -> Level {
    let found = findings.iter().find(|finding| finding.text.contains(text));
    found.unwrap_or_else(|| panic!("no \"{text}\" in {findings:#?}")).level
}

#[tokio::test]
async fn x07_the_login_can_write_rows_and_nothing_else() {
    for installation in installations().unwrap() {
        let (server, admin, wanted) = prepared(&installation).await;
        set_up(&admin, &wanted).await;
        set_up(&admin, &wanted).await;
        let login = connect(&server, Some("Log in")).await;
        for allowed in [
            "insert into \"S 1\".\"T\" default values",
            "update t set id = id where id = 1",
            "delete from t where id = 1",
            "truncate t, o",
            "select setval('\"S 1\".\"T_id_seq\"', 7)",
            "insert into walcast.checkpoint values ('0/0')",
            "select walcast.run('token', 'app', 'create index on public.t (id)', 'public')",
            "do $$ begin if current_setting('session_replication_role') <> 'replica' then raise 'not a replica'; end \
                 if; end $$",
        ] {
            login.batch_execute(allowed).await.unwrap_or_else(|e| panic!("{allowed}: {e:?}"));
        }
        for refused in [
            "set session_replication_role = origin",
            "set role app",
            "create table \"S 1\".x (a int)",
            "create table walcast.x (a int)",
            "create index on t (id)",
            "insert into walcast.role values ('other', 'adopted')",
            "delete from walcast.caller",
            "create role x",
            "select walcast.run('token', 'other', 'select 1')",
            "select walcast.run('token', 'postgres', 'select rolpassword from pg_authid')",
            "select walcast.run('wrong', 'app', 'select 1')",
        ] {
            let error = login.batch_execute(refused).await.expect_err(refused);
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{refused}: {error:?}");
        }
        let adopted = "select name from walcast.role";
        let rows = admin.query(adopted, &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["app"]);
    }
}

/// The login owned the schema before the administrator came.
#[tokio::test]
async fn x05_what_the_login_left_in_the_schema_is_not_called_with_a_superusers_rights() {
    let (server, admin, wanted) = prepared(&Installation::newest().unwrap()).await;
    admin.batch_execute("create schema walcast authorization \"Log in\"").await.unwrap();
    let login = connect(&server, Some("Log in")).await;
    let planted = "create function walcast.is_superuser(name) returns boolean language sql as 'select true'; \
         create function walcast.authorize(text) returns boolean language sql as 'select true'; \
         create table walcast.role (name text primary key, how text, since timestamptz); \
         create table walcast.checkpoint (lsn pg_lsn); insert into walcast.checkpoint values ('0/1')";
    login.batch_execute(planted).await.unwrap();
    set_up(&admin, &wanted).await;
    for refused in [
        "select walcast.run(null, 'app', 'select 1')",
        "create function walcast.is_superuser(name) returns boolean language sql as 'select true'",
        "insert into walcast.role values ('other', 'adopted')",
        "drop function walcast.authorize(text)",
    ] {
        let error = login.batch_execute(refused).await.expect_err(refused);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{refused}: {error:?}");
    }
    let foreign = "select count(*) from pg_proc where pronamespace = 'walcast'::regnamespace and proowner = '\"Log \
         in\"'::regrole";
    assert_eq!(admin.query_one(foreign, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(admin.query("select lsn::text from walcast.checkpoint", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_function_of_an_older_version_that_nothing_calls_is_gone_after_an_update() {
    let (_server, admin, wanted) = prepared(&Installation::newest().unwrap()).await;
    set_up(&admin, &wanted).await;
    let older = "create function walcast.claim_role(old text, name text, adopt text[]) returns table (verb text, what \
         text) language plpgsql as 'begin end'";
    admin.batch_execute(older).await.unwrap();
    set_up(&admin, &wanted).await;
    let twice = "select count(*) from (select from pg_proc where pronamespace = 'walcast'::regnamespace group by \
         proname having count(*) > 1) f";
    assert_eq!(admin.query_one(twice, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn check_says_what_is_missing_and_what_is_too_much() {
    let installation = Installation::newest().unwrap();
    let (server, mut admin, wanted) = prepared(&installation).await;
    let login = connect(&server, Some("Log in")).await;
    let findings = target::check(&login, &wanted).await;
    assert_eq!(level_of(&findings, "are not on the target"), Level::Fail);
    set_up(&admin, &wanted).await;
    let findings = target::check(&login, &wanted).await;
    assert_eq!(level_of(&findings, "are of this version"), Level::Pass);
    assert_eq!(level_of(&findings, "know the login"), Level::Pass);
    assert_eq!(level_of(&findings, "no rights that it does not need"), Level::Pass);
    assert_eq!(level_of(&findings, "roles' tables cannot be applied: other"), Level::Warn);
    assert_eq!(level_of(&findings, "nobody's code but a superuser's"), Level::Pass);
    let code = "create function f(int) returns int language sql immutable as 'select 1'; alter function f(int) owner \
         to app; \
         create index on t (f(id)); grant app to \"Log in\"; alter role \"Log in\" createrole; grant create on \
         schema walcast to \"Log in\"";
    admin.batch_execute(code).await.unwrap();
    let findings = target::check(&login, &wanted).await;
    assert_eq!(level_of(&findings, "public.t"), Level::Pass);
    assert_eq!(level_of(&findings, "CREATEROLE, CREATE on schema walcast, membership in app"), Level::Warn);
    let other = Target { digest: Some("another".into()), passwords: true, ..wanted.clone() };
    let findings = target::check(&login, &other).await;
    assert_eq!(level_of(&findings, "of another version or configuration"), Level::Fail);
    assert_eq!(level_of(&findings, "do not know the login"), Level::Fail);
    let superuser = Target { login: "postgres".into(), ..wanted };
    assert_eq!(target::setup(&mut admin, &superuser).await.unwrap(), Outcome::Done);
    assert_eq!(target::setup(&mut admin, &superuser).await.unwrap(), Outcome::Unchanged);
    assert_eq!(level_of(&target::check(&admin, &superuser).await, "the login is a superuser"), Level::Warn);
}

#[tokio::test]
async fn the_token_comes_from_the_sources_key() {
    let source = Cluster::builder().set("wal_level", "logical").start().unwrap();
    let mut client = connect(&source, None).await;
    assert_eq!(target::token(&client, "a").await.unwrap(), None);
    client.batch_execute("create schema walcast; create publication p").await.unwrap();
    capture::ddl::install(&mut client, &capture::ddl::Capture::default()).await.unwrap();
    let [a, again, b] = [
        target::token(&client, "a").await.unwrap().unwrap(),
        target::token(&client, "a").await.unwrap().unwrap(),
        target::token(&client, "b").await.unwrap().unwrap(),
    ];
    assert!(a == again && a != b && a.len() == 64);
}

/// Tables `t…` run somebody's code when rows are written, tables `n…` do not.
#[tokio::test]
async fn x05_what_runs_when_rows_are_written_is_found() {
    const SCHEMA: &str = "create schema b authorization app; set role app; \
         create function b.f(int) returns int language sql immutable as 'select 1'; \
         create function b.key(int) returns int language sql immutable as 'select $1'; \
         create function b.diff(float8, float8) returns float8 language sql immutable as 'select 1.0::float8'; \
         create operator b.### (function = b.f, rightarg = int); \
         create function b.tr() returns trigger language plpgsql as 'begin return null; end'; \
         create domain b.d as int check (b.f(value) = 1); create domain b.of as text check ((length(value)::b.d) = 1); \
         create type b.comp as (x b.d[]); create type b.r as range (subtype = float8, subtype_diff = b.diff); create \
         type b.e as enum ('a'); \
         create table b.t_check (a int check (b.f(a) = 1)); create table b.t_generated (a int, g int generated \
         always as (b.f(a)) stored); \
         create table b.t_index (a int); create index on b.t_index (b.f(a)); create table b.t_predicate (a int); \
         create index on b.t_predicate (a) where b.f(a) > 0; \
         create table b.t_domain (a b.d); create table b.t_composite (a b.comp[]); create table b.t_range (a b.r); \
         create table b.t_nested (a b.of); \
         create table b.t_operator (a int check ((operator(b.###) a) = 1)); create table b.t_cast (a int check \
         ((a::b.d) is not null)); \
         create table b.t_partitioned (a int) partition by range ((b.key(a))); \
         create table b.t_root (a int) partition by list (a); create table b.t_leaf partition of b.t_root for values \
         in (1); alter table b.t_leaf add check (b.f(a) = 1); \
         create table b.t_trigger (a int); create trigger t after insert on b.t_trigger execute function b.tr(); \
         alter table b.t_trigger enable replica trigger t; \
         create table b.t_rule (a int); create rule r as on insert to b.t_rule do also nothing; alter table b.t_rule \
         enable always rule r; \
         create table b.t_setting (a int check (set_config('datestyle', 'SQL', false) <> '')); \
         create table b.t_query (a int check (query_to_xml('select b.f(1)', true, true, '') is not null)); \
         create table b.n_default (a int default b.f(1), b timestamptz default clock_timestamp(), c b.e); \
         create table b.n_system (a int check (a > 0 and lower('x') = 'x' and now() > '2000-01-01'), b text unique, \
         g int generated always as (a + 1) stored); \
         create table b.n_trigger (a int); create trigger t after insert on b.n_trigger execute function b.tr(); \
         create table b.n_rule (a int); create rule r as on insert to b.n_rule do also nothing; reset role; \
         create function superusers(int) returns boolean language plpgsql as 'begin return true; end'; create table \
         b.n_superusers (a int check (superusers(a)))";
    for installation in installations().unwrap() {
        let (_server, admin, wanted) = prepared(&installation).await;
        set_up(&admin, &wanted).await;
        admin.batch_execute(SCHEMA).await.unwrap();
        admin.batch_execute("alter function superusers(int) stable").await.unwrap();
        let wrong = "select c.relname::text, walcast.writer(c.oid) from pg_class c \
             where c.relnamespace = 'b'::regnamespace and c.relkind in ('r', 'p') and (c.relname like 't%') <> \
             (walcast.writer(c.oid) <> '')";
        let wrong = admin.query(wrong, &[]).await.unwrap();
        let names: Vec<(String, String)> = wrong.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert!(names.is_empty(), "{names:?}");
        let listed = "select count(*) = 0 from pg_class c where c.relnamespace = 'b'::regnamespace and c.relname \
             like 't%' and c.relkind in ('r', 'p') \
             and not exists (select from walcast.code_in_the_way w where w.relation = 'b.' || c.relname)";
        assert!(admin.query_one(listed, &[]).await.unwrap().get::<_, bool>(0));
    }
}

/// What is known of other tables has to stay true while a table with code is written.
#[tokio::test]
async fn x05_code_that_runs_when_rows_are_written_cannot_alter_other_tables() {
    const SCHEMA: &str = "create schema b authorization app; set role app; create table b.other (a int); create \
         table b.parent (a int); \
         create domain b.d as int; create type b.c as (a int); create function b.tr() returns trigger language \
         plpgsql as 'begin return null; end'; \
         create trigger t after insert on b.other execute function b.tr(); \
         create function b.does(s text) returns boolean language plpgsql as $$ begin if s <> '' then execute s; end \
         if; return true; end $$; \
         create table b.t (s text check (b.does(s))); reset role";
    for installation in installations().unwrap() {
        let (server, admin, wanted) = prepared(&installation).await;
        set_up(&admin, &wanted).await;
        admin.batch_execute(SCHEMA).await.unwrap();
        let login = connect(&server, Some("Log in")).await;
        let write =
            "select walcast.write($1, 'app', 'b', 'insert into b.t (s) values (($1[1])::text)', array[$2::text])";
        for harmless in ["", "insert into b.other values (1)", "update b.other set a = 2; select * from b.parent"] {
            login.query(write, &[&"token", &harmless]).await.unwrap_or_else(|e| panic!("{harmless}: {e:?}"));
        }
        for evil in [
            "alter table b.other add check (b.does(''))",
            "alter table b.other enable always trigger t",
            "alter table b.other add g boolean generated always as (true) stored",
            "create index on b.other (a)",
            "create rule r as on insert to b.other do also nothing",
            "create trigger u after insert on b.other execute function b.tr()",
            "alter table b.other inherit b.parent",
            "alter domain b.d add check (b.does('')) not valid",
            "alter type b.c add attribute d b.d",
            "do $x$ begin begin alter domain b.d add check (b.does('')) not valid; exception when division_by_zero \
                 then null; end; end $x$",
        ] {
            let error = login.query(write, &[&"token", &evil]).await.expect_err(evil);
            assert!(
                error.as_db_error().is_some_and(|e| e.message().contains("alters or locks tables")),
                "{evil}: {error:?}"
            );
        }
        // what was locked before is the transaction's own affair
        login.batch_execute("begin; truncate t").await.unwrap();
        login.query(write, &[&"token", &""]).await.unwrap();
        login.batch_execute("commit").await.unwrap();
    }
}
