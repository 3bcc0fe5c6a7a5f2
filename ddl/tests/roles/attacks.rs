//! X05: what an ordinary role of the source can do gives nobody anything on a target whose login is no superuser.

use crate::servers::{LOGIN, Servers, with_least_privilege};
use crate::session::{shown, text};

/// Tries everything that would help, and says what worked. The target's own people would have noticed nothing.
const EVIL: &str = "create role attacker login; create role victim; grant create on schema public to attacker; \
     create schema theirs authorization victim; set role victim; create table theirs.secret (a text); reset role; \
     create schema evil authorization attacker; set role attacker; \
     create function evil.evil(int) returns int language plpgsql immutable as $body$ declare s text; begin \
         foreach s in array array['reset role', 'set role walcast', 'set role victim', 'reset session \
         authorization', 'set session authorization victim', \
             'alter role attacker superuser', 'alter role attacker createrole', 'create role planted superuser', \
             'grant victim to attacker', 'grant pg_write_all_data to attacker', \
             'insert into theirs.secret values (''stolen'')', 'update walcast.caller set digest = null', 'insert \
             into walcast.role (name, how) values (''postgres'', ''adopted'')', \
             'select walcast.run(null, ''victim'', ''insert into theirs.secret values (1)'')', 'select \
             walcast.adopt(''victim'')', \
             'create function theirs.planted() returns int language sql as ''select 1''', 'alter function \
             walcast.go() security definer', \
             'create temp table pg_class (a int)', 'deallocate all', 'prepare x as select 1', 'declare c cursor with \
             hold for select 1', 'listen x', 'discard all', \
             'alter schema theirs owner to attacker', 'alter table theirs.secret disable trigger all', 'copy \
             theirs.secret to program ''true'''] loop \
             begin execute s; raise exception 'worked: %', s using errcode = 'WC001'; \
             exception when sqlstate 'WC001' then raise; when others then null; end; \
         end loop; \
         perform set_config('search_path', 'evil', false), set_config('datestyle', 'SQL, DMY', false), \
         set_config('standard_conforming_strings', 'off', false), \
                 set_config('session_replication_role', 'origin', false); \
         return 1; exception when insufficient_privilege or cant_change_runtime_param then return 1; end $body$; \
     create function evil.deferred() returns trigger language plpgsql as 'begin perform evil.evil(1); insert into \
     evil.log values (current_user); return null; end'; \
     create table evil.log (who text); grant insert on evil.log to public; grant usage on schema evil to public; \
     reset role";

/// DDL whose evaluation runs the attacker's function.
const WAYS: &[(&str, &str)] = &[
    ("a default", "create table evil.t1 as select 1 as a; alter table evil.t1 add b int default evil.evil(1)"),
    (
        "a generated column",
        "create table evil.t2 as select 1 as a; alter table evil.t2 add b int generated always as (evil.evil(a)) \
             stored",
    ),
    ("an index expression", "create table evil.t3 as select 1 as a; create index on evil.t3 (evil.evil(a))"),
    ("an index predicate", "create table evil.t4 as select 1 as a; create index on evil.t4 (a) where evil.evil(a) = 1"),
    ("a check", "create table evil.t5 as select 1 as a; alter table evil.t5 add check (evil.evil(a) = 1)"),
    (
        "a domain's check",
        "create domain evil.d as int; create table evil.t6 as select 1::evil.d as a; alter domain evil.d add check \
             (evil.evil(value) = 1)",
    ),
    (
        "a column's new type",
        "create table evil.t7 as select 1 as a; alter table evil.t7 alter a type text using evil.evil(a)::text",
    ),
    ("a view", "create view evil.v as select evil.evil(1) as a"),
    (
        "a materialized view",
        "create materialized view evil.m as select evil.evil(1) as a; refresh materialized view evil.m",
    ),
    (
        "a partition key",
        "create table evil.p (a int) partition by range ((evil.evil(a))); create table evil.p1 partition of evil.p \
             for values from (1) to (2)",
    ),
    (
        "a policy",
        "create table evil.t8 (a int); alter table evil.t8 enable row level security, force row level security; \
             create policy po on evil.t8 using (evil.evil(a) = 1)",
    ),
    (
        "a statistics object",
        "create table evil.t9 as select 1 as a; create statistics evil.st on (evil.evil(a)), a from evil.t9; analyze \
             evil.t9",
    ),
    (
        "a name in somebody's schema",
        "create table public.t10 as select 1 as a; alter table public.t10 add b int default evil.evil(1)",
    ),
];

