//! Removing what `setup` made.

use std::time::{Duration, Instant};

use config::OWN_SCHEMA;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::setup::{MARK, Publication, slot_is_ours};
use crate::{Error, Installation, Outcome, Step, ddl, quote_identifier, source};

/// A walsender lets go of its slot a moment after the service that it served has ended.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// Drops the slot, the capture of DDL, the publication and the schema. What is not there is passed over, what somebody else
/// made is kept.
///
/// # Errors
/// The slot is being read, or is of another kind; a privilege is missing.
pub async fn teardown(client: &mut Client, installed: &Installation) -> Result<Vec<Step>, Error> {
    // The slot goes first: without it nothing can read, so nothing can miss the publication.
    Ok(vec![
        Step { object: format!("slot {}", quote_identifier(&installed.slot)), outcome: slot(client, installed).await? },
        Step { object: "capture of DDL".to_owned(), outcome: ddl::remove(client).await? },
        Step {
            object: format!("publication {}", quote_identifier(&installed.publication)),
            outcome: publication(client, installed).await?,
        },
        Step { object: "schema walcast".to_owned(), outcome: schema(client).await? },
    ])
}

async fn slot(client: &Client, installed: &Installation) -> Result<Outcome, Error> {
    const DOING: &str = "drop the slot";
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    let found = loop {
        match source::slot(client, &installed.slot).await? {
            None => return Ok(Outcome::Unchanged),
            Some(found) if found.active_pid.is_some() && Instant::now() < deadline => {
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
            Some(found) => break found,
        }
    };
    let database: String = source::scalar(client, "select current_database()::text", DOING).await?;
    slot_is_ours(&installed.slot, &found, &database)?;
    if let Some(pid) = found.active_pid {
        return Err(Error::SlotActive { slot: installed.slot.clone(), pid });
    }
    let sql = "select pg_catalog.pg_drop_replication_slot($1)";
    client.execute(sql, &[&installed.slot]).await.map_err(Error::doing(DOING))?;
    Ok(Outcome::Done)
}

async fn publication(client: &Client, installed: &Installation) -> Result<Outcome, Error> {
    match Publication::find(client, &installed.publication).await? {
        None => Ok(Outcome::Unchanged),
        Some(found) if !found.ours => Ok(Outcome::Kept("walcast setup did not make it")),
        Some(_) => {
            let sql = format!("drop publication {}", quote_identifier(&installed.publication));
            client.batch_execute(&sql).await.map_err(Error::doing("drop the publication"))?;
            Ok(Outcome::Done)
        }
    }
}

async fn schema(client: &Client) -> Result<Outcome, Error> {
    const DOING: &str = "drop schema walcast";
    let sql = "select coalesce(pg_catalog.obj_description(oid, 'pg_namespace') like '%' || $2, false) \
               from pg_catalog.pg_namespace where nspname = $1";
    let row = client.query_opt(sql, &[&OWN_SCHEMA, &MARK]).await.map_err(Error::doing(DOING))?;
    match row.map(|row| row.try_get(0)).transpose().map_err(Error::doing(DOING))? {
        None => Ok(Outcome::Unchanged),
        Some(false) => Ok(Outcome::Kept("walcast setup did not make it")),
        Some(true) => drop_schema(client).await.map_err(Error::doing(DOING)),
    }
}

/// Without CASCADE: a database that is also a target keeps its checkpoints.
async fn drop_schema(client: &Client) -> Result<Outcome, tokio_postgres::Error> {
    match client.batch_execute("drop schema walcast restrict").await {
        Ok(()) => Ok(Outcome::Done),
        Err(e) if e.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            Ok(Outcome::Kept("it holds objects that walcast setup did not make"))
        }
        Err(e) => Err(e),
    }
}
