//! The service: one stream from the source into the log, one applier per target, and who may ask about them.
//!
//! ```text
//! open log ─▶ replication::run ─▶ log ─▶ applier::run, once per target          (stream.rs, target.rs: the two seams)
//!                │                 │          │
//!                └──── status ─────┴──────────┴──▶ control socket, HTTP, metrics
//! ```

mod copying;
mod gauges;
mod history;
mod hold;
mod hooks;
mod lateness;
mod manager;
mod marks;
mod monitor;
mod observer;
mod offline;
mod pending;
mod pinning;
mod recopy;
mod reload;
mod requests;
mod resync;
mod retention;
mod stream;
mod tables;
mod target;
mod temporary;
mod ticker;
mod timeline;
mod tokens;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use config::Config;
use decoder::Lsn;
use metrics_exporter_prometheus::PrometheusHandle;
use segment_log::Log;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Result;
use crate::notify::Notifier;
use crate::{control, http, metrics};
use copying::Copying;
use history::History;
use hold::Holds;
use monitor::SourceView;
use pending::Pending;
use recopy::Recopying;
use target::Target;
use tokens::Tokens;

pub(crate) use reload::Reloading;
pub(crate) use temporary::Temporary;

pub(crate) use marks::Marks;
pub(crate) use offline::{applied_offline, declare_offline, forget, status_offline};
pub(crate) use pinning::{begin_bootstrap, bootstrap_progress, end_bootstrap};
pub(crate) use resync::By;

/// A clean stop takes no longer, whatever hangs.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What the running service consists of, for those who ask about it.
pub(crate) struct Service {
    /// As it was read last; what is made once (log, stream, listener) is the same in all of them.
    config: Mutex<Arc<Config>>,
    /// Taken by whoever starts and ends targets by the configuration.
    changing: tokio::sync::Mutex<()>,
    notifier: Notifier,
    started: Instant,
    marks: Marks,
    /// Told by the stream.
    stream: Arc<replication::Status>,
    /// Why there is no stream yet.
    waiting_for: Mutex<Option<String>>,
    /// The slot and the source's end, looked at now and then.
    source: watch::Sender<SourceView>,
    /// What is wrong with the capture of DDL.
    complaint: watch::Sender<ticker::Complaint>,
    log: OnceLock<Log>,
    tokens: Tokens,
    targets: Mutex<BTreeMap<String, Target>>,
    copying: Copying,
    holds: Holds,
    recopying: Recopying,
    pending: Pending,
    history: History,
    /// Only this target is applied to, and the log is kept for all.
    only: Option<String>,
    shutdown: CancellationToken,
}

impl Service {
    /// Nothing runs yet.
    pub(crate) fn new(config: Config, shutdown: CancellationToken) -> Service {
        let marks = Marks::new(&config.log.dir);
        Service {
            tokens: Tokens::new(&marks),
            marks,
            config: Mutex::new(Arc::new(config)),
            changing: tokio::sync::Mutex::default(),
            notifier: Notifier::default(),
            started: Instant::now(),
            stream: Arc::default(),
            waiting_for: Mutex::default(),
            source: watch::Sender::default(),
            complaint: watch::Sender::default(),
            log: OnceLock::new(),
            targets: Mutex::default(),
            copying: Copying::default(),
            holds: Holds::default(),
            recopying: Recopying::default(),
            pending: Pending::default(),
            history: History::default(),
            only: None,
            shutdown,
        }
    }

    /// The last minutes of every target.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The log, once it is open.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.get()
    }

    /// The configuration of now.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_config(&self, config: Config) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<String, Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From where the log is needed: the checkpoints of the targets, and the beginnings of copies.
    fn needed(&self) -> Vec<Option<Lsn>> {
        let pins = self.pins();
        self.targets().values().filter(|t| t.needs_log()).map(Target::checkpoint_lsn).chain(pins).collect()
    }
}

/// Runs until `shutdown` is cancelled, and stops everything before it returns. `reloading` is for a process of its own.
///
/// # Errors
/// It cannot start, or cannot go on without a person's help. A target never is the reason.
pub(crate) async fn run(config: Config, reloading: Option<Reloading>, shutdown: CancellationToken) -> Result<()> {
    let handle = metrics::install()?;
    let notifier = if reloading.is_some() { Notifier::from_env() } else { Notifier::default() };
    let service = Arc::new(Service { notifier, ..Service::new(config, shutdown.clone()) });
    let mut tasks = JoinSet::new();
    tasks.spawn(manager::run(Arc::clone(&service), shutdown.clone()));
    if let Some(reloading) = reloading {
        tasks.spawn(reload::run(Arc::clone(&service), reloading, shutdown.clone()));
    }
    let result = serve(&service, &mut tasks, handle).await;
    service.notifier.stopping();
    shutdown.cancel();
    stop(&service, tasks).await;
    result
}

