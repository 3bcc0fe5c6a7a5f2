//! D17, D20: roles, memberships, settings, the database's privileges.

use crate::grants::acls;
use crate::servers::{LOGIN, Login, Servers, everywhere};
use crate::session::text;

/// Roles with what is replicated of them; grantors of memberships count from 16 on.
pub(crate) fn roles() -> String {
    format!(
        "select concat_ws(' ', r.rolname, r.rolinherit, r.rolcreatedb, r.rolcanlogin, r.rolconnlimit, \
             coalesce(r.rolvaliduntil, 'infinity') at time zone 'UTC', a.rolpassword, \
             shobj_description(r.oid, 'pg_authid'), (select string_agg((s.setdatabase <> 0)::text || \
             s.setconfig::text, ' ' order by s.setdatabase <> 0) \
                 from pg_db_role_setting s where s.setrole = r.oid), \
             (select string_agg(concat_ws('/', pg_get_userbyid(m.roleid), m.admin_option, to_jsonb(m) -> \
             'inherit_option', to_jsonb(m) -> 'set_option', \
                     case when current_setting('server_version_num')::int >= 160000 then pg_get_userbyid(m.grantor) \
                     end), ' ' \
                     order by pg_get_userbyid(m.roleid), pg_get_userbyid(m.grantor)) \
                from pg_auth_members m where m.member = r.oid)) \
           from pg_roles r join pg_authid a on a.oid = r.oid \
          where r.oid >= 16384 and r.rolname not in ('{LOGIN}', 'walcast_nobody') order by 1"
    )
}

#[test]
fn d17_roles_are_made_altered_renamed_and_dropped() {
    everywhere(async |servers: &mut Servers| {
        let steps: &[&[&str]] = &[
            &[
                "create role r; create user u; create group gr; alter group gr add user u; alter user u with connection \
               limit 2; drop user u; drop group gr",
            ],
            &["alter role r login createdb noinherit connection limit 3 valid until '2031-02-03 04:05:06+00' \
                     password 'secret'; comment on role r is 'it''s'"],
            &["create role \"Odd \"\"role\"\"; --\"; create role \"user\" in role r; create role g role r admin \
                     \"user\""],
            &["alter role r set search_path = \"$user\", \"My Schema\", public; alter role r set work_mem = '3MB'; \
               alter role r in database src set statement_timeout = 5000; alter role \"user\" set timezone = \
               'Asia/Tokyo'"],
            &["alter role r reset work_mem; alter role r in database src reset all; alter role r rename to s"],
            &["revoke s from \"user\""],
            &["revoke admin option for g from \"user\"; grant g to \"Odd \"\"role\"\"; --\" with admin option"],
            &["alter role s inherit nologin nocreatedb connection limit -1 valid until 'infinity' password null; \
                     comment on role s is null"],
            &["grant pg_monitor to s; grant pg_read_all_stats to \"user\""],
            &["begin; create role x; savepoint p; create role y; rollback to p; commit"],
            &["drop role s; drop role \"user\"; drop role \"Odd \"\"role\"\"; --\"; create role s"],
            &["alter role x rename to t; alter role s rename to x; alter role t rename to s"],
        ];
        for step in steps {
            servers.replicate(step).await;
            servers.assert_same(step[0], &roles()).await;
        }
    });
}

