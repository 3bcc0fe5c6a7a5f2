//! What two targets notice of a third one's copy: their latency beside a steady load, without and with it.
//!
//! In life the third target is a machine of its own. Its server has its data in memory and the lowest priority, to be as
//! little in the way as can be on one machine; once more it shares disk and priority with everything else, as the worst
//! case. Both are measured at full speed, with a fixed `--max-rate`, and with `--considerate`. What reads the rows at the source
//! and what relays them has the same priority as everything else in all cases.

use std::collections::HashSet;
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use cluster::{Cluster, Conninfo};
use rustix::process::{Pid, getsid, setpriority_process};

use crate::feed::{Feed, Route, wait_for};
use crate::lab::{self, Lab, Transport};
use crate::latency::{self, OBJECTS, beside, sleep_until};
use crate::options::Options;
use crate::report::{CopyLag, CopyLagRun, CopyLagSeries, Report};
use crate::walcast::{self, Service};
use crate::workload::Workload;

const RATE: u32 = 500;
const DATABASE: &str = "bench_copied";
/// Where a machine's memory can be written to as files.
const MEMORY: &str = "/dev/shm";
const LOWEST_PRIORITY: i32 = 19;
const QUIETEN_EVERY: Duration = Duration::from_millis(5);
const MAX_RATE: &str = "20MiB";
/// Rows of a table that is copied and not written to meanwhile: about 450 MiB in a full run.
const ROWS: u32 = 3_500_000;

/// What goes on beside the load.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    /// The server copied to, and the command's arguments.
    copy: Option<(Place, &'static [&'static str])>,
}

/// Where the third target is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As far away as it can be.
    Apart,
    /// On the same disk as all, at the same priority.
    Beside,
}

const VARIANTS: [Variant; 7] = [
    Variant { name: "no copy", copy: None },
    Variant { name: "copy to a server in memory at the lowest priority", copy: Some((Place::Apart, &[])) },
    Variant { name: "the same with --max-rate 20MiB", copy: Some((Place::Apart, &["--max-rate", MAX_RATE])) },
    Variant { name: "the same with --considerate", copy: Some((Place::Apart, &["--considerate"])) },
    Variant { name: "copy to a server on the same disk at the same priority", copy: Some((Place::Beside, &[])) },
    Variant { name: "the same with --max-rate 20MiB", copy: Some((Place::Beside, &["--max-rate", MAX_RATE])) },
    Variant { name: "the same with --considerate", copy: Some((Place::Beside, &["--considerate"])) },
];

pub(crate) fn measure(options: &Options, program: &Path, report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::start(Workload::Pgbench)?;
    lab.on_source.run(OBJECTS)?;
    lab.run_on_template(OBJECTS)?;
    let rows = options.scaled(ROWS);
    lab.on_source.run(&format!(
        "CREATE TABLE ballast (aid int PRIMARY KEY, bid int, balance int, filler char(84));
         INSERT INTO ballast SELECT g, 1 + g % 100, g, '' FROM generate_series(1, {rows}) g"
    ))?;
    walcast::set_up(program, &lab)?;
    let bytes: i64 = lab.on_source.value("SELECT pg_database_size(current_database())")?;
    let thirds = [(Place::Apart, apart()?), (Place::Beside, lab::server()?)];
    let measurement = Measurement { lab, program, thirds, seconds: options.seconds(latency::SECONDS) };
    let mut series: Vec<CopyLagSeries> = VARIANTS.iter().map(|variant| CopyLagSeries::new(variant.name)).collect();
    for round in 0..options.rounds() {
        for turn in 0..VARIANTS.len() {
            let index = (round + turn) % VARIANTS.len();
            series[index].push(round, measurement.run(&VARIANTS[index], &format!("copy_lag_{round}_{index}"))?);
        }
    }
    report.copy_lag(&CopyLag { rate: RATE, bytes: bytes.unsigned_abs(), series })
}

/// A server that is as little in the way as can be.
fn apart() -> anyhow::Result<Cluster> {
    let server = lab::server_settings().directory(MEMORY).start()?;
    let pid = server.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    // Sessions, which do the work, come from the postmaster after this and have its priority.
    pid.map(|pid| setpriority_process(Some(pid), LOWEST_PRIORITY)).transpose()?;
    Ok(server)
}

