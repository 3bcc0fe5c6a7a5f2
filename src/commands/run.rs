//! `walcast run`

use std::sync::Arc;

use config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Result};
use crate::logging::Logging;
use crate::service::{self, Reloading};

/// Runs the service until SIGTERM or SIGINT. The level of its log is the configuration's, unless it is given.
///
/// # Errors
/// It cannot start, or cannot go on without a person's help.
pub(crate) async fn run(config: Config, logging: Logging, level_is_given: bool) -> Result<()> {
    // Before anything else: a signal that is sent early would end the process.
    let failed = |e| Failure::because("could not listen to signals", &e);
    let hangups = signal(SignalKind::hangup()).map_err(failed)?;
    if !level_is_given {
        logging.set_level(&config.service.log_level)?;
    }
    raise_file_limit();
    let shutdown = CancellationToken::new();
    stop_on_signals(&shutdown)?;
    let logging = Arc::new(logging);
    let reloading = Reloading { hangups, logging: Arc::clone(&logging), level_is_given };
    tokio::select! {
        ended = service::run(config, Some(reloading), shutdown) => ended,
        () = logging.show_repeats() => unreachable!("it never ends"),
    }
}

/// Each transaction that is streamed while in progress has a spool file open, each segment of the log one more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Cancels the token at the first SIGTERM or SIGINT.
pub(crate) fn stop_on_signals(shutdown: &CancellationToken) -> Result<()> {
    let failed = |e| Failure::because("could not listen to signals", &e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!("stopping");
        shutdown.cancel();
    });
    Ok(())
}
