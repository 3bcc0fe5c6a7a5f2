//! D18, D21: privileges and owners of all kinds of objects, default privileges.

use crate::servers::{LOGIN, Servers, everywhere};
use crate::session::text;

/// Owner and privileges of everything, a line each; walcast's own are left out, and what it has granted its login.
pub(crate) fn acls() -> String {
    format!(
        "with o (class, oid, owner, items, at) as ( \
           select 'pg_class'::regclass::oid, oid, relowner, coalesce(relacl, acldefault(case relkind when 'S' then \
           's' else 'r' end::\"char\", relowner)), relnamespace \
             from pg_class where relkind in ('r', 'p', 'v', 'm', 'f', 'S') \
           union all select 'pg_proc'::regclass, oid, proowner, coalesce(proacl, acldefault('f', proowner)), \
           pronamespace from pg_proc \
           union all select 'pg_type'::regclass, oid, typowner, coalesce(typacl, acldefault('T', typowner)), \
           typnamespace from pg_type where typrelid = 0 and typelem = 0 \
           union all select 'pg_namespace'::regclass, oid, nspowner, coalesce(nspacl, acldefault('n', nspowner)), \
           oid from pg_namespace \
           union all select 'pg_language'::regclass, oid, lanowner, coalesce(lanacl, acldefault('l', lanowner)), 0 \
           from pg_language \
           union all select 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, coalesce(fdwacl, acldefault('F', \
           fdwowner)), 0 from pg_foreign_data_wrapper \
           union all select 'pg_foreign_server'::regclass, oid, srvowner, coalesce(srvacl, acldefault('S', \
           srvowner)), 0 from pg_foreign_server), \
         mine as (select o.*, i.identity, i.type from o, pg_identify_object(o.class, o.oid, 0) i left join \
         pg_namespace n on n.oid = 0 \
                   where (o.oid >= 16384 or i.identity = 'public') \
                     and not exists (select from pg_namespace w where w.oid = o.at and (w.nspname = 'walcast' or \
                     w.nspname ~ '^pg_'))) \
         select type || ' ' || identity || ' owner ' || pg_get_userbyid(owner) from mine \
         union all select concat_ws(' ', m.type, m.identity, case x.grantee when 0 then 'PUBLIC' else \
         pg_get_userbyid(x.grantee) end, 'by', \
                pg_get_userbyid(x.grantor), x.privilege_type, x.is_grantable) from mine m, aclexplode(m.items) x \
                where x.grantee is distinct from (select oid from pg_roles where rolname = '{LOGIN}') \
         union all select concat_ws(' ', 'column', m.identity, a.attname, case x.grantee when 0 then 'PUBLIC' else \
         pg_get_userbyid(x.grantee) end, 'by', \
                pg_get_userbyid(x.grantor), x.privilege_type, x.is_grantable) \
           from mine m join pg_attribute a on a.attrelid = m.oid and m.class = 'pg_class'::regclass and not \
           a.attisdropped, aclexplode(a.attacl) x \
         union all select concat_ws(' ', 'default', pg_get_userbyid(d.defaclrole), (select nspname from pg_namespace \
         n where n.oid = d.defaclnamespace), d.defaclobjtype, \
                case x.grantee when 0 then 'PUBLIC' else pg_get_userbyid(x.grantee) end, x.privilege_type, \
                x.is_grantable) from pg_default_acl d, aclexplode(d.defaclacl) x \
         order by 1"
    )
}

/// Roles for everything below, and objects of each kind that has privileges.
pub(crate) const SETTING: &str = "create role owner; create role a; create role b; create role c; create role grp; \
     grant grp to a; \
     create schema s authorization owner; grant usage on schema s to a, b; set role owner; \
     create table s.t (x int, y int, \"Z\"\"z\" int); create table s.p (k int) partition by list (k); create table \
     s.p1 partition of s.p for values in (1); \
     create view s.v as select * from s.t; create materialized view s.m as select * from s.t; create sequence s.q; \
     create function s.f(int, text) returns int language sql as 'select 1'; create procedure s.pr() language sql as \
     'select 1'; \
     create aggregate s.agg(int) (sfunc = int4pl, stype = int); create aggregate s.cnt(*) (sfunc = int8inc, stype = \
     int8, initcond = 0); \
     create type s.e as enum ('a'); create domain s.d as int; create type s.c as (a int); reset role";

