//! Ordinary clients of `tokio-postgres`, opened by the same rules as a raw session.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{self, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Binding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use crate::connect::{Dialed, Starter};
use crate::conninfo::Conninfo;
use crate::environment::Environment;
use crate::error::{ConnectError, Endpoint};
use crate::server_error::ServerError;
use crate::settings::{ChannelBinding, Settings};
use crate::stream::Stream;

/// Opens a `tokio-postgres` client and spawns the task that drives it. `settings` are server settings of the session.
/// `application_name` gives way to one in the connection string.
///
/// # Errors
/// No host could be connected to, or the one that could refused the session.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn connect_client(
    info: &Conninfo,
    application_name: &str,
    settings: &[(&str, &str)],
) -> Result<Client, ConnectError> {
    let resolved = info.resolve(&Environment::of_process())?;
    let (client, _) = crate::connect::open(&resolved, &ClientStarter { application_name, settings }).await?;
    Ok(client)
}

struct ClientStarter<'a> {
    application_name: &'a str,
    settings: &'a [(&'a str, &'a str)],
}

impl Starter for ClientStarter<'_> {
    type Session = (Client, Endpoint);

    async fn start(&self, dialed: Dialed, settings: &Settings) -> Result<Self::Session, ConnectError> {
        let config = self.config(&dialed, settings);
        let at = dialed.at;
        let ready = ReadyStream { stream: dialed.stream, server_end_point: dialed.server_end_point };
        let started = config.connect_raw(ready, AlreadyConnected).await;
        let (client, connection) = started.map_err(|error| client_error(&at, error))?;
        let name = at.clone();
        tokio::spawn(async move {
            // Each query of the client fails with the same; here only for the log.
            if let Err(error) = connection.await {
                tracing::debug!(at = %name, error = %shown(&error), "session ended");
            }
        });
        Ok((client, at))
    }

    async fn row(&self, (client, at): &mut Self::Session, sql: &str) -> Result<Vec<Option<String>>, ConnectError> {
        let messages = client.simple_query(sql).await.map_err(|error| client_error(at, error))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.map_or_else(Vec::new, |row| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()))
    }
}

impl ClientStarter<'_> {
    fn config(&self, dialed: &Dialed, settings: &Settings) -> Config {
        let mut config = Config::new();
        config.user(&settings.user).dbname(&settings.database).options(self.options(settings));
        config.application_name(settings.application_name.as_deref().unwrap_or(self.application_name));
        if let Some(password) = &dialed.password {
            config.password(&password.0);
        }
        config.channel_binding(match settings.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        match dialed.stream {
            // TLS is on already: "direct" makes the client call AlreadyConnected without asking the server for it.
            Stream::Tls(_) => config.ssl_mode(config::SslMode::Require).ssl_negotiation(SslNegotiation::Direct),
            Stream::Tcp(_) | Stream::Unix(_) => config.ssl_mode(config::SslMode::Disable),
        };
        config
    }

    /// Server settings have no other way into the client's startup message than `options`.
    fn options(&self, settings: &Settings) -> String {
        let given = settings.options.clone().unwrap_or_default();
        let own = self.settings.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("client_encoding"));
        own.fold(given, |options, (name, value)| format!("{options} -c {}={}", escaped(name), escaped(value)))
    }
}

/// As the server splits `options`: at white space, a backslash takes the next character as it is.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| (c == '\\' || c.is_ascii_whitespace()).then_some('\\').into_iter().chain([c])).collect()
}

fn client_error(at: &Endpoint, error: tokio_postgres::Error) -> ConnectError {
    let at = at.clone();
    match error.as_db_error() {
        Some(said) => ConnectError::Refused { at, source: Box::new(server_error(said)) },
        None => ConnectError::Client { at, source: error },
    }
}

/// The server's words without the client's, and without values of rows.
fn shown(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| server_error(said).to_string())
}

fn server_error(said: &tokio_postgres::error::DbError) -> ServerError {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    ServerError {
        severity: said.parsed_severity().map_or_else(|| said.severity().to_owned(), |severity| severity.to_string()),
        sqlstate: said.code().code().to_owned(),
        message: said.message().to_owned(),
        detail: owned(said.detail()),
        hint: owned(said.hint()),
        context: owned(said.where_()),
        schema: owned(said.schema()),
        table: owned(said.table()),
        column: owned(said.column()),
        data_type: owned(said.datatype()),
        constraint: owned(said.constraint()),
    }
}

/// "Connects" by handing over the stream, which has its TLS.
struct AlreadyConnected;

impl TlsConnect<ReadyStream> for AlreadyConnected {
    type Stream = ReadyStream;
    type Error = Infallible;
    type Future = Ready<Result<ReadyStream, Infallible>>;

    fn connect(self, stream: ReadyStream) -> Self::Future {
        ready(Ok(stream))
    }
}

/// A stream that can say what SCRAM binds to.
struct ReadyStream {
    stream: Stream,
    server_end_point: Option<Vec<u8>>,
}

impl TlsStream for ReadyStream {
    fn channel_binding(&self) -> Binding {
        self.server_end_point.clone().map_or_else(Binding::none, Binding::tls_server_end_point)
    }
}

impl AsyncRead for ReadyStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ReadyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
