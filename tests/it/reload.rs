//! SIGHUP: what changed in the configuration is done while the rest goes on.

use std::fs;

use crate::service::{CATCH_UP, Mirror, Service, until};

const SCHEMA: &str =
    "CREATE TABLE account (id int PRIMARY KEY, owner text); CREATE TABLE note (id int PRIMARY KEY, body text)";

/// Reloads, and waits until the service says that it has, or that it has not.
fn reload(service: &Service) -> String {
    let before = service.messages().len();
    service.hang_up();
    let answered = |text: &str| text.contains("the configuration is reloaded") || text.contains("is not reloaded");
    until("the service answers SIGHUP", CATCH_UP, || answered(&service.messages()[before..]));
    let messages = service.messages()[before..].to_owned();
    messages.lines().filter(|line| answered(line)).map(str::to_owned).collect::<Vec<_>>().join("\n")
}

/// The backend that applies to a target.
fn backend(mirror: &Mirror, at: usize) -> String {
    let session = format!("SELECT pid FROM pg_stat_activity WHERE application_name = 'walcast {}'", mirror.names()[at]);
    mirror.at_target(at, &session).trim().to_owned()
}

/// A mirror that runs, with everything applied.
fn running(targets: usize) -> (Mirror, Service) {
    let mirror = Mirror::new(targets);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO account VALUES (1, 'a')");
    mirror.catch_up(&service);
    (mirror, service)
}

/// The part of the configuration that declares the last target, taken out.
fn without_last(text: String) -> String {
    text[..text.rfind("[[target]]").unwrap()].to_owned()
}

#[test]
fn a_target_is_taken_out_and_put_in_again_while_another_keeps_its_session() {
    let (mirror, service) = running(2);
    let whole = fs::read_to_string(mirror.config_file()).unwrap();
    let session = backend(&mirror, 0);
    assert_ne!(session, "");

    mirror.reconfigure(without_last);
    let told = reload(&service);
    assert!(told.ends_with("the configuration is reloaded: removed tokyo"), "{told}");
    until("nobody is connected to tokyo", CATCH_UP, || backend(&mirror, 1).is_empty());
    assert_eq!(mirror.status()["targets"].as_array().unwrap().len(), 1);
    mirror.at_source("INSERT INTO account VALUES (2, 'b'); INSERT INTO note VALUES (1, 'x')");
    mirror.catch_up_one(0, &service);
    assert_eq!(mirror.at_target(1, "SELECT count(*) FROM account").trim(), "1");

    // Its place was not forgotten: it goes on from there, and gets nothing twice.
    fs::write(mirror.config_file(), whole).unwrap();
    let told = reload(&service);
    assert!(told.ends_with("the configuration is reloaded: added tokyo"), "{told}");
    mirror.catch_up(&service);
    mirror.assert_same();
    assert_eq!(backend(&mirror, 0), session, "the target that did not change has another session");
    assert!(reload(&service).ends_with("the configuration is reloaded: it is the same"));
    assert_eq!(backend(&mirror, 0), session);
    mirror.finish(service);
}

#[test]
fn a_target_that_was_never_there_is_added_copied_and_followed() {
    let mirror = Mirror::new(2);
    mirror.everywhere(SCHEMA);
    let whole = fs::read_to_string(mirror.config_file()).unwrap();
    mirror.reconfigure(without_last);
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "--no-copy", "berlin"]);
    let service = mirror.run();
    mirror.at_source("INSERT INTO account SELECT g, 'x' FROM generate_series(1, 1000) g");
    mirror.catch_up_one(0, &service);
    let session = backend(&mirror, 0);

    fs::write(mirror.config_file(), whole).unwrap();
    let refused = mirror.run_cli(&["bootstrap", "--schema-exists", "tokyo"]);
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("the service has no target \"tokyo\"") && refused.contains("SIGHUP"), "{refused}");
    assert!(reload(&service).ends_with("added tokyo"));
    until("tokyo is new", CATCH_UP, || mirror.target_status(1)["state"] == "new");
    mirror.walcast(&["bootstrap", "--schema-exists", "tokyo"]);
    mirror.at_source("UPDATE account SET owner = 'y' WHERE id % 2 = 0");
    mirror.catch_up(&service);
    assert_eq!(backend(&mirror, 0), session);
    mirror.finish(service);
}

#[test]
fn a_target_that_changed_gets_a_new_session_and_goes_on_from_its_place() {
    let (mirror, service) = running(2);
    let sessions = [backend(&mirror, 0), backend(&mirror, 1)];
    // It stays paused, too.
    mirror.walcast(&["pause", "tokyo"]);
    mirror.reconfigure(|text| text + "batch_max_rows = 7\n");
    assert!(reload(&service).ends_with("the configuration is reloaded: changed tokyo"));
    assert_eq!(mirror.target_status(1)["state"], "paused");
    mirror.walcast(&["resume", "tokyo"]);
    mirror.at_source("INSERT INTO account SELECT g, 'x' FROM generate_series(2, 500) g");
    mirror.catch_up(&service);
    assert_eq!(backend(&mirror, 0), sessions[0]);
    assert_ne!(backend(&mirror, 1), sessions[1]);

    mirror.finish(service);
}