#[test]
fn d18_privileges_are_granted_and_revoked_as_on_the_source() {
    everywhere(async |servers: &mut Servers| {
        let steps = [
            SETTING,
            "grant select, insert on s.t to a with grant option; grant update (x, \"Z\"\"z\") on s.t to b; grant all \
                 on s.t to c; grant select on s.v, s.m, s.p, s.p1 to public",
            "set role a; grant select on s.t to b with grant option; reset role; set role b; grant select on s.t to \
                 c; reset role",
            "grant usage on schema s to public; grant create on schema s to a with grant option; grant usage, update \
                 on sequence s.q to a, b",
            "grant execute on function s.f(int, text) to a with grant option; revoke execute on function s.f(int, \
                 text) from public; \
             grant execute on procedure s.pr() to b; revoke all on procedure s.pr() from public; \
             revoke execute on function s.agg(int) from public; grant execute on function s.cnt() to c",
            "grant usage on type s.e to a; revoke usage on domain s.d from public; revoke all on type s.c from \
                 public, owner",
            // options and chains
            "revoke grant option for select on s.t from a cascade",
            "grant select on s.t to a with grant option; set role a; grant select on s.t to b; reset role; revoke \
                 select on s.t from a cascade",
            "grant select (x), references (y) on s.t to a with grant option; set role a; grant select (x) on s.t to \
                 b; reset role",
            "grant select on s.t to b; revoke select on s.t from b",
            "grant insert on s.t to c; grant insert (x) on s.t to c; revoke insert on s.t from c; grant insert (y) \
                 on s.t to c",
            "revoke all on s.t from c; revoke all on s.t from owner; grant select on s.t to owner with grant option",
            "alter table s.t rename x to xx; alter table s.t rename to tt; alter schema s rename to s2",
            "revoke update (xx) on s2.tt from b; grant all on all tables in schema s2 to c; grant execute on all \
                 routines in schema s2 to b",
            "alter table s2.tt drop column \"Z\"\"z\" cascade; revoke all on all tables in schema s2 from c, b, a, \
                 public cascade",
            "grant truncate, trigger, references on s2.tt to public; revoke truncate on s2.tt from public; grant all \
                 on schema public to a",
        ];
        for step in steps {
            servers.replicate(&[step]).await;
            servers.assert_same(step, &acls()).await;
        }
    });
}

#[test]
fn d18_default_privileges() {
    everywhere(async |servers: &mut Servers| {
        let steps = [
            "create role owner; create role a; create schema s authorization owner",
            "alter default privileges for role owner grant select on tables to a with grant option; alter default \
                 privileges for role owner in schema s grant insert on tables to public",
            "set role owner; create table s.t (x int); create function s.f() returns int language sql as 'select 1'; \
                 reset role",
            "alter default privileges for role owner revoke execute on functions from public; alter default \
                 privileges for role owner grant usage on sequences to a; \
             alter default privileges for role owner grant usage on types to a; alter default privileges for role \
             owner grant create on schemas to a",
            "set role owner; create function s.g() returns int language sql as 'select 1'; create sequence s.q; \
                 create type s.e as enum (); create table s.u (id serial); reset role",
            "alter default privileges for role owner revoke grant option for select on tables from a; alter default \
                 privileges for role owner in schema s revoke insert on tables from public",
            "alter default privileges for role owner revoke select on tables from a; alter default privileges for \
                 role owner grant execute on functions to public",
            "alter default privileges for role owner revoke all on tables from owner",
        ];
        for step in steps {
            servers.replicate(&[step]).await;
            servers.assert_same(step, &acls()).await;
        }
    });
}

#[test]
fn d21_owners_change_and_what_is_owned_is_dropped() {
    everywhere(async |servers: &mut Servers| {
        let steps = [
            SETTING,
            "grant select on s.t to a; set role a; reset role; alter table s.t owner to a; alter schema s owner to \
                 b; alter function s.f(int, text) owner to c",
            "reassign owned by owner to a",
            "alter type s.e owner to b; alter domain s.d owner to b; alter aggregate s.agg(int) owner to b; alter \
                 sequence s.q owner to c; alter materialized view s.m owner to c",
            "grant select on s.t to grp with grant option; grant usage on schema s to grp",
            "drop owned by c",
            "reassign owned by a to grp; drop owned by a; drop role a",
            "begin; create role late; create table s.late (x int); alter table s.late owner to late; commit",
            "drop owned by grp cascade",
        ];
        for step in steps {
            servers.replicate(&[step]).await;
            servers.assert_same(step, &acls()).await;
        }
    });
}

#[test]
fn what_the_target_grants_to_its_own_roles_stays() {
    everywhere(async |servers: &mut Servers| {
        servers.replicate(&[SETTING]).await;
        let local = "create role report; grant usage on schema s to report; grant select on s.t to report; grant \
             update (x) on s.t to report";
        servers.admin.batch_execute(local).await.unwrap();
        servers
            .replicate(&[
                "grant select on s.t to a, public; grant update (x) on s.t to b",
                "revoke all on s.t from a, b, public; alter table s.t owner to b",
            ])
            .await;
        let kept = "select has_schema_privilege('report', 's', 'usage'), has_table_privilege('report', 's.t', \
             'select'), \
                    has_column_privilege('report', 's.t', 'x', 'update'), has_table_privilege('a', 's.t', 'select')";
        assert_eq!(text(&servers.admin, kept).await, "t|t|t|f");
    });
}

#[test]
fn what_the_system_and_extensions_made_is_granted_by_a_superuser() {
    everywhere(async |servers: &mut Servers| {
        let grant = "create role r; grant execute on function pg_catalog.pg_ls_waldir() to r; revoke execute on \
             function pg_catalog.pg_sleep(float8) from public";
        let outcomes = servers.replicate(&[grant]).await;
        let has = "select has_function_privilege('r', 'pg_ls_waldir()', 'execute'), has_function_privilege('r', \
             'pg_sleep(float8)', 'execute')";
        let superuser = servers.login != crate::servers::Login::Least;
        assert_eq!(text(&servers.admin, has).await, if superuser { "t|f" } else { "f|t" });
        assert_eq!(outcomes.iter().any(|o| !o.skipped.is_empty()), !superuser, "{outcomes:?}");
        servers
            .replicate(&["revoke execute on function pg_catalog.pg_ls_waldir() from r; grant execute on function \
             pg_catalog.pg_sleep(float8) to public"])
            .await;
        assert_eq!(text(&servers.admin, has).await, "f|t");
    });
}
