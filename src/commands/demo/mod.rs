//! `walcast demo`: the service on throw-away clusters, under load, with a comparison at the end.
//!
//! It is the service of `walcast run`, in this process, with a configuration of its own; only the clusters and the load
//! are the demo's.

mod changes;
mod compare;
mod load;
mod stage;
mod table;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::print;
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service;
use changes::Changes;
use load::Load;
use stage::Stage;
use table::Live;

/// Transactions per second; little enough for any laptop.
const RATE: u32 = 500;
/// How often the table is brought up to date.
const REFRESH: Duration = Duration::from_millis(250);
/// How long the targets may take to have everything once the load has ended.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long the service may take to be there.
const START: Duration = Duration::from_secs(30);

/// Runs the demo.
///
/// # Errors
/// PostgreSQL is missing, something did not work, or a target differs from the source at the end.
pub(crate) async fn run(seconds: u64) -> Result<()> {
    let shutdown = CancellationToken::new();
    super::run::stop_on_signals(&shutdown)?;
    print("starting a source and two targets ...\n")?;
    let stage = Stage::set_up().await?;
    print(&format!("{}\n", stage.describe()))?;
    let result = play(&stage, seconds, &shutdown).await;
    stage.clear_away().await;
    print("everything was removed\n")?;
    result
}

/// The service and what happens while it runs.
async fn play(stage: &Stage, seconds: u64, shutdown: &CancellationToken) -> Result<()> {
    stage.install().await?;
    let stop = CancellationToken::new();
    let service = tokio::spawn(service::run(stage.config().clone(), None, stop.clone()));
    let result = tokio::select! {
        result = show(stage, seconds) => result,
        () = until_finished(&service) => Err(Failure::new("the service ended early")),
        () = shutdown.cancelled() => Err(Failure::new("interrupted")),
    };
    stop.cancel();
    let ended = service.await.map_err(|e| Failure::because("the service failed", &e))?;
    // Why the service ended says more than that it did.
    ended.and(result)
}

async fn until_finished<T>(task: &tokio::task::JoinHandle<T>) {
    while !task.is_finished() {
        tokio::time::sleep(REFRESH).await;
    }
}

/// Schema and rows, load, DDL among it, table, comparison.
async fn show(stage: &Stage, seconds: u64) -> Result<()> {
    wait_for_service(stage).await?;
    stage.fill().await?;
    wait_for_targets(stage).await?;
    let load = Load::start(stage.source(), RATE).await?;
    let mut live = Live::new();
    let started = Instant::now();
    let mut changes = Changes::within(Duration::from_secs(seconds));
    while started.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(REFRESH).await;
        if let Some(text) = changes.make_due(stage, started.elapsed()).await? {
            live.note(&text)?;
        }
        live.show(started.elapsed(), load.committed(), &status(stage).await?)?;
    }
    while let Some(text) = changes.make_due(stage, Duration::MAX).await? {
        live.note(&text)?;
    }
    let committed = load.stop().await?;
    print(&format!("load ended after {committed} transactions; waiting for the targets\n"))?;
    wait_for_targets(stage).await?;
    live.finish(started.elapsed(), committed, &status(stage).await?)?;
    compare::run(stage).await
}

async fn wait_for_service(stage: &Stage) -> Result<()> {
    let deadline = Instant::now() + START;
    while control::ask(stage.log_dir(), &Request::Status).await?.is_none() {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("the service did not start within {} s", START.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn wait_for_targets(stage: &Stage) -> Result<()> {
    let lsn = capture::current_lsn(&stage.source().connect().await?).await?;
    let timeout_ms = u64::try_from(CATCH_UP.as_millis()).ok();
    for target in stage.targets() {
        let request = Request::Wait { target: target.name().to_owned(), lsn, timeout_ms };
        control::command(stage.log_dir(), &request).await?;
    }
    Ok(())
}

async fn status(stage: &Stage) -> Result<crate::status::Status> {
    match control::ask(stage.log_dir(), &Request::Status).await? {
        Some(Answer::Status(status)) => Ok(*status),
        _ => Err(Failure::new("the service does not answer")),
    }
}