/// Each role's privileges, memberships and attributes go with it, whoever has its name by then.
#[test]
fn d13_names_of_roles_are_exchanged_and_passed_on() {
    const SETTING: &str = "create role a connection limit 1; create role b connection limit 2; create role member; \
         set role keeper; create table of_a (x int); create table of_b (x int); create table granted (x int); \
         grant select on granted to a; grant insert on granted to b; create server s foreign data wrapper w; \
         create user mapping for a server s options (u 'a'); reset role; grant a to member; \
         alter table of_a owner to a; alter table of_b owner to b; \
         alter default privileges for role a grant select on tables to b";
    const SWAP: &str = "alter role a rename to x; alter role b rename to a; alter role x rename to b;";
    let cases = [
        ("exchanged", SWAP, ""),
        ("exchanged before a command", SWAP, "create table seen (x int)"),
        (
            "exchanged in a command's transaction",
            "begin; alter role a rename to x; alter role b rename to a; \
            alter role x rename to b; create table seen (x int); commit",
            "grant delete on granted to a",
        ),
        ("passed on", "alter role a rename to c; alter role b rename to a", ""),
        ("passed on to an older one", "alter role b rename to c; alter role a rename to b", ""),
        ("given to a new one", "alter role a rename to c; create role a connection limit 9", ""),
        (
            "given to a new one before a command",
            "alter role a rename to c; create role a connection limit 9",
            "create table seen (x int)",
        ),
        ("left by one that is gone", "drop owned by a; drop table granted; drop role a; alter role b rename to a", ""),
        (
            "left by one that is gone before a command",
            "drop owned by b; drop role b; alter role a rename to b",
            "create table seen (x int)",
        ),
        (
            "a name, then what is called after it goes",
            "alter role a rename to c; alter role b rename to a; \
            alter default privileges for role a grant insert on tables to c",
            "drop user mapping for c server s; drop owned by c",
        ),
        (
            "a name, then what is called after it changes",
            "alter role a rename to c",
            "alter user mapping for c server s options (set u 'c'); \
            alter default privileges for role c revoke select on tables from b",
        ),
    ];
    everywhere(async |servers: &mut Servers| {
        servers
            .admin
            .batch_execute("create foreign data wrapper w; grant usage on foreign data wrapper w to public")
            .await
            .unwrap();
        servers
            .replicate(&[
                "create role keeper; grant create on schema public to keeper; create foreign data wrapper w; \
                grant usage on foreign data wrapper w to public",
            ])
            .await;
        let mappings = "select pg_get_userbyid(umuser), umoptions from pg_user_mapping";
        for (name, first, then) in cases {
            servers.replicate(&[SETTING]).await;
            servers.replicate(&[first, then]).await;
            for sql in [roles(), acls(), mappings.to_owned()] {
                // A superuser's objects are the login's on the target.
                servers.assert_same_but(name, &sql, |line| line.contains("postgres") || line.contains(LOGIN)).await;
            }
            for role in ["a", "b", "c", "member"] {
                let exists = format!("select count(*) from pg_roles where rolname = '{role}'");
                if text(&servers.source, &exists).await == "1" {
                    servers.replicate(&[&format!("drop owned by {role} cascade"), &format!("drop role {role}")]).await;
                }
            }
            servers.replicate(&["drop table if exists granted, seen; drop server s cascade"]).await;
            servers.assert_same(name, &roles()).await;
        }
    });
}

/// A command tells which role has a name now, before a look tells what the one that had it owned.
#[test]
fn d13_a_role_whose_name_a_command_gives_to_another_one_is_dropped_in_the_end() {
    everywhere(async |servers: &mut Servers| {
        let other = servers.at_source().await;
        for keeps in [true, false] {
            servers
                .replicate(&["create role a connection limit 1; create role b connection limit 2; create role heir; \
                    create table t (x int); alter table t owner to b; grant create on database src to b"])
                .await;
            if !keeps {
                // somebody else is just keeping roles in the shadow, and is long in committing
                other.batch_execute("create role another; begin; create table keeper (x int)").await.unwrap();
            }
            let replace = "reassign owned by b to heir; revoke create on database src from b; drop role b; \
                 alter role a rename to b; create table seen (x int)";
            let mut outcomes = servers.replicate(&[replace]).await;
            if !keeps {
                other.batch_execute("commit").await.unwrap();
            }
            outcomes.extend(servers.replicate(&[]).await);
            servers.assert_same("roles", &roles()).await;
            let owner = "select tableowner from pg_tables where tablename = 't'";
            servers.assert_same("owner", owner).await;
            assert!(outcomes.iter().all(|o| o.skipped.is_empty()), "{outcomes:?}");
            servers.replicate(&["drop table t, seen; drop table if exists keeper; drop role b, heir"]).await;
            servers.assert_same("at the end", &roles()).await;
        }
    });
}

/// A role had them before on the target, so that what it has there besides is its own: only what the source had is revoked.
#[test]
fn d17_memberships_of_adopted_roles_are_revoked_whatever_the_roles_are_called_by_then() {
    everywhere(async |servers: &mut Servers| {
        servers.admin.batch_execute("create role m; create role local; grant local to m").await.unwrap();
        match servers.login {
            Login::Superuser | Login::SuperuserAsOwner => servers.options.roles.adopt = vec!["m".to_owned()],
            Login::Least => drop(text(&servers.admin, "select walcast.adopt('m')").await),
        }
        let members = "select string_agg(concat_ws(' ', pg_get_userbyid(roleid), pg_get_userbyid(member)), ', ' \
              order by pg_get_userbyid(roleid)) from pg_auth_members where member >= 16384 and roleid >= 16384";
        servers.replicate(&["create role m; create role g; create role h; create role n"]).await;
        for (steps, expected) in [
            (&["grant g to m", "alter role m rename to k"][..], "g k, local k"),
            (&["revoke g from k"], "local k"),
            (&["grant g to k", "alter role g rename to g2; revoke g2 from k"], "local k"),
            (&["grant g2 to k", "alter role g2 rename to g; create table t1 (x int); revoke g from k"], "local k"),
            (
                &["grant g to k", "alter role g rename to x; alter role h rename to g; alter role x rename to h"],
                "h k, local k",
            ),
            (
                &["alter role g rename to x; alter role h rename to g; alter role x rename to h; revoke g from k; \
                grant h to k; create table t2 (x int)"],
                "h k, local k",
            ),
            (
                &["alter role k rename to m; alter role h rename to i; revoke i from m; create table t3 (x int)"],
                "local m",
            ),
        ] {
            for step in steps {
                servers.replicate(&[step]).await;
            }
            assert_eq!(text(&servers.admin, members).await, expected, "{:?} {steps:?}", servers.login);
        }
    });
}

