//! The start of a raw session: startup message and authentication.

use std::io;

use bytes::BytesMut;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;

use crate::connect::{Dialed, Starter};
use crate::error::{ConnectError, WireError};
use crate::server_error::ServerError;
use crate::settings::{ChannelBinding, Settings};
use crate::wire::Wire;

/// Starts a [`Wire`] with these startup parameters.
pub(crate) struct WireStarter<'a> {
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

impl Starter for WireStarter<'_> {
    type Session = Wire;

    async fn start(&self, dialed: Dialed, settings: &Settings) -> Result<Wire, ConnectError> {
        let Dialed { stream, at, password, server_end_point } = dialed;
        let mut login = Login {
            wire: Wire::new(stream, at),
            settings,
            password: password.as_ref().map(|password| password.0.as_str()),
            server_end_point,
            bound: false,
            scram_open: false,
        };
        login.send_startup(self.settings)?;
        login.authenticate().await?;
        login.wait_until_ready().await?;
        Ok(login.wire)
    }

    async fn row(&self, wire: &mut Wire, sql: &str) -> Result<Vec<Option<String>>, ConnectError> {
        let rows = wire.simple_query(sql).await.map_err(|error| session_error(wire, error))?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }
}

struct Login<'a> {
    wire: Wire,
    settings: &'a Settings,
    password: Option<&'a str>,
    server_end_point: Option<Vec<u8>>,
    /// Did SCRAM-SHA-256-PLUS succeed?
    bound: bool,
    /// Has SCRAM begun, and the server not proved yet that it knows the password?
    scram_open: bool,
}

/// A failure of the session while it is opened.
fn session_error(wire: &Wire, error: WireError) -> ConnectError {
    let at = wire.endpoint().clone();
    match error {
        WireError::Io { at, source } => ConnectError::Io { at, source },
        WireError::Closed { at } => {
            let source = io::Error::new(io::ErrorKind::UnexpectedEof, "server closed the connection");
            ConnectError::Io { at, source }
        }
        WireError::Server(source) => ConnectError::Refused { at, source },
        source => ConnectError::Wire { at, source: Box::new(source) },
    }
}

