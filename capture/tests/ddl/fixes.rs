//! What was wrong once: a case for each.

use capture::Outcome;
use capture::ddl::{Capture, install};
use tokio_postgres::Client;

use crate::source::{MESSAGES, captured, of_messages, source, tick};

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

/// Every kind of name, with quotes, dots, spaces and upper case in it.
const ODD: &str = r#"
    create schema "s.""x"; create type "s.""x"."E" as enum ('it''s', 'a"b');
    create domain "s.""x"."D" as int; alter domain "s.""x"."D" add constraint "c.""1" check (value > 0) not valid;
    create table "s.""x"."T t" ("a""b" int primary key, "C.c" "s.""x"."E", constraint "k "" k" check ("a""b" > 0));
    create index "i.""" on "s.""x"."T t" (("a""b" + 1));
    create function "s.""x"."F(x)"("p""p" "s.""x"."E", int default 1) returns int language sql as 'select 1';
    create function "s.""x"."G"() returns trigger language plpgsql as 'begin return new; end';
    create trigger "t on ""x" before insert on "s.""x"."T t" for each row execute function "s.""x"."G"();
    create rule "r on ""x" as on delete to "s.""x"."T t" do nothing;
    create policy "p on ""x" on "s.""x"."T t" using ("a""b" > 0);
    create view "s.""x"."V.v" as select "a""b" from "s.""x"."T t";
    create sequence "s.""x"."S""s"; create collation "s.""x"."L.l" (provider = libc, locale = 'C');
    create statistics "s.""x"."St.st" on "a""b", "C.c" from "s.""x"."T t";
    create function "s.""x"."neg"(bigint) returns bigint language sql as 'select -$1';
    create operator "s.""x".!!! (function = "s.""x"."neg", rightarg = bigint);
    create aggregate "s.""x"."A.a"("s.""x"."D") (sfunc = int4pl, stype = int);
    create cast ("s.""x"."E" as "s.""x"."D") with inout;
    create text search dictionary "s.""x"."Dict.d" (template = simple, stopwords = 'english');
    create foreign data wrapper "w.""w"; create server "sv.""s" foreign data wrapper "w.""w";
    create role "Ro.""le"; create user mapping for "Ro.""le" server "sv.""s" options ("O.o" 'it''s');
    create foreign table "s.""x"."Ft" ("z.z" int) server "sv.""s";
    create type "s.""x"."B.b"; create function "s.""x"."in"(cstring) returns "s.""x"."B.b" language internal immutable
        strict as 'int4in'; create function "s.""x"."out"("s.""x"."B.b") returns cstring language internal immutable strict
        as 'int4out'; create type "s.""x"."B.b" (input = "s.""x"."in", output = "s.""x"."out", internallength = 4,
        passedbyvalue, alignment = int4, category = 'N', delimiter = ';')"#;

#[tokio::test]
async fn whatever_its_name_an_object_is_described_and_found_by_that() {
    let (_server, mut client) = source(&Capture::default()).await;
    client.batch_execute(ODD).await.unwrap();
    let failed = captured(&client).await.into_iter().filter(|line| line.contains("failed")).collect::<Vec<_>>();
    assert!(failed.is_empty(), "{failed:#?}");
    let lost = "select string_agg(s.state ->> 'object', ', ') from walcast.shadow s where s.oid >= 16384 and \
                walcast.locate(s.class, s.state) is distinct from s.oid";
    assert_eq!(text(&client, lost).await, "", "not found by its own state");
    assert!(
        text(&client, "select count(*)::text from walcast.shadow s where s.state ->> 'schema' = 's.\"x'").await != "0"
    );
    client
        .batch_execute(
            r#"alter table "s.""x"."T t" rename to "U.""u"; alter schema "s.""x" rename to "n.""n"; comment on column
               "n.""n"."U.""u"."a""b" is 'it''s'; drop index "n.""n"."i."""; drop trigger "t on ""x" on "n.""n"."U.""u""#,
        )
        .await
        .unwrap();
    let lines = captured(&client).await;
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[4].starts_with("drop TRIGGER \"t on \"\"x\" ON \"n.\"\"n\".\"U.\"\"u\""), "{lines:#?}");
    tick(&mut client, true).await;
    let left: Vec<_> = captured(&client).await.into_iter().filter(|line| !line.starts_with(" sequences")).collect();
    assert!(left.is_empty(), "the shadow is behind: {left:#?}");
}

#[tokio::test]
async fn comments_on_partitions_and_their_parts_are_told() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "create table p (a int, constraint c check (a > 0)) partition by list (a); create index i on p (a); create \
             table p1 partition of p for values in (1)",
        )
        .await
        .unwrap();
    captured(&client).await;
    for (comment, of) in [
        ("table p1", "p1"),
        ("column p1.a", "p1"),
        ("index p1_a_idx", "p1"),
        ("constraint c on p1", "p1"),
        ("index i", "p"),
    ] {
        client.batch_execute(&format!("comment on {comment} is 'x'")).await.unwrap();
        let told = captured(&client).await;
        assert!(told.contains(&format!("alter TABLE public.{of}")), "{comment}: {told:?}");
    }
}

