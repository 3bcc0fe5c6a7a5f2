//! Roles, owners and privileges through the whole path; and that no secret is shown on the way.

use std::fs;

use crate::ddl::{assert_equal, begin, play};

use crate::postgres::sql;
use crate::service::{CATCH_UP, Mirror, until};

const CASES: &str = include_str!("sql/ddl_roles.sql");

#[test]
fn d17_d18_d21_roles_owners_and_privileges_arrive() {
    let (mirror, service) = begin();
    play(&mirror, &service, CASES);
    assert!(!service.messages().contains("ERROR"), "{}", service.messages());
    mirror.finish(service);
}

/// What a role may do to table t, on a target.
fn granted(mirror: &Mirror, role: &str) -> String {
    let sql = format!(
        "SELECT string_agg(privilege_type, ',' ORDER BY 1) FROM pg_class c, aclexplode(relacl) x
        WHERE c.oid = 'public.t'::regclass AND grantee::regrole::text = '{role}'"
    );
    mirror.at_target(0, &sql).trim().to_owned()
}

#[test]
fn d19_a_grant_to_a_role_that_a_target_lacks_waits_for_it() {
    let mirror = Mirror::new(1);
    mirror.reconfigure(|text| text + "[roles]\nexclude = [\"local_only\"]\n");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE local_only; CREATE ROLE other;
        GRANT SELECT ON t TO local_only, other",
    );
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM pg_roles WHERE rolname = 'local_only'").trim(), "0");
    assert_eq!(granted(&mirror, "other"), "SELECT");
    let waiting = || mirror.target_status(0)["pending_grants"].to_string();
    until("the status shows the grant that waits", CATCH_UP, || waiting().contains("local_only"));
    assert!(mirror.walcast(&["status"]).contains("local_only"));
    service.sigterm();
    mirror.reconfigure(|text| text.replace("[\"local_only\"]", "[]"));
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (1); ALTER ROLE local_only CONNECTION LIMIT 3");
    mirror.catch_up(&service);
    assert_eq!(granted(&mirror, "local_only"), "SELECT");
    until("nothing waits", CATCH_UP, || mirror.target_status(0)["pending_grants"].is_null());
    mirror.finish(service);
}

#[test]
fn a_role_that_a_target_had_is_neither_altered_nor_dropped_unless_it_is_adopted() {
    let mirror = Mirror::new(2);
    for (at, connections) in [(0, 3), (1, 4)] {
        mirror.at_target(
            at,
            &format!(
                "CREATE ROLE theirs CONNECTION LIMIT {connections}; CREATE ROLE ours CONNECTION LIMIT {connections}"
            ),
        );
    }
    mirror.reconfigure(|text| text + "[roles]\nadopt = [\"ours\"]\n");
    mirror.set_up();
    let service = mirror.run();
    let limit =
        |at, role: &str| mirror.at_target(at, &format!("SELECT rolconnlimit FROM pg_roles WHERE rolname = '{role}'"));
    mirror.at_source(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE theirs CONNECTION LIMIT 9;
        CREATE ROLE ours CONNECTION LIMIT 9; GRANT SELECT ON t TO theirs, ours",
    );
    mirror.catch_up(&service);
    assert_eq!((limit(0, "theirs").trim(), limit(0, "ours").trim()), ("3", "9"));
    assert_eq!(granted(&mirror, "ours"), "SELECT");
    assert!(service.messages().contains("theirs"), "the clash is reported:\n{}", service.messages());
    mirror.at_source("REVOKE ALL ON t FROM theirs, ours; DROP ROLE theirs; DROP ROLE ours");
    mirror.catch_up(&service);
    assert_eq!((limit(1, "theirs").trim(), limit(1, "ours").trim()), ("4", ""));
    mirror.finish(service);
}