async fn serve(service: &Arc<Service>, tasks: &mut JoinSet<()>, handle: PrometheusHandle) -> Result<()> {
    let config = service.config();
    let shutdown = || service.shutdown.clone();
    if let Some(address) = &config.http.listen {
        let listener = http::listen(address).await?;
        tracing::info!(%address, "listening for HTTP");
        let site = http::Site { service: Arc::clone(service), metrics: handle.clone() };
        tasks.spawn(http::serve(listener, site, shutdown()));
    }
    tasks.spawn(upkeep(handle, shutdown()));
    let (conninfo, slot) = (config.source.conninfo.clone(), config.source.slot.clone());
    tasks.spawn(monitor::run(conninfo, slot, service.source.clone(), shutdown()));
    tasks.spawn(hooks::run(Arc::clone(service), shutdown()));
    tasks.spawn(history::run(Arc::clone(service), shutdown()));
    answer_and_stream(service, tasks, || ()).await
}

/// Opens the log, answers requests, applies, trims if all targets are there, and streams. Nothing is trimmed before
/// requests are answered: see [`pinning`]. `listening` is called then.
async fn answer_and_stream(service: &Arc<Service>, tasks: &mut JoinSet<()>, listening: impl FnOnce()) -> Result<()> {
    let Some((writer, log)) = stream::open_log(service).await? else { return Ok(()) };
    let listener = control::listen(&service.config().log.dir)?;
    {
        let _changing = service.changing.lock().await;
        // Before anybody can ask about them.
        service.start_targets(&log);
    }
    tasks.spawn(control::serve(listener, Arc::clone(service), service.shutdown.clone()));
    let conninfo = service.config().source.conninfo.clone();
    tasks.spawn(ticker::run(conninfo, service.complaint.clone(), service.shutdown.clone()));
    if service.only.is_none() {
        tasks.spawn(retention::run(Arc::clone(service), service.shutdown.clone()));
    }
    listening();
    stream::run(service, writer, log).await
}

impl Service {
    fn start_targets(self: &Arc<Self>, log: &Log) {
        for target in self.config().targets.iter().filter(|t| self.only.as_ref().is_none_or(|name| *name == t.name)) {
            self.start_target(target, log);
        }
        let already = self.log.set(log.clone()).is_err();
        assert!(!already, "the log is opened once");
    }

    /// Starts applying to a target, unless that is going on already.
    fn start_target(self: &Arc<Self>, target: &config::Target, log: &Log) {
        let start = || {
            let options = self.options(target, log);
            let paused = self.marks.is_paused(&target.name);
            let mut running = Target::start(options, log.clone(), paused, self.shutdown.child_token());
            if self.only.is_none() {
                running.accompany(|stop| recopy::run(Arc::clone(self), target.name.clone(), stop));
                running.accompany(|stop| pending::run(Arc::clone(self), target.name.clone(), stop));
            }
            running
        };
        self.targets().entry(target.name.clone()).or_insert_with(start);
    }

    /// What is remembered of a target that is not there any more, beside its marks and its checkpoint.
    fn forget_target(&self, name: &str) {
        self.copying.forget(name);
        self.recopying.forget(name);
        self.pending.forget(name);
    }
}

impl Service {
    fn options(&self, target: &config::Target, log: &Log) -> applier::TargetOptions {
        let config = self.config();
        applier::TargetOptions {
            name: target.name.clone(),
            conninfo: target.conninfo.clone(),
            identity: log.identity().into(),
            only: None,
            batch_max_rows: target.apply.batch_max_rows,
            workers: target.apply.workers,
            batch_max_delay: target.apply.batch_max_delay,
            ddl: ddl_options(&config, self.tokens.asker(&config.source.conninfo, &target.name)),
        }
    }
}

/// What of the source's DDL, roles and grants is wanted on targets.
fn ddl_options(config: &Config, token: Arc<applier::AskToken>) -> applier::DdlOptions {
    let (selection, roles) = (config.source.selection.clone(), config.roles.clone());
    applier::DdlOptions {
        functions: capture::target::functions_sql(roles.passwords).into(),
        partial: !selection.is_everything(),
        selected: Arc::new(move |schema, table| selection.selects(schema, table)),
        roles: ddl::RoleOptions {
            replicate: roles.replicate,
            passwords: roles.passwords,
            exclude: roles.exclude,
            adopt: roles.adopt,
        },
        token,
    }
}

/// Histograms pile up unless somebody drains them.
async fn upkeep(handle: PrometheusHandle, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        handle.run_upkeep();
    }
}

/// Waits until everything has stopped, but not for ever: what a target or a client does must not hold up the exit.
async fn stop(service: &Service, mut tasks: JoinSet<()>) {
    let targets = std::mem::take(&mut *service.targets());
    let all = async {
        for target in targets.into_values() {
            target.stop().await;
        }
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
        tracing::warn!("not everything stopped within {} s; exiting all the same", STOP_TIMEOUT.as_secs());
    }
}