/// A role that had its name given to it goes, and another one is made under that name before anybody looks.
#[test]
fn d13_a_role_made_anew_under_a_given_name_is_dropped_and_renamed_as_itself() {
    everywhere(async |servers: &mut Servers| {
        for then in ["drop role b", "alter role b rename to c", "drop role c"] {
            if then != "drop role c" {
                servers.replicate(&["create role a login", "alter role a rename to b"]).await;
                servers.replicate(&["drop role b; create role b login"]).await;
            }
            servers.replicate(&[then]).await;
            servers.assert_same(then, &roles()).await;
        }
    });
}

/// Who tells of roles late, because his transaction took long, does not have the last word.
#[test]
fn d17_what_is_told_of_a_role_by_a_transaction_that_ends_late_is_not_what_stays() {
    everywhere(async |servers: &mut Servers| {
        let (other, third) = (servers.at_source().await, servers.at_source().await);
        let look = "begin isolation level repeatable read; select walcast.tick(false)";
        servers.replicate(&["create role g"]).await;

        servers.source.batch_execute("create role m1").await.unwrap();
        other.batch_execute("begin; create table t1 (a int)").await.unwrap();
        servers.replicate(&["grant g to m1"]).await;
        other.batch_execute("commit").await.unwrap();
        servers.replicate(&[]).await;
        servers.assert_same("a command that keeps roles in the shadow", &roles()).await;

        third.batch_execute("begin; create table t2 (a int)").await.unwrap();
        servers.source.batch_execute("create role m2").await.unwrap();
        other.batch_execute("begin; create table t3 (a int)").await.unwrap();
        third.batch_execute("commit").await.unwrap();
        servers.replicate(&["grant g to m2"]).await;
        other.batch_execute("commit").await.unwrap();
        servers.replicate(&[]).await;
        servers.assert_same("a command that cannot keep them", &roles()).await;

        servers.source.batch_execute("create role m3").await.unwrap();
        other.batch_execute("begin; create table t4 (a int)").await.unwrap();
        third.batch_execute(look).await.unwrap();
        other.batch_execute("commit").await.unwrap();
        servers.replicate(&["grant g to m3; create table t5 (a int)"]).await;
        third.batch_execute("commit").await.unwrap();
        servers.replicate(&[]).await;
        servers.assert_same("a look that cannot keep them", &roles()).await;
    });
}

#[test]
fn d17_memberships_have_options_and_grantors_from_16_on() {
    everywhere(async |servers: &mut Servers| {
        if servers.options.server_version < 160_000 {
            return;
        }
        for step in [
            "create role g; create role a; create role b; grant g to a with admin option; grant g to b with inherit \
                 false, set false granted by a",
            "grant g to b with inherit true",
            "grant g to b with set true",
            "revoke g from b granted by a",
            "revoke inherit option for g from a",
        ] {
            servers.replicate(&[step]).await;
            servers.assert_same(step, &roles()).await;
        }
    });
}

#[test]
fn d17_a_role_made_one_statement_before_can_be_granted_something() {
    everywhere(async |servers: &mut Servers| {
        servers.replicate(&["begin; create table t (a int); create role r; grant select on t to r; commit"]).await;
        let may = "select has_table_privilege('r', 'public.t', 'select')";
        assert_eq!(text(&servers.admin, may).await, "t");
        servers
            .replicate(&[
                "create role o; create schema authorization o; set role o; create table o.t (a int); reset role",
            ])
            .await;
        let owner = "select tableowner from pg_tables where schemaname = 'o'";
        assert_eq!(text(&servers.admin, owner).await, "o");
    });
}

