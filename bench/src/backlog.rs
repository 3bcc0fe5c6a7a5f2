//! A backlog that collected in a slot, to one target, beside subscriptions.

use std::time::Instant;

use anyhow::bail;

use crate::feed::{Route, Side, wait_for};
use crate::lab::{Lab, Load, Transport};
use crate::options::Options;
use crate::report::{Report, Run, Series, Throughput};
use crate::walcast;
use crate::workload::Workload;

pub(crate) fn measure(options: &Options, sides: &[Side], report: &mut Report) -> anyhow::Result<()> {
    for &workload in &options.workload {
        let lab = Lab::start(workload)?;
        for program in sides.iter().filter_map(Side::walcast_program) {
            walcast::set_up(program, &lab)?;
        }
        lab.make_base_slot()?;
        let load = lab.load(workload, options.scaled(workload.transactions()))?;
        let backlog = Backlog { content: lab.source_content(workload)?, workload, load, lab: &lab };
        for &transport in options.transports() {
            report.throughput(&backlog.measure(options, sides, transport)?)?;
        }
    }
    Ok(())
}

struct Backlog<'lab> {
    lab: &'lab Lab,
    workload: Workload,
    load: Load,
    /// What a target holds in the end.
    content: Vec<String>,
}

impl Backlog<'_> {
    fn measure(&self, options: &Options, sides: &[Side], transport: Transport) -> anyhow::Result<Throughput> {
        let name = format!("{} {transport}", self.workload.name());
        let mut series: Vec<Series> = sides.iter().map(|side| Series::new(side.name())).collect();
        for round in 0..options.rounds() {
            for turn in 0..sides.len() {
                let index = (round + turn) % sides.len();
                let side = &sides[index];
                let names = format!("{}_{transport}_{round}_{}", self.workload.name(), side.tag());
                let route = Route { slot: names.clone(), database: names, transport };
                series[index].push(&name, round, self.catch_up(side, &route)?);
            }
        }
        Ok(Throughput {
            title: format!("Backlog to one target, {name}"),
            transactions: self.load.transactions,
            changes: self.load.transactions * self.workload.changes_per_transaction(),
            series,
        })
    }

    fn catch_up(&self, side: &Side, route: &Route) -> anyhow::Result<Run> {
        self.lab.copy_slot(&route.slot)?;
        self.lab.make_target(&route.database)?;
        let mut feed = side.feed(self.lab, route)?;
        self.lab.checkpoint()?;
        let started = Instant::now();
        feed.start()?;
        wait_for(self.load.end, || feed.applied())?;
        let elapsed = started.elapsed();
        let usage = feed.usage()?;
        feed.stop()?;
        self.check(side, route)?;
        self.lab.drop_slot(&route.slot)?;
        self.lab.drop_target(&route.database)?;
        Ok(Run { elapsed, usage })
    }

    /// Whoever says that everything has arrived has to have it.
    fn check(&self, side: &Side, route: &Route) -> anyhow::Result<()> {
        let content = self.lab.target_content(self.workload, &route.database)?;
        if content != self.content {
            bail!("{} left {content:?} on the target instead of {:?}", side.name(), self.content);
        }
        Ok(())
    }
}
