//! What can go wrong in opening and using a session.

use std::io;
use std::sync::Arc;

use crate::conninfo::ConninfoError;
use crate::server_error::ServerError;

/// What a caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same again may succeed: retry with backoff.
    Transient,
    /// A person has to change something.
    Definite,
}

/// Where and as whom a session is or would be: everything but the password. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub(crate) Arc<EndpointParts>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndpointParts {
    pub(crate) place: String,
    pub(crate) user: String,
    pub(crate) database: String,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (user \"{}\", database \"{}\")", self.0.place, self.0.user, self.0.database)
    }
}

/// Why no session could be opened.
///
/// The cause is the error's source, as always; the message says where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection string or what fills it in.
    #[error("connection parameters cannot be used")]
    Conninfo(#[from] ConninfoError),
    /// A host name that has no address.
    #[error("could not find the address of {at}")]
    Lookup {
        /// Where to.
        at: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Nothing there, refused, or cut while connecting.
    #[error("could not connect to {at}")]
    Io {
        /// Where to.
        at: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// `connect_timeout` ran out.
    #[error("could not connect to {at} within {seconds} s")]
    Timeout {
        /// Where to.
        at: Endpoint,
        /// `connect_timeout`.
        seconds: u64,
    },
    /// The server has TLS switched off, and sslmode insists on it.
    #[error("server {at} does not support TLS, but sslmode={mode} was asked for")]
    NoTls {
        /// Where to.
        at: Endpoint,
        /// The sslmode.
        mode: &'static str,
    },
    /// A certificate or key file.
    #[error("{what} \"{path}\" {problem}")]
    TlsFile {
        /// What the file is for.
        what: &'static str,
        /// Its path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The handshake failed; also a certificate that is not trusted.
    #[error("TLS with {at} failed")]
    Tls {
        /// Where to.
        at: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The server asks for something that was not given, or cannot prove what was asked of it.
    #[error("authentication at {at} failed: {problem}")]
    Authentication {
        /// Where to.
        at: Endpoint,
        /// What is wrong.
        problem: String,
    },
    /// The server refused the session.
    #[error("{at} refused the session")]
    Refused {
        /// Where to.
        at: Endpoint,
        /// What it said.
        source: Box<ServerError>,
    },
    /// No host is what `target_session_attrs` asks for.
    #[error("{at} is not what target_session_attrs={wanted} asks for")]
    SessionAttrs {
        /// The last one tried.
        at: Endpoint,
        /// The value of the parameter.
        wanted: &'static str,
    },
    /// The server broke the protocol while the session was opened.
    #[error("{at} did not answer as a PostgreSQL server")]
    Wire {
        /// Where to.
        at: Endpoint,
        /// How.
        source: Box<WireError>,
    },
    /// The `tokio-postgres` client could not be opened.
    #[error("could not open a session on {at}")]
    Client {
        /// Where to.
        at: Endpoint,
        /// Why.
        source: tokio_postgres::Error,
    },
}

impl ConnectError {
    /// May the same again succeed?
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Lookup { .. } | Self::Io { .. } | Self::Timeout { .. } | Self::SessionAttrs { .. } => {
                Class::Transient
            }
            Self::Refused { source, .. } if source.transient() => Class::Transient,
            Self::Wire { source, .. } => source.class(),
            Self::Tls { source, .. } if cut_off(source) => Class::Transient,
            Self::Client { source, .. } if source.is_closed() || has_io_source(source) => Class::Transient,
            _ => Class::Definite,
        }
    }

    /// What the server said when it refused the session.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Refused { source, .. } => Some(source),
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Lookup { .. } => Some("check the host name in the connection string and the resolver"),
            Self::Io { source, .. } => io_hint(source),
            Self::Timeout { .. } => Some("check host, port and firewalls, or raise connect_timeout"),
            Self::NoTls { .. } => Some("set ssl = on on the server, or choose a weaker sslmode"),
            Self::Tls { source, .. } => crate::tls::hint(source),
            Self::TlsFile { .. } => None,
            Self::Authentication { .. } => {
                Some("check the password (conninfo, PGPASSWORD, password file) and pg_hba.conf")
            }
            Self::Refused { source, .. } => refused_hint(&source.sqlstate),
            Self::SessionAttrs { .. } => Some("list the other hosts in the connection string, or wait for a failover"),
            Self::Wire { .. } => Some("check that host and port are those of a PostgreSQL server"),
            // What the client says without the server: no password, or channel binding that was not to be had.
            Self::Client { .. } if self.class() == Class::Definite => Some("check the password and channel_binding"),
            Self::Conninfo(_) | Self::Client { .. } => None,
        }
    }
}

fn cut_off(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>())
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            Some("is the server running there and accepting connections? check host and port")
        }
        io::ErrorKind::PermissionDenied => Some("the operating system's user may not use the server's socket"),
        _ => None,
    }
}

fn refused_hint(sqlstate: &str) -> Option<&'static str> {
    match sqlstate {
        "28P01" => Some("check the password (conninfo, PGPASSWORD, password file)"),
        "28000" => Some("check the role and its attributes, and pg_hba.conf of the server"),
        "3D000" => Some("create the database, or check dbname"),
        "53300" => Some("raise max_connections (for walsenders max_wal_senders), or close other sessions"),
        "57P03" => Some("the server is starting, stopping or recovering; it is tried again"),
        "42501" => Some("grant the role what the message names"),
        _ => None,
    }
}

/// Why a session cannot be used any more, or what the server said to a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The socket.
    #[error("lost the connection to {at}")]
    Io {
        /// Where to.
        at: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("{at} closed the connection")]
    Closed {
        /// Where to.
        at: Endpoint,
    },
    /// A length that no message has.
    #[error("{at} sent message '{tag}' with length {length}, expected 4 to {max}", max = crate::message::LENGTH_MAX)]
    Length {
        /// Where to.
        at: Endpoint,
        /// The message's tag.
        tag: char,
        /// The length that it declares.
        length: u32,
    },
    /// A message that does not belong here or cannot be read.
    #[error("{at} broke the protocol: {problem}")]
    Protocol {
        /// Where to.
        at: Endpoint,
        /// What is wrong.
        problem: String,
    },
    /// A message that cannot be encoded: too long, or a NUL in a string.
    #[error("could not encode a message")]
    Encode(#[source] io::Error),
    /// The server's answer to a query; the session goes on unless its severity is FATAL.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
}

impl WireError {
    /// May the same again succeed, on a new session unless it is [`WireError::Server`]?
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::Closed { .. } => Class::Transient,
            Self::Server(error) if error.transient() => Class::Transient,
            _ => Class::Definite,
        }
    }

    /// What the server said.
    #[must_use]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } | Self::Closed { .. } => Some("see the server's log; the connection is opened again"),
            Self::Server(error) => refused_hint(&error.sqlstate),
            _ => None,
        }
    }
}
