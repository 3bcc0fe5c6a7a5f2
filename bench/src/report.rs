//! What was measured, as text: a line for each run while it goes on, and tables at the end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use cluster::Installation;

use crate::lab::Transport;
use crate::measure::{Spread, Usage, percentile};
use crate::options::Options;

/// One run of one contender.
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    pub(crate) usage: Usage,
}

/// The runs of one contender.
pub(crate) struct Series {
    name: &'static str,
    runs: Vec<Run>,
}

impl Series {
    pub(crate) fn new(name: &'static str) -> Series {
        Series { name, runs: Vec::new() }
    }

    pub(crate) fn push(&mut self, measurement: &str, round: usize, run: Run) {
        eprintln!("{measurement}, round {}: {} {:.3} s", round + 1, self.name, run.elapsed.as_secs_f64());
        self.runs.push(run);
    }

    fn seconds(&self) -> anyhow::Result<Spread> {
        Spread::of(self.runs.iter().map(|run| run.elapsed.as_secs_f64()))
    }
}

/// How fast contenders did the same work. Ratios are to the first of them.
pub(crate) struct Throughput {
    pub(crate) title: String,
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
    name: &'static str,
    runs: Vec<LatencyRun>,
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

    fn percentile(&self, share: f64) -> anyhow::Result<Spread> {
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

/// All tables.
pub(crate) struct Report {
    text: String,
}

impl Report {
    /// Begins with what the figures depend on.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Report> {
        let mut text = String::from("# Measured beside native logical replication\n\n");
        writeln!(text, "Command: `{}`\n", command())?;
        writeln!(text, "Machine: {}\n", machine()?)?;
        writeln!(text, "{} rounds; {}", options.rounds(), METHOD)?;
        Ok(Report { text })
    }

    /// Adds a table.
    pub(crate) fn throughput(&mut self, measured: &Throughput) -> anyhow::Result<()> {
        self.add(&throughput_table(measured)?);
        Ok(())
    }

    /// Adds a table.
    pub(crate) fn copied(&mut self, measured: &Copied) -> anyhow::Result<()> {
        self.add(&copied_table(measured)?);
        Ok(())
    }

    /// Adds a table.
    pub(crate) fn latency(&mut self, measured: &Latency) -> anyhow::Result<()> {
        self.add(&latency_table(measured)?);
        Ok(())
    }

    /// Adds a table, as text.
    pub(crate) fn add(&mut self, table: &str) {
        println!("{table}");
        self.text.push('\n');
        self.text.push_str(table);
    }

    /// Writes the tables to `file`.
    pub(crate) fn finish(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else { return Ok(()) };
        fs::write(file, &self.text).with_context(|| format!("could not write {}", file.display()))?;
        eprintln!("written to {}", file.display());
        Ok(())
    }
}

const METHOD: &str = "\
every figure is the median of its rounds, with the smallest and largest in parentheses. Ratios are to the \
first row of a table: of rates (above 1 is faster) or of latencies (below 1 is faster). Each run reads a \
fresh copy of the same slot; the contenders take turns, one at a time. Source and target are two servers \
with fsync on and, so that rounds are alike, autovacuum off, rare checkpoints and apply workers that start \
at once. The transport (tcp: 127.0.0.1, unix: the socket) is that of all connections of a contender. After \
each backlog the target's tables are compared with the source's. CPU is user and system time of the \
processes: the source's walsender, the program between (walcast or pg_recvlogical), and what applies on the \
target (apply worker, or walcast's backends). Memory is the peak resident set of walcast, mapped pages of \
its log included. Compare figures of one table only: they move with the machine, ratios do less.";

fn throughput_table(measured: &Throughput) -> anyhow::Result<String> {
    let mut text = format!("## {}\n\n", measured.title);
    writeln!(text, "{} transactions, {} changes.\n", measured.transactions, measured.changes)?;
    text.push_str("| | seconds | changes/s | ratio | CPU s: walsender | program | apply | memory |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let base = measured.series.first().map(Series::seconds).transpose()?;
    for series in &measured.series {
        let seconds = series.seconds()?;
        let rate = f64::from(measured.changes) / seconds.median;
        let ratio = base.map_or(1.0, |base| base.median / seconds.median);
        let usages = || series.runs.iter().map(|run| &run.usage);
        writeln!(text, "| {} | {} | {rate:.0} | {ratio:.2} | {} |", series.name, shown(&seconds), used(usages)?)?;
    }
    Ok(text)
}

fn copied_table(measured: &Copied) -> anyhow::Result<String> {
    let mebibytes = measured.bytes as f64 / f64::from(1 << 20);
    let mut text = format!("## {}\n\n", measured.title);
    writeln!(text, "{mebibytes:.0} MiB of tables, {} jobs.\n", measured.jobs)?;
    let names: Vec<&str> = measured.series.iter().map(|series| series.name).collect();
    writeln!(text, "| | seconds | MiB/s | ratio to {} |", names.join(" | to "))?;
    writeln!(text, "| --- | --- | --- |{}", " --- |".repeat(names.len()))?;
    let seconds = measured.series.iter().map(Series::seconds).collect::<anyhow::Result<Vec<_>>>()?;
    for (name, own) in names.iter().zip(&seconds) {
        let ratios: Vec<String> = seconds.iter().map(|other| format!("{:.2}", other.median / own.median)).collect();
        writeln!(text, "| {name} | {} | {:.1} | {} |", shown(own), mebibytes / own.median, ratios.join(" | "))?;
    }
    Ok(text)
}

fn latency_table(measured: &Latency) -> anyhow::Result<String> {
    let Latency { rate, transport, seconds, series } = measured;
    let mut text = format!("## Commit to visible beside {rate} transactions/s, {transport}\n\n");
    writeln!(text, "{seconds:.0} s a round, a probe each 5 ms. CPU is that of the {seconds:.0} s.\n")?;
    text.push_str(
        "| | written/s | p50 ms | p95 ms | p99 ms | ratio p50 | p99 | CPU s: walsender | program | apply | memory |\n",
    );
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let Some(base) = series.first() else { return Ok(text) };
    for one in series {
        let [p50, p95, p99] = [one.percentile(0.5)?, one.percentile(0.95)?, one.percentile(0.99)?];
        let (ratio_p50, ratio_p99) =
            (p50.median / base.percentile(0.5)?.median, p99.median / base.percentile(0.99)?.median);
        let written = Spread::of(one.runs.iter().map(|run| run.rate))?.median;
        write!(text, "| {} | {written:.0} | {} | {} | {} ", one.name, shown(&p50), shown(&p95), shown(&p99))?;
        let usages = || one.runs.iter().map(|run| &run.usage);
        writeln!(text, "| {ratio_p50:.2} | {ratio_p99:.2} | {} |", used(usages)?)?;
    }
    Ok(text)
}

fn shown(spread: &Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max)
}

/// The four cells of what was used.
fn used<'a, I: Iterator<Item = &'a Usage>>(usages: impl Fn() -> I) -> anyhow::Result<String> {
    let walsender = Spread::of(usages().map(|usage| usage.walsender.as_secs_f64()))?;
    let seconds = |figures: Vec<f64>| cell(figures, |median| format!("{median:.2}"));
    let program = seconds(usages().filter_map(|usage| Some(usage.program?.as_secs_f64())).collect());
    let apply = seconds(usages().filter_map(|usage| Some(usage.apply?.as_secs_f64())).collect());
    let mebibytes = usages().filter_map(|usage| Some(usage.peak_memory? as f64 / f64::from(1 << 20))).collect();
    let memory = cell(mebibytes, |median| format!("{median:.0} MiB"));
    Ok(format!("{:.2} | {program} | {apply} | {memory}", walsender.median))
}

/// The median, or nothing where nothing was measured.
fn cell(figures: Vec<f64>, show: impl Fn(f64) -> String) -> String {
    Spread::of(figures).map_or_else(|_| String::new(), |spread| show(spread.median))
}

/// This program's command line, without the directories of the machine.
fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("bench/run.sh {}", arguments.join(" ")).trim_end().to_string()
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

