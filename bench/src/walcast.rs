//! The walcast side: its program, by the commands and the `/status` that users have.

use std::fs;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use cluster::Conninfo;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::types::PgLsn;

use crate::feed::{Feed, Route, wait_for};
use crate::lab::{Lab, Transport};
use crate::measure::{Usage, anonymous_memory_of, cpu_of, descriptors_of, peak_memory_of};
use crate::process::{Program, last_lines, run};
use crate::sql::APPLICATION;
use crate::status::{self, HTTP_TIMEOUT, applied_by_all, position};

/// The slot that `setup` makes. Nobody reads it: contenders read copies of the base slot.
pub(crate) const SETUP_SLOT: &str = "walcast";
/// The target that is copied while others are measured.
const COPY: &str = "copy";
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Configuration {
    source: Source,
    log: Log,
    http: Http,
    target: Vec<Target>,
}

#[derive(Serialize)]
struct Source {
    conninfo: String,
    slot: String,
}

#[derive(Serialize)]
struct Log {
    dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_size: Option<&'static str>,
}

#[derive(Serialize)]
struct Http {
    listen: String,
}

#[derive(Serialize)]
struct Target {
    name: String,
    conninfo: String,
}

/// What the clock begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The program's start.
    FromSlot,
    /// The end of a pause of the targets, during which the log got everything.
    FromLog,
}

/// What is seen of a service at one moment.
pub(crate) struct Condition {
    /// By all of its targets.
    pub(crate) applied: PgLsn,
    /// Memory that is in no file.
    pub(crate) anonymous: u64,
    /// Files and sockets that are open.
    pub(crate) descriptors: u64,
    pub(crate) log_bytes: u64,
    /// Where the log begins.
    pub(crate) log_first: PgLsn,
}

/// Installs on the source what walcast needs there. Call it before the base slot is made.
pub(crate) fn set_up(program: &Path, lab: &Lab) -> anyhow::Result<()> {
    let service = Service::configure(program, lab, SETUP_SLOT, Transport::Unix, Vec::new())?;
    service.command("setup", &[])
}

/// `walcast run` with a log directory of its own.
pub(crate) struct Service<'lab> {
    lab: &'lab Lab,
    configuration: Configuration,
    program: PathBuf,
    slot: String,
    databases: Vec<String>,
    start: Start,
    listen: SocketAddr,
    running: Option<Program>,
    /// Used before the clock ran.
    before: Usage,
    peak_anonymous: u64,
    directory: TempDir,
}

