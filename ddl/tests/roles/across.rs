//! D38: from the oldest version to the newest, and back.

use crate::grants::{SETTING, acls};
use crate::servers::{Servers, across_versions};
use crate::session::text;

/// MAINTAIN is of 17 and later; who owns schema public is another one from 15 on, and PUBLIC may no longer create in it.
fn differs(line: &str) -> bool {
    line.contains(" MAINTAIN ") || line.starts_with("schema public ")
}

#[test]
fn d38_privileges_that_both_versions_know_arrive() {
    across_versions(async |servers: &mut Servers| {
        for step in [
            SETTING,
            "grant all on s.t to a with grant option; grant select on all tables in schema s to public; grant update \
                 (x) on s.t to b",
            "revoke all on s.t from a, owner; alter default privileges for role owner grant all on tables to b",
            "set role owner; create table s.late (x int); reset role; revoke insert on s.late from b",
            "reassign owned by owner to c",
        ] {
            servers.replicate(&[step]).await;
            servers.assert_same_but(step, &acls(), differs).await;
        }
    });
}

#[test]
fn d38_memberships_never_give_more_than_on_the_source() {
    across_versions(async |servers: &mut Servers| {
        let members = "select string_agg(concat_ws(' ', pg_get_userbyid(roleid), pg_get_userbyid(member), \
             admin_option), ', ' \
              order by pg_get_userbyid(roleid), pg_get_userbyid(member)) from pg_auth_members where roleid >= 16384";
        let options = text(&servers.source, "show server_version_num").await.parse::<u32>().unwrap() >= 160_000;
        servers
            .replicate(&["create role g; create role h; create role a role g; create role b noinherit; grant h to \
             b with admin option; grant g to b"])
            .await;
        servers.assert_same("memberships", members).await;
        if options {
            let outcomes = servers
                .replicate(&["create role c; grant g to c with set false; grant h to c with inherit false"])
                .await;
            let told = outcomes.iter().flat_map(|o| &o.skipped).any(|s| s.why.contains("membership without SET"));
            assert!(told, "{outcomes:?}");
            assert_eq!(text(&servers.admin, "select pg_has_role('c', 'g', 'member')").await, "f");
        }
        servers.replicate(&["revoke h from b; revoke g from b; drop role g"]).await;
        assert!(text(&servers.admin, "select count(*) from pg_roles where rolname = 'g'").await == "0");
    });
}
