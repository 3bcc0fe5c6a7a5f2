//! What was measured, as text: a line for each run while it goes on, and tables at the end.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use cluster::Installation;

use crate::goals;
use crate::lab::Transport;
use crate::measure::{Spread, Usage, percentile};
use crate::options::Options;
use crate::tables;
use crate::workload::Workload;

/// One run of one contender.
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    pub(crate) usage: Usage,
}

/// The runs of one contender.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<Run>,
}

impl Series {
    pub(crate) fn new(name: &'static str) -> Series {
        Series { name, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, measurement: &str, round: usize, run: Run) {
        eprintln!("{measurement}, round {}: {} {:.3} s", round + 1, self.name, run.elapsed.as_secs_f64());
        self.runs.push(run);
    }

    pub(crate) fn seconds(&self) -> anyhow::Result<Spread> {
        Spread::of(self.runs.iter().map(|run| run.elapsed.as_secs_f64()))
    }
}

/// What the contenders of a throughput did.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Slot to durable log.
    Drain,
    /// A backlog to so many targets.
    Backlog(Workload, u32),
}

/// How fast contenders did the same work. Ratios are to the first of them.
pub(crate) struct Throughput {
    pub(crate) title: String,
    pub(crate) work: Work,
    pub(crate) transactions: u32,
    pub(crate) changes: u32,
    pub(crate) series: Vec<Series>,
}

/// How fast contenders copied the same database. Ratios are to each of those before the last.
pub(crate) struct Copied {
    pub(crate) title: &'static str,
    /// Of tables, without indexes.
    pub(crate) bytes: u64,
    pub(crate) jobs: &'static str,
    pub(crate) series: Vec<Series>,
}

/// One run of the latency test.
pub(crate) struct LatencyRun {
    /// In milliseconds, sorted; never empty.
    pub(crate) latencies: Vec<f64>,
    /// Transactions per second that were written.
    pub(crate) rate: f64,
    pub(crate) usage: Usage,
}

impl LatencyRun {
    fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share).unwrap_or(f64::NAN)
    }
}

/// The runs of one contender.
pub(crate) struct LatencySeries {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<LatencyRun>,
}

impl LatencySeries {
    pub(crate) fn new(name: &'static str) -> LatencySeries {
        LatencySeries { name, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, measurement: &str, round: usize, run: LatencyRun) {
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| run.percentile(share));
        let (round, name, rate) = (round + 1, self.name, run.rate);
        eprintln!("{measurement}, round {round}: {name} p50 {p50:.2} p95 {p95:.2} p99 {p99:.2} ms at {rate:.0} tx/s");
        self.runs.push(run);
    }

    pub(crate) fn percentile(&self, share: f64) -> anyhow::Result<Spread> {
        Spread::of(self.runs.iter().map(|run| run.percentile(share)))
    }
}

/// How long contenders took to show a commit. Ratios are to the first of them.
pub(crate) struct Latency {
    pub(crate) rate: u32,
    pub(crate) transport: Transport,
    pub(crate) seconds: f64,
    pub(crate) series: Vec<LatencySeries>,
}

/// One run beside which a target was copied, or none was.
pub(crate) struct CopyLagRun {
    /// Of the copy, or how long it was looked.
    pub(crate) elapsed: Duration,
    /// In milliseconds, sorted; never empty.
    pub(crate) latencies: Vec<f64>,
    pub(crate) rate: f64,
}

/// The runs of one variant.
pub(crate) struct CopyLagSeries {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<CopyLagRun>,
}

impl CopyLagSeries {
    pub(crate) fn new(name: &'static str) -> CopyLagSeries {
        CopyLagSeries { name, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, round: usize, run: CopyLagRun) {
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&run.latencies, share).unwrap_or(f64::NAN));
        let (round, name, seconds) = (round + 1, self.name, run.elapsed.as_secs_f64());
        eprintln!("copy-lag, round {round}: {name} {seconds:.1} s, p50 {p50:.2} p99 {p99:.2} ms");
        self.runs.push(run);
    }

    pub(crate) fn percentile(&self, share: f64) -> anyhow::Result<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| percentile(&run.latencies, share)))
    }
}

/// The latency of two targets beside the copy of a third. Ratios are to the first of them.
pub(crate) struct CopyLag {
    pub(crate) rate: u32,
    /// Of the database that is copied, indexes included.
    pub(crate) bytes: u64,
    pub(crate) series: Vec<CopyLagSeries>,
}

/// A long way in tenths.
pub(crate) struct Horizon {
    pub(crate) targets: u32,
    pub(crate) changes: u32,
    pub(crate) tenths: Vec<Tenth>,
}

/// A tenth of the way: sizes are the largest that were seen.
pub(crate) struct Tenth {
    pub(crate) seconds: f64,
    /// Of the source, applied.
    pub(crate) wal_bytes: u64,
    pub(crate) anonymous: u64,
    pub(crate) descriptors: u64,
    pub(crate) log_bytes: u64,
    /// The log's beginning moved.
    pub(crate) trimmed: bool,
}

/// What was measured, printed and written section by section.
///
/// Sections that the file has already and that are not measured again stay.
pub(crate) struct Report {
    file: Option<PathBuf>,
    /// Under what circumstances the sections of this run came to be.
    circumstances: String,
    missed: usize,
}

impl Report {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Report> {
        let rounds = if options.rounds() == 1 { "1 round".into() } else { format!("{} rounds", options.rounds()) };
        let circumstances = format!("`{}`, {rounds}, {}", command(), machine()?);
        Ok(Report { file: options.result_file(), circumstances, missed: 0 })
    }