impl<'lab> Service<'lab> {
    /// One that only keeps the log.
    pub(crate) fn without_target(
        program: &Path,
        lab: &'lab Lab,
        slot: &str,
        transport: Transport,
    ) -> anyhow::Result<Service<'lab>> {
        Service::configure(program, lab, slot, transport, Vec::new())
    }

    /// One with targets that are declared to equal the source where the slot begins.
    pub(crate) fn with_targets(
        program: &Path,
        lab: &'lab Lab,
        route: &Route,
        start: Start,
    ) -> anyhow::Result<Service<'lab>> {
        let service = Service::configure(program, lab, &route.name, route.transport, route.databases())?;
        service.declare_equal()?;
        Ok(Service { start, ..service })
    }

    /// The same, with one more target that [`Service::copy`] copies.
    pub(crate) fn with_one_to_copy(
        program: &Path,
        lab: &'lab Lab,
        route: &Route,
        target: &Conninfo,
    ) -> anyhow::Result<Service<'lab>> {
        let mut service = Service::configure(program, lab, &route.name, route.transport, route.databases())?;
        service.configuration.target.push(Target { name: COPY.to_string(), conninfo: target.to_string() });
        service.write_configuration()?;
        service.declare_equal()?;
        Ok(service)
    }

    /// Call it before anything is in the log.
    pub(crate) fn set_segment_size(&mut self, size: &'static str) -> anyhow::Result<()> {
        self.configuration.log.segment_size = Some(size);
        self.write_configuration()
    }

    fn declare_equal(&self) -> anyhow::Result<()> {
        let names = self.databases.iter().map(String::as_str);
        self.command("bootstrap", &["--no-copy"].into_iter().chain(names).collect::<Vec<_>>())
    }

    /// Copies the target that was made for it.
    pub(crate) fn copy(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.command("bootstrap", &[&[COPY], arguments].concat())
    }

    fn configure(
        program: &Path,
        lab: &'lab Lab,
        slot: &str,
        transport: Transport,
        databases: Vec<String>,
    ) -> anyhow::Result<Service<'lab>> {
        let directory = tempfile::Builder::new().prefix("walcast-bench-").tempdir()?;
        let listen = free_address()?;
        let target = |database: &String| Target {
            name: database.clone(),
            conninfo: transport.conninfo(&lab.target, database).to_string(),
        };
        let configuration = Configuration {
            source: Source { conninfo: lab.source_conninfo(transport).to_string(), slot: slot.to_string() },
            log: Log { dir: directory.path().join("log"), segment_size: None },
            http: Http { listen: listen.to_string() },
            target: databases.iter().map(target).collect(),
        };
        let service = Service {
            lab,
            configuration,
            program: program.to_path_buf(),
            slot: slot.to_string(),
            databases,
            start: Start::FromSlot,
            listen,
            running: None,
            before: Usage::default(),
            peak_anonymous: 0,
            directory,
        };
        service.write_configuration()?;
        Ok(service)
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        let text = toml::to_string(&self.configuration)?;
        fs::write(self.directory.path().join("walcast.toml"), text).context("could not write a configuration")
    }

    fn base_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.directory.path().join("walcast.toml"));
        command
    }

    fn command(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        run(self.base_command().arg(name).args(arguments))
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    /// Starts it; it is not ready yet when this returns.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut command = self.base_command();
        command.arg("run");
        self.running = Some(Program::start(command, &self.output())?);
        Ok(())
    }

    fn running(&self) -> anyhow::Result<&Program> {
        let program = self.running.as_ref().context("walcast was not started")?;
        if program.has_ended()? {
            bail!("walcast ended: {}", self.said());
        }
        Ok(program)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.output()).map_or_else(|error| error.to_string(), |text| last_lines(&text))
    }

    /// The position up to which the log is on disk.
    pub(crate) fn durable(&mut self) -> anyhow::Result<Option<PgLsn>> {
        match self.status()? {
            Some(status) if !status["log"].is_null() => position(&status, "/log/durable_lsn"),
            _ => Ok(None),
        }
    }

    /// How far it is and what it takes. `None` while that can't be told yet.
    pub(crate) fn condition(&mut self) -> anyhow::Result<Option<Condition>> {
        let Some(status) = self.status()? else { return Ok(None) };
        let pid = self.running()?.pid();
        let Some(applied) = applied_by_all(&status, &self.databases)? else { return Ok(None) };
        let Some(log_first) = position(&status, "/log/first_lsn")? else { return Ok(None) };
        Ok(Some(Condition {
            applied,
            anonymous: anonymous_memory_of(pid)?,
            descriptors: descriptors_of(pid)?,
            log_bytes: status["log"]["bytes"].as_u64().context("walcast's status has no size of the log")?,
            log_first,
        }))
    }

    /// Lets the log collect everything before `end` while the targets are paused, from before the first change on.
    fn collect(&mut self, end: PgLsn) -> anyhow::Result<()> {
        let log = self.directory.path().join("log");
        DirBuilder::new().recursive(true).mode(0o700).create(&log)?;
        for database in &self.databases {
            fs::write(log.join(format!("{database}.paused")), "")?;
        }
        self.run()?;
        wait_for(end, || self.durable())?;
        self.before = self.used()?;
        Ok(())
    }

    /// `None` until it listens.
    fn status(&self) -> anyhow::Result<Option<Value>> {
        self.running()?;
        match TcpStream::connect_timeout(&self.listen, HTTP_TIMEOUT) {
            Ok(stream) => status::get(stream).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error).context("could not ask walcast for its status"),
        }
    }

    /// What walcast, its walsender and its backends on the target have used since the clock ran.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Ok(self.used()?.since(&self.before))
    }

    fn used(&self) -> anyhow::Result<Usage> {
        let pid = self.running()?.pid();
        Ok(Usage {
            walsender: self.lab.walsender_cpu(&self.slot)?,
            program: Some(cpu_of(pid)?),
            apply: (!self.databases.is_empty()).then(|| self.backends_cpu()).transpose()?,
            peak_memory: Some(peak_memory_of(pid)?),
            peak_anonymous: Some(self.peak_anonymous.max(anonymous_memory_of(pid)?)),
        })
    }

    fn backends_cpu(&self) -> anyhow::Result<Duration> {
        let databases: Vec<_> = self.databases.iter().map(|database| format!("'{database}'")).collect();
        let query = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname IN ({})
             AND backend_type = 'client backend' AND application_name <> '{APPLICATION}'",
            databases.join(", ")
        );
        let pids: Vec<i32> = self.lab.on_target.column(&query)?;
        pids.into_iter().map(|pid| cpu_of(u32::try_from(pid).context("a negative process id")?)).sum()
    }

    /// Stops it as an administrator does, and removes its checkpoints.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let program = self.running.take().context("walcast was not started")?;
        let status = program.terminate(STOP_TIMEOUT)?;
        if !status.success() {
            bail!("walcast did not stop cleanly ({status}): {}", self.said());
        }
        self.databases.iter().try_for_each(|database| self.command("remove", &[database]))
    }
}

impl Feed for Service<'_> {
    fn prepare(&mut self, end: PgLsn) -> anyhow::Result<()> {
        match self.start {
            Start::FromSlot => Ok(()),
            Start::FromLog => self.collect(end),
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        match self.start {
            Start::FromSlot => self.run(),
            Start::FromLog => self.databases.iter().try_for_each(|database| self.command("resume", &[database])),
        }
    }

    fn applied(&mut self) -> anyhow::Result<Option<PgLsn>> {
        let Some(status) = self.status()? else { return Ok(None) };
        self.peak_anonymous = self.peak_anonymous.max(anonymous_memory_of(self.running()?.pid())?);
        applied_by_all(&status, &self.databases)
    }

    fn usage(&mut self) -> anyhow::Result<Usage> {
        Service::usage(self)
    }

    fn stop(self: Box<Self>) -> anyhow::Result<()> {
        Service::stop(*self)
    }
}

/// An address that nobody listens on now.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
