//! A session on the level of protocol messages.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::conninfo::Conninfo;
use crate::environment::Environment;
use crate::error::{ConnectError, Endpoint, WireError};
use crate::halves::{ReadHalf, WriteHalf};
use crate::message::{Backend, HEADER, cstr, data_row, first_message_len};
use crate::server_error::ServerError;
use crate::stream::Stream;

/// How much room a read finds at least; an empty buffer offers [`BUFFER_BYTES`].
const READ_BYTES_MIN: usize = 64 << 10;
const BUFFER_BYTES: usize = 512 << 10;
/// An empty buffer that grew beyond this for one large message is given back.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// A row in text; `None` is NULL.
pub type TextRow = Vec<Option<String>>;

/// A session of the frontend/backend protocol 3.0 after its start.
///
/// Frontend messages are appended to [`out`](Wire::out), for example by `postgres_protocol::message::frontend`; backend
/// messages are read in place from one large buffer. Notices, notifications and parameter changes are handled inside
/// and never returned. Every method that waits is cancel-safe: dropping its future loses no byte of either direction.
///
/// Nothing here knows what is being asked of the server; ErrorResponse (`E`) is returned as any other message.
pub struct Wire {
    stream: Stream,
    input: BytesMut,
    /// The bytes at the start of `input` that the last returned message took.
    returned: usize,
    out: BytesMut,
    unflushed: bool,
    /// A failed write; reported once there is nothing more to read, which may be the server's reason.
    write_error: Option<io::Error>,
    at: Endpoint,
    parameters: Vec<(String, String)>,
    pub(crate) backend_pid: i32,
    notices: NoticeBudget,
}

impl Wire {
    /// Opens a session. `settings` are startup parameters: `replication`, or any server setting. `application_name`
    /// among them gives way to one in the connection string.
    ///
    /// # Errors
    /// No host could be connected to, or the one that could refused the session.
    pub async fn connect(info: &Conninfo, settings: &[(&str, &str)]) -> Result<Wire, ConnectError> {
        let resolved = info.resolve(&Environment::of_process())?;
        crate::connect::open(&resolved, &crate::startup::WireStarter { settings }).await
    }

    pub(crate) fn new(stream: Stream, at: Endpoint) -> Wire {
        Wire {
            stream,
            input: BytesMut::new(),
            returned: 0,
            out: BytesMut::new(),
            unflushed: false,
            write_error: None,
            at,
            parameters: Vec::new(),
            backend_pid: 0,
            notices: NoticeBudget::default(),
        }
    }

