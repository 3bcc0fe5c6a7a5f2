//! What people get wrong: each is said in one line with a hint, shows no password, and costs nothing afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster::Cluster;

use crate::postgres::sql;
use crate::service::{CATCH_UP, Mirror, SLOT, SMALL_SEGMENTS, Service, until};

const SOON: Duration = Duration::from_secs(30);
/// In every connection string of these tests; it may be in no output.
const PASSWORD: &str = "s3cret-Pa55";

/// The command fails, with one line that says `what` and one that gives a hint, and nothing else on stderr.
fn fails(mirror: &Mirror, arguments: &[&str], what: &str) {
    let output = mirror.run_cli(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1)), "{arguments:?}: {}\n{stderr}", output.status);
    let lines: Vec<_> = stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
    let [complaint, hint] = lines[..] else { panic!("{arguments:?}: not two lines:\n{stderr}") };
    assert!(complaint.starts_with("walcast: ") && complaint.contains(what), "{what:?} is not in: {complaint}");
    assert!(hint.starts_with("hint: ") && hint.len() > 10, "{hint}");
    assert!(!stderr.contains(PASSWORD), "a password is shown: {stderr}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(PASSWORD), "a password is shown");
}

/// `check` says what is wrong: one line of a failed requirement, and its hint.
fn check_finds(mirror: &Mirror, what: &str) {
    let output = mirror.run_cli(&["check"]);
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.contains("fail") && line.contains(what)), "{what:?} is not in:\n{text}");
    assert!(text.contains("hint: "), "{text}");
    assert!(!text.contains(PASSWORD), "a password is shown: {text}");
}

/// Every server asks for the password, and the configuration has it.
fn with_passwords(mirror: &Mirror) {
    for cluster in mirror.targets.iter().chain([&mirror.source]) {
        sql(cluster, &format!("CREATE ROLE walcast SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
        cluster
            .write_hba(
                "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
            )
            .unwrap();
        cluster.reload().unwrap();
    }
    mirror.reconfigure(|text| text.replace("user=postgres", &format!("user=walcast password={PASSWORD}")));
}

#[test]
fn a_wrong_configuration_is_said_in_one_line() {
    let mirror = Mirror::with(1, &[], "");
    with_passwords(&mirror);
    let original = fs::read_to_string(mirror.config_file()).unwrap();
    let mistakes = [
        ("slot = ", "slto = ", "slto"),
        ("[log]", "[lgo]", "lgo"),
        ("conninfo = \"host", "conninfo = \"hots", "hots"),
        ("slot = \"walcast_it\"", "slot = \"Walcast-It\"", "slot"),
        ("name = \"berlin\"", "name = 7", "expected a string"),
        ("dir = \"log\"", "dir = \"log\"\nsegment_size = \"3 bytes\"", "is not a size"),
        ("[[target]]", "[[target]", ""),
    ];
    for (right, wrong, what) in mistakes {
        mirror.reconfigure(|_| original.replacen(right, wrong, 1));
        for command in ["check", "setup", "run", "status"] {
            fails(&mirror, &[command], what);
        }
    }
    fs::remove_file(mirror.config_file()).unwrap();
    fails(&mirror, &["run"], "walcast.toml");
}

#[test]
fn a_source_that_cannot_serve_is_said_in_one_line_and_nothing_is_lost_by_it() {
    let mirror = Mirror::with(1, &[("wal_level", "replica"), ("max_replication_slots", "1")], SMALL_SEGMENTS);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY)");
    with_passwords(&mirror);

    fails(&mirror, &["setup"], "wal_level");
    check_finds(&mirror, "wal_level");
    fails(&mirror, &["run"], "does not exist");
    mirror.source.append_configuration("wal_level = logical").unwrap();
    mirror.source.restart().unwrap();

    mirror.at_source("SELECT pg_create_physical_replication_slot('taken')");
    fails(&mirror, &["setup"], "slots are in use");
    check_finds(&mirror, "slot");
    mirror.at_source("SELECT pg_drop_replication_slot('taken')");
    fails(&mirror, &["run"], &format!("replication slot \"{SLOT}\" does not exist"));

    let wrong = |text: String| text.replacen(PASSWORD, "s3cret-Pa55-not", 1);
    mirror.reconfigure(wrong);
    for command in ["setup", "run", "teardown"] {
        fails(&mirror, &[command], "password authentication failed");
    }
    check_finds(&mirror, "password authentication failed");
    mirror.reconfigure(|text| text.replacen("s3cret-Pa55-not", PASSWORD, 1));

    mirror.source.stop_fast().unwrap();
    for command in ["setup", "teardown"] {
        fails(&mirror, &[command], "refused");
    }
    check_finds(&mirror, "refused");
    mirror.source.resume().unwrap();

    mirror.set_up();
    mirror.at_source("INSERT INTO t VALUES (1)");
    mirror.source.stop_fast().unwrap();
    // A source that is away may come back: the service waits for it.
    let service = mirror.run();
    until("the service says what it waits for", SOON, || service.messages().contains("cannot reach the source"));
    mirror.source.resume().unwrap();
    mirror.at_source("INSERT INTO t VALUES (2)");
    mirror.catch_up(&service);
    assert!(!service.messages().contains(PASSWORD), "{}", service.messages());
    mirror.finish(service);
}

#[test]
fn a_target_that_cannot_take_it_says_why_and_gets_everything_once_it_can() {
    let mirror = Mirror::new(2);
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int)");
    with_passwords(&mirror);
    mirror.set_up();
    mirror.at_source("INSERT INTO t SELECT g, g FROM generate_series(1, 10) g");

    let berlin = &mirror.targets[0];
    let second = |text: &str| text.match_indices(PASSWORD).nth(1).unwrap().0;
    mirror.reconfigure(|text| {
        let at = second(&text);
        format!("{}{PASSWORD}-not{}", &text[..at], &text[at + PASSWORD.len()..])
    });
    check_finds(&mirror, "password authentication failed");
    let service = mirror.run();
    let error = mirror.until_stopped(0);
    assert!(error.contains("password authentication failed") && error.contains("hint: "), "{error}");
    mirror.catch_up_one(1, &service);
    service.sigterm();
    mirror.reconfigure(|text| text.replacen(&format!("{PASSWORD}-not"), PASSWORD, 1));

    berlin.stop_fast().unwrap();
    check_finds(&mirror, "refused");
    let service = mirror.run();
    until("the target's absence is told", SOON, || {
        mirror.target_status(0)["last_error"].as_str().is_some_and(|error| error.contains("refused"))
    });
    mirror.at_source("INSERT INTO u VALUES (1, 1)");
    mirror.catch_up_one(1, &service);
    berlin.resume().unwrap();
    mirror.catch_up(&service);

    stops_until_repaired(
        &mirror,
        &service,
        berlin,
        "ALTER TABLE u RENAME TO v",
        "table public.u does not exist",
        "ALTER TABLE v RENAME TO u",
    );
    stops_until_repaired(
        &mirror,
        &service,
        berlin,
        "ALTER TABLE u RENAME v TO w",
        "column \"v\" of table public.u",
        "ALTER TABLE u RENAME w TO v",
    );
    stops_until_repaired(
        &mirror,
        &service,
        berlin,
        "GRANT SELECT, INSERT ON u TO walcast; ALTER ROLE walcast SET session_replication_role = replica;
         ALTER ROLE walcast NOSUPERUSER",
        "permission denied for",
        "ALTER ROLE walcast SUPERUSER",
    );
    mirror.catch_up(&service);
    let said = service.messages() + &mirror.walcast(&["status"]) + &mirror.walcast(&["status", "--json"]);
    assert!(!said.contains(PASSWORD), "a password is shown: {said}");
    for file in fs::read_dir(mirror.log_dir()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD), "a password is in {}", file.display());
    }
    mirror.finish(service);
}

