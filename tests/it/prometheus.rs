//! A Prometheus that scrapes one walcast.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{free_address, get, percent_encoded};
use crate::service::until;

const START: Duration = Duration::from_secs(60);
const MISSING: &str = "run scripts/setup.sh, which installs Debian's package \"prometheus\"";

/// It is killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Prometheus {
    /// Scrapes `walcast` every second and evaluates the rules of a file as often.
    pub(crate) fn start(walcast: SocketAddr, rules: &Path) -> Prometheus {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_address());
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: walcast, static_configs: [{{ targets: ['{walcast}'] }}] }}]\n",
            rules.display()
        );
        fs::write(&config, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(config).arg("--storage.tsdb.path").arg(directory.path().join("data"));
        command.arg(format!("--web.listen-address={address}")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot run prometheus: {error}; hint: {MISSING}"));
        let prometheus = Prometheus { child, address, directory };
        until("Prometheus is ready", START, || {
            get(address, "/-/ready").is_some_and(|(code, _)| code == 200) || prometheus.log().contains("level=error")
        });
        assert!(get(address, "/-/ready").is_some_and(|(code, _)| code == 200), "{}", prometheus.log());
        prometheus
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn ask(&self, path: &str) -> Value {
        let (code, body) = get(self.address, path).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        assert!(code == 200 && answer["status"] == "success", "{path}: {code} {body}");
        answer["data"].clone()
    }

    /// The series that an expression gives now.
    pub(crate) fn series(&self, expression: &str) -> Vec<Value> {
        let data = self.ask(&format!("/api/v1/query?query={}", percent_encoded(expression)));
        data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}")).clone()
    }

    /// The rules as Prometheus has them.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let groups = self.ask("/api/v1/rules")["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs promtool with a text on its standard input; it has to find nothing to complain of.
pub(crate) fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot run promtool: {error}; hint: {MISSING}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {}: {}\n{said}", arguments.join(" "), output.status);
    assert!(!said.contains("lint error"), "{said}");
}
