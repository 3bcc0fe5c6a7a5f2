//! What was measured as sections of the report: a heading, a table, and what the figures are held against.

use std::fmt::Write as _;

use crate::goals::{self, Goal};
use crate::measure::{Spread, Usage};
use crate::report::{Copied, CopyLag, Horizon, Latency, Series, Tenth, Throughput, Work};
use crate::workload::Workload;

/// Names of contenders, as their sides give them.
pub(crate) const NATIVE: &str = "native";
pub(crate) const WALCAST: &str = "walcast";
pub(crate) const OUT_OF_LOG: &str = "walcast, out of its log";

pub(crate) fn throughput(measured: &Throughput) -> anyhow::Result<String> {
    let mut text = format!("## {}\n\n", measured.title);
    writeln!(text, "{} transactions, {} changes.\n", measured.transactions, measured.changes)?;
    text.push_str("| | seconds | changes/s | ratio | CPU s: walsender | program | apply | memory | anonymous |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let base = measured.series.first().map(Series::seconds).transpose()?;
    for series in &measured.series {
        let seconds = series.seconds()?;
        let rate = f64::from(measured.changes) / seconds.median;
        let ratio = base.map_or(1.0, |base| base.median / seconds.median);
        let usages = || series.runs.iter().map(|run| &run.usage);
        writeln!(text, "| {} | {} | {rate:.0} | {ratio:.2} | {} |", series.name, shown(&seconds), used(usages)?)?;
    }
    Ok(text + &goals::table(&throughput_goals(measured)?))
}

fn throughput_goals(measured: &Throughput) -> anyhow::Result<Vec<Goal>> {
    let figures = Figures { measured };
    match measured.work {
        Work::Drain => figures.drain(),
        Work::Backlog(workload, 1) => figures.catch_up(workload),
        Work::Backlog(workload, goals::MANY) => figures.fan_out(workload),
        Work::Backlog(..) => Ok(Vec::new()),
    }
}

/// Medians of a throughput's contenders.
struct Figures<'a> {
    measured: &'a Throughput,
}

impl Figures<'_> {
    fn series(&self, name: &str) -> Option<&Series> {
        self.measured.series.iter().find(|series| series.name == name)
    }

    /// The time of the faster of those that are not walcast.
    fn native_seconds(&self) -> anyhow::Result<Option<f64>> {
        let natives = self.measured.series.iter().filter(|series| !series.name.starts_with(WALCAST));
        let seconds = natives.map(|series| Ok(series.seconds()?.median)).collect::<anyhow::Result<Vec<f64>>>()?;
        Ok(seconds.into_iter().min_by(f64::total_cmp))
    }

    /// How much faster `name` was.
    fn ratio(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let (Some(series), Some(native)) = (self.series(name), self.native_seconds()?) else { return Ok(None) };
        Ok(Some(native / series.seconds()?.median))
    }

    fn drain(&self) -> anyhow::Result<Vec<Goal>> {
        let ratio = self.ratio(WALCAST)?;
        Ok(ratio.map(|ratio| Goal::new(&self.measured.title, goals::DRAIN, ratio)).into_iter().collect())
    }

    fn catch_up(&self, workload: Workload) -> anyhow::Result<Vec<Goal>> {
        let parts = [
            (WALCAST, "from the slot", goals::from_slot(workload)),
            (OUT_OF_LOG, "out of the log", goals::from_log(workload)),
        ];
        let mut found = Vec::new();
        for (name, from, bounds) in parts {
            if let (Some(bounds), Some(ratio)) = (bounds, self.ratio(name)?) {
                found.push(Goal::new(format!("{}: rate {from}", self.measured.title), bounds, ratio));
            }
        }
        Ok(found)
    }

    fn fan_out(&self, workload: Workload) -> anyhow::Result<Vec<Goal>> {
        let mut found = Vec::new();
        if let (Some(bounds), Some(ratio)) = (goals::fan_out(workload), self.ratio(WALCAST)?) {
            found.push(Goal::new(format!("{}: wall time", self.measured.title), bounds, 1.0 / ratio));
        }
        let walsender = |series: &Series| median(series, |usage| Some(usage.walsender.as_secs_f64()));
        if let (Some(own), Some(native)) = (self.series(WALCAST), self.series(NATIVE)) {
            let ratio = walsender(own)? / walsender(native)?;
            found.push(Goal::new(format!("{}: CPU of walsenders", self.measured.title), goals::WALSENDERS, ratio));
        }
        if let Some(own) = self.series(WALCAST) {
            let memory = median(own, |usage| usage.peak_memory.map(mebibytes))?;
            found.push(Goal::new(format!("{}: memory, MiB", self.measured.title), goals::MEMORY, memory));
        }
        Ok(found)
    }
}