#[test]
fn names_that_the_target_has_already_are_reported_and_not_taken_over() {
    everywhere(async |servers: &mut Servers| {
        servers
            .admin
            .batch_execute(
                "create role r connection limit 7; create role mine; create table m (a int); grant select on m to mine",
            )
            .await
            .unwrap();
        let made = "create role r; alter role r login; create role walcast; create role other";
        let mut outcomes = servers.replicate(&[made]).await;
        outcomes.extend(servers.replicate(&["drop role r"]).await);
        let skipped: Vec<&str> = outcomes.iter().flat_map(|o| &o.skipped).map(|s| s.object.as_str()).collect();
        assert!(skipped.contains(&"ROLE r"), "{outcomes:?}");
        assert_eq!(skipped.contains(&"ROLE walcast"), servers.login == Login::Least, "{outcomes:?}");
        let kept = "select rolconnlimit, rolcanlogin from pg_roles where rolname = 'r'";
        assert_eq!(text(&servers.admin, kept).await, "7|f");
        let kept = "select count(*) from pg_roles where rolname in ('other', 'mine')";
        assert_eq!(text(&servers.admin, kept).await, "2");
    });
}

#[test]
fn adopted_roles_are_altered_and_keep_what_is_theirs_here() {
    everywhere(async |servers: &mut Servers| {
        servers
            .admin
            .batch_execute("create role r; create role local; grant local to r; alter role r set work_mem = '7MB'")
            .await
            .unwrap();
        match servers.login {
            Login::Superuser | Login::SuperuserAsOwner => servers.options.roles.adopt = vec!["r".to_owned()],
            Login::Least => drop(text(&servers.admin, "select walcast.adopt('r')").await),
        }
        servers.replicate(&["create role r login"]).await;
        let kept = "select r.rolcanlogin, (select count(*) from pg_auth_members m where m.member = r.oid), s.setconfig \
                      from pg_roles r join pg_db_role_setting s on s.setrole = r.oid where r.rolname = 'r'";
        assert_eq!(text(&servers.admin, kept).await, "t|1|{work_mem=7MB}");
    });
}

#[test]
fn attributes_and_memberships_that_only_a_superuser_has_are_reported_once() {
    everywhere(async |servers: &mut Servers| {
        let outcomes = servers
            .replicate(&[
                "create role r superuser replication bypassrls createrole; grant pg_execute_server_program to r; \
             alter role r set log_statement = 'all'",
                "alter role r login",
            ])
            .await;
        let told: Vec<&str> = outcomes.iter().flat_map(|o| &o.skipped).map(|s| s.why.as_str()).collect();
        let expected = if servers.options.server_version < 160_000 { 6 } else { 5 };
        assert_eq!(told.len(), expected, "{told:?}");
        let has = "select rolsuper or rolreplication or rolbypassrls, (select count(*) from pg_auth_members m where \
             m.member = r.oid), rolcanlogin \
                     from pg_roles r where rolname = 'r'";
        assert_eq!(text(&servers.admin, has).await, "f|0|t");
    });
}

#[test]
fn roles_that_are_excluded_are_left_alone() {
    everywhere(async |servers: &mut Servers| {
        servers.options.roles.exclude = vec!["x".to_owned()];
        let outcomes =
            servers.replicate(&["create role x; create role y; grant x to y; alter role x login; drop role x"]).await;
        assert!(outcomes.iter().all(|o| o.done.iter().all(|d| d.object != "ROLE x")), "{outcomes:?}");
        let there = "select string_agg(rolname, ' ') from pg_roles where rolname in ('x', 'y')";
        assert_eq!(text(&servers.admin, there).await, "y");
    });
}

