//! The walcast binary between a source and its targets.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::compare::assert_same_rows;
use crate::postgres::{DATABASE, sql, start, versions};

/// The slot and the publication of every mirror.
pub(crate) const SLOT: &str = "walcast_it";
/// Within which targets have to catch up, unless a test says otherwise.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(120);
/// Within which the service has to stop cleanly.
const CLEAN_STOP: Duration = Duration::from_secs(10);
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// For the `[log]` section: most of what tests write would not fill a single segment of the default size.
pub(crate) const SMALL_SEGMENTS: &str = "segment_size = \"1MiB\"";
const NAMES: [&str; 4] = ["berlin", "tokyo", "lima", "oslo"];

/// Waits until `condition` holds. The only place where a test sleeps.
pub(crate) fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        thread::sleep(POLL_PAUSE);
    }
}

/// A source, its targets, and a directory with the configuration and the log.
pub(crate) struct Mirror {
    pub(crate) source: Cluster,
    pub(crate) targets: Vec<Cluster>,
    directory: TempDir,
}

impl Mirror {
    /// With `targets` targets, all databases empty, and nothing set up yet.
    pub(crate) fn new(targets: usize) -> Mirror {
        Mirror::with(targets, &[], SMALL_SEGMENTS)
    }

    /// The same with parameters of the source's server and with further lines in the `[log]` section.
    pub(crate) fn with(targets: usize, source_settings: &[(&str, &str)], log_section: &str) -> Mirror {
        assert!(targets <= NAMES.len());
        let (source, target_versions) = versions(targets);
        let mirror = Mirror {
            source: start(&source, source_settings),
            targets: target_versions.iter().map(|version| start(version, &[])).collect(),
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(mirror.config_file(), mirror.configuration(log_section)).unwrap();
        mirror
    }

    fn configuration(&self, log_section: &str) -> String {
        let source = self.source.conninfo(DATABASE);
        let mut text = format!("[source]\nconninfo = \"{source}\"\nslot = \"{SLOT}\"\npublication = \"{SLOT}\"\n");
        text += &format!("[log]\ndir = \"log\"\n{log_section}\n[http]\nlisten = \"\"\n");
        for (name, target) in NAMES.iter().zip(&self.targets) {
            text += &format!("[[target]]\nname = \"{name}\"\nconninfo = \"{}\"\n", target.conninfo(DATABASE));
        }
        text
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("walcast.toml")
    }

    /// Rewrites the configuration file. Nobody reads a half of it.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config_file()).unwrap();
        let new = self.config_file().with_extension("new");
        fs::write(&new, change(text)).unwrap();
        fs::rename(&new, self.config_file()).unwrap();
    }

    /// Where the service's messages are.
    pub(crate) fn service_log(&self) -> PathBuf {
        self.directory.path().join("service.log")
    }

