//! One statement, or few, and the message that they are to leave.

use capture::ddl::Capture;

use crate::source::{captured, source, tick};

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
