//! What a newer source can say that an older target cannot take: it is translated, or left out and reported, or stops the
//! target with a reason. `src/version.rs` has the list.

use crate::pair::{Pair, from_newest};
use crate::session::text;

/// What becomes of a statement.
enum Fate {
    /// It arrives; a query says the same of both.
    Same(&'static str),
    /// It arrives without something, which is said; a query on the target says what there is.
    Without(&'static str, &'static str, &'static str),
    /// The target stops, and says why.
    Stops(&'static str),
}

use Fate::{Same, Stops, Without};

/// For targets before a version: a statement on the source, and its fate.
const CASES: &[(u32, &str, Fate)] = &[
    (
        15,
        "create table nn (a int, b int unique nulls not distinct); create unique index nn_i on nn (a) nulls not distinct",
        Without(
            "NULLS NOT DISTINCT of index",
            "select string_agg(indexrelid::regclass::text || ' ' || indisunique, ', ' order by 1) from pg_index where \
             indrelid = 'nn'::regclass",
            "nn_b_key true, nn_i true",
        ),
    ),
    (
        15,
        "create table k (a int, b int, primary key (a, b)); create table fk (a int, b int, foreign key (a, b) references \
         k on delete set null (b))",
        Without(
            "sets some columns only",
            "select count(*) from pg_constraint where conrelid = 'fk'::regclass and contype = 'f'",
            "0",
        ),
    ),
    (15, "create view si with (security_invoker) as select 1 as a", Stops("it is a view with security_invoker")),
    (15, "create view sf with (security_invoker = off) as select 1 as a", Same("select count(*) from sf")),
    (15, "create unlogged sequence us", Same("select count(*) from pg_class where relname = 'us'")),
    (
        15,
        "create table am (a int); create access method am_heap type table handler heap_tableam_handler; alter table am set \
         access method am_heap",
        Stops("it got another access method"),
    ),
    (
        16,
        "create table st (a int, b text); alter table st alter b set storage external; alter table st alter b set storage \
         default; create table st2 (a text storage main, c text compression pglz)",
        Same(
            "select string_agg(concat_ws(' ', attrelid::regclass, attname, attstorage, attcompression), ', ' order by 1) \
             from pg_attribute where attrelid in ('st'::regclass, 'st2'::regclass) and attnum > 0",
        ),
    ),
    (
        16,
        "create collation ru (provider = icu, locale = 'und', rules = '&a < g')",
        Stops("it is a collation with rules"),
    ),
    (17, "create collation bu (provider = builtin, locale = 'C.UTF-8')", Stops("it is a built-in collation")),
    (
        17,
        "create table ge (a int, b int generated always as (a + 1) stored); alter table ge alter b set expression as (a + \
         2)",
        Stops("a generated column got another expression"),
    ),
    (
        17,
        "create access method pam type table handler heap_tableam_handler; create table pm (a int) partition by list (a) \
         using pam",
        Without("partitioned tables have access methods", "select relkind from pg_class where relname = 'pm'", "p"),
    ),
    (
        17,
        "create table ip (id int generated always as identity, k int) partition by list (k); create table ip1 partition \
         of ip for values in (1)",
        Same(
            "select string_agg(attrelid::regclass || ' ' || attname, ', ' order by attrelid::regclass::text, attnum) from \
             pg_attribute where attrelid in ('ip'::regclass, 'ip1'::regclass) and attnum > 0",
        ),
    ),
    (
        18,
        "create table vi (a int, b int generated always as (a * 2) virtual)",
        Stops("it has a virtual generated column"),
    ),
    (
        18,
        "create table wo (a int4range, b int4range, primary key (a, b without overlaps))",
        Stops("it has a key WITHOUT OVERLAPS"),
    ),
    (
        18,
        "create table ne (a int primary key, b int references ne not enforced, c int constraint ne_c check (c > 0) not \
         enforced); alter table ne add d int",
        Without(
            "constraint ne_c is not enforced",
            "select string_agg(conname, ', ' order by conname) from pg_constraint where conrelid = 'ne'::regclass and \
             contype <> 'n'",
            "ne_pkey",
        ),
    ),
    (
        18,
        "create table nu (a int not null, b int constraint nu_b not null, c int); alter table nu alter a drop not null; \
         alter table nu rename constraint nu_b to nu_bb; alter table nu add constraint nu_c not null c",
        Same(
            "select string_agg(attname || ' ' || attnotnull, ', ' order by attnum) from pg_attribute where attrelid = \
             'nu'::regclass and attnum > 0",
        ),
    ),
    (
        18,
        "create table nv (a int); alter table nv add constraint nv_a not null a not valid",
        Without(
            "a is not valid",
            "select attnotnull from pg_attribute where attrelid = 'nv'::regclass and attname = 'a'",
            "f",
        ),
    ),
    (
        18,
        "alter table nv add b int; alter table nv validate constraint nv_a",
        Same("select attnotnull from pg_attribute where attrelid = 'nv'::regclass and attname = 'a'"),
    ),
    (
        18,
        "create table sp (a int) with (autovacuum_vacuum_max_threshold = 1000, fillfactor = 70)",
        Without(
            "does not know this parameter",
            "select reloptions::text from pg_class where relname = 'sp'",
            "{fillfactor=70}",
        ),
    ),
];

#[test]
fn d38_what_an_older_target_does_not_know_is_translated_or_left_out_or_stops_it() {
    from_newest(async |pair: &mut Pair| {
        pair.twice = false;
        for (since, statements, fate) in CASES {
            if pair.major() >= *since || pair.source_major() < *since {
                continue;
            }
            for statement in statements.split("; ") {
                pair.source.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            }
            let (said, refused) = outcome(pair).await;
            match fate {
                Same(query) => {
                    assert_eq!(refused, None, "{statements}");
                    let (source, target) = pair.both(query).await;
                    assert!(!source.is_empty() && source == target, "{statements}: {source} and {target}");
                }
                Without(why, query, there) => {
                    assert_eq!(refused, None, "{statements}");
                    assert!(said.iter().any(|text| text.contains(why)), "{statements}: {said:?}");
                    assert_eq!(text(&pair.target, query).await, *there, "{statements}");
                }
                Stops(why) => {
                    assert!(refused.as_ref().is_some_and(|text| text.contains(why)), "{statements}: {refused:?}")
                }
            }
        }
    });
}

/// What was left out, and why the target stopped, if it did.
async fn outcome(pair: &mut Pair) -> (Vec<String>, Option<String>) {
    let (mut said, mut refused) = (Vec::new(), None);
    for (_, json) in pair.messages().await {
        match pair.attempt_one(&json).await {
            Ok(outcome) => said.extend(outcome.skipped.into_iter().map(|skipped| skipped.why)),
            Err(problem) => refused = refused.or(Some(problem)),
        }
    }
    (said, refused)
}
