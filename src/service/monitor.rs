//! Looks at the slot and at the end of the source's WAL once a second, for status and metrics only: nothing that decides
//! about data depends on it.

use std::time::{Duration, Instant};

use capture::Slot;
use connection::Conninfo;
use decoder::Lsn;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::timeline::Timeline;
use crate::connect;

const INTERVAL: Duration = Duration::from_secs(1);
/// A source that does not answer is not waited for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The source as last seen. What could not be asked lately stays as it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceView {
    /// The slot.
    pub slot: Option<Slot>,
    /// Where the WAL ended, and when.
    pub ends: Timeline,
}

/// Looks until the shutdown.
pub(crate) async fn run(
    conninfo: Conninfo,
    slot: String,
    view: watch::Sender<SourceView>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = watch_source(&conninfo, &slot, &view) => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Looks for as long as the connection lasts.
async fn watch_source(conninfo: &Conninfo, slot: &str, view: &watch::Sender<SourceView>) {
    let client = match connect::source(conninfo).await {
        Ok(client) => client,
        Err(error) => {
            tracing::debug!(%error, "cannot look at the source");
            return;
        }
    };
    loop {
        match tokio::time::timeout(ANSWER_TIMEOUT, look(&client, slot)).await {
            Ok(Ok((slot, end))) => view.send_modify(|view| {
                view.slot = slot;
                view.ends.note(end, Instant::now());
            }),
            Ok(Err(error)) => return tracing::debug!(%error, "cannot look at the source"),
            Err(_) => return tracing::debug!("the source does not answer"),
        };
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(client: &tokio_postgres::Client, slot: &str) -> Result<(Option<Slot>, Lsn), capture::Error> {
    let slot = capture::slot(client, slot).await?;
    Ok((slot, capture::current_lsn(client).await?))
}