#[tokio::test]
async fn a_message_names_the_subtransaction_that_it_is_of() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "begin; create table top (a int); savepoint s; create table sub (a int); savepoint gone; create table \
             undone (a int); rollback to gone; create table again (a int); commit",
        )
        .await
        .unwrap();
    let same = "select string_agg(concat_ws(' ', c.relname, message ->> 'subxid' = c.xmin::text, \
                message ->> 'xid' = message ->> 'subxid'), ', ' order by n) \
                  from m join pg_class c on c.oid = (message #>> '{changes,0,oid}')::oid";
    let told = of_messages(&client, same).await;
    assert_eq!(told, "top t t, sub t f, again t f");
}

#[tokio::test]
async fn a_publication_of_all_tables_is_left_alone() {
    let (_server, mut client) = source(&Capture::default()).await;
    client.batch_execute("drop publication p; create publication p for all tables").await.unwrap();
    client.batch_execute("create table t as select 1 as a; alter table t rename to u; drop table u").await.unwrap();
    tick(&mut client, true).await;
    let told = captured(&client).await;
    let expected = ["create TABLE public.t", "alter TABLE public.u was public.t", "drop TABLE public.u"];
    assert_eq!(told, expected, "no table comes to be published, so none is to be copied");
}

#[tokio::test]
async fn a_rewrite_is_told_by_the_message_of_the_drop_that_its_command_does() {
    let (_server, client) = source(&Capture::default()).await;
    client.batch_execute("create table t (a int, b int); insert into t values (1, 1)").await.unwrap();
    captured(&client).await;
    client.batch_execute("alter table t drop column a, alter b type bigint using b * 2").await.unwrap();
    let told = captured(&client).await;
    assert_eq!(told[0], "alter TABLE public.t (rewritten)", "{told:?}");
    assert_eq!(told.iter().filter(|line| line.contains("rewritten")).count(), 1, "{told:?}");
}

#[tokio::test]
async fn an_index_that_was_rebuilt_concurrently_is_known_when_it_is_dropped() {
    let (_server, client) = source(&Capture::default()).await;
    client.batch_execute("create table t (a int); create index i on t (a)").await.unwrap();
    client.batch_execute("reindex index concurrently i").await.unwrap();
    captured(&client).await;
    client.batch_execute("drop index i").await.unwrap();
    assert_eq!(captured(&client).await, ["alter TABLE public.t"]);
}

#[tokio::test]
async fn a_rename_does_not_fail_over_a_dependent_that_cannot_be_described() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "create type e as enum ('a'); create table t (a e); create rule r as on delete to t where old.a = 'a' do \
             nothing; create or replace function walcast.describe_rule(rule oid) returns jsonb language plpgsql stable \
             as $$ begin raise 'broken'; end $$",
        )
        .await
        .unwrap();
    captured(&client).await;
    client.batch_execute("alter type e rename to f").await.unwrap();
    assert_eq!(captured(&client).await, ["alter TYPE public.f was public.e"]);
    client.batch_execute("alter table t rename to u").await.unwrap();
    let told = captured(&client).await.join(" ");
    assert!(told.contains("alter TABLE public.u was public.t") && told.contains("failed"), "{told}");
}

/// Before 15 such a table has no triggers, by which one that has constraints is told from others.
#[tokio::test]
async fn a_foreign_key_of_a_partitioned_table_that_has_nothing_else_is_told() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute("create table t (a int primary key); create table p (a int) partition by list (a)")
        .await
        .unwrap();
    captured(&client).await;
    client.batch_execute("alter table p add constraint k foreign key (a) references t").await.unwrap();
    let key = "select message #>> '{changes,0,after,constraints,0,name}' from m where message #>> '{changes,0,after,name}' = 'p'";
    assert_eq!(of_messages(&client, key).await, "k");
}

#[tokio::test]
async fn without_a_key_nothing_is_captured_and_nothing_done() {
    let (_server, mut client) = source(&Capture::default()).await;
    client.batch_execute("delete from walcast.secret").await.unwrap();
    let error = client.batch_execute("create table t (a int)").await.unwrap_err();
    assert!(format!("{error:?}").contains("walcast.secret is empty"), "{error:?}");
    assert_eq!(text(&client, "select to_regclass('t')::text").await, "");
    let rows = client.query(&format!("with m as materialized ({MESSAGES}) select from m"), &[]).await.unwrap();
    assert!(rows.is_empty());
    // setup, which leaves alone what is as it should be, makes one
    assert_eq!(install(&mut client, &Capture::default()).await.unwrap(), Outcome::Done);
    client.batch_execute("create table t (a int)").await.unwrap();
    assert_eq!(captured(&client).await, ["create TABLE public.t"]);
}

/// Providers of labels are not part of servers: what one would leave in the catalog is put there.
#[tokio::test]
async fn labels_of_roles_are_told_of_by_the_next_look() {
    let (_server, mut client) = source(&Capture::default()).await;
    tick(&mut client, true).await;
    captured(&client).await;
    client
        .batch_execute(
            "set allow_system_table_mods = on; insert into pg_shseclabel values ('service'::regrole, \
             'pg_authid'::regclass, 'dummy', 'secret')",
        )
        .await
        .unwrap();
    tick(&mut client, true).await;
    let told = captured(&client).await.join(" ");
    assert!(told.contains("unsupported [\"SECURITY LABELS of roles, databases and tablespaces\"]"), "{told}");
}

