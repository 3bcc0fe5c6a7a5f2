//! Calling `walcast.tick`, which puts into the stream what no event trigger tells. `capture/sql/README.md` describes it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel};

use crate::{Error, source};

const DOING: &str = "compare the catalogs";
/// A lock of the catalogs or of the shadow is not waited for longer.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '1s'";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What a look at the catalogs found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tick {
    /// Objects that were different.
    pub changes: u64,
    /// Roles that were different.
    pub roles: u64,
    /// Sequences that moved.
    pub sequences: u64,
    /// Objects that could not be described; they are looked at again.
    pub failed: u64,
    /// What is wrong with the event triggers; empty if nothing is.
    pub blind: Vec<String>,
}

/// The answer of the source: another session may be looking just then.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Tick(Tick),
    Busy { busy: bool },
}

/// Looks at the catalogs once, whatever it takes within `patience`; `None` where no capture is installed. With `every`, all
/// objects are compared. When it has returned, everything that was committed before is in the stream.
///
/// # Errors
/// The source cannot be asked; other transactions are in the way for longer than `patience`.
pub async fn tick(client: &mut Client, every: bool, patience: Duration) -> Result<Option<Tick>, Error> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt(client, every).await {
            Ok(Some(tick)) => return Ok(Some(tick)),
            Err(e) if is_missing(&e) && !is_installed(client).await? => return Ok(None),
            Err(e) if !is_in_the_way(&e) => return Err(e),
            Ok(None) | Err(_) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Ok(None) => return Err(Error::Waiting),
            Err(e) => return Err(e),
        }
    }
}

/// One try; `None` beside another session's.
async fn attempt(client: &mut Client, every: bool) -> Result<Option<Tick>, Error> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = transaction.start().await.map_err(Error::doing(DOING))?;
    transaction.batch_execute(LOCK_TIMEOUT).await.map_err(Error::doing(DOING))?;
    let row = transaction.query_one("select walcast.tick($1)::text", &[&every]).await.map_err(Error::doing(DOING))?;
    let answer: String = row.try_get(0).map_err(Error::doing(DOING))?;
    transaction.commit().await.map_err(Error::doing(DOING))?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Tick(tick)) => Ok(Some(tick)),
        Ok(Answer::Busy { busy: true }) => Ok(None),
        _ => Err(Error::Answer { doing: DOING, answer }),
    }
}

fn code(error: &Error) -> Option<&SqlState> {
    match error {
        Error::Statement { cause, .. } => cause.code(),
        _ => None,
    }
}

async fn is_installed(client: &Client) -> Result<bool, Error> {
    let sql = "select pg_catalog.to_regprocedure('walcast.tick(boolean)') is not null";
    source::scalar(client, sql, "look for the capture of DDL").await
}

/// There is no function of this name, or not even the schema.
fn is_missing(error: &Error) -> bool {
    let missing = [SqlState::UNDEFINED_FUNCTION, SqlState::INVALID_SCHEMA_NAME];
    code(error).is_some_and(|code| missing.contains(code))
}

/// Whether trying again may help: the snapshot was overtaken, or a lock was not to be had.
fn is_in_the_way(error: &Error) -> bool {
    let passing = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    code(error).is_some_and(|code| passing.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = r#"{"changes": 1, "roles": 0, "sequences": 2, "compared": null, "every": false, "failed": 0,
            "blind": ["a is missing"]}"#;
        let Ok(Answer::Tick(tick)) = serde_json::from_str(text) else { panic!("it is an answer") };
        assert_eq!((tick.changes, tick.sequences, tick.blind), (1, 2, vec!["a is missing".to_owned()]));
        assert!(matches!(serde_json::from_str(r#"{"busy": true}"#), Ok(Answer::Busy { busy: true })));
        assert!(serde_json::from_str::<Answer>("{}").is_err());
    }
}
