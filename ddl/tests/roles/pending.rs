//! D19: what is granted to, or owned by, roles that the target lacks.

use crate::grants::acls;
use crate::servers::{Servers, everywhere};
use crate::session::text;

/// The source's own superuser, whose name the target's one has too, or has not: he is nobody's to replicate.
const SETTING: &str = "create role owner; create role late; create schema s authorization owner; grant usage on \
     schema s to late; \
     set role owner; create table s.t (x int, y int); create function s.f() returns int language sql as 'select 1'; \
     reset role; \
     grant select, insert on s.t to late with grant option; grant update (x) on s.t to late; grant execute on \
     function s.f() to late; \
     alter default privileges for role owner grant select on tables to late; alter default privileges for role late \
     grant select on tables to owner; \
     grant create on database src to late; grant late to owner";

#[test]
fn d19_a_privilege_waits_for_its_role() {
    everywhere(async |servers: &mut Servers| {
        servers.options.roles.exclude = vec!["late".to_owned()];
        servers.replicate(&[SETTING]).await;
        let waiting = servers.waiting().await;
        let expected = [
            "DATABASE dst: late",
            "DEFAULT PRIVILEGES FOR ROLE late ON TABLES: late",
            "DEFAULT PRIVILEGES FOR ROLE owner ON TABLES: late",
            "FUNCTION s.f(): late",
            "ROLE owner: late",
            "SCHEMA s: late",
            "TABLE s.t: late",
        ];
        assert_eq!(waiting, expected);
        servers.replicate(&["alter table s.t rename to u; alter schema s rename to s2"]).await;
        servers.options.roles.exclude.clear();
        servers.replicate(&["alter role late login"]).await;
        assert_eq!(servers.waiting().await, Vec::<String>::new());
        servers.assert_same("arrived", &acls()).await;
        servers.assert_same("arrived", &crate::role::roles()).await;
        assert_eq!(text(&servers.admin, "select has_database_privilege('late', 'dst', 'create')").await, "t");
    });
}

#[test]
fn d19_an_owner_who_is_not_here_is_stood_in_for() {
    everywhere(async |servers: &mut Servers| {
        servers.options.roles.exclude = vec!["late".to_owned()];
        servers
            .replicate(&[
                "create role late; create schema s authorization late; set role late; create table s.t (id serial \
                 primary key); \
             create function s.f() returns text language sql security definer as 'select current_user::text'; reset \
             role",
                "alter table s.t add b int default 7; grant select on s.t to public",
            ])
            .await;
        let owners = "select string_agg(distinct pg_get_userbyid(o), ' ') from (select relowner from pg_class where \
             relnamespace = 's'::regnamespace \
              union select proowner from pg_proc where pronamespace = 's'::regnamespace union select nspowner from \
              pg_namespace where nspname = 's') x (o)";
        assert_eq!(text(&servers.admin, owners).await, "walcast_nobody");
        assert_eq!(text(&servers.admin, "select s.f()").await, "walcast_nobody");
        servers.options.roles.exclude.clear();
        servers.replicate(&["alter role late login"]).await;
        assert_eq!(text(&servers.admin, owners).await, "late");
        servers.assert_same("arrived", &acls()).await;
        assert_eq!(servers.waiting().await, Vec::<String>::new());
    });
}

#[test]
fn what_is_dropped_no_longer_waits() {
    everywhere(async |servers: &mut Servers| {
        servers.options.roles.exclude = vec!["late".to_owned()];
        servers.replicate(&["create role late; create table t (x int); grant select on t to late"]).await;
        assert_eq!(servers.waiting().await, ["TABLE public.t: late"]);
        servers.replicate(&["drop table t"]).await;
        assert_eq!(servers.waiting().await, Vec::<String>::new());
        servers.replicate(&["create table t (x int); grant select on t to late", "revoke select on t from late"]).await;
        assert_eq!(servers.waiting().await, Vec::<String>::new());
    });
}
