//! The capture of DDL on real servers: one statement, or few, and the message that they are to leave in the stream.

use capture::Outcome;
use capture::ddl::{self, Capture};
use capture::preflight::Level;
use cluster::Cluster;
use tokio_postgres::{Client, NoTls};

async fn connect(cluster: &Cluster, user: Option<&str>) -> Client {
    let conninfo = cluster.conninfo("postgres");
    let conninfo =
        user.map_or(conninfo.to_string(), |user| cluster.conninfo("postgres").with("user", user).to_string());
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A source with the capture installed and a slot that sees its messages.
async fn source(capture: &Capture) -> (Cluster, Client) {
    let server = Cluster::builder().set("wal_level", "logical").start().unwrap();
    let mut client = connect(&server, None).await;
    client.batch_execute("create role service login; create schema walcast; create publication p").await.unwrap();
    assert_eq!(ddl::install(&mut client, capture).await.unwrap(), Outcome::Done);
    client.execute("select pg_create_logical_replication_slot('s', 'pgoutput')", &[]).await.unwrap();
    (server, client)
}

/// Messages of the stream since the last call. The content of a pgoutput message with prefix "walcast" begins at byte 23,
/// its JSON after 64 hexadecimal digits.
const MESSAGES: &str = "select convert_from(substring(data from 87), 'UTF8')::jsonb as message, substring(data from 23 for 64) as mac, \
            substring(data from 87) as content, xid, n \
       from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p', \
            'messages', 'true') with ordinality d (lsn, xid, data, n) where get_byte(data, 0) = ascii('M')";

/// One line for each message: what it did to which object, with what else a change says of itself.
async fn captured(client: &Client) -> Vec<String> {
    let sql = format!(
        "with m as materialized ({MESSAGES}) \
         select coalesce((select string_agg(concat_ws(' ', \
                    case when c ? 'failed' then 'failed' when c -> 'after' = 'null' then 'drop' \
                        when c -> 'before' = 'null' then 'create' else 'alter' end, \
                    coalesce(nullif(c -> 'after', 'null'), c -> 'before') ->> 'object', \
                    case when c -> 'before' ->> 'identity' <> c -> 'after' ->> 'identity' \
                        then 'was ' || (c -> 'before' ->> 'identity') end, \
                    case when c ? 'auto' then '(auto)' end, case when c -> 'rewritten' = 'true' then '(rewritten)' end, \
                    '(member of ' || (c ->> 'member_of') || ')'), ', ' order by i) \
             from jsonb_array_elements(message -> 'changes') with ordinality e (c, i)), '') \
             || coalesce(' refresh ' || (message ->> 'refresh'), '') || coalesce(' unsupported ' || (message ->> 'unsupported'), '') \
             || coalesce(' sequences ' || nullif(message ->> 'sequences', '[]'), '') \
         from m order by n"
    );
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What a query over the messages (table `m`) says.
async fn of_messages(client: &Client, select: &str) -> String {
    let sql = format!("with m as materialized ({MESSAGES}) {select}");
    client.query_one(&sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

async fn tick(client: &mut Client, every: bool) -> String {
    let build = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let transaction = build.start().await.unwrap();
    let row = transaction.query_one("select walcast.tick($1)::text", &[&every]).await.unwrap();
    transaction.commit().await.unwrap();
    row.get(0)
}

/// A row of section 8 of the traps: statements, each one a simple query, and the messages that they leave.
struct Case {
    name: &'static str,
    sql: &'static [&'static str],
    messages: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "D01 several statements in one string",
        sql: &["create table d01 (a int); insert into d01 values (1); alter table d01 add b int"],
        messages: &["create TABLE public.d01", "alter TABLE public.d01"],
    },
    Case {
        name: "D02 commands inside a block",
        sql: &[
            "do $$ begin for i in 1..2 loop execute format('create table %I (a int)', 'D02 ' || i); end loop; end $$",
        ],
        messages: &["create TABLE public.\"D02 1\"", "create TABLE public.\"D02 2\""],
    },
    Case {
        name: "D03 tables from queries",
        sql: &[
            "create table d03 as select 1 as a, now() as b",
            "select 1 as a into d03_into",
            "create table if not exists d03 as select 2 as a",
            "create materialized view d03_m as select a from d03 with no data",
        ],
        messages: &["create TABLE public.d03", "create TABLE public.d03_into", "create MATERIALIZED VIEW public.d03_m"],
    },
    Case {
        name: "D04 one command, many objects",
        sql: &[
            "create table d04 (id serial primary key, b text unique, c int check (c > 0), e int generated always as identity)",
            "alter table d04 add d serial",
        ],
        messages: &[
            "create SEQUENCE public.d04_id_seq, create SEQUENCE public.d04_e_seq, create TABLE public.d04",
            "create SEQUENCE public.d04_d_seq, alter TABLE public.d04 (rewritten)",
        ],
    },
    Case {
        name: "D05 and D06 rewritten tables, and a default that is only evaluated",
        sql: &[
            "create table d05 (a int)",
            "alter table d05 add r float8 default random()",
            "alter table d05 alter a type bigint using a * 2",
            "alter table d05 add n timestamptz default now()",
        ],
        messages: &[
            "create TABLE public.d05",
            "alter TABLE public.d05 (rewritten)",
            "alter TABLE public.d05 (rewritten)",
            "alter TABLE public.d05",
        ],
    },
    Case {
        name: "D08 concurrently",
        sql: &[
            "create table d08 (a int)",
            "create index concurrently d08_i on d08 (a)",
            "drop index concurrently d08_i",
        ],
        messages: &["create TABLE public.d08", "alter TABLE public.d08", "alter TABLE public.d08"],
    },
    Case {
        name: "D09 refreshed views",
        sql: &[
            "create materialized view d09 as select 1 as a",
            "create unique index d09_a on d09 (a)",
            "refresh materialized view concurrently d09",
        ],
        messages: &[
            "create MATERIALIZED VIEW public.d09",
            "alter MATERIALIZED VIEW public.d09",
            " refresh [\"public.d09\"]",
        ],
    },
    Case {
        name: "D11 drops that cascade",
        sql: &[
            "create table d11 (a int primary key); create table d11_fk (a int references d11); \
             create view d11_v as select * from d11; create type d11_t as (x int); create table d11_c (a d11_t, b int)",
            "drop table d11 cascade",
            "drop type d11_t cascade",
        ],
        messages: &[
            "create TABLE public.d11",
            "create TABLE public.d11_fk",
            "create VIEW public.d11_v",
            "create TYPE public.d11_t",
            "create TABLE public.d11_c",
            "alter TABLE public.d11_fk, drop VIEW public.d11_v, drop TABLE public.d11",
            "alter TABLE public.d11_c, drop TYPE public.d11_t",
        ],
    },
    Case {
        name: "D12 a dropped column is told once",
        sql: &["create table d12 (a int, b int)", "alter table d12 drop column b"],
        messages: &["create TABLE public.d12", "alter TABLE public.d12"],
    },
    Case {
        name: "D13 names that are swapped",
        sql: &[
            "create table d13_a (x int); create table d13_b (y int)",
            "begin; alter table d13_a rename to d13_c; alter table d13_b rename to d13_a; alter table d13_c rename to d13_b; commit",
            "create schema d13; alter table d13_a set schema d13; alter schema d13 rename to d13_new; alter table d13_new.d13_a add z int",
            "create type d13_e as enum ('a'); alter type d13_e rename value 'a' to 'b'; alter type d13_e rename to d13_f",
        ],
        messages: &[
            "create TABLE public.d13_a",
            "create TABLE public.d13_b",
            "alter TABLE public.d13_c was public.d13_a",
            "alter TABLE public.d13_a was public.d13_b",
            "alter TABLE public.d13_b was public.d13_c",
            "create SCHEMA d13",
            "alter TABLE d13.d13_a was public.d13_a",
            "alter SCHEMA d13_new was d13",
            "alter TABLE d13_new.d13_a",
            "create TYPE public.d13_e",
            "alter TYPE public.d13_e",
            "alter TYPE public.d13_f was public.d13_e",
        ],
    },
    Case {
        name: "D14 commands that do nothing",
        sql: &["create table if not exists d01 (a int); drop table if exists d14; alter table if exists d14 add a int"],
        messages: &[],
    },
    Case {
        name: "D15 temporary objects",
        sql: &[
            "create temp table d15 (a serial primary key); create index on d15 (a); create temp view d15_v as select * from d15; \
             alter table d15 add b int default random(); drop table d15 cascade",
            "create temp table d15_like (a int); create table d15_real (like d15_like)",
        ],
        messages: &["create TABLE public.d15_real"],
    },
    Case {
        name: "D16 unlogged tables",
        sql: &["create unlogged table d16 (a int)", "alter table d16 set logged", "alter table d16 set unlogged"],
        messages: &["create TABLE public.d16", "alter TABLE public.d16 (rewritten)", "alter TABLE public.d16"],
    },
    Case {
        name: "D17 and D18 a grant finds the role that was made before it",
        sql: &[
            "create role d17; grant select, insert on d01 to d17 with grant option",
            "grant update (a) on d01 to d17",
            "create role d17_b; grant d17 to d17_b; alter default privileges grant select on tables to d17_b",
            "create function d18() returns int language sql as 'select 1'; revoke execute on function d18 from public",
            "grant usage on schema d13_new to d17",
        ],
        messages: &[
            "create ROLE d17, alter TABLE public.d01",
            "alter TABLE public.d01",
            "create ROLE d17_b, create DEFAULT PRIVILEGES FOR ROLE postgres",
            "create FUNCTION public.d18()",
            "alter FUNCTION public.d18()",
            "alter SCHEMA d13_new",
        ],
    },
    Case {
        name: "D21 dropping what a role owns",
        sql: &["grant insert on d12 to d17", "drop owned by d17"],
        messages: &["alter TABLE public.d12", "alter TABLE public.d01, alter TABLE public.d12, alter SCHEMA d13_new"],
    },
    Case {
        name: "D22 a session that plays the replica",
        sql: &["set session_replication_role = replica; create table d22 (a int); reset session_replication_role"],
        messages: &["create TABLE public.d22"],
    },
    Case {
        name: "D29 publications and event triggers",
        sql: &["create publication d29 for table d01; alter publication d29 add table d12; drop publication d29"],
        messages: &[],
    },
    Case {
        name: "D30 objects without a schema",
        sql: &[
            "create function d30() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger d30_t before insert on d12 for each row execute function d30()",
            "alter table d12 disable trigger d30_t",
            "create rule d30_r as on delete to d12 do instead nothing",
            "create policy d30_p on d12 using (a > 0)",
            "create cast (text as d13_f) with inout",
            "create foreign data wrapper d30_w; create server d30_s foreign data wrapper d30_w",
            "create user mapping for d17 server d30_s options (user 'u', password 'canary')",
            "comment on column d12.a is 'it''s'",
            "drop trigger d30_t on d12",
        ],
        messages: &[
            "create FUNCTION public.d30()",
            "create TRIGGER d30_t ON public.d12",
            "alter TRIGGER d30_t ON public.d12",
            "create RULE d30_r ON public.d12",
            "create POLICY d30_p ON public.d12",
            "create CAST (text AS public.d13_f)",
            "create FOREIGN DATA WRAPPER d30_w",
            "create SERVER d30_s",
            "create USER MAPPING FOR d17 SERVER d30_s",
            "alter TABLE public.d12",
            "drop TRIGGER d30_t ON public.d12",
        ],
    },
    Case {
        name: "D31 a schema with what is in it",
        sql: &["create schema d31 create table t (a int) create view v as select a from t grant select on t to d17"],
        messages: &["create SCHEMA d31, create TABLE d31.t, create VIEW d31.v"],
    },
    Case {
        name: "D32 a savepoint that is rolled back",
        sql: &["begin; savepoint s; create table d32 (a int); rollback to s; create table d32_b (a int); commit"],
        messages: &["create TABLE public.d32_b"],
    },
    Case {
        name: "D33 a column that is added, dropped and added",
        sql: &["begin; alter table d12 add z int; alter table d12 drop z; alter table d12 add z text; commit"],
        messages: &["alter TABLE public.d12", "alter TABLE public.d12", "alter TABLE public.d12"],
    },
    Case {
        name: "D34 a sequence that is restarted",
        sql: &["create sequence d34; alter sequence d34 restart with 77"],
        messages: &[
            "create SEQUENCE public.d34",
            " sequences [{\"identity\": \"public.d34\", \"is_called\": false, \"last_value\": \"77\"}]",
        ],
    },
    Case {
        name: "D36 partitions",
        sql: &[
            "create table d36 (a int, b int) partition by range (a); \
             create table d36_1 partition of d36 for values from (0) to (10); create table d36_2 (a int, b int)",
            "alter table d36 attach partition d36_2 for values from (10) to (20)",
            "create index d36_b on d36 (b)",
            "alter table d36 add c int",
            "alter table d36 detach partition d36_1",
        ],
        messages: &[
            "create TABLE public.d36",
            "create TABLE public.d36_1",
            "create TABLE public.d36_2",
            "alter TABLE public.d36_2",
            "alter TABLE public.d36, alter TABLE public.d36_1, alter TABLE public.d36_2",
            "alter TABLE public.d36, alter TABLE public.d36_1, alter TABLE public.d36_2",
            "alter TABLE public.d36_1",
        ],
    },
];

#[tokio::test]
async fn every_command_leaves_its_change_and_nothing_else() {
    let (_server, mut client) = source(&Capture::default()).await;
    for case in CASES {
        for sql in case.sql {
            client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{}: {sql}: {e:?}", case.name));
        }
        assert_eq!(captured(&client).await, case.messages, "{}", case.name);
    }
    // The shadow is what the catalogs say: a look at everything finds no difference.
    tick(&mut client, true).await;
    let left = captured(&client).await;
    assert!(left.iter().all(|m| m.starts_with(" sequences")), "{left:#?}");
}

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
