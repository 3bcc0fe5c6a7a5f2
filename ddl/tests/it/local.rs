//! What only the target has stays, and what it cannot have is said.

use std::sync::Arc;

use ddl::Message;

use crate::pair::{Pair, on_all_versions};
use crate::session::{Target, text};

const COLUMNS: &str = "select string_agg(attname, ',' order by attnum) from pg_attribute \
     where attrelid = 'public.t'::regclass and attnum > 0 and not attisdropped";

#[test]
fn what_only_the_target_has_stays() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int, b int)"]).await;
        let local = "alter table t add note text default 'mine', add constraint own check (note <> ''); create index \
         own_i on t (note); \
                     alter table t alter b set default 7; comment on column t.a is 'mine'; create view own_v as \
                     select note from t";
        pair.target.batch_execute(local).await.unwrap();
        pair.replicate(&[
            "alter table t rename a to x",
            "alter table t add c int, drop b",
            "create index i on t (c)",
            "alter table t rename to u; alter table u rename to t",
        ])
        .await;
        assert_eq!(text(&pair.target, COLUMNS).await, "x,note,c");
        let kept = "select (select count(*) from pg_class where relname in ('own_i', 'own_v', 'i')), \
                    (select count(*) from pg_constraint where conname = 'own'), col_description('t'::regclass, 1)";
        assert_eq!(text(&pair.target, kept).await, "3|1|mine");
    });
}

#[test]
fn a_table_that_the_target_has_already_gets_what_it_lacks() {
    on_all_versions(async |pair: &mut Pair| {
        pair.target.batch_execute("create table t (a int); insert into t values (1)").await.unwrap();
        pair.replicate(&["create table t (a int not null, b text unique, constraint k check (a > 0))"]).await;
        pair.compare("completed");
        assert_eq!(text(&pair.target, "select a from t").await, "1");
    });
}

#[test]
fn d43_a_statement_that_fails_is_named_without_its_values() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int)"]).await;
        pair.target.batch_execute("create view own as select a from t").await.unwrap();
        pair.source.batch_execute("drop table t").await.unwrap();
        let messages = pair.messages().await;
        let message = Message::parse(messages[0].1.as_bytes()).unwrap();
        pair.target.batch_execute("begin").await.unwrap();
        let failure = ddl::apply(&mut Target(&pair.target), &message, &pair.options).await.unwrap_err();
        pair.target.batch_execute("rollback").await.unwrap();
        assert_eq!(failure.to_string(), "TABLE public.t: `DROP TABLE public.t` failed");
        assert!(failure.cause().unwrap().to_string().contains("other objects depend on it"));
        assert!(failure.hint().contains("skip"));
    });
}

#[test]
fn tables_that_are_not_selected_and_what_belongs_to_them_are_passed_over() {
    on_all_versions(async |pair: &mut Pair| {
        pair.options.selected = Arc::new(|_, name| name != "secret");
        pair.replicate(&[
            "create table secret (id serial primary key); create function f() returns trigger language plpgsql as \
             'begin return new; end'; \
             create trigger t after insert on secret for each row execute function f()",
            "create table open (id serial primary key)",
            "alter table secret add a int; drop table secret",
        ])
        .await;
        pair.compare("only what is selected");
    });
}
