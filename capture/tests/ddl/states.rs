//! States, ticks, signatures, and who may do what.

use capture::Outcome;
use capture::ddl::{self, Capture};
use capture::preflight::Level;

use crate::source::{MESSAGES, captured, connect, of_messages, source, tick};

#[tokio::test]
async fn states_are_said_in_full() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute("create table t (id int primary key, b text default 'x' not null, \"C\" int check (\"C\" > 0))")
        .await
        .unwrap();
    let state = "select (message #>> '{changes,0,after}')::jsonb #>> ";
    let first = "select jsonb_pretty((message #> '{changes,0,after}') - 'constraints' - 'indexes' - 'columns') from m";
    let shown = of_messages(&client, first).await;
    for part in ["\"identity\": \"public.t\"", "\"type\": \"table\"", "\"schema\": \"public\"", "\"owner\": \""] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    client
        .batch_execute("insert into t values (1, 'a', 1); alter table t add d timestamptz default now()")
        .await
        .unwrap();
    let column = of_messages(&client, &format!("{state} '{{columns,3}}' from m")).await;
    let same = "select ($1::jsonb ->> 'missing')::timestamptz = d and $1::jsonb ->> 'default' = 'now()' from t";
    let same: bool = client.query_one(&same.replace("$1::jsonb", "$1::text::jsonb"), &[&column]).await.unwrap().get(0);
    assert!(same, "{column}");
    client.batch_execute("create function f(a int default 3) returns int language sql as 'select 1'").await.unwrap();
    let create = of_messages(&client, &format!("{state} '{{create,0}}' from m")).await;
    assert!(create.starts_with("CREATE OR REPLACE FUNCTION public.f(a integer DEFAULT 3)"), "{create}");
    let found: bool = client
        .query_one(
            "select walcast.locate(s.class, s.state) = s.oid and walcast.describe(s.class, s.oid) = s.state \
             from walcast.shadow s where s.state ->> 'name' = 'f'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(found);
}

#[tokio::test]
async fn d10_extensions_are_one_object() {
    let (_server, client) = source(&Capture::default()).await;
    client.batch_execute("create extension hstore").await.unwrap();
    client
        .batch_execute("create table t (a hstore); alter extension hstore update; drop extension hstore cascade")
        .await
        .unwrap();
    assert_eq!(
        captured(&client).await,
        ["create EXTENSION hstore", "create TABLE public.t", "alter TABLE public.t, drop EXTENSION hstore"]
    );
}

#[tokio::test]
async fn a_tick_finds_what_no_event_tells() {
    let (_server, mut client) = source(&Capture::default()).await;
    tick(&mut client, true).await;
    captured(&client).await;
    client
        .batch_execute("create role a; create role b; create table t (x int); alter table t owner to a")
        .await
        .unwrap();
    captured(&client).await;
    client
        .batch_execute(
            "reassign owned by a to b; drop role a; \
            create sequence s; select nextval('s'), nextval('s'); alter role b set work_mem = '1MB'",
        )
        .await
        .unwrap();
    captured(&client).await;
    tick(&mut client, true).await;
    let found = captured(&client).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("alter ROLE b, alter TABLE public.t, drop ROLE a sequences"), "{found:#?}");
    assert!(found[0].contains("\"public.s\", \"is_called\": true, \"last_value\": \"2\""), "{found:#?}");
    let again = tick(&mut client, true).await;
    assert_eq!(captured(&client).await, Vec::<String>::new(), "{again}");

    // D22: without event triggers the catalogs tell.
    client
        .batch_execute(
            "alter event trigger walcast_ddl_end disable; create table blind (x int); alter table t add y int",
        )
        .await
        .unwrap();
    let said = tick(&mut client, false).await;
    assert!(said.contains("walcast_ddl_end is not enabled always"), "{said}");
    tick(&mut client, true).await;
    assert_eq!(captured(&client).await.len(), 1);
    let findings = ddl::check(&client, &Capture::default()).await;
    assert!(findings[0].level == Level::Fail && findings[0].text.contains("walcast_ddl_end"), "{findings:#?}");
    assert_eq!(ddl::install(&mut client, &Capture::default()).await.unwrap(), Outcome::Done);
    let findings = ddl::check(&client, &Capture::default()).await;
    assert!(findings.iter().all(|f| f.level == Level::Pass), "{findings:#?}");
}

