//! Client sessions for commands and for looking, as opposed to those that carry the data.

use connection::Conninfo;
use tokio_postgres::Client;

use crate::failure::{Failure, Result, with_causes};

/// A session with the source.
///
/// # Errors
/// It cannot be reached, or refuses.
pub(crate) async fn source(conninfo: &Conninfo) -> Result<Client> {
    client(conninfo).await.map_err(|e| failure("source", &e))
}

/// A session with a target.
///
/// # Errors
/// It cannot be reached, or refuses.
pub(crate) async fn target(target: &config::Target) -> Result<Client> {
    client(&target.conninfo).await.map_err(|e| failure(&format!("target \"{}\"", target.name), &e))
}

async fn client(conninfo: &Conninfo) -> Result<Client, connection::ConnectError> {
    connection::connect_client(conninfo, "walcast", connection::PINNED_SETTINGS).await
}

fn failure(whom: &str, error: &connection::ConnectError) -> Failure {
    Failure::new(format!("{whom}: {}", with_causes(error))).maybe_hint(error.hint())
}
