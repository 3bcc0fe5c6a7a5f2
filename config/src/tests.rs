use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Config, Error};

const EXAMPLE: &str = include_str!("../walcast.example.toml");

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(Path::new("/etc/walcast.toml"), text)
}

/// The least that is valid.
fn minimal() -> Config {
    parse("[source]\nconninfo = 'host=a dbname=b user=c'\n[[target]]\nname = 'berlin'\nconninfo = 'host=d user=e'\n")
        .unwrap()
}

fn complaint(text: &str) -> (String, String) {
    let error = parse(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    (error.to_string(), error.hint().to_owned())
}

#[test]
fn the_example_parses() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.targets.len(), 1);
}

#[test]
fn every_default_in_the_example_is_the_codes() {
    // Every commented-out key, switched on, must change nothing.
    let is_key = |line: &str| line.strip_prefix('#').is_some_and(|l| l.starts_with(|c: char| c.is_ascii_lowercase()));
    let keys = EXAMPLE.lines().filter(|l| is_key(l)).count();
    assert_eq!(keys, 23, "keys with a default in the example");
    let switched_on: String =
        EXAMPLE.lines().map(|l| if is_key(l) { &l[1..] } else { l }).map(|l| format!("{l}\n")).collect();
    let (explicit, implicit) = (parse(&switched_on).unwrap(), parse(EXAMPLE).unwrap());
    assert_eq!(format!("{explicit:?}"), format!("{implicit:?}"));
    assert_eq!(implicit.log, minimal().log);
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = minimal();
    assert_eq!((config.source.slot.as_str(), config.source.publication.as_str()), ("walcast", "walcast"));
    assert!(config.source.selection.is_everything());
    assert_eq!(config.log.dir, PathBuf::from("/etc/walcast-log"));
    assert_eq!((config.log.segment_size, config.log.retain_min, config.log.retain_max), (64 << 20, 0, 64 << 30));
    assert_eq!(config.http.listen.as_deref(), Some("127.0.0.1:9464"));
    assert_eq!(config.targets[0].apply.batch_max_rows, 10_000);
    assert_eq!(config.targets[0].apply.batch_max_delay, Duration::from_millis(10));
    assert_eq!(config.targets[0].apply.workers, 1);
    assert_eq!(config.service.log_level, "info,tokio_postgres=warn");
    assert!(config.roles.replicate && !config.roles.passwords && config.roles.adopt.is_empty());
}

#[test]
fn targets_override_apply_keys_one_by_one() {
    let config = parse(
        "[source]\nconninfo = 'host=a'\n[apply]\nbatch_max_rows = 7\nbatch_max_delay = '1s'\n\
         [[target]]\nname = 'a'\nconninfo = 'host=b'\nbatch_max_rows = 9\n\
         [[target]]\nname = 'b'\nconninfo = 'host=b'\nbatch_max_delay = '0'\nworkers = 4\n",
    )
    .unwrap();
    let apply = |name: &str| config.target(name).unwrap().apply.clone();
    assert_eq!((apply("a").batch_max_rows, apply("a").batch_max_delay), (9, Duration::from_secs(1)));
    assert_eq!((apply("b").batch_max_rows, apply("b").batch_max_delay), (7, Duration::ZERO));
    assert_eq!((apply("a").workers, apply("b").workers), (1, 4));
}

#[test]
fn an_absolute_log_directory_stays() {
    let config = parse("[source]\nconninfo = 'host=a'\n[log]\ndir = '/var/lib/walcast'\n").unwrap();
    assert_eq!(config.log.dir, PathBuf::from("/var/lib/walcast"));
}

#[test]
fn complaints_name_line_and_column_in_one_line() {
    let cases = [
        ("[source]\nconninfo = 'host=a'\nslott = 'x'\n", "3:1", "unknown field `slott`"),
        ("[log]\ndir = 'x'\n", "1:1", "missing field `source`"),
        ("[source]\nconninfo = 'host=a'\nslot = 'Bad'\n", "3:8", "\"Bad\" is not a slot name"),
        ("[source]\nconninfo = 'host=a'\n[log]\nsegment_size = '1KiB'\n", "4:16", "segment_size is 1024 bytes"),
        ("[source]\nconninfo = 'host=a'\n[log]\nretain_max = '64MiB'\n", "4:14", "less than two segments"),
        ("[source]\nconninfo = 'host=a'\n[apply]\nbatch_max_rows = 0\n", "4:18", "less than 1"),
        ("[source]\nconninfo = 'host=a'\n[apply]\nworkers = 65\n", "4:11", "workers is 65, not from 1 to 64"),
        ("[source]\nconninfo = 'host=a'\n[apply]\nbatch_max_delay = '10'\n", "4:19", "is not a time"),
        ("[source]\nconninfo = 'host=a'\ntables = ['public.*', 'oops']\n", "3:23", "is not a table pattern"),
        ("[source]\nconninfo = 'host=a'\n[http]\nlisten = 'localhost'\n", "4:10", "is not an address"),
        ("[source]\nconninfo = 'host=a'\n[service]\nlog_level = 'loud'\n", "4:13", "is not a log level"),
        ("[source]\nconninfo = 'host=a'\n[hooks]\non_error = ['a', '']\n", "4:18", "on_error has an empty part"),
        ("[source]\nconninfo = 'host=a'\n[hooks]\non_error_timeout = '0'\n", "4:20", "no time"),
        ("[source]\nconninfo = 'host=a'\nconninfo = 'host=b'\n", "3:1", "duplicate key"),
        ("[source]\nconninfo = \n", "2:12", ""),
    ];
    for (text, place, message) in cases {
        let (error, hint) = complaint(text);
        assert!(error.starts_with(&format!("/etc/walcast.toml:{place}: ")), "{error}");
        assert!(error.contains(message) && !error.contains('\n'), "{error}");
        assert!(!hint.is_empty() && !hint.contains('\n'), "{hint}");
    }
}

#[test]
fn two_targets_of_one_name_are_refused() {
    let target = "[[target]]\nname = 'a'\nconninfo = 'host=b'\n";
    let (error, _) = complaint(&format!("[source]\nconninfo = 'host=a'\n{target}{target}"));
    assert!(error.starts_with("/etc/walcast.toml:7:8: target \"a\" is declared twice"), "{error}");
}

#[test]
fn x04_hostile_names_are_refused_at_load() {
    for name in ["a'b", "a\"b", "a b", "", "a.b", "Ä", &"x".repeat(64)] {
        let text = format!("[source]\nconninfo = 'host=a'\n[[target]]\nname = '''{name}'''\nconninfo = 'host=b'\n");
        assert!(complaint(&text).0.contains("is not a target name"), "{name}");
    }
}

#[test]
fn x12_complaints_never_repeat_a_conninfo() {
    let broken = [
        "'postgresql://u:canary@h:notaport/db'",
        "'host=a password=canary nokey=1'",
        "'postgresql://u:canary@h/db?nokey=1'",
        "'host=a password=\"canary'\nbad line",
    ];
    for conninfo in broken {
        let (error, hint) = complaint(&format!("[source]\nconninfo = {conninfo}\n"));
        assert!(!error.contains("canary") && !hint.contains("canary"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/walcast.toml")).unwrap_err();
    assert_eq!(error.to_string(), "could not read configuration file \"/nonexistent/walcast.toml\"");
}
