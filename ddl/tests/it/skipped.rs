//! What becomes of an object after a transaction that changed it was skipped on a target: as docs/ddl.md says.

use crate::pair::{Pair, on_all_versions};
use crate::session::text;

/// Does something on the source that the target is never told.
async fn skip(pair: &mut Pair, commands: &str) {
    pair.source.batch_execute(commands).await.unwrap();
    assert!(!pair.messages().await.is_empty(), "{commands}");
}

const COLUMNS: &str = "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum) from \
     pg_attribute where attrelid = 'public.t'::regclass and attnum > 0 and not attisdropped";

#[test]
fn what_a_later_change_does_not_touch_stays_as_it_was() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int, b int); create function f() returns int language sql as 'select 1'"])
            .await;
        skip(pair, "alter table t add c int; alter table t alter a type bigint; comment on function f() is 'x'").await;
        pair.replicate(&[
            "alter table t add d int; create or replace function f() returns int language sql as 'select \
                          2'",
        ])
        .await;
        assert_eq!(text(&pair.target, COLUMNS).await, "a integer, b integer, d integer");
        // the same property again: it becomes what it is on the source
        pair.replicate(&["alter table t alter a type numeric; comment on function f() is 'y'"]).await;
        assert_eq!(text(&pair.target, COLUMNS).await, "a numeric, b integer, d integer");
        // done by hand, as it was skipped: both are the same again
        pair.target
            .batch_execute("alter table t drop d; alter table t add c int; alter table t add d int")
            .await
            .unwrap();
        pair.compare("by hand");
    });
}

#[test]
fn an_object_that_is_not_there_is_made_whole_and_a_table_copied_again() {
    on_all_versions(async |pair: &mut Pair| {
        skip(
            pair,
            "create table t (a int primary key, b int); insert into t values (1, 1); create view v as select a \
                    from t; create table o (x int)",
        )
        .await;
        let outcomes = pair.replicate(&["alter table t add c int; comment on view v is 'v'"]).await;
        let recopy: Vec<_> = outcomes.iter().flat_map(|o| &o.recopy).map(|table| table.name.as_str()).collect();
        assert_eq!(recopy, ["t"], "its rows are not in the stream any more");
        pair.replicate(&["alter table o add y int"]).await;
        pair.compare("whole");
    });
}

#[test]
fn a_rename_that_was_skipped_is_missed_by_the_next_change() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int primary key)"]).await;
        skip(pair, "alter table t rename to u").await;
        pair.source.batch_execute("alter table u add b int").await.unwrap();
        let messages = pair.messages().await;
        let refused = pair.refusal(&messages[0].1).await.unwrap();
        assert!(refused.contains("\"t_pkey\" already exists"), "{refused}");
        // done by hand, as it was skipped: it goes on
        pair.target.batch_execute("alter table t rename to u").await.unwrap();
        assert_eq!(pair.refusal(&messages[0].1).await, None);
        pair.compare("by hand");
    });
}

#[test]
fn an_object_whose_drop_was_skipped_is_taken_for_the_next_of_its_name() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int)"]).await;
        skip(pair, "drop table t").await;
        pair.replicate(&["create table t (a int, b int)"]).await;
        pair.compare("its successor");
    });
}