    /// The segment log's directory.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &NAMES[..self.targets.len()]
    }

    /// Runs a script at the source.
    pub(crate) fn at_source(&self, script: &str) -> String {
        sql(&self.source, script)
    }

    /// Runs a script at one target.
    pub(crate) fn at_target(&self, at: usize, script: &str) -> String {
        sql(&self.targets[at], script)
    }

    /// Runs a script at the targets, then at the source: how a schema changes under a running service.
    pub(crate) fn everywhere(&self, script: &str) {
        for cluster in self.targets.iter().chain([&self.source]) {
            sql(cluster, script);
        }
    }

    /// `setup`, and `bootstrap --no-copy` of every target.
    pub(crate) fn set_up(&self) {
        self.walcast(&["setup"]);
        for name in self.names() {
            self.walcast(&["bootstrap", "--no-copy", name]);
        }
    }

    /// Runs a command that has to succeed, and gives what it printed.
    pub(crate) fn walcast(&self, arguments: &[&str]) -> String {
        let output = self.run_cli(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "walcast {}: {}\n{stderr}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command to its end, however it ends.
    pub(crate) fn run_cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The binary with this mirror's configuration and nothing of the caller's environment that it would read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
        command.arg("-c").arg(self.config_file()).args(arguments).env("HOME", self.directory.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command
    }

    /// Starts `walcast run`. Its messages are appended to one file over all starts.
    pub(crate) fn run(&self) -> Service {
        self.run_with(&[])
    }

    /// The same with variables in its environment.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)]) -> Service {
        let log = self.service_log();
        let stderr = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(&["run"]);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(File::try_clone(&stderr).unwrap()).stderr(stderr);
        Service { child: command.spawn().unwrap(), log }
    }

    /// Waits until every target has applied what the source has committed by now.
    pub(crate) fn catch_up(&self, service: &Service) {
        (0..self.targets.len()).for_each(|at| self.catch_up_one(at, service));
    }

    /// The same for one target.
    pub(crate) fn catch_up_one(&self, at: usize, service: &Service) {
        let (name, timeout) = (NAMES[at], CATCH_UP.as_secs().to_string());
        let output = self.run_cli(&["wait", name, "--timeout", &timeout]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "wait {name}: {stderr}\nthe service says:\n{}", service.messages());
    }

    /// What the status says of one target.
    pub(crate) fn target_status(&self, at: usize) -> serde_json::Value {
        self.status()["targets"][at].clone()
    }

    /// Waits until a target has stopped, and gives its last error.
    pub(crate) fn until_stopped(&self, at: usize) -> String {
        until(&format!("{} stops", NAMES[at]), CATCH_UP, || self.target_status(at)["state"] == "stopped");
        self.target_status(at)["last_error"].as_str().unwrap().to_owned()
    }

    /// A column of the slot.
    pub(crate) fn slot(&self, column: &str) -> String {
        self.at_source(&format!("SELECT {column} FROM pg_replication_slots WHERE slot_name = '{SLOT}'"))
            .trim()
            .to_owned()
    }

    /// Panics unless every target has the source's rows.
    pub(crate) fn assert_same(&self) {
        for target in &self.targets {
            assert_same_rows(&self.source, target);
        }
    }

    /// The status of the service or, without it, of log and targets.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.walcast(&["status", "--json"])).unwrap()
    }

    /// Catches up, compares, stops the service cleanly, and undoes everything. The end of a test.
    pub(crate) fn finish(self, service: Service) {
        self.catch_up(&service);
        self.assert_same();
        service.sigterm();
        self.undo();
    }

    /// Removes the targets and what `setup` made, and looks whether anything is left.
    pub(crate) fn undo(self) {
        for name in self.names() {
            self.walcast(&["remove", name]);
        }
        self.walcast(&["teardown"]);
        self.assert_no_leaks();
    }

    fn assert_no_leaks(&self) {
        assert_eq!(self.at_source("SELECT slot_name FROM pg_replication_slots"), "", "slots are left at the source");
        assert_eq!(self.at_source("SELECT pubname FROM pg_publication"), "", "publications are left at the source");
        for target in &self.targets {
            assert_eq!(sql(target, "SELECT roname FROM pg_replication_origin"), "", "origins are left at {target:?}");
        }
        let left = processes_about(self.directory.path());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

/// The command lines of processes that name `directory`.
fn processes_about(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = command_lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    texts.filter(|text| text.contains(&*directory.to_string_lossy())).collect()
}

/// A running `walcast run`. It is killed when dropped.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Everything that it has written so far, earlier starts included.
    pub(crate) fn messages(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it by SIGKILL. It must have been running until now.
    pub(crate) fn kill9(mut self) {
        let ended = self.ended();
        assert!(ended.is_none(), "the service ended by itself ({ended:?}):\n{}", self.messages());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Asks it to stop, by SIGTERM, which it has to do cleanly and in time.
    pub(crate) fn sigterm(mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        until("the service stops after SIGTERM", CLEAN_STOP, || self.ended().is_some());
        let status = self.ended().unwrap();
        assert!(status.success(), "the service ended with {status}:\n{}", self.messages());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended; a test that fails must not leave it running.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