    fn series(name: &'static str, seconds: &[u64], program: Option<u64>) -> Series {
        let usage = Usage {
            walsender: Duration::from_secs(2),
            program: program.map(Duration::from_secs),
            peak_memory: program.map(|_| 3 << 20),
            ..Usage::default()
        };
        let run = |seconds: &u64| Run { elapsed: Duration::from_secs(*seconds), usage };
        Series { name, runs: seconds.iter().map(run).collect() }
    }

    #[test]
    fn ratios_are_to_the_first_and_above_one_when_faster() {
        let series = vec![series("native", &[10, 12, 8], None), series("walcast", &[5, 5, 4], Some(1))];
        let table =
            throughput_table(&Throughput { title: "T".into(), transactions: 100, changes: 400, series }).unwrap();
        assert!(table.contains("| native | 10.00 (8.00-12.00) | 40 | 1.00 | 2.00 |  |  |  |\n"), "{table}");
        assert!(table.contains("| walcast | 5.00 (4.00-5.00) | 80 | 2.00 | 2.00 | 1.00 |  | 3 MiB |\n"), "{table}");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let run = || LatencyRun { latencies: vec![1.0, 2.0], rate: 500.0, usage: Usage::default() };
        let series = ["native", "walcast"].map(|name| LatencySeries { name, runs: vec![run(), run()] });
        let latency = Latency { rate: 500, transport: Transport::Tcp, seconds: 20.0, series: series.into() };
        let table = latency_table(&latency).unwrap();
        let cells: Vec<_> =
            table.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [12; 4], "{table}");
    }
}
