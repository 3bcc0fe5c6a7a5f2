//! From a commit on the source to its being seen on the target, beside writes at a steady pace.
//!
//! ```text
//! source   writers: TPC-B transactions, `rate` a second in all
//!          prober:  INSERT of n = 1, 2, 3 …, one each 5 ms; t0(n) = when its COMMIT was answered
//! target   poller:  from t0(n) on SELECT max(n), a pause of 100 µs; t1(n) = when the answer was n or more
//! ```
//!
//! A latency is t1 - t0, so never less than one question takes. Nobody asks the target between a probe that was seen and the
//! commit of the next: a poller that never rests takes a quarter of a core, and on a small machine that is what would be
//! measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cluster::Conninfo;

use crate::feed::{Feed, Route, Side, wait_for};
use crate::interrupt;
use crate::lab::{Lab, Transport};
use crate::measure::percentile;
use crate::options::Options;
use crate::report::{Latency, LatencyRun, LatencySeries, Report};
use crate::sql::Session;
use crate::walcast;
use crate::workload::Workload;

pub(crate) const SECONDS: f64 = 20.0;
/// Written before the probes count: sessions prepare their statements, caches fill.
const WARM_UP: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(5);
const POLL_PAUSE: Duration = Duration::from_micros(100);
const WRITERS: u32 = 4;
/// How long a probe may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// What writers and prober need on the source and on targets.
pub(crate) const OBJECTS: &str = "
    CREATE TABLE bench_probe (n bigint PRIMARY KEY);
    CREATE FUNCTION bench_write() RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        account int := 1 + floor(random() * 1000000);
        teller int := 1 + floor(random() * 100);
        branch int := 1 + floor(random() * 10);
        delta int := floor(random() * 10000) - 5000;
    BEGIN
        UPDATE pgbench_accounts SET abalance = abalance + delta WHERE aid = account;
        UPDATE pgbench_tellers SET tbalance = tbalance + delta WHERE tid = teller;
        UPDATE pgbench_branches SET bbalance = bbalance + delta WHERE bid = branch;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (teller, branch, account, delta, now());
    END $$";

pub(crate) fn measure(options: &Options, sides: &[Side], report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::start(Workload::Pgbench)?;
    lab.on_source.run(OBJECTS)?;
    lab.run_on_template(OBJECTS)?;
    lab.publish()?;
    if let Some(program) = sides.iter().find_map(Side::walcast_program) {
        walcast::set_up(program, &lab)?;
    }
    // Latency is that of the log's head, wherever the log comes from.
    let sides: Vec<Side> = sides.iter().filter(|side| !matches!(side, Side::WalcastLog(_))).cloned().collect();
    let length = Duration::from_secs_f64(options.seconds(SECONDS));
    for &rate in &options.rate {
        for &transport in options.transports() {
            let series = rounds(options, &lab, &sides, rate, transport, length)?;
            report.latency(&Latency { rate, transport, seconds: length.as_secs_f64(), series })?;
        }
    }
    Ok(())
}

fn rounds(
    options: &Options,
    lab: &Lab,
    sides: &[Side],
    rate: u32,
    transport: Transport,
    length: Duration,
) -> anyhow::Result<Vec<LatencySeries>> {
    let mut series: Vec<LatencySeries> = sides.iter().map(|side| LatencySeries::new(side.name())).collect();
    for round in 0..options.rounds() {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let name = format!("latency_{rate}_{transport}_{round}_{}", sides[index].tag());
            let route = Route { name, targets: 1, transport };
            let run = one_round(lab, &sides[index], &route, rate, length)?;
            series[index].push(&format!("latency {rate}/s {transport}"), round, run);
        }
    }
    Ok(series)
}

/// The target begins with what the source began with. Earlier rounds' changes are missing there, but no key is.
fn one_round(lab: &Lab, side: &Side, route: &Route, rate: u32, length: Duration) -> anyhow::Result<LatencyRun> {
    lab.on_source.run("TRUNCATE bench_probe")?;
    side.slots(route).iter().try_for_each(|slot| lab.make_slot(slot))?;
    let databases = route.databases();
    databases.iter().try_for_each(|database| lab.make_target(database))?;
    let mut feed = side.feed(lab, route)?;
    lab.checkpoint()?;
    feed.start()?;
    let head = lab.mark()?;
    wait_for(head, || feed.applied())?;
    let run = observe(lab, feed.as_mut(), &databases[0], rate, length)?;
    feed.stop()?;
    lab.close(side, route)?;
    Ok(run)
}

/// When something was seen: a probe's number at a time.
type Sighting = (i64, Instant);

fn observe(lab: &Lab, feed: &mut dyn Feed, database: &str, rate: u32, length: Duration) -> anyhow::Result<LatencyRun> {
    let target = lab.target.conninfo_unix(database);
    let observed = beside(lab, &[target], rate, |begin| {
        let before = feed.usage()?;
        sleep_until(begin + length)?;
        Ok(feed.usage()?.since(&before))
    })?;
    Ok(LatencyRun { usage: observed.given, latencies: observed.latencies, rate: observed.rate })
}

/// What was seen while something went on.
pub(crate) struct Observed<T> {
    /// What it gave.
    pub(crate) given: T,
    /// Of all probes on all targets, in milliseconds, sorted; never empty.
    pub(crate) latencies: Vec<f64>,
    /// Transactions per second that were written.
    pub(crate) rate: f64,
}