/// Gives the sessions of a server the lowest priority until `stop`.
///
/// Where the kernel groups processes by their session (`sched_autogroup_enabled`), a process's own priority counts only
/// within its group, and each session of PostgreSQL is a group of its own.
fn quieten(server: u32, stop: &AtomicBool) -> anyhow::Result<()> {
    let children = format!("/proc/{server}/task/{server}/children");
    let mut known = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        let now = fs::read_to_string(&children).with_context(|| format!("could not read {children}"))?;
        for pid in now.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // Until it leads a session it is in the group that everything here is in, which is to stay as it is.
            if getsid(Some(pid)) == Ok(pid) && known.insert(pid) {
                // The session may have ended by now, and without groups there is no such file.
                drop(fs::write(format!("/proc/{pid}/autogroup"), LOWEST_PRIORITY.to_string()));
            }
        }
        thread::sleep(QUIETEN_EVERY);
    }
    Ok(())
}

struct Measurement<'a> {
    lab: Lab,
    program: &'a Path,
    thirds: [(Place, Cluster); 2],
    /// How long it is looked without a copy.
    seconds: f64,
}

impl Measurement<'_> {
    fn run(&self, variant: &Variant, name: &str) -> anyhow::Result<CopyLagRun> {
        let route = Route { name: name.to_string(), targets: 2, transport: Transport::Tcp };
        self.lab.on_source.run("TRUNCATE bench_probe")?;
        self.lab.make_slot(name)?;
        route.databases().iter().try_for_each(|database| self.lab.make_target(database))?;
        let third = variant.copy.map(|(place, arguments)| (self.server(place), arguments));
        third.map(|(server, _)| server.create_database(DATABASE)).transpose()?;
        let run = self.observe(&route, third)?;
        self.lab.drop_slot(name)?;
        route.databases().iter().try_for_each(|database| self.lab.drop_target(database))?;
        third
            .map(|(server, _)| server.sql("postgres", &format!("DROP DATABASE {DATABASE} WITH (FORCE)")))
            .transpose()?;
        Ok(run)
    }

    fn server(&self, wanted: Place) -> &Cluster {
        let [(first, apart), (_, beside)] = &self.thirds;
        if *first == wanted { apart } else { beside }
    }

    fn copy(&self, service: &Service, server: &Cluster, arguments: &[&str]) -> anyhow::Result<()> {
        let stop = &AtomicBool::new(false);
        let quiet = server.pid().filter(|pid| self.server(Place::Apart).pid() == Some(*pid));
        thread::scope(|scope| {
            let quietener = quiet.map(|pid| scope.spawn(move || quieten(pid, stop)));
            let copied = service.copy(arguments);
            stop.store(true, Ordering::Relaxed);
            quietener.map_or(Ok(()), |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))?;
            copied
        })
    }

    fn observe(&self, route: &Route, third: Option<(&Cluster, &[&str])>) -> anyhow::Result<CopyLagRun> {
        let mut service = match third {
            Some((server, _)) => Service::with_one_to_copy(self.program, &self.lab, route, &server.conninfo(DATABASE))?,
            None => Service::with_targets(self.program, &self.lab, route, walcast::Start::FromSlot)?,
        };
        self.lab.checkpoint()?;
        service.run()?;
        let head = self.lab.mark()?;
        wait_for(head, || service.applied())?;
        let targets: Vec<Conninfo> =
            route.databases().iter().map(|database| self.lab.target.conninfo_unix(database)).collect();
        let observed = beside(&self.lab, &targets, RATE, |begin| {
            match third {
                Some((server, arguments)) => self.copy(&service, server, arguments)?,
                None => sleep_until(begin + Duration::from_secs_f64(self.seconds))?,
            }
            Ok(Instant::now().duration_since(begin))
        })?;
        service.stop()?;
        Ok(CopyLagRun { elapsed: observed.given, latencies: observed.latencies, rate: observed.rate })
    }
}
