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

/// A subscription of a target's database.
pub(crate) struct Subscription<'lab> {
    lab: &'lab Lab,
    slot: String,
    database: String,
    name: String,
}

impl<'lab> Subscription<'lab> {
    /// Makes it, disabled.
    pub(crate) fn create(lab: &'lab Lab, route: &Route, mode: Mode) -> anyhow::Result<Subscription<'lab>> {
        let name = format!("sub_{}", route.slot);
        let conninfo = lab.source_conninfo(route.transport).to_string().replace('\'', "''");
        let options = match mode {
            Mode::Plain => "",
            Mode::StreamingBinary => ", streaming = on, binary = on",
        };
        let subscription =
            Subscription { lab, slot: route.slot.clone(), database: route.database.clone(), name: name.clone() };
        subscription.run(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION '{conninfo}' PUBLICATION {PUBLICATION} WITH \
             (slot_name = {slot}, create_slot = off, enabled = off, copy_data = off{options})",
            slot = route.slot
        ))?;
        Ok(subscription)
    }

    fn run(&self, statement: &str) -> anyhow::Result<()> {
        self.lab.target.sql(&self.database, statement).map(drop).map_err(Into::into)
    }

    fn apply_worker_pid(&self) -> anyhow::Result<u32> {
        let query = format!("SELECT pid FROM pg_stat_subscription WHERE subname = '{}' AND relid IS NULL", self.name);
        let pid: Option<i32> = self.lab.on_target.value(&query)?;
        let pid =
            pid.with_context(|| format!("subscription {} has no apply worker: {}", self.name, self.last_error()))?;
        u32::try_from(pid).context("a negative process id")
    }

    fn last_error(&self) -> String {
        last_lines(&self.lab.target.log_tail(4))
    }
}

impl Feed for Subscription<'_> {
    fn start(&mut self) -> anyhow::Result<()> {
        self.run(&format!("ALTER SUBSCRIPTION {} ENABLE", self.name))
    }

    fn applied(&mut self) -> anyhow::Result<Option<PgLsn>> {
        let query = format!(
            "SELECT remote_lsn FROM pg_replication_origin_status
             WHERE external_id = (SELECT 'pg_' || oid FROM pg_subscription WHERE subname = '{}')",
            self.name
        );
        Ok(self.lab.on_target.column(&query)?.pop())
    }

    fn usage(&mut self) -> anyhow::Result<Usage> {
        let walsender = self.lab.walsender_pid(&self.slot)?.context("no walsender reads the subscription's slot")?;
        let apply = Some(cpu_of(self.apply_worker_pid()?)?);
        Ok(Usage { walsender: cpu_of(walsender)?, apply, ..Usage::default() })
    }

    fn stop(self: Box<Self>) -> anyhow::Result<()> {
        self.run(&format!("ALTER SUBSCRIPTION {} DISABLE", self.name))?;
        self.run(&format!("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", self.name))?;
        self.run(&format!("DROP SUBSCRIPTION {}", self.name))
    }
}
