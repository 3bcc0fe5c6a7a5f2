//! A day of small transactions in minutes: does the last tenth go as fast as the first, with as much memory and as many
//! open files, while the log rolls and is trimmed?
//!
//! The slot holds all of it before walcast starts, so that the source does not set the pace. Segments are small, so
//! that there are many of them.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_postgres::types::PgLsn;

use crate::feed::{Feed, Route, Side};
use crate::interrupt;
use crate::lab::{Lab, Load, Transport};
use crate::options::Options;
use crate::report::{Horizon, Report, Tenth};
use crate::walcast::{self, Condition, Service, Start};
use crate::workload::Workload;

const WORKLOAD: Workload = Workload::Pgbench;
/// Of a full run: twenty million changes.
const TRANSACTIONS: u32 = 5_000_000;
const TARGETS: u32 = 2;
const SEGMENT_SIZE: &str = "16MiB";
/// As in life: millions of updates of the same rows are not to be measured by the space that they leave behind.
const HOUSEKEEPING: &str = "autovacuum = on\nmax_wal_size = '2GB'\ncheckpoint_timeout = '5min'";
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// What was seen at one moment.
struct Sample {
    at: Duration,
    condition: Condition,
}

pub(crate) fn measure(options: &Options, side: &Side, report: &mut Report) -> anyhow::Result<()> {
    let Some(program) = side.walcast_program() else { return Ok(()) };
    let lab = Lab::start(WORKLOAD)?;
    for server in [&lab.source, &lab.target] {
        server.append_configuration(HOUSEKEEPING)?;
        server.reload()?;
    }
    walcast::set_up(program, &lab)?;
    lab.make_base_slot()?;
    let load = lab.load(WORKLOAD, options.long(TRANSACTIONS))?;
    let content = lab.source_content(WORKLOAD)?;
    let route = Route { name: "horizon".into(), targets: TARGETS, transport: Transport::Tcp };
    lab.open(side, &route)?;
    let mut service = Service::with_targets(program, &lab, &route, Start::FromSlot)?;
    service.set_segment_size(SEGMENT_SIZE)?;
    lab.checkpoint()?;
    let started = Instant::now();
    service.run()?;
    let samples = watch(&mut service, load.end, started)?;
    Box::new(service).stop()?;
    for database in route.databases() {
        let found = lab.target_content(WORKLOAD, &database)?;
        if found != content {
            bail!("{database} holds {found:?} instead of {content:?}");
        }
    }
    report.horizon(&Horizon { targets: TARGETS, changes: load.changes, tenths: tenths(&samples, load)? })
}

/// Looks until everything before `end` is applied.
fn watch(service: &mut Service, end: PgLsn, started: Instant) -> anyhow::Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut moved = Instant::now();
    loop {
        if let Some(condition) = service.condition()? {
            if samples.last().is_none_or(|last| last.condition.applied < condition.applied) {
                moved = Instant::now();
            }
            let is_done = condition.applied >= end;
            samples.push(Sample { at: started.elapsed(), condition });
            if is_done {
                return Ok(samples);
            }
        }
        if moved.elapsed() > STALLED_AFTER {
            bail!("no progress for {} s", STALLED_AFTER.as_secs());
        }
        interrupt::pause(SAMPLE_EVERY)?;
    }
}

/// Tenths of the way by position: the load is the same all along, so each has as many changes.
fn tenths(samples: &[Sample], load: Load) -> anyhow::Result<Vec<Tenth>> {
    let begin = u64::from(samples.first().context("nothing was seen")?.condition.applied);
    let length = u64::from(load.end).checked_sub(begin).context("everything was applied at once")?;
    let bound = |tenth: u64| begin + length / 10 * tenth;
    let mut found = Vec::new();
    for tenth in 0..10 {
        let from = last_before(samples, bound(tenth));
        let to = if tenth == 9 { samples.len() - 1 } else { last_before(samples, bound(tenth + 1)) };
        let within = &samples[from..=to];
        if from == to {
            bail!("tenth {} went by between two looks: more transactions are needed", tenth + 1);
        }
        found.push(of(within));
    }
    Ok(found)
}

/// The last sample at or before a position.
fn last_before(samples: &[Sample], position: u64) -> usize {
    samples.partition_point(|sample| u64::from(sample.condition.applied) <= position).saturating_sub(1)
}

fn of(samples: &[Sample]) -> Tenth {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let bytes = u64::from(last.condition.applied) - u64::from(first.condition.applied);
    let largest = |figure: fn(&Condition) -> u64| samples.iter().map(|sample| figure(&sample.condition)).max();
    Tenth {
        seconds: (last.at - first.at).as_secs_f64(),
        wal_bytes: bytes,
        anonymous: largest(|condition| condition.anonymous).unwrap_or_default(),
        descriptors: largest(|condition| condition.descriptors).unwrap_or_default(),
        log_bytes: largest(|condition| condition.log_bytes).unwrap_or_default(),
        trimmed: first.condition.log_first != last.condition.log_first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, applied: u64) -> Sample {
        let condition = Condition {
            applied: PgLsn::from(applied),
            anonymous: applied,
            descriptors: 20,
            log_bytes: 1,
            log_first: PgLsn::from(applied / 200),
        };
        Sample { at: Duration::from_secs(seconds), condition }
    }

    fn load() -> Load {
        Load { transactions: 1, changes: 4, end: PgLsn::from(1100) }
    }

    #[test]
    fn the_way_is_divided_by_position() {
        let samples: Vec<Sample> = (0..=20).map(|step| sample(step * 2, 100 + step * 50)).collect();
        let tenths = tenths(&samples, load()).unwrap();
        assert_eq!(tenths.len(), 10);
        assert!(tenths.iter().all(|tenth| tenth.seconds == 4.0 && tenth.wal_bytes == 100));
        assert_eq!((tenths[0].anonymous, tenths[9].anonymous), (200, 1100));
        assert_eq!((tenths[0].trimmed, tenths[1].trimmed), (true, false));
    }

    #[test]
    fn a_tenth_that_nobody_saw_is_an_error() {
        assert!(tenths(&[sample(0, 100), sample(1, 1100)], load()).is_err());
        assert!(tenths(&[], load()).is_err());
    }
}