async fn prepared(servers: &mut Servers) {
    servers.replicate(&[EVIL]).await;
    // the source's function is harmless from here on, the target's is not
    let harmless =
        "create or replace function evil.evil(int) returns int language plpgsql immutable as 'begin return 1; end'";
    servers.source.batch_execute("alter event trigger walcast_ddl_end disable").await.unwrap();
    servers.source.batch_execute(&format!("set role attacker; {harmless}; reset role")).await.unwrap();
    servers.source.batch_execute("alter event trigger walcast_ddl_end enable always").await.unwrap();
}

/// Nothing that the attacker wanted is there.
async fn assert_safe(servers: &Servers, name: &str) {
    let gained = "select (select count(*) from theirs.secret), \
         (select count(*) from pg_roles where rolname = 'planted' or rolname = 'attacker' and (rolsuper or \
         rolcreaterole)), \
         (select count(*) from pg_auth_members where member = 'attacker'::regrole), \
         (select count(*) from pg_proc where pronamespace = 'theirs'::regnamespace), (select count(*) from \
         walcast.role where name = 'postgres'), \
         (select prosecdef from pg_proc where oid = 'walcast.go()'::regprocedure)";
    assert_eq!(text(&servers.admin, gained).await, "0|0|0|0|0|f", "{name}");
    let session = "select current_setting('search_path') !~ 'evil', current_setting('datestyle') !~ 'DMY', \
         current_user, \
         current_setting('session_replication_role'), (select count(*) from pg_listening_channels()), (select \
         count(*) from pg_cursors where is_holdable)";
    assert_eq!(text(&servers.target, session).await, format!("t|t|{LOGIN}|replica|0|0"), "{name}");
}

#[test]
fn x05_code_in_definitions_runs_with_its_owners_rights_and_leaves_nothing_behind() {
    with_least_privilege(async |servers: &mut Servers| {
        prepared(servers).await;
        for (name, way) in WAYS {
            servers.replicate(&[&format!("set role attacker; {way}; reset role")]).await;
            assert_safe(servers, name).await;
        }
    });
}

/// A trigger that would run at COMMIT, when the login is who it is again.
#[test]
fn x05_deferred_triggers_do_not_outlive_their_owners_statement() {
    with_least_privilege(async |servers: &mut Servers| {
        prepared(servers).await;
        servers
            .replicate(&["set role attacker; create table evil.t (a int); create constraint trigger tr after \
             insert or update on evil.t \
             deferrable initially deferred for each row execute function evil.deferred(); alter table evil.t enable \
             always trigger tr; reset role"])
            .await;
        // code of the attacker that queues it, from inside a statement of his
        let queue = "create function evil.queue(int) returns int language plpgsql immutable as $body$ begin perform \
             evil.later(); return 1; end $body$; \
             create function evil.later() returns void language plpgsql as $body$ begin set constraints all \
             deferred; insert into evil.t values (1); end $body$";
        servers
            .admin
            .batch_execute(&format!("set role attacker; {queue}; create table evil.u as select 1 as a; reset role"))
            .await
            .unwrap();
        let run = "select walcast.run($1, 'attacker', 'create index on evil.u (evil.queue(a))')";
        let token = capture::target::token(&servers.source, "dst").await.unwrap().unwrap();
        let refused = servers.target.query(run, &[&token]).await.unwrap_err();
        assert!(shown(&refused).contains("security-restricted operation"), "{}", shown(&refused));
        assert_eq!(text(&servers.admin, "select count(*) from evil.log").await, "0");
        assert_safe(servers, "a deferred trigger").await;
    });
}