#[test]
fn tables_that_come_to_be_selected_concern_every_target_and_no_waiting_command() {
    let mirror = Mirror::new(2);
    mirror.reconfigure(|text| text.replacen("[log]", "tables = [\"public.account\"]\n[log]", 1));
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO account VALUES (1, 'a'); INSERT INTO note VALUES (1, 'before')");
    mirror.catch_up(&service);
    assert_eq!(mirror.at_target(0, "SELECT count(*) FROM note").trim(), "0");
    let sessions = [backend(&mirror, 0), backend(&mirror, 1)];
    let waiting = mirror.command(&["wait", "berlin", "--lsn", "FFFF/0", "--timeout", "600"]).spawn();
    let mut waiting = Waiting(waiting.unwrap());
    until("the command waits", CATCH_UP, || conversations(&mirror) == 1);

    mirror.reconfigure(|text| text.replacen("\"public.account\"", "\"public.account\", \"public.note\"", 1));
    assert!(reload(&service).ends_with("the configuration is reloaded: changed berlin, tokyo"));
    until("it is said that setup is to be run", CATCH_UP, || service.messages().contains("run `walcast setup`"));
    mirror.walcast(&["setup"]);
    mirror.at_source("INSERT INTO note VALUES (2, 'after')");
    for (at, session) in sessions.iter().enumerate() {
        until("the table is copied", CATCH_UP, || mirror.at_target(at, "SELECT count(*) FROM note").trim() == "2");
        assert_ne!(&backend(&mirror, at), session);
    }
    assert!(waiting.0.try_wait().unwrap().is_none(), "the waiting command has ended");
    drop(waiting);
    mirror.finish(service);
}

/// Connections to the service's control socket.
fn conversations(mirror: &Mirror) -> usize {
    let socket = mirror.log_dir().join("control.sock").display().to_string();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    // The first is the one that listens.
    sockets.lines().filter(|line| line.ends_with(&socket)).count().saturating_sub(1)
}

/// A command that is ended with the test.
struct Waiting(std::process::Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_bad_file_and_what_needs_a_restart_change_nothing() {
    let (mirror, service) = running(2);
    let whole = fs::read_to_string(mirror.config_file()).unwrap();
    let session = backend(&mirror, 0);
    for (bad, named) in [
        (whole.replace("[http]", "[htttp]"), "unknown field `htttp`"),
        (
            whole.clone() + "[[target]]\nname = \"berlin\"\nconninfo = \"host=x\"\n",
            "target \"berlin\" is declared twice",
        ),
        (without_last(whole.replace("slot = \"walcast_it\"", "slot = \"other\"")), "[source] slot needs a restart"),
        (
            whole.replace("listen = \"\"", "listen = \"127.0.0.1:1\"").replace("dir = \"log\"", "dir = \"elsewhere\""),
            "[log] dir, [http] listen needs a restart",
        ),
    ] {
        fs::write(mirror.config_file(), bad).unwrap();
        let told = reload(&service);
        assert!(told.contains("the configuration is not reloaded, nothing has changed"), "{told}");
        assert!(told.contains(named) && told.lines().count() == 1, "{told}");
    }
    fs::remove_file(mirror.config_file()).unwrap();
    assert!(reload(&service).contains("could not read configuration file"));
    fs::write(mirror.config_file(), whole).unwrap();
    assert_eq!(backend(&mirror, 0), session);
    mirror.at_source("INSERT INTO account VALUES (2, 'b')");
    mirror.finish(service);
}

#[test]
fn the_level_is_the_files_unless_it_was_given() {
    let debug = |service: &Service| service.messages().contains("DEBUG");
    let (mirror, service) = running(1);
    assert!(!debug(&service));
    let session = backend(&mirror, 0);
    mirror.reconfigure(|text| text + "[service]\nlog_level = \"debug\"\n");
    assert!(reload(&service).ends_with("no target is concerned"));
    mirror.at_source("INSERT INTO account VALUES (2, 'b')");
    until("something is logged for debugging", CATCH_UP, || debug(&service));
    assert_eq!(backend(&mirror, 0), session);
    service.sigterm();

    // It is read at the start, too; what the environment says goes before it.
    fs::write(mirror.service_log(), "").unwrap();
    let service = mirror.run_with(&[("WALCAST_LOG", "info")]);
    mirror.catch_up(&service);
    reload(&service);
    assert!(!debug(&service), "{}", service.messages());
    service.sigterm();
    let service = mirror.run();
    until("something is logged for debugging", CATCH_UP, || debug(&service));
    mirror.finish(service);
}

#[test]
fn the_file_alone_is_checked_without_any_server() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("walcast.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_walcast"));
        let output = command.arg("-c").arg(&file).args(["check", "--config-only"]).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), texts)
    };
    // Nothing listens on port 1, and nobody is asked.
    let good = "[source]\nconninfo = 'host=127.0.0.1 port=1 user=x password=canary'\n\
                [[target]]\nname = 'berlin'\nconninfo = 'host=127.0.0.1 port=1'\n";
    let (code, [out, err]) = check(good);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, format!("pass  config    {} can be used: 1 target (berlin)\n", file.display()));

    for (bad, message, hint) in [
        (
            good.replace("berlin", "Ber lin"),
            "walcast.toml:4:8: \"Ber lin\" is not a target name",
            "target names are of",
        ),
        (good.replace("[source]\n", "[source]\nslto = 'x'\n"), "walcast.toml:2:1: unknown field `slto`", "every key"),
        (good.replace("user=x", "usr=x"), "walcast.toml:2:12: ", "write a URI"),
    ] {
        let (code, [out, err]) = check(&bad);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        let lines: Vec<&str> = err.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains(message) && lines[1].starts_with("hint: "), "{err}");
        assert!(lines[1].contains(hint) && !err.contains("canary"), "{err}");
    }
}
