//! From a list of hosts to one opened session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::error::{ConnectError, Endpoint, EndpointParts};
use crate::settings::{ChannelBinding, Host, Password, Place, SessionAttrs, Settings, SslMode};
use crate::stream::{self, Stream};
use crate::tls;

/// A socket that is ready for the startup message.
pub(crate) struct Dialed {
    pub(crate) stream: Stream,
    pub(crate) at: Endpoint,
    pub(crate) password: Option<Password>,
    /// The hash of the server's certificate, when TLS is on and the certificate has one.
    pub(crate) server_end_point: Option<Vec<u8>>,
}

/// Makes a session of a socket: the raw protocol one or that of `tokio-postgres`.
pub(crate) trait Starter {
    type Session;

    async fn start(&self, dialed: Dialed, settings: &Settings) -> Result<Self::Session, ConnectError>;

    /// The text of the columns of the single row that `sql` returns.
    async fn row(&self, session: &mut Self::Session, sql: &str) -> Result<Vec<Option<String>>, ConnectError>;
}

/// Tries each host in turn, each address of it, with and without TLS as sslmode says.
pub(crate) async fn open<S: Starter>(settings: &Settings, starter: &S) -> Result<S::Session, ConnectError> {
    let connector = match settings.tls.mode {
        SslMode::Disable => None,
        _ if settings.hosts.iter().all(|host| matches!(host.place, Place::Unix(_))) => None,
        _ => Some(tls::Connector::new(&settings.tls)?),
    };
    let attempt = Attempt { settings, starter, connector };
    match settings.session_attrs {
        SessionAttrs::PreferStandby => match attempt.any_host(SessionAttrs::Standby).await {
            Err(error) if goes_on(&error) => attempt.any_host(SessionAttrs::Any).await,
            outcome => outcome,
        },
        wanted => attempt.any_host(wanted).await,
    }
}

/// Is the next host worth a try? As in libpq, not after one that was reached has refused the user.
fn goes_on(error: &ConnectError) -> bool {
    match error {
        ConnectError::Lookup { .. }
        | ConnectError::Io { .. }
        | ConnectError::Timeout { .. }
        | ConnectError::SessionAttrs { .. } => true,
        ConnectError::Refused { source, .. } => source.sqlstate == "57P03",
        _ => false,
    }
}

struct Attempt<'a, S> {
    settings: &'a Settings,
    starter: &'a S,
    connector: Option<tls::Connector>,
}

/// Where one attempt goes.
enum Address<'a> {
    Unix(&'a std::path::Path),
    Tcp(SocketAddr),
}

/// What one attempt does about TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Plain,
    /// Without it when the server has none.
    IfOffered,
    Always,
}

