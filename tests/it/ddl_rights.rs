//! The same by a login that is no superuser, with what an administrator ran once; and what an attacker gains by it.

use std::process::Command;

use crate::ddl::{CASES, assert_equal, play_as};
use crate::postgres::DATABASE;
use crate::service::{Mirror, Service};

/// A mirror whose target is logged in to as a role without any attribute, after its administrator ran the printed SQL.
fn begin() -> (Mirror, Service) {
    let mirror = Mirror::new(1);
    mirror.at_target(0, "CREATE ROLE walcast LOGIN");
    mirror.reconfigure(|text| {
        let (source, target) = text.split_at(text.find("[[target]]").unwrap());
        source.to_owned() + &target.replace("user=postgres", "user=walcast")
    });
    mirror.walcast(&["setup"]);
    let printed = mirror.walcast(&["setup", "--target", "berlin", "--print-sql"]);
    mirror.at_target(0, &printed);
    mirror.walcast(&["bootstrap", "--no-copy", "berlin"]);
    mirror.walcast(&["check"]);
    let service = mirror.run();
    (mirror, service)
}

/// Objects of a superuser of the source belong to nobody there, so an ordinary role does it all.
#[test]
fn x07_a_login_without_privileges_applies_all_kinds_of_ddl() {
    let (mirror, service) = begin();
    mirror.at_source(
        "CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner; GRANT CREATE ON DATABASE app TO owner",
    );
    play_as(&mirror, &service, CASES, "owner");
    assert!(!service.messages().contains(" ERROR "), "{}", service.messages());
    mirror.finish(service);
}

/// What the target knows the service by comes from a key on the source. A session that began with the old one goes on with
/// the new one.
#[test]
fn a_renewed_token_needs_no_restart() {
    let (mirror, service) = begin();
    let renew = || {
        mirror.at_source(
            "UPDATE walcast.secret SET inner_key = sha256(inner_key) || sha256(outer_key),
                outer_key = sha256(outer_key) || sha256(inner_key)",
        )
    };
    let tell = || mirror.at_target(0, &mirror.walcast(&["setup", "--target", "berlin", "--print-sql"]));
    mirror.at_source("CREATE ROLE owner; GRANT CREATE ON SCHEMA public TO owner");
    let as_owner = |script: &str| mirror.at_source(&format!("SET SESSION AUTHORIZATION owner; {script}"));
    as_owner("CREATE TABLE t (id int PRIMARY KEY)");
    assert_equal(&mirror, &service, "the first token");
    renew();
    tell();
    as_owner("ALTER TABLE t ADD v int; INSERT INTO t VALUES (1, 2)");
    assert_equal(&mirror, &service, "the second token");
    assert!(service.messages().contains("does not take the session's token"), "{}", service.messages());
    assert!(!service.messages().contains(" ERROR "), "it is no error that stops a target: {}", service.messages());
    // Known to nobody yet, and the service was asked to begin anew.
    renew();
    mirror.walcast(&["pause", "berlin"]);
    mirror.walcast(&["resume", "berlin"]);
    as_owner("ALTER TABLE t ADD w int; INSERT INTO t VALUES (2, 2, 2)");
    let error = mirror.until_stopped(0);
    assert!(error.contains("only walcast may call this"), "{error}");
    tell();
    mirror.walcast(&["resume", "berlin"]);
    assert_equal(&mirror, &service, "the third token");
    mirror.finish(service);
}

/// What an administrator installed is not made anew by the service: it says who has to do what.
#[test]
fn a_target_that_lacks_a_function_of_a_newer_version_says_that_it_is_to_be_set_up() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE ROLE r; CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO r");
    mirror.catch_up(&service);
    mirror.at_target(0, "DROP FUNCTION walcast.rename_role(text, text, text)");
    mirror.at_source("ALTER ROLE r RENAME TO s; ALTER TABLE t ADD v int");
    let error = mirror.until_stopped(0);
    assert!(error.contains("walcast.rename_role"), "{error}");
    let shown = mirror.walcast(&["status"]);
    assert!(shown.contains("walcast setup --target NAME --print-sql"), "{shown}");
    mirror.at_target(0, &mirror.walcast(&["setup", "--target", "berlin", "--print-sql"]));
    mirror.walcast(&["resume", "berlin"]);
    assert_equal(&mirror, &service, "the administrator was here");
    mirror.finish(service);
}

/// Code that its owner brings into DDL and rows: each piece would make him a superuser if it ran with a superuser's rights.
#[test]
fn x05_code_of_an_attacker_runs_with_his_own_rights_on_a_target() {
    let (mirror, service) = begin();
    mirror.at_source("CREATE ROLE mallory LOGIN; CREATE SCHEMA m AUTHORIZATION mallory");
    let script = "
         SET search_path = m; CREATE FUNCTION evil () RETURNS int LANGUAGE plpgsql AS $$
         BEGIN BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
             BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN NULL; END;
             BEGIN ALTER ROLE mallory SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1; END $$;
         CREATE FUNCTION evil_trigger () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM m.evil(); RETURN NEW; END $$;
         CREATE FUNCTION evil_immutable (int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT m.evil()';
         CREATE TABLE own (id int PRIMARY KEY); INSERT INTO own VALUES (1), (2);
         ALTER TABLE own ADD b int DEFAULT evil(); CREATE INDEX ON own (evil_immutable(id));
         ALTER TABLE own ADD CHECK (evil_immutable(id) = 1); CREATE DOMAIN d AS int CHECK (evil_immutable(VALUE) = 1);
         ALTER TABLE own ADD c d DEFAULT 1; CREATE MATERIALIZED VIEW mv AS SELECT evil() AS e; REFRESH MATERIALIZED VIEW mv;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON own DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION evil_trigger(); ALTER TABLE own ENABLE ALWAYS TRIGGER late;
         INSERT INTO own (id) VALUES (3); UPDATE own SET b = 2";
    let mallory = mirror.source.conninfo(DATABASE).with("user", "mallory").to_string();
    let mut psql = Command::new(mirror.source.installation().client("psql").unwrap());
    let ran = psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &mallory, "-c", script]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_equal(&mirror, &service, "X05");
    let supers = mirror.at_target(0, "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper");
    assert_eq!(supers.trim(), "postgres");
    mirror.finish(service);
}