    /// The value of a setting that the server reports by itself, for example `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The server's version as `server_version_num` has it, 150020 for 15.20; 0 when it says nothing readable.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.parameter("server_version").map_or(0, version_number)
    }

    /// The process id of the server's process for this session.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Host, port, user and database of the session.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.at
    }

    /// Where frontend messages are appended; they are sent by whatever waits next.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Sends all of [`out`](Wire::out). It reads meanwhile, so that a server whose answers fill the socket goes on.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        while self.has_unsent() {
            self.progress().await?;
        }
        Ok(())
    }

    /// Sends and receives until a whole message is buffered or everything is sent, whichever is first.
    ///
    /// # Errors
    /// The connection is lost, or the server sent something that is no message.
    pub async fn drive(&mut self) -> Result<(), WireError> {
        while self.has_unsent() && self.peek()?.is_none() {
            self.progress().await?;
        }
        Ok(())
    }

    /// The next message; what is in [`out`](Wire::out) is sent while waiting for it.
    ///
    /// # Errors
    /// The connection is lost, or the server sent something that is no message.
    pub async fn next_message(&mut self) -> Result<Backend<'_>, WireError> {
        let total = loop {
            match self.peek()? {
                Some(total) => break total,
                None => self.progress().await?,
            }
        };
        Ok(self.take(total))
    }

    /// The next message if it is buffered; neither sends nor receives.
    ///
    /// # Errors
    /// The server sent something that is no message.
    pub fn try_next(&mut self) -> Result<Option<Backend<'_>>, WireError> {
        Ok(self.peek()?.map(|total| self.take(total)))
    }

    /// Runs SQL and gives the rows of its last result as text. A refused query leaves the session usable.
    ///
    /// # Errors
    /// What the server said ([`WireError::Server`]), or the connection is lost. COPY is an error.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<TextRow>, WireError> {
        frontend::query(sql, &mut self.out).map_err(WireError::Encode)?;
        let mut rows = Vec::new();
        let mut refused: Option<Box<ServerError>> = None;
        loop {
            let message = match self.next_message().await {
                Ok(message) => message,
                Err(error) => return Err(refused.map_or(error, WireError::Server)),
            };
            match message.tag {
                b'T' => rows.clear(),
                b'D' => rows.push(text_row(message.body)),
                b'E' => refused = Some(Box::new(ServerError::parse(message.body))),
                b'C' | b'I' => {}
                b'Z' => return refused.map_or(Ok(rows), |error| Err(WireError::Server(error))),
                tag => return Err(self.unexpected(tag, "a simple query")),
            }
        }
    }

    /// Tells the server that the session ends, and closes the socket.
    pub async fn close(mut self) {
        frontend::terminate(&mut self.out);
        // Nothing is lost when the server does not hear it: it sees the socket close.
        if let Err(error) = self.flush().await {
            tracing::debug!(%error, "session was closed without a Terminate message");
        }
    }

    /// Splits the session for a loop that reads and writes independently. What is buffered moves along.
    #[must_use]
    pub fn into_parts(mut self) -> (ReadHalf, WriteHalf) {
        self.release();
        let unix = matches!(self.stream, Stream::Unix(_));
        let (reader, writer) = tokio::io::split(self.stream);
        (
            ReadHalf { stream: reader, buffer: self.input, at: self.at.clone(), unix },
            WriteHalf { stream: writer, out: self.out, unflushed: self.unflushed, at: self.at },
        )
    }

    /// An error that names a message which does not belong where it came.
    pub(crate) fn unexpected(&self, tag: u8, during: &str) -> WireError {
        let problem = format!("message '{}' is not an answer to {during}", tag.escape_ascii());
        WireError::Protocol { at: self.at.clone(), problem }
    }

    fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.unflushed
    }

    /// Forgets the message that was returned last.
    fn release(&mut self) {
        self.input.advance(std::mem::take(&mut self.returned));
    }

    fn take(&mut self, total: usize) -> Backend<'_> {
        self.returned = total;
        Backend { tag: self.input[0], body: &self.input[HEADER..total] }
    }

    /// The length of the next message for the caller when it is whole; handles those that are not for the caller.
    fn peek(&mut self) -> Result<Option<usize>, WireError> {
        self.release();
        loop {
            let bad = |bad| length_error(&self.at, bad);
            let Some(total) = first_message_len(&self.input).map_err(bad)? else { return Ok(None) };
            match self.input[0] {
                b'N' => self.notices.log(&self.input[HEADER..total]),
                b'S' => set_parameter(&mut self.parameters, &self.input[HEADER..total]),
                b'A' => {}
                _ => return Ok(Some(total)),
            }
            self.input.advance(total);
        }
    }

    /// Waits until something was received or everything was sent.
    async fn progress(&mut self) -> Result<(), WireError> {
        self.release();
        make_room(&mut self.input);
        poll_fn(|cx| self.poll_progress(cx)).await
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        let had_unsent = self.has_unsent();
        if let Poll::Ready(Err(error)) = poll_send(&mut self.stream, &mut self.out, &mut self.unflushed, cx) {
            self.write_error = Some(error);
            self.out.clear();
            self.unflushed = false;
        }
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        match (read, self.write_error.take()) {
            (Poll::Ready(Ok(read)), _) if read > 0 => Poll::Ready(Ok(())),
            (_, Some(error)) | (Poll::Ready(Err(error)), None) => Poll::Ready(Err(self.lost(error))),
            (Poll::Ready(Ok(_)), None) => Poll::Ready(Err(WireError::Closed { at: self.at.clone() })),
            (Poll::Pending, None) if had_unsent && !self.has_unsent() => Poll::Ready(Ok(())),
            (Poll::Pending, None) => Poll::Pending,
        }
    }

    fn lost(&self, source: io::Error) -> WireError {
        WireError::Io { at: self.at.clone(), source }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({}, backend {})", self.at, self.backend_pid)
    }
}

/// Sends as much of `out` as the socket takes; ready once all of it is sent.
pub(crate) fn poll_send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    out: &mut BytesMut,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, out))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => out.advance(written),
        }
        *unflushed = true;
    }
    if *unflushed {
        ready!(Pin::new(stream).poll_flush(cx))?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}

/// Room for the next read. The buffer doubles with what has arrived, never by what a message declares.
pub(crate) fn make_room(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT_BYTES {
        *buffer = BytesMut::new();
    }
    if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
        buffer.reserve(if buffer.is_empty() { BUFFER_BYTES } else { READ_BYTES_MIN });
    }
}

