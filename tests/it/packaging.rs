//! What packages and containers say of the program is true. `scripts/test-package.sh` installs the package.

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Whether the program understands these arguments.
fn is_understood(arguments: &[&str]) -> bool {
    let output = Command::new(env!("CARGO_BIN_EXE_walcast")).args(arguments).arg("--help").output().unwrap();
    output.status.success()
}

#[test]
fn the_unit_gives_commands_that_exist() {
    let unit = read("packaging/walcast.service");
    let lines = unit.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.starts_with("Exec"));
    let commands: Vec<Vec<&str>> = lines.map(|(_, command)| command.split_whitespace().collect()).collect();
    let own: Vec<_> = commands.iter().filter(|command| command[0] == "/usr/bin/walcast").collect();
    assert_eq!((commands.len(), own.len()), (3, 2), "{commands:?}");
    for command in own {
        assert!(is_understood(&command[1..]), "{command:?}");
        assert!(!is_understood(&[&command[1..], &["--no-such-option"]].concat()));
    }
}

#[test]
fn everything_that_is_packaged_is_there() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let package = &manifest["package"]["metadata"]["deb"];
    let assets = package["assets"].as_array().unwrap();
    let sources: Vec<&str> = assets.iter().map(|asset| asset[0].as_str().unwrap()).collect();
    let (made, kept): (Vec<&str>, Vec<&str>) =
        sources.into_iter().partition(|source: &&str| source.starts_with("target/release/"));
    assert!(made.len() > 3 && kept.len() > 3, "{made:?} {kept:?}");
    for source in kept {
        let (folder, name) = source.rsplit_once('/').unwrap();
        let suffix = name.strip_prefix('*');
        let fits = |file: &str| suffix.map_or(file == name, |suffix| file.ends_with(suffix));
        let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(files.any(|file| fits(&file)), "{source}");
    }
    // What is made has one place to be made in, and the key that is set there is in the example.
    let script = read("scripts/package.sh");
    for source in made.iter().filter_map(|source| source.strip_prefix("target/release/package/")) {
        let name = source.split('/').next().unwrap();
        assert!(script.contains(&format!("$made/{name}")), "{source}");
    }
    assert_eq!(read("config/walcast.example.toml").lines().filter(|line| *line == "#dir = \"walcast-log\"").count(), 1);
}

#[test]
fn the_health_check_of_the_container_sees_a_service_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("walcast.toml");
    fs::write(&file, "[source]\nconninfo = 'host=127.0.0.1 port=1 user=x'\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    let output = command.arg("-c").arg(&file).args(["status", "--json"]).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    let sought =
        read("Dockerfile").lines().find_map(|line| line.split_once("grep -q '").map(|(_, rest)| rest.to_owned()));
    let sought = sought.unwrap().split_once('\'').unwrap().0.replace("\\\"", "\"");
    assert_eq!(sought, "\"state\": \"offline\"");
    assert!(output.status.success() && status.contains(&sought), "{status}");
}