/// Writes, probes and looks at the targets for as long as `work` takes, which is called once the probes count.
pub(crate) fn beside<T>(
    lab: &Lab,
    targets: &[Conninfo],
    rate: u32,
    work: impl FnOnce(Instant) -> anyhow::Result<T>,
) -> anyhow::Result<Observed<T>> {
    let started = Instant::now();
    let stop = &AtomicBool::new(false);
    let (tell, told): (Vec<_>, Vec<_>) = targets.iter().map(|_| mpsc::channel()).unzip();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|index| scope.spawn(move || write(lab, rate, index, stop))).collect();
        let prober = scope.spawn(move || probe(lab, stop, &tell));
        let poller = |(target, committed): (&Conninfo, _)| {
            let target = target.clone();
            scope.spawn(move || poll(target, committed))
        };
        let pollers: Vec<_> = targets.iter().zip(told).map(poller).collect();
        let begin = started + WARM_UP;
        let given = sleep_until(begin).and_then(|()| work(begin));
        stop.store(true, Ordering::Relaxed);
        let written = writers.into_iter().map(joined).sum::<anyhow::Result<u64>>()?;
        let rate = written as f64 / started.elapsed().as_secs_f64();
        let commits = joined(prober)?;
        let sightings = pollers.into_iter().map(joined).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Observed { given: given?, latencies: latencies(&commits, &sightings, begin)?, rate })
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Writes its share of `rate` until it is told to stop; gives the number of transactions.
fn write(lab: &Lab, rate: u32, index: u32, stop: &AtomicBool) -> anyhow::Result<u64> {
    let session = Session::connect(lab.source_conninfo(Transport::Unix))?;
    let statement = session.prepare("SELECT bench_write()")?;
    let period = Duration::from_secs(u64::from(WRITERS)) / rate;
    let mut next = Instant::now() + period * index / WRITERS;
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        sleep_until(next)?;
        session.execute(&statement)?;
        written += 1;
        next += period;
    }
    Ok(written)
}

/// Tells each poller of each commit.
fn probe(lab: &Lab, stop: &AtomicBool, pollers: &[Sender<i64>]) -> anyhow::Result<Vec<Sighting>> {
    let session = Session::connect(lab.source_conninfo(Transport::Unix))?;
    let statement = session.prepare("INSERT INTO bench_probe VALUES ($1)")?;
    let mut commits = Vec::new();
    let mut next = Instant::now();
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep_until(next)?;
        session.execute_with(&statement, number)?;
        commits.push((number, Instant::now()));
        // A poller that is gone has an error of its own to show.
        for poller in pollers {
            let _ = poller.send(number);
        }
        next += PROBE_EVERY;
    }
    Ok(commits)
}

/// Looks for each probe that is `committed`; gives the moments at which the largest number had grown.
fn poll(target: Conninfo, committed: Receiver<i64>) -> anyhow::Result<Vec<Sighting>> {
    let session = Session::connect(target)?;
    let statement = session.prepare("SELECT coalesce(max(n), 0) FROM bench_probe")?;
    let mut sightings: Vec<Sighting> = Vec::new();
    let mut seen = 0;
    for probe in committed {
        let since = Instant::now();
        while seen < probe {
            let number = session.number(&statement)?;
            let now = Instant::now();
            if number > seen {
                sightings.push((number, now));
                seen = number;
            } else if now.duration_since(since) > PATIENCE {
                bail!("probe {probe} has not arrived within {} s", PATIENCE.as_secs());
            } else {
                interrupt::pause(POLL_PAUSE)?;
            }
        }
    }
    Ok(sightings)
}

/// The latencies of the probes committed after `begin` on each target, in milliseconds, sorted.
fn latencies(commits: &[Sighting], targets: &[Vec<Sighting>], begin: Instant) -> anyhow::Result<Vec<f64>> {
    let measured = || commits.iter().filter(|(_, committed)| *committed >= begin);
    let on_targets = targets.iter().flat_map(|sightings| measured().map(|commit| latency(commit, sightings)));
    let mut latencies = on_targets.collect::<anyhow::Result<Vec<_>>>()?;
    latencies.sort_by(f64::total_cmp);
    percentile(&latencies, 0.5).context("no probe was committed")?;
    Ok(latencies)
}

fn latency(&(number, committed): &Sighting, sightings: &[Sighting]) -> anyhow::Result<f64> {
    let first = sightings.partition_point(|(seen, _)| *seen < number);
    let (_, seen) = sightings.get(first).with_context(|| format!("probe {number} was never seen"))?;
    let before = committed.saturating_duration_since(*seen).as_secs_f64();
    Ok((seen.saturating_duration_since(committed).as_secs_f64() - before) * 1e3)
}

pub(crate) fn sleep_until(moment: Instant) -> anyhow::Result<()> {
    /// The longest time for which a signal is not noticed.
    const STEP: Duration = Duration::from_millis(100);
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return interrupt::check();
        }
        interrupt::pause(left.min(STEP))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_seen_when_its_number_or_a_later_one_is() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let commits = [(1, at(0)), (2, at(10)), (3, at(20)), (4, at(30))];
        let sightings = [(1, at(1)), (3, at(24)), (4, at(28))];
        let found = latencies(&commits, &[sightings.into()], at(10)).unwrap();
        assert_eq!(found.iter().map(|ms| ms.round()).collect::<Vec<_>>(), [-2.0, 4.0, 14.0]);
    }

    #[test]
    fn a_probe_that_was_never_seen_is_an_error() {
        let start = Instant::now();
        let error = latencies(&[(7, start)], &[vec![(6, start)]], start).unwrap_err();
        assert_eq!(error.to_string(), "probe 7 was never seen");
        assert!(latencies(&[], &[], start).is_err());
    }
}