#[tokio::test]
async fn messages_are_signed_and_nobody_else_can_sign() {
    let (server, client) = source(&Capture { service_role: Some("service".into()), ..Capture::default() }).await;
    client.batch_execute("create role mallory login; create table t (a int)").await.unwrap();
    let mallory = connect(&server, Some("mallory")).await;
    let forged = "select pg_logical_emit_message(true, 'walcast', repeat('0', 64) || '{\"v\": 1}')";
    mallory.execute(forged, &[]).await.unwrap();
    let signed = "select string_agg((encode(sha256(k.outer_key || sha256(k.inner_key || m.content)), 'hex') \
        = convert_from(m.mac, 'UTF8'))::text, \
        ' ' order by m.n) \
                  from m, walcast.secret k";
    assert_eq!(of_messages(&client, signed).await, "true false");
    let key = "select length(inner_key) = 64 and length(outer_key) = 64 and inner_key <> outer_key \
               and (select bool_and(get_byte(inner_key, i) # get_byte(outer_key, i) = 106) \
                   from generate_series(0, 63) i) from walcast.secret";
    assert!(client.query_one(key, &[]).await.unwrap().get::<_, bool>(0));
    for sql in [
        "select * from walcast.secret",
        "select * from walcast.shadow",
        "select walcast.tick()",
        "select walcast.emit('{}')",
        "select walcast.fill()",
    ] {
        assert!(mallory.batch_execute(sql).await.is_err(), "{sql}");
    }
    let mut service = connect(&server, Some("service")).await;
    let said = tick(&mut service, false).await;
    assert!(said.contains("\"blind\": []"), "{said}");
    // The transaction's id is signed, so that a message cannot be repeated in another one.
    client.batch_execute("create table t2 (a int)").await.unwrap();
    assert_eq!(of_messages(&client, "select bool_and((message ->> 'xid') = xid::text)::text from m").await, "true");
}

#[tokio::test]
async fn x08_x09_an_unprivileged_user_changes_only_what_is_his() {
    let (server, client) = source(&Capture::default()).await;
    client.batch_execute("create role mallory login; grant create on schema public to mallory").await.unwrap();
    captured(&client).await;
    let mallory = connect(&server, Some("mallory")).await;
    let plain = "create table %s (a int primary key, b timestamptz default '2026-01-02 03:04:05+00', c pg_catalog.text default E'a\\\\b')";
    mallory.batch_execute(&plain.replace("%s", "t")).await.unwrap();
    mallory
        .batch_execute(
            "create function public.jsonb_build_object(variadic \"any\") returns jsonb language internal as 'jsonb_build_object'"
        )
        .await
        .unwrap_err();
    mallory
        .batch_execute(
            "create function public.format_type(oid, int) returns text language sql as $$ select 'evil' $$; \
             create function public.quote_ident(name) returns text language sql as $$ select 'evil' $$; \
             create function public.evil(oid, oid) returns bool language plpgsql as $$ begin raise 'evil'; end $$; \
             create operator public.= (function = public.evil, leftarg = oid, rightarg = oid); \
             create temp table pg_class (oid oid); create temp table shadow (a int); create domain pg_temp.text as int; \
             set search_path = pg_temp, public, pg_catalog; set datestyle = 'SQL, DMY'; set intervalstyle = sql_standard; \
             set timezone = 'Asia/Tokyo'; set quote_all_identifiers = on; set extra_float_digits = -15; \
             set bytea_output = escape; set standard_conforming_strings = off; set row_security = off; \
             set transform_null_equals = on; set plpgsql.extra_errors = 'all'; set enable_indexscan = off",
        )
        .await
        .unwrap();
    captured(&client).await;
    mallory.batch_execute("set standard_conforming_strings = on").await.unwrap();
    mallory.batch_execute(&plain.replace("%s", "public.u")).await.unwrap();
    mallory
        .batch_execute(
            "create temp table x (a serial); drop table x; create table public.v (a int); drop table public.v",
        )
        .await
        .unwrap();
    let same = "select string_agg(md5(replace(replace((s.state - 'indexes' - 'constraints')::text, 'public.t', ''), '\"t\"', '')), ' ') \
        from walcast.shadow s \
                where s.state ->> 'name' = 't' union all \
                select string_agg(md5(replace(replace((s.state - 'indexes' - 'constraints')::text, 'public.u', ''), '\"u\"', '')), ' ') \
                    from walcast.shadow s \
                where s.state ->> 'name' = 'u'";
    let states: Vec<String> = client.query(same, &[]).await.unwrap().iter().map(|r| r.get(0)).collect();
    assert_eq!(states[0], states[1]);
    assert_eq!(captured(&client).await, ["create TABLE public.u", "create TABLE public.v", "drop TABLE public.v"]);
}