/// What a tick sends beside a command that is just keeping roles in the shadow does not hide what follows: dropped again,
/// roles add up to what they did before.
#[tokio::test]
async fn a_role_that_was_told_beside_a_command_and_dropped_again_is_told_to_be_dropped() {
    let (server, mut client) = source(&Capture::default()).await;
    tick(&mut client, false).await;
    captured(&client).await;
    let mut command = crate::source::connect(&server, None).await;
    client.batch_execute("create role brief").await.unwrap();
    let open = command.transaction().await.unwrap();
    open.batch_execute("create table t (a int); grant select on t to brief").await.unwrap();
    tick(&mut client, false).await;
    assert_eq!(captured(&client).await, ["create ROLE brief"]);
    tick(&mut client, false).await;
    open.commit().await.unwrap();
    tick(&mut client, false).await;
    let commands = captured(&client).await;
    assert!(commands.iter().all(|told| told.contains("TABLE public.t")), "{commands:#?}");
    client.batch_execute("drop table t; drop role brief").await.unwrap();
    captured(&client).await;
    tick(&mut client, false).await;
    assert_eq!(captured(&client).await, ["drop ROLE brief"]);
    tick(&mut client, false).await;
    assert_eq!(captured(&client).await, [""; 0]);
}

/// Neither is it forgotten when nobody ever kept it: made after the command had looked, told by a tick or by another
/// command, and dropped while the first one is still open.
#[tokio::test]
async fn a_role_that_came_and_went_beside_an_open_command_is_told_to_be_dropped() {
    let (server, mut client) = source(&Capture::default()).await;
    for told_by in ["a tick", "a command"] {
        client.batch_execute("create role kept").await.unwrap();
        let mut command = crate::source::connect(&server, None).await;
        let open = command.transaction().await.unwrap();
        open.batch_execute("create table t (a int)").await.unwrap();
        client.batch_execute("create role brief").await.unwrap();
        match told_by {
            "a tick" => drop(tick(&mut client, false).await),
            _ => client.batch_execute("create table u (a int); drop table u").await.unwrap(),
        }
        let told = captured(&client).await;
        assert!(told.iter().any(|told| told.contains("create ROLE brief")), "{told_by}: {told:#?}");
        client.batch_execute("drop role brief").await.unwrap();
        tick(&mut client, false).await;
        open.rollback().await.unwrap();
        captured(&client).await;
        tick(&mut client, false).await;
        let told = captured(&client).await;
        assert!(told.iter().any(|told| told.contains("drop ROLE brief")), "{told_by}: {told:#?}");
        client.batch_execute("drop role kept").await.unwrap();
        tick(&mut client, false).await;
        assert_eq!(captured(&client).await, ["drop ROLE kept"], "{told_by}");
        tick(&mut client, false).await;
        assert_eq!(captured(&client).await, [""; 0], "{told_by}");
    }
}

/// Servers from 15.20 on keep a number of their own among the options of each column, which changes with the table.
#[tokio::test]
async fn what_a_server_notes_for_itself_among_a_columns_options_is_not_described() {
    let (_server, client) = source(&Capture::default()).await;
    client.batch_execute("create table t (a int, b int); alter table t alter b set (n_distinct = 5)").await.unwrap();
    client
        .batch_execute(
            "set allow_system_table_mods = on; update pg_attribute set attoptions = array['pg_attver=7'] || \
                 array(select o from unnest(attoptions) o where o ^@ 'n_distinct') \
              where attrelid = 't'::regclass and attnum > 0",
        )
        .await
        .unwrap();
    let options = "select string_agg(coalesce(c -> 'options' #>> '{}', 'none'), ' ' order by c -> 'num') \
                     from jsonb_array_elements(walcast.describe('pg_class'::regclass, 't'::regclass) -> 'columns') c";
    assert_eq!(text(&client, options).await, r#"none ["n_distinct=5"]"#);
}

/// D15: a default that a table took over from a temporary one goes with that one's session.
#[tokio::test]
async fn a_default_that_needs_something_temporary_is_not_described() {
    let (_server, client) = source(&Capture::default()).await;
    client
        .batch_execute(
            "create temp table tt (id serial primary key, v text default 'x'); create sequence s; \
             create table t (like tt including all, n int default nextval('s'))",
        )
        .await
        .unwrap();
    let defaults = "select string_agg(coalesce(c ->> 'default', 'none'), ' ' order by c -> 'num') \
                      from jsonb_array_elements(walcast.describe('pg_class'::regclass, 't'::regclass) -> 'columns') c";
    assert_eq!(text(&client, defaults).await, "none 'x'::text nextval('s'::regclass)");
    captured(&client).await;
    client.batch_execute("drop table tt cascade").await.unwrap();
    assert_eq!(captured(&client).await, [""; 0]);
}