    /// Adds a section.
    pub(crate) fn throughput(&mut self, measured: &Throughput) -> anyhow::Result<()> {
        self.add(&tables::throughput(measured)?)
    }

    /// Adds a section.
    pub(crate) fn copied(&mut self, measured: &Copied) -> anyhow::Result<()> {
        self.add(&tables::copied(measured)?)
    }

    /// Adds a section.
    pub(crate) fn latency(&mut self, measured: &Latency) -> anyhow::Result<()> {
        self.add(&tables::latency(measured)?)
    }

    /// Adds a section.
    pub(crate) fn copy_lag(&mut self, measured: &CopyLag) -> anyhow::Result<()> {
        self.add(&tables::copy_lag(measured)?)
    }

    /// Adds a section.
    pub(crate) fn horizon(&mut self, measured: &Horizon) -> anyhow::Result<()> {
        self.add(&tables::horizon(measured)?)
    }

    /// The end of a run: an error when figures were missed and none may be.
    pub(crate) fn finish(&self, strict: bool) -> anyhow::Result<()> {
        if strict && self.missed > 0 {
            bail!("{} figures are not what they must be at least", self.missed);
        }
        Ok(())
    }

    /// Adds a section as text that begins with its heading, or puts it in the place of the one with this heading.
    pub(crate) fn add(&mut self, section: &str) -> anyhow::Result<()> {
        println!("{section}");
        self.missed += goals::missed(section);
        let Some(file) = &self.file else { return Ok(()) };
        let before = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", file.display())),
        };
        let text = with_section(&before, &format!("{section}\n{}\n", self.circumstances));
        fs::write(file, text).with_context(|| format!("could not write {}", file.display()))?;
        eprintln!("written to {}", file.display());
        Ok(())
    }
}

const SUMMARY: &str = "## What must hold";

/// The whole file once `section` is in it.
fn with_section(before: &str, section: &str) -> String {
    let heading = |section: &str| section.lines().next().map(str::to_string);
    let mut sections: Vec<String> =
        before.split("\n## ").skip(1).map(|text| format!("## {}\n", text.trim_end())).collect();
    sections.retain(|section| !section.starts_with(SUMMARY));
    match sections.iter_mut().find(|other| heading(other) == heading(section)) {
        Some(other) => *other = section.to_string(),
        None => sections.push(section.to_string()),
    }
    let goals = goals::collected(sections.iter().map(String::as_str));
    let summary = if goals.is_empty() { None } else { Some(format!("{SUMMARY}\n{goals}")) };
    let parts: Vec<String> = [format!("{TITLE}\n\n{METHOD}\n")].into_iter().chain(summary).chain(sections).collect();
    parts.join("\n")
}

const TITLE: &str = "# Measured beside native logical replication";
const METHOD: &str = "\
Every figure is the median of its rounds, with the smallest and largest in parentheses. Ratios are to the \
first row of a table: of rates (above 1 is faster) or of latencies (below 1 is faster). Each run reads a \
fresh copy of the same slot; the contenders take turns, one at a time. Source and target are two servers \
with fsync on and, so that rounds are alike, autovacuum off, rare checkpoints and apply workers that start \
at once; many targets are databases of one server. The transport (tcp: 127.0.0.1, unix: the socket) is that \
of all connections of a contender. \"Out of its log\" begins when paused targets are resumed, with the slot \
drained long before. After each backlog the targets' tables are compared with the source's. CPU is user and \
system time of the processes: the source's walsenders, the program between (walcast or pg_recvlogical), and \
what applies on the target (apply workers, or walcast's backends). Memory is the peak resident set of \
walcast, mapped pages of its log included; anonymous is the largest part of it seen that is in no file. \
Under each table stands what was run. Compare figures of one table only: they move with the machine, ratios \
do less.";

/// This program's command line, without the files of the machine.
fn command() -> String {
    let mut shown = vec!["bench/run.sh".to_string()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--out" | "--walcast" => drop(arguments.next()),
            file if file.starts_with("--out=") || file.starts_with("--walcast=") => {}
            _ => shown.push(argument),
        }
    }
    shown.join(" ")
}

fn machine() -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("could not read the kernel's version")?;
    let processor = processor().unwrap_or_else(|| "unknown processor".into());
    let version = server_version(&Installation::newest()?)?;
    Ok(format!("{cores} cores ({processor}), Linux {}, {version}.", kernel.trim()))
}

/// What the server says of itself, for example `postgres (PostgreSQL) 15.20 (Debian …)`.
fn server_version(installation: &Installation) -> anyhow::Result<String> {
    let program = installation.client("postgres").context("no postgres found")?;
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("## ")).collect()
    }

    #[test]
    fn a_section_that_is_measured_again_keeps_its_place_and_the_others() {
        let first = with_section("", "## A\n\nalpha\n");
        let second = with_section(&with_section(&first, "## B\n\nbeta\n"), "## A\n\ngamma\n");
        assert_eq!(headings(&second), ["## A", "## B"]);
        assert!(second.contains("gamma") && second.contains("beta") && !second.contains("alpha"), "{second}");
        assert_eq!(with_section(&second, "## B\n\nbeta\n"), second);
    }

    #[test]
    fn the_goals_of_all_sections_stand_at_the_top() {
        let goal = |name: &str| goals::table(&[goals::Goal::new(name, goals::DRAIN, 2.0)]);
        let text = with_section("", &format!("## A\n{}", goal("x")));
        let text = with_section(&text, &format!("## B\n{}", goal("y")));
        assert_eq!(headings(&text), [SUMMARY, "## A", "## B"]);
        assert_eq!((text.matches("| x |").count(), text.matches("| y |").count()), (2, 2), "{text}");
    }
}
