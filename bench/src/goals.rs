//! What figures are held against: the least that they must be, and what is aimed at.

use std::fmt::Write as _;

use crate::workload::Workload;

/// Which side of a bound is good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// Bounds of a figure.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    better: Better,
    least: f64,
    aim: f64,
}

const fn at_least(least: f64, aim: f64) -> Bounds {
    Bounds { better: Better::Higher, least, aim }
}

const fn at_most(least: f64, aim: f64) -> Bounds {
    Bounds { better: Better::Lower, least, aim }
}

/// Slot to durable log: rate against `pg_recvlogical`.
pub(crate) const DRAIN: Bounds = at_least(1.0, 1.2);
/// CPU of the source's walsenders with eight targets: against that of eight subscriptions.
pub(crate) const WALSENDERS: Bounds = at_most(0.15, 0.13);
/// Median of the latency: against native.
pub(crate) const LATENCY_P50: Bounds = at_most(1.5, 1.2);
/// 99th percentile of the latency: against native.
pub(crate) const LATENCY_P99: Bounds = at_most(1.2, 1.0);
/// Peak resident memory of walcast with eight targets, in MiB.
pub(crate) const MEMORY: Bounds = at_most(256.0, 128.0);
/// Over a long way, the last tenth against the first: rate, anonymous memory, open files.
pub(crate) const LASTING_RATE: Bounds = at_least(0.95, 1.0);
pub(crate) const LASTING_MEMORY: Bounds = at_most(1.1, 1.0);
pub(crate) const LASTING_FILES: Bounds = at_most(1.05, 1.0);
/// The number of targets of which [`WALSENDERS`] and [`MEMORY`] speak.
pub(crate) const MANY: u32 = 8;

/// One target from the slot: rate against the faster of the subscriptions.
pub(crate) fn from_slot(workload: Workload) -> Option<Bounds> {
    match workload {
        Workload::Insert => Some(at_least(1.0, 1.15)),
        Workload::Pgbench => Some(at_least(1.1, 1.3)),
        Workload::Scattered => Some(at_least(1.2, 1.5)),
        Workload::Huge => None,
    }
}

/// One target out of the log: rate against the faster of the subscriptions, which read from the slot.
pub(crate) fn from_log(workload: Workload) -> Option<Bounds> {
    match workload {
        Workload::Insert => Some(at_least(2.5, 4.0)),
        Workload::Pgbench => Some(at_least(1.5, 2.5)),
        Workload::Scattered => Some(at_least(1.2, 1.5)),
        Workload::Huge => None,
    }
}

/// Wall time until eight targets have it: against eight subscriptions.
pub(crate) fn fan_out(workload: Workload) -> Option<Bounds> {
    match workload {
        Workload::Insert | Workload::Pgbench => Some(at_most(0.5, 0.3)),
        Workload::Scattered => Some(at_most(0.75, 0.55)),
        Workload::Huge => None,
    }
}

/// A figure beside its bounds.
pub(crate) struct Goal {
    measure: String,
    bounds: Bounds,
    measured: f64,
}

impl Goal {
    pub(crate) fn new(measure: impl Into<String>, bounds: Bounds, measured: f64) -> Goal {
        Goal { measure: measure.into(), bounds, measured }
    }

    fn verdict(&self) -> &'static str {
        let within = |bound: f64| match self.bounds.better {
            Better::Higher => self.measured >= bound,
            Better::Lower => self.measured <= bound,
        };
        match (within(self.bounds.least), within(self.bounds.aim)) {
            (_, true) => "aim",
            (true, false) => "held",
            (false, false) => MISSED,
        }
    }

    fn row(&self) -> String {
        let sign = if self.bounds.better == Better::Higher { "≥" } else { "≤" };
        let Goal { measure, bounds: Bounds { least, aim, .. }, measured } = self;
        format!("| {measure} | {sign} {least} | {sign} {aim} | {measured:.2} | {} |", self.verdict())
    }
}

const MISSED: &str = "**missed**";
/// By this line the rows are found again in a section that was written before.
const HEAD: &str = "| what must hold | least | aim | measured | |";
const RULE: &str = "| --- | --- | --- | --- | --- |";

/// The goals as a table; nothing when there are none.
pub(crate) fn table(goals: &[Goal]) -> String {
    rows_as_table(goals.iter().map(Goal::row))
}

/// The goals of all sections as one table.
pub(crate) fn collected<'a>(sections: impl Iterator<Item = &'a str>) -> String {
    rows_as_table(sections.flat_map(rows).map(str::to_string))
}

fn rows_as_table(rows: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for row in rows {
        if text.is_empty() {
            text = format!("\n{HEAD}\n{RULE}\n");
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

/// How many goals of a section were missed.
pub(crate) fn missed(section: &str) -> usize {
    rows(section).filter(|row| row.contains(MISSED)).count()
}

/// The rows of the goals in a section.
fn rows(section: &str) -> impl Iterator<Item = &str> {
    let behind_head = section.lines().skip_while(|line| *line != HEAD).skip(2);
    behind_head.take_while(|line| line.starts_with('|'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_misses_holds_or_reaches_the_aim() {
        let verdict = |bounds, figure| Goal::new("x", bounds, figure).verdict();
        assert_eq!([0.9, 1.0, 1.2].map(|figure| verdict(DRAIN, figure)), ["**missed**", "held", "aim"]);
        assert_eq!([1.3, 1.1, 1.0].map(|figure| verdict(LATENCY_P99, figure)), ["**missed**", "held", "aim"]);
        assert_eq!(verdict(DRAIN, f64::NAN), "**missed**");
    }

    #[test]
    fn goals_are_found_again_in_what_was_written() {
        let goals = [Goal::new("a", DRAIN, 1.1), Goal::new("b", MEMORY, 20.0)];
        let section = format!("## T\n\n| | seconds |\n| --- | --- |\n| native | 1 |\n{}\nend\n", table(&goals));
        let found: Vec<_> = rows(&section).collect();
        assert_eq!(found, ["| a | ≥ 1 | ≥ 1.2 | 1.10 | held |", "| b | ≤ 256 | ≤ 128 | 20.00 | aim |"]);
        assert_eq!((missed(&section), missed(&table(&[Goal::new("c", DRAIN, 0.5)]))), (0, 1));
        assert_eq!(collected([section.as_str(), "## U\n"].into_iter()), table(&goals));
        assert_eq!(collected(["## U\n"].into_iter()), "");
    }
}