impl Login<'_> {
    fn send_startup(&mut self, given: &[(&str, &str)]) -> Result<(), ConnectError> {
        let settings = self.settings;
        let named = |name| given.iter().find(|(key, _)| *key == name).map(|&(_, value)| value);
        let own = settings.application_name.as_deref().or(named("application_name"));
        let application_name = own.or(settings.fallback_application_name.as_deref());
        let mut parameters = vec![("user", settings.user.as_str()), ("database", settings.database.as_str())];
        parameters.extend(application_name.map(|name| ("application_name", name)));
        parameters.extend(settings.options.as_deref().map(|options| ("options", options)));
        parameters.extend(given.iter().filter(|(key, _)| *key != "application_name"));
        let encoded = frontend::startup_message(parameters, self.wire.out());
        encoded.map_err(|error| session_error(&self.wire, WireError::Encode(error)))
    }

    /// The next message of the server: its tag and a copy of its body. An error ends the start.
    async fn next(&mut self) -> Result<(u8, Vec<u8>), ConnectError> {
        let next = self.wire.next_message().await.map(|message| (message.tag, message.body.to_vec()));
        match next.map_err(|error| session_error(&self.wire, error))? {
            (b'E', body) => Err(session_error(&self.wire, WireError::Server(Box::new(ServerError::parse(&body))))),
            message => Ok(message),
        }
    }

    fn failed(&self, problem: impl Into<String>) -> ConnectError {
        ConnectError::Authentication { at: self.wire.endpoint().clone(), problem: problem.into() }
    }

    fn unexpected(&self, tag: u8) -> ConnectError {
        session_error(&self.wire, self.wire.unexpected(tag, "the startup message"))
    }

    async fn authenticate(&mut self) -> Result<(), ConnectError> {
        loop {
            let (tag, body) = self.next().await?;
            let request = match (tag, body.split_first_chunk()) {
                (b'R', Some((&code, data))) => (u32::from_be_bytes(code), data),
                // NegotiateProtocolVersion: 3.0 is what was asked for, so that nothing is taken away.
                (b'v', _) => continue,
                _ => return Err(self.unexpected(tag)),
            };
            match request {
                (0, _) => return self.accepted(),
                (3, _) => {
                    let password = self.unbound_password("a cleartext password")?.as_bytes().to_vec();
                    self.send_password(&password)?;
                }
                (5, salt) => self.send_md5(salt)?,
                (10, mechanisms) => self.scram(mechanisms).await?,
                (code, _) => return Err(self.failed(format!("server asks for method {code}, which is not supported"))),
            }
        }
    }

    /// The server is satisfied; is the client?
    fn accepted(&self) -> Result<(), ConnectError> {
        if self.scram_open {
            return Err(self.failed("server ended SCRAM without proving that it knows the password"));
        }
        if self.settings.channel_binding == ChannelBinding::Require && !self.bound {
            return Err(self.failed("channel_binding=require, but the server did not bind to the channel"));
        }
        Ok(())
    }

    fn password(&self) -> Result<&str, ConnectError> {
        self.password.ok_or_else(|| self.failed("server asks for a password, and none was given"))
    }

    /// The password for a method that cannot bind to the channel.
    fn unbound_password(&self, method: &str) -> Result<&str, ConnectError> {
        match self.settings.channel_binding {
            ChannelBinding::Require => {
                Err(self.failed(format!("channel_binding=require, but the server asks for {method}")))
            }
            _ => self.password(),
        }
    }

    fn send_password(&mut self, password: &[u8]) -> Result<(), ConnectError> {
        let encoded = frontend::password_message(password, self.wire.out());
        encoded.map_err(|error| session_error(&self.wire, WireError::Encode(error)))
    }

    fn send_md5(&mut self, salt: &[u8]) -> Result<(), ConnectError> {
        let salt =
            salt.try_into().map_err(|_| self.failed(format!("expected a salt of 4 bytes, got {}", salt.len())))?;
        let password = self.unbound_password("md5")?.as_bytes();
        let hash = md5_hash(self.settings.user.as_bytes(), password, salt);
        self.send_password(hash.as_bytes())
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<(), ConnectError> {
        let (mechanism, binding) = self.choose_mechanism(mechanisms)?;
        let mut scram = sasl::ScramSha256::new(self.password()?.as_bytes(), binding);
        self.scram_open = true;
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
        let challenge = self.sasl_data(11).await?;
        scram.update(&challenge).map_err(|error| self.failed(format!("SCRAM: {error}")))?;
        self.send(|out| frontend::sasl_response(scram.message(), out))?;
        let proof = self.sasl_data(12).await?;
        scram.finish(&proof).map_err(|error| self.failed(format!("SCRAM: {error}")))?;
        self.scram_open = false;
        self.bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        Ok(())
    }

    fn send(&mut self, encode: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), ConnectError> {
        encode(self.wire.out()).map_err(|error| session_error(&self.wire, WireError::Encode(error)))
    }

    async fn sasl_data(&mut self, expected: u32) -> Result<Vec<u8>, ConnectError> {
        let (tag, body) = self.next().await?;
        match body.split_first_chunk() {
            Some((&code, data)) if tag == b'R' && u32::from_be_bytes(code) == expected => Ok(data.to_vec()),
            _ => Err(self.failed("server broke off SCRAM")),
        }
    }

    /// With channel binding where both sides can and may.
    fn choose_mechanism(&self, offered: &[u8]) -> Result<(&'static str, sasl::ChannelBinding), ConnectError> {
        let offered: Vec<&[u8]> = offered.split(|&byte| byte == 0).collect();
        let plus = offered.contains(&sasl::SCRAM_SHA_256_PLUS.as_bytes());
        let plain = offered.contains(&sasl::SCRAM_SHA_256.as_bytes());
        let policy = self.settings.channel_binding;
        let hash = self.server_end_point.clone().filter(|_| policy != ChannelBinding::Disable);
        match hash {
            Some(hash) if plus => Ok((sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))),
            _ if policy == ChannelBinding::Require => Err(self.failed(self.why_unbound(plus))),
            // This tells the server that the client could have: a server that could too then knows that someone in
            // between took the offer away.
            Some(_) if plain => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested())),
            None if plain => Ok((sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported())),
            _ => Err(self.failed("server offers no SASL mechanism that is supported")),
        }
    }

    fn why_unbound(&self, offered: bool) -> &'static str {
        match (&self.server_end_point, offered) {
            (None, _) => "channel_binding=require, but there is no TLS or the certificate's signature has no hash",
            (Some(_), false) => "channel_binding=require, but the server does not offer it",
            (Some(_), true) => "channel_binding=require, but it is switched off",
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), ConnectError> {
        loop {
            let (tag, body) = self.next().await?;
            match tag {
                b'K' => self.wire.backend_pid = process_id(&body),
                b'Z' => return Ok(()),
                _ => return Err(self.unexpected(tag)),
            }
        }
    }
}

/// The process id of BackendKeyData; what follows is the key for cancelling.
fn process_id(body: &[u8]) -> i32 {
    body.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes))
}
