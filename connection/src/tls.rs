//! TLS as libpq has it: which certificates are trusted under which sslmode.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::error::{ConnectError, Endpoint};
use crate::settings::TlsSettings;

/// Opens TLS over a connected socket.
pub(crate) struct Connector {}

impl Connector {
    pub(crate) fn new(_settings: &TlsSettings) -> Result<Connector, ConnectError> {
        Ok(Connector {})
    }

    pub(crate) async fn connect(
        &self,
        _tcp: TcpStream,
        _host: &str,
        at: &Endpoint,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        Err(ConnectError::Tls { at: at.clone(), source: io::ErrorKind::Unsupported.into() })
    }
}

pub(crate) fn server_end_point(_stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    None
}

pub(crate) fn hint(_error: &io::Error) -> Option<&'static str> {
    None
}
