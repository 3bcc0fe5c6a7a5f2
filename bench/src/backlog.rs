//! A backlog that collected in a slot, or in walcast's log, to one target or to many, beside subscriptions.

use std::time::Instant;

use anyhow::bail;

use crate::feed::{Route, Side, wait_for};
use crate::lab::{Lab, Load, Transport};
use crate::options::Options;
use crate::report::{Report, Run, Series, Throughput, Work};
use crate::walcast;
use crate::workload::Workload;

pub(crate) fn measure(options: &Options, sides: &[Side], report: &mut Report) -> anyhow::Result<()> {
    for &workload in options.workloads() {
        let lab = Lab::start(workload)?;
        if let Some(program) = sides.iter().find_map(Side::walcast_program) {
            walcast::set_up(program, &lab)?;
        }
        lab.make_base_slot()?;
        let load = lab.load(workload, options.scaled(workload.full_size()))?;
        let backlog = Backlog { content: lab.source_content(workload)?, workload, load, lab: &lab };
        for (targets, transport) in options.fans(workload) {
            let sides: Vec<Side> = sides.iter().filter(|side| takes_part(side, workload, targets)).cloned().collect();
            if !sides.is_empty() {
                report.throughput(&backlog.measure(options, &sides, targets, transport)?)?;
            }
        }
    }
    Ok(())
}

/// Many subscriptions are measured as they are made by default, and not with the huge transactions: each of their
/// walsenders would write them to disk, for minutes.
fn takes_part(side: &Side, workload: Workload, targets: u32) -> bool {
    match side {
        Side::Native => targets == 1 || workload != Workload::Huge,
        Side::NativeStreamingBinary => targets == 1,
        Side::Walcast(_) | Side::WalcastLog(_) => true,
    }
}

struct Backlog<'lab> {
    lab: &'lab Lab,
    workload: Workload,
    load: Load,
    /// What a target holds in the end.
    content: Vec<String>,
}

impl Backlog<'_> {
    fn measure(
        &self,
        options: &Options,
        sides: &[Side],
        targets: u32,
        transport: Transport,
    ) -> anyhow::Result<Throughput> {
        let name = format!("{targets} of {} {transport}", self.workload.name());
        let mut series: Vec<Series> = sides.iter().map(|side| Series::new(side.name())).collect();
        for round in 0..options.rounds() {
            for turn in 0..sides.len() {
                let index = (round + turn) % sides.len();
                let side = &sides[index];
                let names = format!("{}_{transport}_{targets}_{round}_{}", self.workload.name(), side.tag());
                let route = Route { name: names, targets, transport };
                series[index].push(&name, round, self.catch_up(side, &route)?);
            }
        }
        let plural = if targets == 1 { "" } else { "s" };
        Ok(Throughput {
            title: format!("Backlog to {targets} target{plural}, {} {transport}", self.workload.name()),
            work: Work::Backlog(self.workload, targets),
            transactions: self.load.transactions,
            changes: self.load.changes,
            series,
        })
    }

    fn catch_up(&self, side: &Side, route: &Route) -> anyhow::Result<Run> {
        self.lab.open(side, route)?;
        let mut feed = side.feed(self.lab, route)?;
        feed.prepare(self.load.end)?;
        self.lab.checkpoint()?;
        let started = Instant::now();
        feed.start()?;
        wait_for(self.load.end, || feed.applied())?;
        let elapsed = started.elapsed();
        let usage = feed.usage()?;
        feed.stop()?;
        self.check(side, route)?;
        self.lab.close(side, route)?;
        Ok(Run { elapsed, usage })
    }

    /// Whoever says that everything has arrived has to have it.
    fn check(&self, side: &Side, route: &Route) -> anyhow::Result<()> {
        for database in route.databases() {
            let content = self.lab.target_content(self.workload, &database)?;
            if content != self.content {
                bail!("{} left {content:?} in {database} instead of {:?}", side.name(), self.content);
            }
        }
        Ok(())
    }
}