/// Begins and ends with the target caught up: a session that is only being opened is not among those that are ended
/// here, and what it misses is something else.
fn stops_until_repaired(mirror: &Mirror, service: &Service, target: &Cluster, damage: &str, what: &str, repair: &str) {
    sql(target, damage);
    sql(target, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'walcast%'");
    mirror.at_source("UPDATE u SET v = v + 1");
    let error = mirror.until_stopped(0);
    assert!(error.contains(what) && error.contains("hint: "), "{what:?} or a hint is not in: {error}");
    sql(target, repair);
    mirror.walcast(&["resume", "berlin"]);
    mirror.catch_up_one(0, service);
}

/// A small file system of its own, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where that is not allowed.
    fn mount(at: &Path) -> Option<SmallDisk> {
        fs::create_dir(at).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"];
        let output = Command::new("mount").args(options).arg(at).output().ok()?;
        if !output.status.success() {
            eprintln!("skipped: cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        output.status.success().then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn f11_a_full_disk_pauses_the_log_without_losing_the_connection_and_goes_on_by_itself() {
    let settings = [("wal_sender_timeout", "3s")];
    let mirror = Mirror::with(1, &settings, SMALL_SEGMENTS);
    let Some(disk) = SmallDisk::mount(&mirror.log_dir()) else { return };
    mirror.everywhere("CREATE TABLE t (id int PRIMARY KEY, v text)");
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source("INSERT INTO t VALUES (0, 'first')");
    mirror.catch_up(&service);
    let walsender = || mirror.at_source("SELECT pid FROM pg_stat_replication");
    let before = walsender();

    mirror.walcast(&["pause", "berlin"]);
    for piece in 0..100 {
        mirror.at_source(&format!(
            "INSERT INTO t SELECT {piece} * 1000 + g, repeat('x', 200) FROM generate_series(1, 1000) g"
        ));
    }
    until("the disk is full", CATCH_UP, || service.messages().contains("full"));
    let full = mirror.slot("confirmed_flush_lsn");
    // Longer than the source would wait for a sign of life.
    let since = std::time::Instant::now();
    until("the source's patience is over", CATCH_UP, || since.elapsed() > Duration::from_secs(5));
    assert_eq!(walsender(), before, "the connection was lost:\n{}", service.messages());
    assert_eq!(mirror.slot("confirmed_flush_lsn"), full, "something was acknowledged that is not in the log");
    mirror.walcast(&["resume", "berlin"]);
    mirror.catch_up(&service);
    assert_eq!(walsender(), before, "the connection was lost:\n{}", service.messages());
    mirror.assert_same();
    service.sigterm();
    mirror.walcast(&["log", "check"]);
    mirror.walcast(&["remove", "berlin"]);
    mirror.walcast(&["teardown"]);
    drop(disk);
}