fn median(series: &Series, figure: impl Fn(&Usage) -> Option<f64>) -> anyhow::Result<f64> {
    Ok(Spread::of(series.runs.iter().filter_map(|run| figure(&run.usage)))?.median)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(crate) fn copied(measured: &Copied) -> anyhow::Result<String> {
    let mebibytes = mebibytes(measured.bytes);
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

pub(crate) fn latency(measured: &Latency) -> anyhow::Result<String> {
    let Latency { rate, transport, seconds, series } = measured;
    let mut text = format!("## Commit to visible beside {rate} transactions/s, {transport}\n\n");
    writeln!(text, "{seconds:.0} s a round, a probe each 5 ms. CPU is that of the {seconds:.0} s.\n")?;
    text.push_str(
        "| | written/s | p50 ms | p95 ms | p99 ms | ratio p50 | p99 | CPU s: walsender | program | apply | memory | anonymous |\n",
    );
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
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
    Ok(text + &goals::table(&latency_goals(measured)?))
}

pub(crate) fn copy_lag(measured: &CopyLag) -> anyhow::Result<String> {
    let CopyLag { rate, bytes, series } = measured;
    let mut text = format!("## Latency of two targets beside {rate} transactions/s while a third is copied, tcp\n\n");
    writeln!(text, "A database of {:.0} MiB, indexes included; probes of both targets.\n", mebibytes(*bytes))?;
    text.push_str("| | seconds | written/s | p50 ms | p95 ms | p99 ms | ratio p50 | p99 |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    let Some(base) = series.first() else { return Ok(text) };
    for one in series {
        let [p50, p95, p99] = [one.percentile(0.5)?, one.percentile(0.95)?, one.percentile(0.99)?];
        let seconds = Spread::of(one.runs.iter().map(|run| run.elapsed.as_secs_f64()))?;
        let written = Spread::of(one.runs.iter().map(|run| run.rate))?.median;
        write!(text, "| {} | {} | {written:.0} | {} ", one.name, shown(&seconds), shown(&p50))?;
        let ratios = [(p50, 0.5), (p99, 0.99)].map(|(own, share)| Ok(own.median / base.percentile(share)?.median));
        let [of_p50, of_p99]: [anyhow::Result<f64>; 2] = ratios;
        writeln!(text, "| {} | {} | {:.2} | {:.2} |", shown(&p95), shown(&p99), of_p50?, of_p99?)?;
    }
    Ok(text)
}

pub(crate) fn horizon(measured: &Horizon) -> anyhow::Result<String> {
    let Horizon { targets, changes, tenths } = measured;
    let mut text = format!("## Over {changes} changes of pgbench, to {targets} targets\n\n");
    writeln!(text, "The slot holds all of it at the start; sizes are the largest in each tenth of the way.\n")?;
    text.push_str("| tenth | seconds | changes/s | anonymous | open files | log | trimmed |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    let all: f64 = tenths.iter().map(|tenth| tenth.wal_bytes as f64).sum();
    let rate = |tenth: &Tenth| f64::from(*changes) * (tenth.wal_bytes as f64 / all) / tenth.seconds;
    for (at, tenth) in tenths.iter().enumerate() {
        write!(text, "| {} | {:.2} | {:.0} ", at + 1, tenth.seconds, rate(tenth))?;
        let (anonymous, log) = (mebibytes(tenth.anonymous), mebibytes(tenth.log_bytes));
        let trimmed = if tenth.trimmed { "yes" } else { "no" };
        writeln!(text, "| {anonymous:.1} MiB | {} | {log:.0} MiB | {trimmed} |", tenth.descriptors)?;
    }
    let (Some(first), Some(last)) = (tenths.first(), tenths.last()) else { return Ok(text) };
    let ratio = |figure: fn(&Tenth) -> u64| figure(last) as f64 / figure(first) as f64;
    let goals = [
        ("rate", goals::LASTING_RATE, rate(last) / rate(first)),
        ("anonymous memory", goals::LASTING_MEMORY, ratio(|tenth| tenth.anonymous)),
        ("open files", goals::LASTING_FILES, ratio(|tenth| tenth.descriptors)),
    ];
    let goal = |(name, bounds, ratio)| Goal::new(format!("Last tenth of {changes} changes: {name}"), bounds, ratio);
    Ok(text + &goals::table(&goals.map(goal)))
}

fn latency_goals(measured: &Latency) -> anyhow::Result<Vec<Goal>> {
    let series = |name| measured.series.iter().find(|series| series.name == name);
    let (Some(own), Some(native)) = (series(WALCAST), series(NATIVE)) else { return Ok(Vec::new()) };
    let goal = |share, name: &str, bounds| -> anyhow::Result<Goal> {
        let ratio = own.percentile(share)?.median / native.percentile(share)?.median;
        let Latency { rate, transport, .. } = measured;
        Ok(Goal::new(format!("Latency beside {rate} transactions/s, {transport}: {name}"), bounds, ratio))
    };
    Ok(vec![goal(0.5, "p50", goals::LATENCY_P50)?, goal(0.99, "p99", goals::LATENCY_P99)?])
}

fn shown(spread: &Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max)
}

/// The five cells of what was used.
fn used<'a, I: Iterator<Item = &'a Usage>>(usages: impl Fn() -> I) -> anyhow::Result<String> {
    let walsender = Spread::of(usages().map(|usage| usage.walsender.as_secs_f64()))?;
    let seconds = |figures: Vec<f64>| cell(figures, |median| format!("{median:.2}"));
    let program = seconds(usages().filter_map(|usage| Some(usage.program?.as_secs_f64())).collect());
    let apply = seconds(usages().filter_map(|usage| Some(usage.apply?.as_secs_f64())).collect());
    let memory = |figures: Vec<f64>| cell(figures, |median| format!("{median:.0} MiB"));
    let peak = memory(usages().filter_map(|usage| usage.peak_memory.map(mebibytes)).collect());
    let anonymous = memory(usages().filter_map(|usage| usage.peak_anonymous.map(mebibytes)).collect());
    Ok(format!("{:.2} | {program} | {apply} | {peak} | {anonymous}", walsender.median))
}

/// The median, or nothing where nothing was measured.
fn cell(figures: Vec<f64>, show: impl Fn(f64) -> String) -> String {
    Spread::of(figures).map_or_else(|_| String::new(), |spread| show(spread.median))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::Transport;
    use crate::report::{LatencyRun, LatencySeries, Run};

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
            throughput(&Throughput { title: "T".into(), work: Work::Drain, transactions: 100, changes: 400, series })
                .unwrap();
        assert!(table.contains("| native | 10.00 (8.00-12.00) | 40 | 1.00 | 2.00 |  |  |  |  |\n"), "{table}");
        assert!(table.contains("| walcast | 5.00 (4.00-5.00) | 80 | 2.00 | 2.00 | 1.00 |  | 3 MiB |  |\n"), "{table}");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let run = || LatencyRun { latencies: vec![1.0, 2.0], rate: 500.0, usage: Usage::default() };
        let series = ["native", "walcast"].map(|name| LatencySeries { name, runs: vec![run(), run()] });
        let latency = Latency { rate: 500, transport: Transport::Tcp, seconds: 20.0, series: series.into() };
        let table = super::latency(&latency).unwrap();
        let cells: Vec<_> =
            table.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!((&cells[..4], &cells[4..]), (&[13; 4][..], &[6; 4][..]), "{table}");
    }
}
