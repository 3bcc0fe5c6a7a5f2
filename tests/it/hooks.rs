//! The program that is told of errors.

use std::fs;
use std::time::Duration;

use crate::service::{CATCH_UP, Mirror, until};

const TABLE: &str = "CREATE TABLE account (id int PRIMARY KEY, owner text)";

/// Has the second target stop over a row that it has already.
fn stop_tokyo(mirror: &Mirror) -> String {
    mirror.at_target(1, "INSERT INTO account VALUES (1, 'local')");
    mirror.at_source("INSERT INTO account VALUES (1, 'source')");
    mirror.until_stopped(1)
}

#[test]
fn a_program_is_told_of_a_stopped_target_and_nothing_waits_for_it() {
    let mirror = Mirror::new(2);
    let told = mirror.config_file().with_file_name("told");
    // It writes down what it was told and hangs; its child names the directory, so that the test finds what is left of it.
    let script = "env > '{}.part' && mv '{}.part' '{}'; tail -f '{}'".replace("{}", &told.display().to_string());
    mirror.reconfigure(|text| text + &format!("[hooks]\non_error = ['sh', '-c', '''{script}''']\n"));
    mirror.everywhere(TABLE);
    mirror.set_up();
    let service = mirror.run();
    let error = stop_tokyo(&mirror);
    until("the program was told", CATCH_UP, || told.exists());
    let variables = fs::read_to_string(&told).unwrap();
    let value = |name: &str| variables.lines().find_map(|line| line.strip_prefix(&format!("WALCAST_{name}=")));
    assert_eq!((value("TARGET"), value("STATE"), value("SQLSTATE")), (Some("tokyo"), Some("stopped"), Some("23505")));
    assert_eq!(value("RELATION"), Some("public.account"));
    assert!(value("MESSAGE").is_some_and(|message| error.starts_with(message)), "{variables}\n{error}");
    assert!(error.contains(&format!("lsn {}", value("LSN").unwrap())), "{variables}\n{error}");

    // It hangs, and both targets go on.
    mirror.at_source("INSERT INTO account SELECT g, 'x' FROM generate_series(2, 500) g");
    mirror.catch_up_one(0, &service);
    mirror.at_target(1, "DELETE FROM account");
    mirror.walcast(&["resume", "tokyo"]);
    // A clean stop, while it still hangs, leaves no process behind: `finish` looks.
    mirror.finish(service);
}

#[test]
fn a_program_that_takes_too_long_is_killed_and_one_that_cannot_be_run_is_named() {
    let mirror = Mirror::new(2);
    mirror.reconfigure(|text| {
        text + "[hooks]\non_error = ['sleep', '1000']\non_error_timeout = '200ms'\non_error_interval = '0'\n"
    });
    mirror.everywhere(TABLE);
    mirror.set_up();
    let service = mirror.run();
    stop_tokyo(&mirror);
    until("the program is killed", Duration::from_secs(30), || service.messages().contains("on_error took too long"));
    service.sigterm();

    mirror.reconfigure(|text| text.replace("'sleep', '1000'", "'/nowhere/to-be-found'"));
    let service = mirror.run();
    until("the program is named", Duration::from_secs(60), || service.messages().contains("/nowhere/to-be-found"));
    mirror.at_target(1, "DELETE FROM account");
    mirror.walcast(&["resume", "tokyo"]);
    mirror.finish(service);
}
