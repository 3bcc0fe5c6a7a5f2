//! `control.sock`: how commands reach the running service.
//!
//! One request and one answer per connection, each a JSON object in a line; only a [`hold`] goes on. The
//! socket is in the log's directory, which is 0700, and is 0600 itself: who may read the log may give commands.

mod hold;

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstrap::Lateness;
use decoder::Lsn;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

pub(crate) use hold::Hold;

use crate::failure::{Failure, Result};
use crate::service::{By, Service};
use crate::status::{Progress, Status};

/// A line is never longer.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// A client that sends nothing is not waited for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the service is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Where everything stands.
    Status,
    /// Stop applying.
    Pause {
        /// To this target.
        target: String,
    },
    /// Go on applying.
    Resume {
        /// To this target.
        target: String,
    },
    /// Answer when the target has applied a position.
    Wait {
        /// The target.
        target: String,
        /// The position.
        #[serde(with = "lsn_text")]
        lsn: Lsn,
        /// Give up after this time.
        timeout_ms: Option<u64>,
    },
    /// Skip the transaction that stopped a target.
    Skip {
        /// The target.
        target: String,
        /// The transaction's position.
        #[serde(with = "lsn_text")]
        lsn: Lsn,
        /// Why.
        reason: String,
    },
    /// Declare that a target equals the source at the beginning of the log.
    Declare {
        /// The target.
        target: String,
    },
    /// Stop applying to a target and forget it.
    Remove {
        /// The target.
        target: String,
    },
    /// Keep what comes into the log from now on for a target that is about to be copied; [`Answer::Pinned`].
    BeginBootstrap {
        /// The target.
        target: String,
    },
    /// How far the copy is.
    BootstrapProgress {
        /// The target.
        target: String,
        /// So many bytes are there.
        copied_bytes: u64,
        /// So many there will be.
        expected_bytes: u64,
        /// So many tables are whole.
        tables_done: u64,
        /// Of so many.
        tables: u64,
        /// Bytes a second to which it is held back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held_back_to: Option<u64>,
    },
    /// How late the targets are that are applied to; [`Answer::Lateness`].
    Lateness {
        /// Within this time.
        window_ms: u64,
    },
    /// Keep the target where it is while the connection is open; [`Answer::Held`].
    Hold {
        /// The target.
        target: String,
    },
    /// Keep the log for a table that is about to be copied again, and leave it alone; [`Answer::Pinned`].
    BeginResync {
        /// The target.
        target: String,
        /// The table's schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// The table is copied: bring it to where the others are.
    EndResync {
        /// The target.
        target: String,
        /// The table's schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// The copy is whole and has its checkpoint: apply what the log kept.
    EndBootstrap {
        /// The target.
        target: String,
    },
}

/// What the service answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done; in words.
    Done(String),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::BeginBootstrap`].
    Pinned {
        /// The log is kept from here. What was copied as of an earlier position is to be copied again.
        #[serde(with = "lsn_text")]
        lsn: Lsn,
    },
    /// To [`Request::Lateness`].
    Lateness(Vec<Late>),
    /// To [`Request::Hold`] and what follows it.
    Held {
        /// The target has applied and committed this, and rests.
        #[serde(with = "optional_lsn_text")]
        applied_lsn: Option<Lsn>,
    },
    /// It failed.
    Failed {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// [`Lateness`] on the line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Late {
    target: String,
    micros: Option<i64>,
    least_micros: Option<i64>,
}

impl From<Lateness> for Late {
    fn from(Lateness { target, micros, least_micros }: Lateness) -> Late {
        Late { target, micros, least_micros }
    }
}

impl From<Late> for Lateness {
    fn from(Late { target, micros, least_micros }: Late) -> Lateness {
        Lateness { target, micros, least_micros }
    }
}

impl From<Result<String>> for Answer {
    fn from(result: Result<String>) -> Answer {
        match result {
            Ok(text) => Answer::Done(text),
            Err(failure) => {
                Answer::Failed { message: failure.to_string(), hint: failure.hint_text().map(str::to_owned) }
            }
        }
    }
}

/// Positions as text in JSON.
mod lsn_text {
    use decoder::Lsn;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The same where one may be missing.
mod optional_lsn_text {
    use decoder::Lsn;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(lsn: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
        lsn.map(|lsn| lsn.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Lsn>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// The socket of a log.
pub(crate) fn path(log_dir: &Path) -> PathBuf {
    log_dir.join("control.sock")
}

/// The listening end; removes the socket when dropped.
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The directory may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens. Whoever holds the log's lock owns the socket, so one that is there already is a leftover and is replaced.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn listen(log_dir: &Path) -> Result<Listener> {
    let path = path(log_dir);
    let failed = |e: std::io::Error| {
        Failure::because(format!("could not listen on \"{}\"", path.display()), &e)
            .hint("paths of sockets are at most 107 bytes long: choose a shorter [log] dir")
    };
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path).map_err(failed)?,
        _ => {}
    }
    let socket = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(Listener { socket, path })
}

/// Answers requests until the shutdown.
pub(crate) async fn serve(listener: Listener, service: Arc<Service>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = answer(stream, &service) => {}
                        () = shutdown.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others have to end first.
                tracing::warn!(%error, "could not accept a connection to the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection. A client that went away before its answer is none of the service's concern.
async fn answer(stream: UnixStream, service: &Arc<Service>) {
    let mut stream = BufReader::new(stream);
    let line = match tokio::time::timeout(REQUEST_TIMEOUT, read_line(&mut stream)).await {
        Ok(Ok(line)) if !line.is_empty() => line,
        _ => return,
    };
    let request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let refused = Err(Failure::because("the request cannot be understood", &error));
            let _ = stream.write_all(&encode(&Answer::from(refused))).await;
            return;
        }
    };
    if let Request::Hold { target } = &request {
        return hold::serve(stream, service, target).await;
    }
    // A waiting client that goes away (Ctrl-C) takes its wait with it.
    let answer = tokio::select! {
        answer = execute(request, service) => answer,
        _ = stream.fill_buf() => return,
    };
    let _ = stream.write_all(&encode(&answer)).await;
}

/// A line of bounded length; an empty one when the other end has closed.
async fn read_line(stream: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_line(&mut line).await?;
    Ok(line)
}

fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("plain texts and numbers can be written as JSON");
    line.push(b'\n');
    line
}

async fn execute(request: Request, service: &Arc<Service>) -> Answer {
    match request {
        Request::Status => Answer::Status(Box::new(service.status())),
        Request::Pause { target } => service.pause(&target).await.into(),
        Request::Resume { target } => service.resume(&target).await.into(),
        Request::Wait { target, lsn, timeout_ms } => {
            service.wait(&target, lsn, timeout_ms.map(Duration::from_millis)).await.into()
        }
        Request::Skip { target, lsn, reason } => service.skip(&target, lsn, reason).await.into(),
        Request::Declare { target } => service.declare(&target).await.into(),
        Request::Remove { target } => service.remove(&target).await.into(),
        Request::BeginBootstrap { target } => pinned(service.begin_bootstrap(&target)),
        Request::BeginResync { target, schema, table } => {
            pinned(service.begin_resync(&target, &(schema, table), By::Command).await)
        }
        Request::EndResync { target, schema, table } => {
            // It goes on when the client has gone.
            let service = Arc::clone(service);
            let ended = tokio::spawn(async move { service.end_resync(&target, &(schema, table)).await });
            ended.await.unwrap_or_else(|e| Err(Failure::because("applying failed", &e))).into()
        }
        Request::BootstrapProgress { target, copied_bytes, expected_bytes, tables_done, tables, held_back_to } => {
            let progress = Progress { copied_bytes, expected_bytes, tables_done, tables, held_back_to };
            service.bootstrap_progress(&target, progress).into()
        }
        Request::Lateness { window_ms } => {
            Answer::Lateness(service.lateness(Duration::from_millis(window_ms)).into_iter().map(Late::from).collect())
        }
        Request::Hold { .. } => unreachable!("a hold is a conversation of its own"),
        Request::EndBootstrap { target } => service.end_bootstrap(&target).await.into(),
    }
}

fn pinned(lsn: Result<Lsn>) -> Answer {
    lsn.map_or_else(|failure| Err(failure).into(), |lsn| Answer::Pinned { lsn })
}

/// Asks the running service; `None` when none is running on this log.
///
/// # Errors
/// The service refuses, or went away before it answered.
pub(crate) async fn ask(log_dir: &Path, request: &Request) -> Result<Option<Answer>> {
    let Some(mut stream) = connect(log_dir).await? else { return Ok(None) };
    stream.write_all(&encode(request)).await.map_err(lost)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.map_err(lost)?;
    decode(&line).map(Some)
}

async fn connect(log_dir: &Path) -> Result<Option<UnixStream>> {
    let path = path(log_dir);
    match UnixStream::connect(&path).await {
        Ok(stream) => Ok(Some(stream)),
        // No socket, or one that a killed service left.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(Failure::because(format!("could not connect to \"{}\"", path.display()), &e)
            .hint("run the command as the user whom the service runs as")),
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::because("lost the service", &error).hint("look at the service's log").lost()
}

/// The service's answer, unless it says that something failed.
fn decode(line: &str) -> Result<Answer> {
    if line.is_empty() {
        return Err(Failure::new("the service stopped before it answered").hint("look at the service's log").lost());
    }
    match serde_json::from_str(line) {
        Ok(Answer::Failed { message, hint }) => Err(Failure::new(message).maybe_hint(hint)),
        Ok(answer) => Ok(answer),
        Err(error) => Err(Failure::because("the service's answer cannot be understood", &error)
            .hint("is it of another version of walcast?")),
    }
}

/// Has the running service do something, and says what it did.
///
/// # Errors
/// No service is running on this log, or it refuses.
pub(crate) async fn command(log_dir: &Path, request: &Request) -> Result<String> {
    match ask(log_dir, request).await? {
        Some(Answer::Done(text)) => Ok(text),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => Err(Failure::new("the service is not running").hint("start it with `walcast run`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_line() {
        let wait = Request::Wait { target: "a".into(), lsn: Lsn::from_u64(0x16_B374_D848), timeout_ms: Some(5) };
        let line = String::from_utf8(encode(&wait)).unwrap();
        assert_eq!(line, "{\"command\":\"wait\",\"target\":\"a\",\"lsn\":\"16/B374D848\",\"timeout_ms\":5}\n");
        assert!(matches!(serde_json::from_str(&line), Ok(Request::Wait { .. })));
    }

    #[test]
    fn a_strange_request_is_an_error() {
        for line in ["", "{}", "{\"command\":\"drop\"}", "{\"command\":\"pause\"}", "{\"command\":\"status\",\"x\":1}x"]
        {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    fn service(log_dir: &Path) -> Arc<Service> {
        let text = "[source]\nconninfo = 'host=localhost'\n[[target]]\nname = 'berlin'\nconninfo = 'host=localhost'\n";
        let config = config::Config::parse(&log_dir.join("walcast.toml"), text).unwrap();
        Arc::new(Service::new(config, CancellationToken::new()))
    }

    #[tokio::test]
    async fn a_leftover_socket_is_replaced_and_requests_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(path(dir.path())).unwrap());
        assert!(ask(dir.path(), &Request::Status).await.unwrap().is_none(), "nobody listens");
        let listener = listen(dir.path()).unwrap();
        let mode = std::fs::metadata(path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, service(dir.path()), shutdown.clone()));
        let answer = ask(dir.path(), &Request::Status).await.unwrap();
        assert!(matches!(answer, Some(Answer::Status(status)) if status.targets[0].name == "berlin"));
        let refused = command(dir.path(), &Request::Pause { target: "nosuch".into() }).await.unwrap_err();
        assert_eq!(refused.to_string(), "the service has no target \"nosuch\"");
        assert!(refused.hint_text().is_some() && !refused.is_lost());
        shutdown.cancel();
        serving.await.unwrap();
        assert!(!path(dir.path()).exists(), "the socket is removed");
    }
}