#[tokio::test]
async fn x12_secrets_stay_where_they_are() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "create role r login password 'canary'; create foreign data wrapper w; \
             create server s foreign data wrapper w options (host 'h', password 'canary'); \
             create user mapping for r server s options (user 'u', password 'canary', sslkey 'canary'); \
             create table t (a int); grant select on t to r",
        )
        .await
        .unwrap();
    let all = of_messages(&client, "select string_agg(message::text, ' ') from m").await;
    assert!(
        all.contains("ROLE r") && all.contains("\"redacted\"") && !all.contains("canary") && !all.contains("SCRAM"),
        "{all}"
    );
    let shadow = "select count(*) from walcast.shadow where state::text ~ 'canary|SCRAM'";
    assert_eq!(client.query_one(shadow, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn d41_large_objects_are_captured() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "do $$ begin execute 'create table wide (' || (select string_agg(format('c%s int', i), ', ') \
                from generate_series(1, 1600) i) || ')'; \
             execute format('create function long() returns text language sql as %L', \
                 'select ' || quote_literal(repeat('x', 10000000))); end $$",
        )
        .await
        .unwrap();
    let sizes = "select concat(jsonb_array_length(message #> '{changes,0,after,columns}'), ' ', \
                 length(message #>> '{changes,0,after,create,0}') > 10000000) from m order by n";
    let rows = client.query(&format!("with m as materialized ({MESSAGES}) {sizes}"), &[]).await.unwrap();
    let rows: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(rows, ["1600 ", " t"]);
}

#[tokio::test]
async fn installing_again_changes_nothing_and_removing_leaves_nothing() {
    let capture = Capture { service_role: Some("service".into()), ..Capture::default() };
    let (_server, mut client) = source(&capture).await;
    assert_eq!(ddl::install(&mut client, &capture).await.unwrap(), Outcome::Unchanged);
    let key = "select encode(inner_key, 'hex') from walcast.secret";
    let before: String = client.query_one(key, &[]).await.unwrap().get(0);
    let with_passwords = Capture { passwords: true, ..capture.clone() };
    assert_eq!(ddl::install(&mut client, &with_passwords).await.unwrap(), Outcome::Done);
    assert_eq!(client.query_one(key, &[]).await.unwrap().get::<_, String>(0), before);
    client
        .batch_execute(
            "create or replace function walcast.key(class oid, object oid) returns bigint language sql as 'select 1'",
        )
        .await
        .unwrap();
    let findings = ddl::check(&client, &with_passwords).await;
    assert!(findings.iter().any(|f| f.text.contains("somebody changed")), "{findings:#?}");
    assert_eq!(ddl::remove(&mut client).await.unwrap(), Outcome::Done);
    assert_eq!(ddl::remove(&mut client).await.unwrap(), Outcome::Unchanged);
    client.batch_execute("drop schema walcast restrict; create table t (a int)").await.unwrap();
    assert_eq!(ddl::check(&client, &capture).await[0].level, Level::Fail);
}
