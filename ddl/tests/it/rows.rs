//! What becomes of rows that are there when a table is altered, and of values beside rows.

use ddl::{Table, Verb};

use crate::pair::{Pair, on_all_versions};
use crate::session::text;

#[test]
fn d06_an_added_column_has_the_values_that_the_source_stored() {
    on_all_versions(async |pair: &mut Pair| {
        let both =
            ["create table t (a int); create table p (a int) partition by range (a); create table p1 partition of p \
             default"];
        pair.replicate(&both).await;
        for client in [&pair.source, &pair.target] {
            client.batch_execute("insert into t values (1), (2); insert into p values (1)").await.unwrap();
        }
        pair.replicate(&[
            "set timezone = 'Asia/Tokyo'; set datestyle = 'German'; alter table t add c timestamptz default now(), \
             add u text default current_user || '''\\', add i int[] default '{1,2}', add n int default null",
            "alter table p add c timestamptz not null default now()",
        ])
        .await;
        for table in ["t", "p"] {
            let rows = format!("select * from {table} order by a");
            let (source, target) = pair.both(&format!("set timezone = 'UTC'; set datestyle = 'ISO'; {rows}")).await;
            assert_eq!(source, target);
            assert!(source.contains("20"), "no time in {source}");
        }
        pair.compare("added columns");
    });
}

#[test]
fn d05_a_rewritten_table_has_its_new_definition_and_is_to_be_copied_again() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int primary key, b text, c text not null default 'x')"]).await;
        for client in [&pair.source, &pair.target] {
            client.batch_execute("insert into t values (1, '12', 'y'), (2, '13', 'z')").await.unwrap();
        }
        let kept = pair.replicate(&["alter table t alter b type int using b::int + 1"]).await;
        assert_eq!(kept[0].recopy, [Table { schema: "public".into(), name: "t".into() }]);
        assert_eq!(
            text(&pair.target, "select * from t order by a").await,
            "1|12|y\n2|13|z",
            "kept until they are copied"
        );
        let emptied = pair.replicate(&["alter table t alter c drop default, alter c type int using length(c)"]).await;
        assert_eq!(emptied[0].recopy.len(), 1);
        assert_eq!(text(&pair.target, "select count(*) from t").await, "0", "what cannot be converted is not kept");
        let cheap = pair
            .replicate(&[
                "alter table t alter a type bigint",
                "alter table t add d varchar(10)",
                "alter table t alter d type text",
            ])
            .await;
        assert_eq!(cheap.iter().map(|outcome| outcome.recopy.len()).collect::<Vec<_>>(), [1, 0, 0]);
        pair.compare("rewritten tables");
    });
}

#[test]
fn d34_sequences_get_the_values_that_the_source_has() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (id serial primary key, n int generated always as identity); create \
         sequence s increment -2"])
            .await;
        pair.source.batch_execute("insert into t select; insert into t select; select nextval('s')").await.unwrap();
        pair.tick().await;
        pair.replicate(&["alter sequence s restart with -10"]).await;
        for sequence in ["t_id_seq", "t_n_seq", "s"] {
            let (source, target) = pair.both(&format!("select last_value, is_called from {sequence}")).await;
            assert_eq!(source, target, "{sequence}");
        }
        let noted = text(&pair.target, "select last_value from walcast.sequence where sequence_name = 's'").await;
        assert_eq!(noted, "-10");
    });
}

#[test]
fn d09_a_materialized_view_is_refreshed_once_for_each_time() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&[
            "create table t (a int); create materialized view m as select a from t; create unique index on m (a)",
        ])
        .await;
        pair.target.batch_execute("insert into t values (1)").await.unwrap();
        let outcomes =
            pair.replicate(&["refresh materialized view m", "refresh materialized view concurrently m"]).await;
        let refreshed =
            |outcome: &ddl::Outcome| outcome.done.iter().filter(|done| done.verb == Verb::Refreshed).count();
        assert_eq!(outcomes.iter().map(refreshed).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(text(&pair.target, "select a from m").await, "1");
        pair.source.batch_execute("alter event trigger walcast_ddl_end disable").await.unwrap();
        pair.replicate(&[
            "refresh materialized view m with no data",
            "alter event trigger walcast_ddl_end enable always",
        ])
        .await;
        pair.tick().await;
        assert_eq!(text(&pair.target, "select relispopulated from pg_class where relname = 'm'").await, "f");
    });
}

#[test]
fn d41_wide_tables_and_long_functions_arrive() {
    on_all_versions(async |pair: &mut Pair| {
        let columns: Vec<_> = (0..1590).map(|n| format!("c{n} int default {n}")).collect();
        let wide = format!("create table wide ({})", columns.join(", "));
        let long = format!(
            "create function long() returns int language sql as $$ select 1 /* {} */ $$",
            "ü".repeat(1_000_000)
        );
        pair.replicate(&[&wide, &long, "alter table wide drop c7"]).await;
        // pg_dump itself takes a minute for such a table
        const MADE: &str = "select (select md5(string_agg(attname || pg_get_expr(adbin, 0), ',' order by attnum)) \
         from pg_attribute \
             join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = 'wide'::regclass), \
             (select md5(prosrc) from pg_proc where proname = 'long')";
        let (source, target) = pair.both(MADE).await;
        assert_eq!(source, target);
    });
}
