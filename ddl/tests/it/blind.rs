//! What changed while nobody looked comes in one message, without its order; and names that were exchanged.

use crate::pair::{Pair, on_all_versions};

/// Made while events tell of it, and done while they do not.
const BLIND: &[(&str, &str, &str)] = &[
    (
        "names that are swapped",
        "create table a (x int primary key); create table b (y int primary key); create function f() returns int \
         language sql as 'select 1'; create function g() returns int language sql as 'select 2'",
        "alter table a rename to c; alter table b rename to a; alter table c rename to b; alter table a add z int; \
         alter function f() rename to h; alter function g() rename to f; alter function h() rename to g",
    ),
    (
        "names that go round",
        "create table r1 (x int); create table r2 (y int); create table r3 (z int); create view rv as select x from r1",
        "alter table r1 rename to r0; alter table r2 rename to r1; alter table r3 rename to r2; alter table r0 rename \
         to r3",
    ),
    (
        "a name that is another table's now",
        "create table t0 (a int primary key); create table t1 (a int references t0)",
        "alter table t1 drop constraint t1_a_fkey; drop table t0; alter table t1 add b text; create table t0 (b int \
         unique, c text); alter table t1 add c int references t0 (b)",
    ),
    (
        "a name that a renamed table left, and a view of both",
        "create table o (a int); create view ov as select a from o",
        "alter table o rename to o_old; create table o (a int, b int); create or replace view ov as select o.a from o \
         join o_old using (a)",
    ),
    (
        "a function that is gone, and the view that used it",
        "create function fu(int) returns int language sql immutable as 'select $1'; create table fut (a int, b int \
         default fu(1), check (fu(a) > 0)); create view fuv as select fu(a) as a from fut",
        "create or replace view fuv as select a from fut; alter table fut alter b drop default, drop constraint \
         fut_a_check; drop function fu(int)",
    ),
    (
        "a function with another result, and the view that uses it",
        "create function fr() returns int language sql as 'select 1'; create view frv as select fr() as a",
        "drop view frv; drop function fr(); create function fr() returns text language sql as 'select ''x'''; create \
         view frv as select fr() as a",
    ),
    (
        "a type in place of another",
        "create type ty as enum ('a'); create table tyt (a ty default 'a', b int)",
        "alter table tyt alter a drop default, alter a type text; drop type ty; create type ty as (x int); alter table \
         tyt add c ty",
    ),
    (
        "columns that exchange their names, and a constraint of each",
        "create table cs (a int constraint cs_a check (a > 0), b text constraint cs_b check (b <> '')); create index \
         cs_i on cs (a)",
        "alter table cs rename a to c; alter table cs rename b to a; alter table cs rename c to b; alter table cs \
         rename constraint cs_a to cs_c; alter table cs rename constraint cs_b to cs_a; drop index cs_i; create index \
         cs_i on cs (b, a)",
    ),
    (
        "partitions that change their places",
        "create table pa (a int) partition by range (a); create table pa1 partition of pa for values from (1) to (2); \
         create table pa2 partition of pa for values from (2) to (3)",
        "alter table pa detach partition pa1; alter table pa detach partition pa2; alter table pa attach partition pa1 \
         for values from (2) to (3); drop table pa2; create table pa2 partition of pa for values from (1) to (2)",
    ),
    (
        "a schema that takes the name of another",
        "create schema s1; create schema s2; create table s1.t (a int); create table s2.t (b int); create view s1.v as \
         select * from s2.t",
        "alter schema s1 rename to s0; alter schema s2 rename to s1; alter schema s0 rename to s2; alter table s1.t \
         set schema public",
    ),
];

#[test]
fn what_changed_while_nobody_looked_is_applied_in_an_order_that_works() {
    on_all_versions(async |pair: &mut Pair| {
        for (name, made, changed) in BLIND {
            pair.replicate(&[made]).await;
            pair.source
                .batch_execute(
                    "alter event trigger walcast_ddl_end disable; alter event trigger walcast_drop \
                                       disable",
                )
                .await
                .unwrap();
            pair.replicate(&[
                changed,
                "alter event trigger walcast_ddl_end enable always; alter event trigger \
                              walcast_drop enable always",
            ])
            .await;
            pair.tick().await;
            pair.compare(name);
        }
    });
}

#[test]
fn d13_a_swap_is_not_undone_when_its_transaction_comes_again() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&[
            "create table a (x int); create table b (x int); create schema other; create view v as select \
                          1 as a; create view w as select 1 as a",
        ])
        .await;
        pair.target.batch_execute("insert into a values (1)").await.unwrap();
        let swap = "begin; alter table a rename to c; alter table b rename to a; alter table c rename to b; alter view \
                    v rename to u; alter view w rename to v; alter view u rename to w; alter table a set schema \
                    other; alter table other.a set schema public; commit";
        pair.source.batch_execute(swap).await.unwrap();
        let messages = pair.messages().await;
        for _ in 0..2 {
            pair.repeat(&messages).await;
            assert_eq!(crate::session::text(&pair.target, "select x from b").await, "1", "a is called b now");
        }
        pair.replicate(&["drop table a; drop table b; drop view v; drop view w"]).await;
        pair.compare("swapped and dropped");
        assert_eq!(crate::session::text(&pair.target, "select count(*) from walcast.renamed").await, "0");
    });
}