impl<S: Starter> Attempt<'_, S> {
    async fn any_host(&self, wanted: SessionAttrs) -> Result<S::Session, ConnectError> {
        let mut last = None;
        for host in &self.settings.hosts {
            match self.one_host(host, wanted).await {
                Err(error) if goes_on(&error) => last = Some(error),
                outcome => return outcome,
            }
        }
        // The list of hosts is never empty.
        Err(last.unwrap_or_else(|| ConnectError::Io { at: self.at("".into()), source: io::ErrorKind::NotFound.into() }))
    }

    async fn one_host(&self, host: &Host, wanted: SessionAttrs) -> Result<S::Session, ConnectError> {
        let mut last = None;
        for address in self.addresses(host).await? {
            match self.one_address(host, &address, wanted).await {
                Err(error) if goes_on(&error) => last = Some(error),
                outcome => return outcome,
            }
        }
        let none = || ConnectError::Lookup { at: self.place(host), source: io::ErrorKind::NotFound.into() };
        Err(last.unwrap_or_else(none))
    }

    async fn addresses<'h>(&self, host: &'h Host) -> Result<Vec<Address<'h>>, ConnectError> {
        let name = match &host.place {
            Place::Unix(path) => return Ok(vec![Address::Unix(path)]),
            Place::Tcp(name) => name.as_str(),
        };
        let lookup = tokio::net::lookup_host((name, host.port));
        let found = self.within(lookup, host).await?;
        let found = found.map_err(|source| ConnectError::Lookup { at: self.place(host), source })?;
        Ok(found.map(Address::Tcp).collect())
    }

    async fn one_address(
        &self,
        host: &Host,
        address: &Address<'_>,
        wanted: SessionAttrs,
    ) -> Result<S::Session, ConnectError> {
        let (first, second) = self.encryptions(address);
        match (self.session(host, address, first, wanted).await, second) {
            (Err(error), Some(second)) if changes_with_encryption(&error) => {
                let outcome = self.session(host, address, second, wanted).await;
                // The first refusal says more than that there is no TLS either.
                if matches!(outcome, Err(ConnectError::NoTls { .. })) { Err(error) } else { outcome }
            }
            (outcome, _) => outcome,
        }
    }

    /// What is tried first and what then, as sslmode says.
    fn encryptions(&self, address: &Address<'_>) -> (Encryption, Option<Encryption>) {
        let bound = self.settings.channel_binding == ChannelBinding::Require;
        match self.settings.tls.mode {
            _ if matches!(address, Address::Unix(_)) => (Encryption::Plain, None),
            SslMode::Disable => (Encryption::Plain, None),
            // Without TLS there is nothing to bind to.
            SslMode::Allow | SslMode::Prefer if bound => (Encryption::Always, None),
            SslMode::Allow => (Encryption::Plain, Some(Encryption::Always)),
            SslMode::Prefer => (Encryption::IfOffered, Some(Encryption::Plain)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Always, None),
        }
    }

    /// One attempt within connect_timeout, check of the server's role included.
    async fn session(
        &self,
        host: &Host,
        address: &Address<'_>,
        encryption: Encryption,
        wanted: SessionAttrs,
    ) -> Result<S::Session, ConnectError> {
        let attempt = async {
            let dialed = self.dial(host, address, encryption).await?;
            let at = dialed.at.clone();
            let mut session = self.starter.start(dialed, self.settings).await?;
            self.check_role(&mut session, at, wanted).await?;
            Ok(session)
        };
        self.within(attempt, host).await?
    }

    async fn within<T>(&self, work: impl Future<Output = T>, host: &Host) -> Result<T, ConnectError> {
        let Some(timeout) = self.settings.connect_timeout else { return Ok(work.await) };
        let expired = |_| ConnectError::Timeout { at: self.place(host), seconds: timeout.as_secs() };
        tokio::time::timeout(timeout, work).await.map_err(expired)
    }

    async fn dial(&self, host: &Host, address: &Address<'_>, tls: Encryption) -> Result<Dialed, ConnectError> {
        let at = self.place(host);
        let failed = |source| ConnectError::Io { at: at.clone(), source };
        let password = host.password.clone();
        let mut tcp = match address {
            Address::Unix(path) => {
                let stream = Stream::Unix(UnixStream::connect(path).await.map_err(failed)?);
                return Ok(Dialed { stream, at, password, server_end_point: None });
            }
            Address::Tcp(address) => TcpStream::connect(address).await.map_err(failed)?,
        };
        stream::configure(&tcp, &self.settings.socket).map_err(failed)?;
        let Some(connector) = self.connector.as_ref().filter(|_| tls != Encryption::Plain) else {
            return Ok(Dialed { stream: Stream::Tcp(tcp), at, password, server_end_point: None });
        };
        if !offers_tls(&mut tcp, &at).await? {
            return match tls {
                Encryption::Always => Err(ConnectError::NoTls { at, mode: mode_name(self.settings.tls.mode) }),
                _ => Ok(Dialed { stream: Stream::Tcp(tcp), at, password, server_end_point: None }),
            };
        }
        let stream = connector.connect(tcp, &host.name, &at).await?;
        let server_end_point = tls::server_end_point(&stream);
        Ok(Dialed { stream: Stream::Tls(Box::new(stream)), at, password, server_end_point })
    }

    async fn check_role(
        &self,
        session: &mut S::Session,
        at: Endpoint,
        wanted: SessionAttrs,
    ) -> Result<(), ConnectError> {
        const SQL: &str = "SELECT pg_catalog.pg_is_in_recovery()::pg_catalog.text, \
                           pg_catalog.current_setting('transaction_read_only')";
        if wanted == SessionAttrs::Any {
            return Ok(());
        }
        let row = self.starter.row(session, SQL).await?;
        let is = |index: usize, value| row.get(index).and_then(Option::as_deref) == Some(value);
        let (standby, read_only) = (is(0, "true"), is(1, "on"));
        let (fits, wanted) = match wanted {
            SessionAttrs::ReadWrite => (!standby && !read_only, "read-write"),
            SessionAttrs::ReadOnly => (standby || read_only, "read-only"),
            SessionAttrs::Primary => (!standby, "primary"),
            SessionAttrs::Standby | SessionAttrs::PreferStandby => (standby, "standby"),
            SessionAttrs::Any => (true, "any"),
        };
        if fits { Ok(()) } else { Err(ConnectError::SessionAttrs { at, wanted }) }
    }

    fn place(&self, host: &Host) -> Endpoint {
        self.at(match &host.place {
            Place::Unix(path) => path.display().to_string().replace('\0', "@"),
            Place::Tcp(_) if host.name.contains(':') => format!("[{}]:{}", host.name, host.port),
            Place::Tcp(_) => format!("{}:{}", host.name, host.port),
        })
    }

    fn at(&self, place: String) -> Endpoint {
        let (user, database) = (self.settings.user.clone(), self.settings.database.clone());
        Endpoint(Arc::new(EndpointParts { place, user, database }))
    }
}

/// Is the other choice about TLS worth a try? A failed handshake, or no entry in pg_hba.conf for this choice. Not a wrong
/// password, though libpq tries that one again: the same password would only go out once more, unprotected.
fn changes_with_encryption(error: &ConnectError) -> bool {
    match error {
        ConnectError::Tls { .. } => true,
        ConnectError::Refused { source, .. } => source.sqlstate == "28000",
        _ => false,
    }
}

fn mode_name(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

/// Asks for TLS. The answer is one byte and exactly one is read: anything that follows it in the clear was put there by
/// someone in between, and makes the handshake fail.
async fn offers_tls(tcp: &mut TcpStream, at: &Endpoint) -> Result<bool, ConnectError> {
    let failed = |source| ConnectError::Io { at: at.clone(), source };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(failed)?;
    match tcp.read_u8().await.map_err(failed)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error's text is not shown: nothing says yet that it is the server's.
        other => {
            let problem = format!("byte '{}' is not an answer to SSLRequest", other.escape_ascii());
            let source = crate::error::WireError::Protocol { at: at.clone(), problem };
            Err(ConnectError::Wire { at: at.clone(), source: Box::new(source) })
        }
    }
}
