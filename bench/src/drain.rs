//! Slot to durable log, beside `pg_recvlogical` writing to `/dev/null`.

use std::time::{Duration, Instant};

use crate::feed::{Side, wait_for};
use crate::lab::{Lab, Load, Transport};
use crate::measure::Usage;
use crate::native;
use crate::options::Options;
use crate::report::{Report, Run, Series, Throughput, Work};
use crate::walcast::{self, Service};
use crate::workload::Workload;

const TRANSACTIONS: u32 = 300_000;
const WORKLOAD: Workload = Workload::Insert;

pub(crate) fn measure(options: &Options, sides: &[Side], report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::start(WORKLOAD)?;
    if let Some(program) = sides.iter().find_map(Side::walcast_program) {
        walcast::set_up(program, &lab)?;
    }
    lab.make_base_slot()?;
    let load = lab.load(WORKLOAD, options.scaled(TRANSACTIONS))?;
    for &transport in options.transports() {
        let series = rounds(options, &lab, &contenders(sides), transport, load)?;
        report.throughput(&Throughput {
            title: format!("Slot to durable log, {transport}"),
            work: Work::Drain,
            transactions: load.transactions,
            changes: load.changes,
            series,
        })?;
    }
    Ok(())
}

/// `pg_recvlogical` is the native side, however subscriptions are made.
fn contenders(sides: &[Side]) -> Vec<Side> {
    sides.iter().filter(|side| !matches!(side, Side::NativeStreamingBinary | Side::WalcastLog(_))).cloned().collect()
}

fn name(side: &Side) -> &'static str {
    if side.walcast_program().is_some() { "walcast" } else { "pg_recvlogical" }
}

fn rounds(
    options: &Options,
    lab: &Lab,
    sides: &[Side],
    transport: Transport,
    load: Load,
) -> anyhow::Result<Vec<Series>> {
    let mut series: Vec<Series> = sides.iter().map(|side| Series::new(name(side))).collect();
    for round in 0..options.rounds() {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let slot = format!("drain_{transport}_{round}_{}", sides[index].tag());
            lab.copy_slot(&slot)?;
            lab.checkpoint()?;
            let (elapsed, usage) = drain(lab, &sides[index], &slot, transport, load)?;
            series[index].push(&format!("drain {transport}"), round, Run { elapsed, usage });
        }
    }
    Ok(series)
}

/// Reads the slot to the end of the load, and drops it.
fn drain(lab: &Lab, side: &Side, slot: &str, transport: Transport, load: Load) -> anyhow::Result<(Duration, Usage)> {
    let Some(program) = side.walcast_program() else { return native::recvlogical(lab, slot, transport, load) };
    let mut service = Service::without_target(program, lab, slot, transport)?;
    let started = Instant::now();
    service.run()?;
    wait_for(load.end, || service.durable())?;
    let elapsed = started.elapsed();
    let usage = service.usage()?;
    service.stop()?;
    lab.drop_slot(slot)?;
    Ok((elapsed, usage))
}
