//! What people see in a terminal, and what programs read of the service's output.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::service::{Mirror, until};

const SOON: Duration = Duration::from_secs(30);
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A mirror that has nothing to do.
fn mirror() -> Mirror {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE account (id int PRIMARY KEY)");
    mirror.set_up();
    mirror
}

#[test]
fn the_status_fills_a_terminal_until_ctrl_c_and_leaves_it_as_it_was() {
    let mirror = mirror();
    let service = mirror.run();
    mirror.catch_up(&service);
    let typescript = mirror.config_file().with_file_name("typescript");
    let command =
        format!("exec '{}' -c '{}' status --watch", env!("CARGO_BIN_EXE_walcast"), mirror.config_file().display());
    // util-linux' script gives the program a terminal; what is typed goes there.
    let mut script = Command::new("script");
    script
        .args(["-qfec", &command])
        .arg(&typescript)
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let seen = || fs::read(&typescript).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let drawn = |text: &str| text.contains(ENTER) && text.contains("\x1b[32mstreaming") && text.contains("berlin");
    until("the screen is drawn twice", SOON, || drawn(&seen()) && seen().matches("Ctrl-C ends").count() >= 2);
    assert!(!seen().contains(LEAVE));
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    until("Ctrl-C ends it", SOON, || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success() && seen().contains(LEAVE), "{}", seen());
    mirror.finish(service);
}

#[test]
fn the_service_can_log_one_object_of_json_for_each_event() {
    let mirror = mirror();
    let service = mirror.run_with(&[("WALCAST_LOG_FORMAT", "json")]);
    mirror.catch_up(&service);
    let messages = service.messages();
    assert!(!messages.is_empty());
    for line in messages.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let has = |key: &str| event[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("timestamp") && has("level") && event["fields"]["message"].is_string(), "{line}");
    }
    mirror.finish(service);
}
