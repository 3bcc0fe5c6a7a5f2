//! The command line.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, ValueEnum};

use crate::feed::Side;
use crate::lab::Transport;
use crate::workload::Workload;

/// Measures walcast beside native logical replication.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    measurement: Measurement,
    /// How often each contender runs; medians are reported.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Multiplies the number of transactions and the seconds of the latency test.
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    scale: Option<f64>,
    /// One round at a twentieth of the size by tcp, not written to a file unless --out says so. All of it is then
    /// drain, backlog, latency and ddl, in less than two minutes on 2 cores.
    #[arg(long)]
    quick: bool,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Workloads of the backlog. Default: all of them; a quick run takes all but huge.
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Numbers of targets of the backlog. Default: 1, 4 and 8; a quick run takes 1, and 8 with pgbench.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=8))]
    targets: Vec<u32>,
    /// How contenders connect. Default: tcp and unix; a quick run takes tcp alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    transport: Vec<Transport>,
    /// Transactions per second beside which latency is measured.
    #[arg(long, value_delimiter = ',', default_value = "500,2000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Vec<u32>,
    /// Fail when a figure is not what it must be at least.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Measure one side alone.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// The walcast program. Default: beside this one.
    #[arg(long, value_name = "PROGRAM")]
    walcast: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// Slot to durable log, against pg_recvlogical.
    Drain,
    /// A collected backlog to one target, against a subscription.
    Backlog,
    /// From commit on the source to visible on the target, against a subscription.
    Latency,
    /// A whole database, against pg_dump with pg_restore and against pgcopydb.
    Copy,
    /// The latency of two targets while a third is copied.
    CopyLag,
    /// Rate, memory and open files over twenty million changes.
    Horizon,
    /// The cost of capturing DDL on the source.
    Ddl,
    /// All of them.
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    Native,
    Walcast,
}

const ROUNDS: u32 = 5;
const QUICK_SCALE: f64 = 0.05;
const RESULT_FILE: &str = "bench/RESULTS.md";

impl Options {
    pub(crate) fn wants(&self, measurement: Measurement) -> bool {
        let long = matches!(measurement, Measurement::Copy | Measurement::CopyLag | Measurement::Horizon);
        self.measurement == measurement || (self.measurement == Measurement::All && !(self.quick && long))
    }

    pub(crate) fn workloads(&self) -> &[Workload] {
        match self.workload.as_slice() {
            [] if self.quick => &[Workload::Insert, Workload::Pgbench, Workload::Scattered],
            [] => Workload::value_variants(),
            chosen => chosen,
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        let default = if self.quick { 1 } else { ROUNDS };
        self.rounds.unwrap_or(default) as usize
    }

    pub(crate) fn transports(&self) -> &[Transport] {
        match self.transport.as_slice() {
            [] if self.quick => &[Transport::Tcp],
            [] => &[Transport::Tcp, Transport::Unix],
            chosen => chosen,
        }
    }

    /// Numbers of targets with the transports to measure them by: many targets by the first alone.
    pub(crate) fn fans(&self, workload: Workload) -> Vec<(u32, Transport)> {
        let targets = match self.targets.as_slice() {
            [] if self.quick && workload == Workload::Pgbench => &[1, 8][..],
            [] if self.quick => &[1],
            [] => &[1, 4, 8],
            chosen => chosen,
        };
        let transports = |many: bool| self.transports().iter().take(if many { 1 } else { usize::MAX });
        targets.iter().flat_map(|&n| transports(n > 1).map(move |&transport| (n, transport))).collect()
    }

    fn scale(&self) -> f64 {
        self.scale.unwrap_or(if self.quick { QUICK_SCALE } else { 1.0 })
    }

    /// `full` transactions, scaled.
    pub(crate) fn scaled(&self, full: u32) -> u32 {
        // In range: clap refused factors that are not, and `as` saturates.
        ((f64::from(full) * self.scale()).round() as u32).max(1)
    }

    /// `full` transactions of what takes minutes, scaled; a quick run has a tenth of that again.
    pub(crate) fn long(&self, full: u32) -> u32 {
        self.scaled(if self.quick { full / 10 } else { full })
    }

    /// The seconds of one round of the latency test.
    pub(crate) fn seconds(&self, full: f64) -> f64 {
        (full * self.scale()).max(2.0)
    }

    pub(crate) fn result_file(&self) -> Option<PathBuf> {
        let default = (!self.quick).then(|| PathBuf::from(RESULT_FILE));
        self.out.clone().or(default)
    }

    /// Who takes part.
    pub(crate) fn sides(&self) -> anyhow::Result<Vec<Side>> {
        let native = [Side::Native, Side::NativeStreamingBinary];
        match self.only {
            Some(Only::Native) => Ok(native.into()),
            Some(Only::Walcast) => Ok(self.walcast_sides()?.into()),
            None => Ok(native.into_iter().chain(self.walcast_sides()?).collect()),
        }
    }

    fn walcast_sides(&self) -> anyhow::Result<[Side; 2]> {
        let program = self.walcast_program()?;
        Ok([Side::Walcast(program.clone()), Side::WalcastLog(program)])
    }

    fn walcast_program(&self) -> anyhow::Result<PathBuf> {
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("walcast"));
        let program = self.walcast.clone().map_or_else(beside, Ok)?;
        if !program.is_file() {
            bail!("no walcast program at {} (hint: \"cargo build --release\", or --only native)", program.display());
        }
        Ok(program)
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 1000.0 => Ok(factor),
        _ => Err("expected a number above 0 and at most 1000".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_quick_run_is_small_and_leaves_the_results_alone() {
        let quick = Options::parse_from(["bench", "--quick"]);
        assert_eq!((quick.rounds(), quick.scaled(300_000), quick.result_file()), (1, 15_000, None));
        assert!(quick.wants(Measurement::Ddl) && !quick.wants(Measurement::Copy));
        assert!(!quick.workloads().contains(&Workload::Huge));
        let quick_copy = Options::parse_from(["bench", "--quick", "--workload", "huge", "copy"]);
        assert!(quick_copy.wants(Measurement::Copy) && !quick_copy.wants(Measurement::Drain));
        assert_eq!(quick_copy.workloads(), [Workload::Huge]);
        let full = Options::parse_from(["bench", "drain"]);
        assert_eq!(full.workloads().len(), 4);
        assert_eq!((full.rounds(), full.scaled(300_000)), (5, 300_000));
        assert_eq!(full.result_file(), Some(PathBuf::from("bench/RESULTS.md")));
        assert!(full.wants(Measurement::Drain) && !full.wants(Measurement::Latency));
    }

    #[test]
    fn a_scale_that_is_no_positive_number_is_refused() {
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(Options::try_parse_from(["bench", &format!("--scale={bad}")]).is_err(), "{bad}");
        }
    }
}
