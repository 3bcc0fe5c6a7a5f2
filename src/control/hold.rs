//! The conversation that holds a target: while its connection is open, nothing is applied but what it asks for.
//!
//! ```text
//! client                                        service
//! {"command":"hold","target":"berlin"}    ──▶   lets the batch under way end
//!                                         ◀──   {"held":{"applied_lsn":"0/1950CB8"}}
//! {"run_to":"0/1951000"}                  ──▶   applies every transaction with commit_lsn < 0/1951000
//!                                         ◀──   {"held":{"applied_lsn":"0/1950FF8"}}
//! closes                                  ──▶   applies as before
//! ```
//!
//! A client that is killed closes too. One that is only stopped is not waited for longer than [`REST_MAX`].

use std::path::Path;
use std::time::Duration;

use decoder::Lsn;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Request, connect, decode, encode, lost, read_line};
use crate::failure::{Failure, Result};
use crate::service::Service;

/// How long a target is held without a word of the client.
const REST_MAX: Duration = Duration::from_secs(60);

/// What a client that holds a target may ask.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunTo {
    /// Apply every transaction with a `commit_lsn` before it, none at or after it.
    #[serde(with = "super::lsn_text")]
    run_to: Lsn,
}

/// The service's side, after the request. It ends with the connection.
pub(super) async fn serve(mut stream: BufReader<UnixStream>, service: &Service, target: &str) {
    let hold = match service.hold(target) {
        Ok(hold) => hold,
        Err(failure) => return send(&mut stream, &Err(failure).into()).await,
    };
    let mut limit = Lsn::ZERO;
    loop {
        let answer = tokio::select! {
            held = hold.at(limit) => held.map_or_else(|failure| Err(failure).into(), |applied_lsn| Answer::Held { applied_lsn }),
            // Whatever is said now is not waited for, and most likely the client is gone.
            _ = stream.fill_buf() => return,
        };
        send(&mut stream, &answer).await;
        let line = tokio::time::timeout(REST_MAX, read_line(&mut stream)).await;
        limit = match line.map(|line| line.map(|line| serde_json::from_str::<RunTo>(&line))) {
            Ok(Ok(Ok(RunTo { run_to }))) => run_to,
            _ => return,
        };
    }
}

/// A client that went away is noticed when it is read from.
async fn send(stream: &mut BufReader<UnixStream>, answer: &Answer) {
    if let Err(error) = stream.write_all(&encode(answer)).await {
        tracing::debug!(%error, "nobody waits for the answer to a hold");
    }
}

/// The client's side: the target is held until this is dropped.
pub(crate) struct Hold {
    stream: BufReader<UnixStream>,
}

impl Hold {
    /// Has the running service hold a target; `None` when none is running on this log.
    ///
    /// # Errors
    /// The service refuses, or went away.
    pub(crate) async fn open(log_dir: &Path, target: &str) -> Result<Option<Hold>> {
        let Some(stream) = connect(log_dir).await? else { return Ok(None) };
        let mut hold = Hold { stream: BufReader::new(stream) };
        hold.ask(&Request::Hold { target: target.to_owned() }).await?;
        Ok(Some(hold))
    }

    /// Lets the target apply every transaction with a `commit_lsn` before `limit`, none at or after it, and returns once
    /// it rests there. The log must come to hold something at or after `limit`.
    ///
    /// # Errors
    /// The target stopped, or the service went away.
    pub(crate) async fn run_to(&mut self, limit: Lsn) -> Result<()> {
        self.ask(&RunTo { run_to: limit }).await
    }

    async fn ask<T: Serialize>(&mut self, request: &T) -> Result<()> {
        self.stream.write_all(&encode(request)).await.map_err(lost)?;
        let line = read_line(&mut self.stream).await.map_err(lost)?;
        match decode(&line)? {
            Answer::Held { .. } => Ok(()),
            _ => Err(Failure::new("the service's answer does not fit the request")),
        }
    }
}