/// Also those that nothing depends on yet, and none of them with more than the stream would give.
#[test]
fn x05_a_bootstrap_makes_roles_as_the_stream_does() {
    let mirror = Mirror::new(1);
    mirror.reconfigure(|text| text + "[roles]\nexclude = [\"local_only\"]\nadopt = [\"ours\"]\n");
    mirror.at_target(0, "CREATE ROLE ours CONNECTION LIMIT 4; CREATE ROLE theirs CONNECTION LIMIT 4");
    mirror.at_source(
        "CREATE ROLE keeper SUPERUSER REPLICATION BYPASSRLS LOGIN; CREATE TABLE t (id int PRIMARY KEY);
         ALTER TABLE t OWNER TO keeper; CREATE ROLE later VALID UNTIL '2035-01-01 00:00:00+00'; CREATE ROLE member LOGIN;
         GRANT later, pg_write_server_files, pg_monitor TO member; COMMENT ON ROLE later IS 'x';
         ALTER ROLE member SET work_mem = '8MB'; CREATE ROLE local_only; CREATE ROLE theirs; CREATE ROLE ours CONNECTION LIMIT 9",
    );
    mirror.walcast(&["setup"]);
    let told = mirror.walcast(&["bootstrap", "berlin"]);
    assert!(told.contains("keeper: SUPERUSER is not replicated"), "{told}");
    let of = |sql: &str| mirror.at_target(0, sql).trim().to_owned();
    let keeper = "SELECT rolsuper, rolreplication, rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = 'keeper'";
    assert_eq!(of(keeper), "f|f|f|t");
    let memberships = "SELECT string_agg(roleid::regrole::text, ',' ORDER BY 1) FROM pg_auth_members
        WHERE member = 'member'::regrole";
    assert_eq!(of(memberships), "later,pg_monitor");
    assert_eq!(of("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'member'::regrole"), "{work_mem=8MB}");
    assert_eq!(of("SELECT shobj_description('later'::regrole, 'pg_authid')"), "x");
    let ledger = "SELECT string_agg(name || ' ' || how, ',' ORDER BY name) FROM walcast.role";
    assert_eq!(of(ledger), "keeper created,later created,member created,ours adopted");
    let limits = "SELECT string_agg(rolconnlimit::text, ',' ORDER BY rolname) FROM pg_roles
        WHERE rolname IN ('ours', 'theirs', 'local_only')";
    assert_eq!(of(limits), "9,4");
    let service = mirror.run();
    mirror.at_source("GRANT SELECT ON t TO later; ALTER ROLE later CONNECTION LIMIT 7");
    mirror.catch_up(&service);
    assert_eq!(granted(&mirror, "later"), "SELECT");
    assert_eq!(of("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'later'"), "7");
    assert!(mirror.target_status(0)["pending_grants"].is_null());
    mirror.finish(service);
}

/// Passwords and the verifiers that the server makes of them.
const CANARIES: [&str; 5] = ["canary-role-Pa55", "canary-map-Pa55", "canary-server-Pa55", "SCRAM-SHA-256", "md5"];

#[test]
fn x12_no_password_and_no_verifier_is_shown_whether_they_are_replicated_or_not() {
    for passwords in [false, true] {
        let mirror = Mirror::new(1);
        mirror.reconfigure(|text| format!("{text}[roles]\npasswords = {passwords}\n"));
        mirror.set_up();
        let service = mirror.run_with(&[("WALCAST_LOG", "trace,tokio_postgres=info,mio=info")]);
        mirror.at_source(
            "CREATE ROLE keeper LOGIN PASSWORD 'canary-role-Pa55'; CREATE TABLE t (id int PRIMARY KEY);
                GRANT SELECT ON t TO keeper;
             CREATE FOREIGN DATA WRAPPER w;
                 CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (password 'canary-server-Pa55');
             CREATE USER MAPPING FOR keeper SERVER s OPTIONS (user 'u', password 'canary-map-Pa55')",
        );
        mirror.catch_up(&service);
        let verifier = "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = 'keeper'";
        let (ours, theirs) = (mirror.at_source(verifier), mirror.at_target(0, verifier));
        assert_eq!(theirs.trim(), if passwords { ours.trim() } else { "" });
        let options = mirror.at_target(0, "SELECT umoptions FROM pg_user_mappings");
        assert_eq!(options.contains("canary-map-Pa55"), passwords, "{options}");
        // A failure about the same objects, too.
        mirror.at_target(
            0,
            "CREATE FUNCTION no () RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
            CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION no(); ALTER EVENT TRIGGER no ENABLE ALWAYS",
        );
        mirror.at_source(
            "ALTER USER MAPPING FOR keeper SERVER s OPTIONS (SET password 'canary-map-Pa55 again');
            ALTER TABLE t ADD v int",
        );
        let error = mirror.until_stopped(0);
        let shown = [
            service.messages(),
            error,
            mirror.walcast(&["status"]),
            mirror.walcast(&["status", "--json"]),
            mirror.walcast(&["log", "dump"]),
            mirror.walcast(&["log", "dump", "--json"]),
        ];
        for (number, text) in shown.iter().enumerate() {
            for canary in CANARIES {
                assert!(
                    !text.contains(canary),
                    "{canary} is shown in text {number} with passwords = {passwords}: {text}"
                );
            }
        }
        let segments = fs::read_dir(mirror.log_dir())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().ends_with(".seg"));
        let bytes: Vec<u8> = segments.flat_map(|e| fs::read(e.path()).unwrap()).collect();
        let kept = bytes.windows(CANARIES[1].len()).any(|window| window == CANARIES[1].as_bytes());
        assert_eq!(kept, passwords, "secrets are in the segments only if they are replicated");
        mirror.at_target(0, "DROP EVENT TRIGGER no; DROP FUNCTION no ()");
        mirror.walcast(&["resume", "berlin"]);
        if passwords {
            assert_equal(&mirror, &service, "X12");
        }
        service.sigterm();
        sql(&mirror.source, "DROP SERVER s CASCADE");
        mirror.undo();
    }
}
