//! What no event tells of, and a look at the catalogs finds: it arrives, or it is reported.

use ddl::Outcome;

use crate::pair::{Pair, on_all_versions};

/// What is said to be left as it is.
fn skipped(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes.iter().flat_map(|outcome| &outcome.skipped).map(|skipped| skipped.object.as_str()).collect()
}

#[test]
fn what_commands_without_events_do_arrives_with_the_next_look() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&[
            "create table t (a int primary key, b int); create index i on t (b); create view v as select \
                          a from t; create materialized view m as select 1 as a",
        ])
        .await;
        pair.replicate(&["cluster t using i", "explain analyze create table made as select 1 as a"]).await;
        pair.replicate(&[
            "alter event trigger walcast_ddl_end disable",
            "explain analyze create table unseen as select 1 \
                          as a",
            "alter event trigger walcast_ddl_end enable always",
        ])
        .await;
        pair.tick().await;
        pair.compare("what only a look finds");
    });
}

/// What is not replicated: done, and what targets then say was left.
pub(crate) const REPORTED: &[(&str, &str)] = &[
    ("create publication pu for table t; comment on publication pu is 'c'", "PUBLICATION pu"),
    ("alter publication pu add table only u", "PUBLICATION pu"),
    ("drop publication pu", "PUBLICATION pu"),
    (
        "create subscription su connection 'host=127.0.0.1' publication x with (connect = false); comment on \
         subscription su is 'c'",
        "SUBSCRIPTION su",
    ),
    ("alter subscription su set (binary = true)", "SUBSCRIPTION su"),
    ("alter subscription su set (slot_name = none)", "SUBSCRIPTION su"),
    ("drop subscription su", "SUBSCRIPTION su"),
    (
        "create function ev() returns event_trigger language plpgsql as 'begin end'; create event trigger ev on \
         ddl_command_start execute function ev(); comment on event trigger ev is 'c'",
        "EVENT TRIGGER ev",
    ),
    ("alter event trigger ev disable", "EVENT TRIGGER ev"),
    ("drop event trigger ev", "EVENT TRIGGER ev"),
    ("create database other", "DATABASE other"),
    ("drop database other", "DATABASE other"),
    ("alter database src connection limit 77", "DATABASE src (owner, limits, tablespace)"),
    (
        "select lo_create(4711); comment on large object 4711 is 'c'; alter large object 4711 owner to current_user",
        "LARGE OBJECTS",
    ),
    ("15: grant set on parameter work_mem to public", "PARAMETER work_mem (privileges)"),
    (
        "15: set allow_in_place_tablespaces = on; create tablespace ts location ''; comment on tablespace ts is 'c'",
        "TABLESPACE ts",
    ),
    ("15: alter tablespace ts set (random_page_cost = 2)", "TABLESPACE ts"),
    ("15: create table placed (a int primary key using index tablespace ts) tablespace ts", "TABLE public.placed"),
    ("15: alter index placed_pkey set tablespace pg_default", "INDEX placed_pkey"),
    ("15: alter table placed set tablespace pg_default", "TABLE public.placed"),
    ("15: alter materialized view m set tablespace ts", "MATERIALIZED VIEW public.m"),
    ("15: drop materialized view m; drop tablespace ts", "TABLESPACE ts"),
];

#[test]
fn what_is_not_replicated_is_reported() {
    on_all_versions(async |pair: &mut Pair| {
        pair.replicate(&[
            "create table t (a int); create table u (a int); create materialized view m as select 1 as a",
        ])
        .await;
        assert_eq!(skipped(&pair.tick().await), [""; 0], "what was there at the beginning is nothing new");
        let major = pair.major();
        for (commands, object) in REPORTED {
            let (version, commands) = commands.split_once(": ").map_or((0, *commands), |(version, commands)| {
                version.parse().map_or((0, commands), |version: u32| (version, commands))
            });
            if version > major {
                continue;
            }
            let mut outcomes = Vec::new();
            for command in commands.split("; ") {
                outcomes.extend(pair.replicate(&[command]).await);
            }
            outcomes.extend(pair.tick().await);
            assert!(skipped(&outcomes).contains(object), "{commands}: {:?}", skipped(&outcomes));
        }
        assert_eq!(skipped(&pair.tick().await), [""; 0], "nothing is reported twice");
    });
}
