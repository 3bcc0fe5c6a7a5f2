//! Where not all tables are replicated, what needs one of the others waits.

use std::sync::Arc;

use ddl::Outcome;

use crate::pair::{Pair, on_all_versions};
use crate::session::text;

const WAITING: &str = "select string_agg(object, ', ' order by object) from walcast.pending_object";

fn said(outcomes: &[Outcome]) -> Vec<String> {
    let skipped = outcomes.iter().flat_map(|outcome| &outcome.skipped);
    skipped.map(|skipped| format!("{}: {}", skipped.object, skipped.why)).collect()
}

async fn begin(pair: &mut Pair) {
    pair.options.selected = Arc::new(|_, name| name != "secret");
    pair.options.partial = true;
    pair.replicate(&["create table secret (id int primary key, v text); create table open (id int primary key)"]).await;
}

#[test]
fn what_needs_a_table_that_is_not_replicated_waits_for_it() {
    on_all_versions(async |pair: &mut Pair| {
        begin(pair).await;
        let outcomes = pair
            .replicate(&[
                "create view v as select v from secret; create view w as select v from v; comment on view w is 'w'",
                "create materialized view m as select count(*) from w with no data; refresh materialized view m",
                "create function f(secret) returns int language sql as 'select 1'; create function g() returns bigint \
                 begin atomic select count(*) from secret; end",
                "create policy p on open using (id in (select s.id from secret s))",
                "create rule r as on delete to open do also delete from secret",
                "create table ref (id int primary key, s int references secret, o int references open)",
            ])
            .await;
        let said = said(&outcomes);
        assert!(said.iter().any(|s| s.contains("VIEW public.v: it waits") && s.contains("public.secret")), "{said:?}");
        let all = "FUNCTION public.f(secret), FUNCTION public.g(), MATERIALIZED VIEW public.m, POLICY p ON public.open, \
                   RULE r ON public.open, TABLE public.ref, VIEW public.v, VIEW public.w";
        assert_eq!(text(&pair.target, WAITING).await.replace("public.secret", "secret"), all);
        // what becomes of them is no reason to stop either
        pair.replicate(&[
            "create or replace view w as select v, 1 as one from v; alter view w rename to ww; alter table ref add t \
             text; alter policy p on open using (id > (select min(s.id) from secret s)); drop function g()",
            "create view x as select id from open; create or replace view x as select o.id from open o join secret s \
             using (id); comment on view x is 'x'; alter table ref alter t set default 'x'",
            "drop materialized view m",
        ])
        .await;
        let left = text(&pair.target, WAITING).await;
        assert!(left.contains("VIEW public.ww, VIEW public.x") && !left.contains("g()"), "{left}");
        assert_eq!(text(&pair.target, "select count(*) from x").await, "0", "it is what it was before");
        // the table comes: everything arrives, with what was changed in the meantime
        pair.options.selected = Arc::new(|_, _| true);
        pair.replicate(&["alter table secret add later int"]).await;
        assert_eq!(text(&pair.target, WAITING).await, "null");
        pair.compare("all of it");
    });
}

#[test]
fn where_all_tables_are_replicated_nothing_waits() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&["create table t (a int)"]).await;
        pair.target.batch_execute("drop table t").await.unwrap();
        pair.source.batch_execute("create view v as select a from t").await.unwrap();
        let messages = pair.messages().await;
        let refused = pair.refusal(&messages[0].1).await.unwrap();
        assert!(refused.contains("VIEW public.v") && refused.contains("does not exist"), "{refused}");
    });
}