/// As if the excluded were not there: nobody is renamed to them nor from them, and what becomes of them meanwhile is not
/// done to what had their names.
#[test]
fn a_rename_to_or_from_an_excluded_name_renames_nothing() {
    everywhere(async |servers: &mut Servers| {
        servers.replicate(&["create role was connection limit 1; create role a connection limit 2"]).await;
        servers.options.roles.exclude = vec!["was".to_owned(), "x".to_owned()];
        let there = "select string_agg(rolname || ' ' || rolconnlimit, ', ' order by rolname) from pg_roles \
             where oid >= 16384 and rolname not in ('walcast', 'walcast_nobody')";
        for (step, expected, told) in [
            // walcast made it before it was excluded
            ("alter role was rename to b", "a 2, b 1, was 1", ""),
            ("create role x connection limit 3; alter role x rename to c", "a 2, b 1, c 3, was 1", ""),
            ("alter role c rename to x", "a 2, b 1, c 3, was 1", "ROLE c"),
            ("create role c connection limit 4", "a 2, b 1, c 4, was 1", ""),
            ("alter role x rename to y", "a 2, b 1, c 4, was 1, y 3", ""),
            ("alter role y rename to x; create table seen (x int)", "a 2, b 1, c 4, was 1, y 3", "ROLE y"),
            ("create role y connection limit 5; drop role x", "a 2, b 1, c 4, was 1, y 5", ""),
            ("alter role y rename to x; alter role a rename to y", "b 1, c 4, walcast_moved 5, was 1, y 2", "ROLE y"),
            ("drop role c; alter role x rename to c", "b 1, c 5, walcast_moved 5, was 1, y 2", ""),
            ("alter role c rename to x", "b 1, c 5, walcast_moved 5, was 1, y 2", "ROLE c"),
            (
                "drop role b; alter role x rename to b; create table seen_too (x int)",
                "b 5, c 5, walcast_moved 5, was 1, y 2",
                "",
            ),
        ] {
            let outcomes = servers.replicate(&[step]).await;
            let now = text(&servers.admin, there).await;
            let digits = |c: char| c.is_ascii_digit();
            let now = now.split(", ").map(|role| match role.strip_prefix("walcast_moved_") {
                Some(rest) => format!("walcast_moved{}", rest.trim_start_matches(digits)),
                None => role.to_owned(),
            });
            assert_eq!(now.collect::<Vec<_>>().join(", "), expected, "{step}: {outcomes:?}");
            let skipped: Vec<&str> = outcomes.iter().flat_map(|o| &o.skipped).map(|s| s.object.as_str()).collect();
            assert_eq!(skipped.join(" "), told, "{step}: {outcomes:?}");
        }
    });
}

#[test]
fn a_role_that_something_here_depends_on_is_not_dropped() {
    everywhere(async |servers: &mut Servers| {
        servers.replicate(&["create role r login"]).await;
        servers.admin.batch_execute("create table mine (a int); grant select on mine to r").await.unwrap();
        let outcomes = servers.replicate(&["drop role r"]).await;
        assert!(outcomes.iter().any(|o| o.skipped.iter().any(|s| s.object == "ROLE r")), "{outcomes:?}");
        assert_eq!(text(&servers.admin, "select rolcanlogin from pg_roles where rolname = 'r'").await, "f");
    });
}

#[test]
fn passwords_travel_only_if_they_are_to() {
    everywhere(async |servers: &mut Servers| {
        servers.options.roles.passwords = false;
        servers.replicate(&["create role r login password 'secret'"]).await;
        assert_eq!(text(&servers.admin, "select rolpassword from pg_authid where rolname = 'r'").await, "null");
        servers.options.roles.passwords = true;
        servers.replicate(&["alter role r password 'other'"]).await;
        servers.assert_same("password", "select rolpassword from pg_authid where rolname = 'r'").await;
    });
}

#[test]
fn d20_the_database_is_the_one_that_is_the_target() {
    everywhere(async |servers: &mut Servers| {
        let settings = "select setconfig from pg_db_role_setting s where setrole = 0";
        servers
            .replicate(&["create role r; grant create on database src to r with grant option; revoke connect, \
             temp on database src from public; \
             alter database src set work_mem = '2MB'; comment on database src is 'it''s'"])
            .await;
        servers.assert_same("settings", settings).await;
        let comment =
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()";
        servers.assert_same("comment", comment).await;
        let has = "select string_agg(concat_ws(' ', nullif(x.grantee, 0)::regrole, x.privilege_type, \
             x.is_grantable), ', ' order by x.privilege_type) \
              from pg_database d, aclexplode(d.datacl) x where d.datname = current_database() and x.grantee <> \
              d.datdba \
               and x.grantee is distinct from (select oid from pg_roles where rolname = 'walcast')";
        assert_eq!(text(&servers.admin, has).await, "r CREATE t");
        servers
            .replicate(&["revoke grant option for create on database src from r; grant temp on database src to \
             public; alter database src reset all"])
            .await;
        servers.assert_same("settings", settings).await;
        assert_eq!(text(&servers.admin, has).await, "r CREATE f, TEMPORARY f");
        servers.replicate(&["alter role r rename to s; revoke create on database src from s"]).await;
        assert_eq!(text(&servers.admin, has).await, "TEMPORARY f");
        servers.replicate(&["grant create on database src to s"]).await;
        servers
            .replicate(&["alter role s rename to r; create table t (a int); revoke create on database src from r"])
            .await;
        assert_eq!(text(&servers.admin, has).await, "TEMPORARY f");
    });
}