/// What the login itself may do: code that runs in its session, such as a trigger that the target's administrator allowed
/// for replicated rows, has its rights, and the functions that act as others want more than these.
#[test]
fn x05_the_logins_rights_are_not_enough_to_act_as_others() {
    with_least_privilege(async |servers: &mut Servers| {
        prepared(servers).await;
        for sql in [
            "select walcast.run(null, 'victim', 'select 1')",
            "select walcast.run('guessed', 'victim', 'select 1')",
            "select walcast.own(null, 'pg_class'::regclass, 'theirs.secret'::regclass, 'attacker')",
            "select * from walcast.apply_role(null, null, '{\"name\": \"planted\"}', '{}', '{}')",
            "select walcast.rename_role(null, 'victim', 'attacker2')",
            "select * from walcast.apply_database(null, null, '{}', '{}')",
            "select walcast.keep_pending(null, 0, 0, '', '[]', 'null')",
            "update walcast.caller set digest = ''",
            "insert into walcast.role values ('postgres', 'adopted')",
            "update walcast.pending_grant set missing = '{}'",
            "select walcast.adopt('victim')",
            "create function walcast.authorize(text, int) returns boolean language sql as 'select true'",
            "drop function walcast.authorize(text)",
            "set role victim",
            "set role attacker",
            "alter role attacker superuser",
            "set session_replication_role = origin",
            "select rolpassword from pg_authid",
            "refresh materialized view walcast.as_1",
        ] {
            let refused = servers.target.batch_execute(sql).await.expect_err(sql);
            let code = refused.code().map(|code| code.code().to_owned()).unwrap_or_default();
            assert!(["42501", "42P01"].contains(&code.as_str()), "{sql}: {}", shown(&refused));
        }
    });
}

/// Even with the token it is only walcast's roles that anybody can be, and a role never gets what only a superuser has.
#[test]
fn x05_nobody_becomes_somebody_who_is_not_walcasts() {
    with_least_privilege(async |servers: &mut Servers| {
        prepared(servers).await;
        servers
            .admin
            .batch_execute("create role dba; create table own (a int); alter table own owner to dba")
            .await
            .unwrap();
        let token = capture::target::token(&servers.source, "dst").await.unwrap().unwrap();
        for sql in [
            "select walcast.run($1, 'dba', 'select 1')",
            "select walcast.own($1, 'pg_class'::regclass, 'public.own'::regclass, 'attacker')",
        ] {
            let refused = servers.target.query(sql, &[&token]).await.expect_err(sql);
            assert!(shown(&refused).contains("not walcast's"), "{sql}: {}", shown(&refused));
        }
        let more = "select walcast.run($1, 'attacker', 'create function theirs.a() returns int language sql as \
             ''select 1''; \
             create function theirs.b() returns int language sql as ''select 1''', 'theirs')";
        let refused = servers.target.query(more, &[&token]).await.unwrap_err();
        assert!(shown(&refused).contains("something else"), "{}", shown(&refused));
        assert_eq!(text(&servers.admin, "select has_schema_privilege('attacker', 'theirs', 'create')").await, "f");
    });
}

/// Views of their own that roles could misuse, if they could name them.
#[test]
fn x05_a_role_that_logs_in_cannot_touch_what_runs_its_statements() {
    with_least_privilege(async |servers: &mut Servers| {
        prepared(servers).await;
        let attacker = servers.connect("attacker").await;
        let view = text(
            &servers.admin,
            "select relname from pg_class where relowner = 'attacker'::regrole and relname ~ '^as_'",
        )
        .await;
        assert!(!view.is_empty());
        for sql in [
            format!("drop materialized view walcast.{view}"),
            format!("alter materialized view walcast.{view} rename to x"),
            format!("refresh materialized view walcast.{view}"),
            "select walcast.go()".to_owned(),
            "select walcast.run('', 'attacker', 'select 1')".to_owned(),
            "select * from walcast.caller".to_owned(),
        ] {
            let refused = attacker.batch_execute(&sql).await.expect_err(&sql);
            assert!(shown(&refused).contains("permission denied for schema walcast"), "{sql}: {}", shown(&refused));
        }
    });
}