pub(crate) fn length_error(at: &Endpoint, bad: crate::message::BadLength) -> WireError {
    WireError::Length { at: at.clone(), tag: char::from(bad.tag), length: bad.length }
}

fn text_row(body: &[u8]) -> TextRow {
    data_row(body).map(|value| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())).collect()
}

/// A server reports a dozen of them; one that makes up names without end is not followed.
const PARAMETERS_MAX: usize = 256;

fn set_parameter(parameters: &mut Vec<(String, String)>, body: &[u8]) {
    let Some((name, rest)) = cstr(body) else { return };
    let Some((value, _)) = cstr(rest) else { return };
    match parameters.iter().position(|(known, _)| known == name) {
        Some(index) => value.clone_into(&mut parameters[index].1),
        None if parameters.len() < PARAMETERS_MAX => parameters.push((name.to_owned(), value.to_owned())),
        None => tracing::debug!("server reports more than {PARAMETERS_MAX} parameters"),
    }
}

/// 150020 of "15.20 (Debian 15.20-0+deb12u1)", 180000 of "18beta1".
fn version_number(text: &str) -> u32 {
    let numeric = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    let mut parts = numeric.split('.').map(|part| part.parse::<u32>().unwrap_or(0).min(9_999));
    let (major, minor, patch) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if major >= 10 { major * 10_000 + minor } else { major * 10_000 + minor * 100 + patch }
}

/// Notices are logged, but an endless flood of them must not fill the disk.
#[derive(Default)]
struct NoticeBudget {
    window: Option<Instant>,
    logged: u32,
}

const NOTICES_PER_SECOND: u32 = 20;

impl NoticeBudget {
    fn log(&mut self, body: &[u8]) {
        if self.allows(Instant::now()) {
            tracing::debug!(notice = %ServerError::parse(body), "server");
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        let fresh = self.window.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1));
        if fresh {
            (self.window, self.logged) = (Some(now), 0);
        }
        self.logged = self.logged.saturating_add(1);
        self.logged <= NOTICES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbered_as_by_the_server() {
        for (text, expected) in [
            ("15.20 (Debian 15.20-0+deb12u1)", 150_020),
            ("18beta1", 180_000),
            ("16devel", 160_000),
            ("14.0", 140_000),
            ("9.6.24", 90_624),
            ("", 0),
            ("unknown", 0),
            ("99999999999.99999999999", 0),
        ] {
            assert_eq!(version_number(text), expected, "{text}");
        }
    }

    #[test]
    fn a_flood_of_notices_is_logged_at_a_bounded_rate() {
        let mut budget = NoticeBudget::default();
        let start = Instant::now();
        let logged = |budget: &mut NoticeBudget, at: Duration| (0..1000).filter(|_| budget.allows(start + at)).count();
        assert_eq!(logged(&mut budget, Duration::ZERO), 20);
        assert_eq!(logged(&mut budget, Duration::from_millis(999)), 0);
        assert_eq!(logged(&mut budget, Duration::from_secs(1)), 20);
    }

    #[test]
    fn reported_parameters_are_replaced_and_bounded() {
        let mut parameters = Vec::new();
        set_parameter(&mut parameters, b"TimeZone\0UTC\0");
        set_parameter(&mut parameters, b"TimeZone\0GMT\0");
        set_parameter(&mut parameters, b"broken\0value");
        assert_eq!(parameters, [("TimeZone".to_owned(), "GMT".to_owned())]);
        for number in 0..2 * PARAMETERS_MAX {
            set_parameter(&mut parameters, format!("p{number}\0v\0").as_bytes());
        }
        assert_eq!(parameters.len(), PARAMETERS_MAX);
    }

    #[test]
    fn the_buffer_grows_by_what_arrived_and_shrinks_when_empty() {
        let mut buffer = BytesMut::new();
        // A message that declares 1 GiB, of which five bytes are here.
        buffer.extend_from_slice(&[b'D', 0x40, 0, 0, 0]);
        assert_eq!(first_message_len(&buffer), Ok(None));
        make_room(&mut buffer);
        assert!((READ_BYTES_MIN..=2 * BUFFER_BYTES).contains(&buffer.capacity()));
        buffer.resize(2 * BUFFER_KEPT_BYTES, 0);
        make_room(&mut buffer);
        assert!(buffer.capacity() <= 5 * BUFFER_KEPT_BYTES);
        buffer.clear();
        make_room(&mut buffer);
        assert!((BUFFER_BYTES..=2 * BUFFER_BYTES).contains(&buffer.capacity()));
    }
}
