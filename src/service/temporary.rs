//! The service for the time of one command, in its own process: the stream into the log and one target's applier.
//!
//! It holds the log's lock and answers on the control socket as the service does, so that a command holds its target in
//! the same way whoever applies. It trims nothing, because it does not know what the other targets need; no metrics, no
//! HTTP. A `walcast run` that is started meanwhile is refused as a second one is.

use std::sync::Arc;

use config::Config;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Service, answer_and_stream, stop};
use crate::control::{self, Request};
use crate::failure::{Failure, Result};

/// It runs; when this is dropped, it is told to stop.
pub(crate) struct Temporary {
    shutdown: CancellationToken,
    task: Option<JoinHandle<Result<()>>>,
}

impl Temporary {
    /// Starts it for one target unless the service is running, and returns once requests are answered.
    ///
    /// # Errors
    /// Neither can be asked nor started.
    pub(crate) async fn unless_running(config: &Config, target: &str) -> Result<Option<Temporary>> {
        match control::ask(&config.log.dir, &Request::Status).await? {
            Some(_) => Ok(None),
            None => Temporary::start(config.clone(), target.to_owned()).await.map(Some),
        }
    }

    async fn start(config: Config, target: String) -> Result<Temporary> {
        let shutdown = CancellationToken::new();
        let service = Arc::new(Service { only: Some(target), ..Service::new(config, shutdown.clone()) });
        let (listening, is_listening) = oneshot::channel();
        let task = tokio::spawn(run(service, listening));
        let mut temporary = Temporary { shutdown, task: Some(task) };
        match is_listening.await {
            Ok(()) => Ok(temporary),
            Err(_) => Err(temporary.ended().await.err().unwrap_or_else(super::target::stopping)),
        }
    }

    /// Stops it and waits until everything has stopped.
    ///
    /// # Errors
    /// It had ended with an error before.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        self.ended().await
    }

    async fn ended(&mut self) -> Result<()> {
        match self.task.take() {
            Some(task) => task.await.map_err(|e| Failure::because("applying failed", &e))?,
            None => Ok(()),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn run(service: Arc<Service>, listening: oneshot::Sender<()>) -> Result<()> {
    let mut tasks = JoinSet::new();
    let tell = || {
        if listening.send(()).is_err() {
            tracing::debug!("whoever started this has gone");
        }
    };
    let result = answer_and_stream(&service, &mut tasks, tell).await;
    service.shutdown.cancel();
    stop(&service, tasks).await;
    result
}
