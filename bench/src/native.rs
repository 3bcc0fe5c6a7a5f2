//! The native side: `pg_recvlogical` and subscriptions.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_postgres::types::PgLsn;

use crate::feed::{Feed, Route};
use crate::interrupt;
use crate::lab::{Lab, Load, PUBLICATION, Transport};
use crate::measure::{Usage, cpu_of, cpu_of_ended_children};
use crate::process::{Program, last_lines};

/// Reads `slot` to the end of `load` into `/dev/null`; gives the time from the program's start to its exit.
pub(crate) fn recvlogical(
    lab: &Lab,
    slot: &str,
    transport: Transport,
    load: Load,
) -> anyhow::Result<(Duration, Usage)> {
    let scratch = tempfile::tempdir()?;
    let output = scratch.path().join("output");
    let server = lab.source.pid().context("the source is not running")?;
    let before = cpu_of_ended_children(server)?;
    let started = Instant::now();
    let program = Program::start(recvlogical_command(lab, slot, transport, load)?, &output)?;
    program.wait_for_end()?;
    let elapsed = started.elapsed();
    let program_cpu = cpu_of(program.pid())?;
    let status = program.reap()?;
    if !status.success() {
        bail!("pg_recvlogical failed ({status}): {}", last_lines(&fs::read_to_string(&output)?));
    }
    lab.drop_slot(slot)?;
    let walsender = walsender_cpu(server, before)?;
    Ok((elapsed, Usage { walsender, program: Some(program_cpu), ..Usage::default() }))
}

/// The walsender is the only child of the server that ends during a run. It leaves its slot before it ends.
fn walsender_cpu(server: u32, before: Duration) -> anyhow::Result<Duration> {
    const ATTEMPTS: u32 = 400;
    for _ in 0..ATTEMPTS {
        let used = cpu_of_ended_children(server)?.saturating_sub(before);
        if !used.is_zero() {
            return Ok(used);
        }
        interrupt::pause(Duration::from_millis(5))?;
    }
    Ok(Duration::ZERO)
}

fn recvlogical_command(lab: &Lab, slot: &str, transport: Transport, load: Load) -> anyhow::Result<Command> {
    let program = lab.source.installation().client("pg_recvlogical");
    let mut command = Command::new(program.context("no pg_recvlogical found (hint: \"apt-get install postgresql\")")?);
    command.arg("-d").arg(lab.source_conninfo(transport).to_string());
    command.args(["--start", "--no-loop", "-f", "/dev/null", "-o", "proto_version=1"]);
    command.arg("-o").arg(format!("publication_names={PUBLICATION}"));
    command.arg(format!("--slot={slot}")).arg(format!("--endpos={}", load.end));
    Ok(command)
}

/// How a subscription is made.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    Plain,
    StreamingBinary,
}

/// A subscription in each database of a route.
pub(crate) struct Subscriptions<'lab> {
    lab: &'lab Lab,
    subscriptions: Vec<Subscription>,
}

/// The slot that it reads has the same name as its database.
struct Subscription {
    database: String,
    name: String,
}

impl<'lab> Subscriptions<'lab> {
    /// Makes them, disabled.
    pub(crate) fn create(lab: &'lab Lab, route: &Route, mode: Mode) -> anyhow::Result<Subscriptions<'lab>> {
        let named = |database: String| Subscription { name: format!("sub_{database}"), database };
        let subscriptions = Subscriptions { lab, subscriptions: route.databases().into_iter().map(named).collect() };
        let conninfo = lab.source_conninfo(route.transport).to_string().replace('\'', "''");
        let options = match mode {
            Mode::Plain => "",
            Mode::StreamingBinary => ", streaming = on, binary = on",
        };
        subscriptions.run(|Subscription { database, name }| {
            format!(
                "CREATE SUBSCRIPTION {name} CONNECTION '{conninfo}' PUBLICATION {PUBLICATION} WITH \
                 (slot_name = {database}, create_slot = off, enabled = off, copy_data = off{options})"
            )
        })?;
        Ok(subscriptions)
    }

    /// Runs a statement for each, in its database.
    fn run(&self, statement: impl Fn(&Subscription) -> String) -> anyhow::Result<()> {
        for subscription in &self.subscriptions {
            self.lab.target.sql(&subscription.database, &statement(subscription))?;
        }
        Ok(())
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.subscriptions.iter().map(|subscription| format!("'{}'", subscription.name)).collect();
        names.join(", ")
    }

    fn apply_workers_cpu(&self) -> anyhow::Result<Duration> {
        let query =
            format!("SELECT pid FROM pg_stat_subscription WHERE subname IN ({}) AND pid IS NOT NULL", self.names());
        let pids: Vec<i32> = self.lab.on_target.column(&query)?;
        if pids.len() != self.subscriptions.len() {
            bail!("{} of {} apply workers run: {}", pids.len(), self.subscriptions.len(), self.last_error());
        }
        pids.into_iter().map(|pid| cpu_of(u32::try_from(pid).context("a negative process id")?)).sum()
    }

    fn last_error(&self) -> String {
        last_lines(&self.lab.target.log_tail(4))
    }
}

impl Feed for Subscriptions<'_> {
    fn prepare(&mut self, _end: PgLsn) -> anyhow::Result<()> {
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.run(|subscription| format!("ALTER SUBSCRIPTION {} ENABLE", subscription.name))
    }

    fn applied(&mut self) -> anyhow::Result<Option<PgLsn>> {
        let query = format!(
            "SELECT min(remote_lsn) FROM pg_replication_origin_status
             WHERE external_id IN (SELECT 'pg_' || oid FROM pg_subscription WHERE subname IN ({}))
             HAVING count(*) = {}",
            self.names(),
            self.subscriptions.len()
        );
        Ok(self.lab.on_target.column(&query)?.pop())
    }

    fn usage(&mut self) -> anyhow::Result<Usage> {
        let walsenders = self.subscriptions.iter().map(|subscription| self.lab.walsender_cpu(&subscription.database));
        let walsender = walsenders.sum::<anyhow::Result<Duration>>()?;
        Ok(Usage { walsender, apply: Some(self.apply_workers_cpu()?), ..Usage::default() })
    }

    fn stop(self: Box<Self>) -> anyhow::Result<()> {
        self.run(|subscription| format!("ALTER SUBSCRIPTION {} DISABLE", subscription.name))?;
        self.run(|subscription| format!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", subscription.name))?;
        self.run(|subscription| format!("DROP SUBSCRIPTION {}", subscription.name))
    }
}
