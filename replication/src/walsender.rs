//! The walsender's commands and the client's messages inside a stream.

use connection::{Conninfo, PINNED_SETTINGS, ServerError, Wire};
use decoder::{Context, Lsn, PgTimestamp};
use postgres_protocol::message::frontend;
use segment_log::DurableLsn;

use crate::error::ReplicationError;

/// Opens a session in which both replication commands and SQL are understood.
pub(crate) async fn connect(conninfo: &Conninfo) -> Result<Wire, ReplicationError> {
    let mut settings = vec![("replication", "database"), ("application_name", "walcast")];
    settings.extend_from_slice(PINNED_SETTINGS);
    Ok(Wire::connect(conninfo, &settings).await?)
}

/// An SQL string literal; the session has standard_conforming_strings on.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The newest protocol that a server of this version speaks, as 150020 (manual, "Logical Streaming Replication
/// Parameters": 2 and `streaming` from 14, 3 from 15, 4 and `parallel` from 16).
pub(crate) fn context_for(server_version: u32) -> Context {
    let protocol_version = match server_version / 10_000 {
        ..=13 => 1,
        14 => 2,
        15 => 3,
        _ => 4,
    };
    Context { protocol_version, in_stream: false, parallel: protocol_version >= 4 }
}

/// START_REPLICATION with everything that the server's version has.
pub(crate) fn start_command(slot: &str, start: Lsn, publication: &str, context: Context, binary: bool) -> String {
    let streaming = match context.protocol_version {
        ..=1 => None,
        _ if context.parallel => Some("parallel"),
        _ => Some("on"),
    };
    let mut options = vec![
        format!("proto_version '{}'", context.protocol_version),
        format!("publication_names {}", literal(&identifier(publication))),
        "messages 'true'".to_owned(),
    ];
    options.extend(streaming.map(|mode| format!("streaming '{mode}'")));
    options.extend(binary.then(|| "binary 'true'".to_owned()));
    format!("START_REPLICATION SLOT {} LOGICAL {start} ({})", identifier(slot), options.join(", "))
}

/// Sends START_REPLICATION and waits for the stream's beginning.
pub(crate) async fn start(wire: &mut Wire, command: &str) -> Result<(), ReplicationError> {
    frontend::query(command, wire.out()).map_err(connection::WireError::Encode)?;
    loop {
        let message = wire.next_message().await?;
        match message.tag {
            b'W' => return Ok(()),
            b'E' => return Err(ReplicationError::Server(Box::new(ServerError::parse(message.body)))),
            b'N' | b'S' => {}
            other => {
                let got = format!("message with tag byte 0x{other:02x}");
                return Err(ReplicationError::Protocol { command: "START_REPLICATION", got });
            }
        }
    }
}

/// What the client tells the walsender of its progress. Flush and apply are the same: what is durable in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatusUpdate {
    /// Read from the socket.
    pub(crate) written: Lsn,
    /// Fsynced; the server may forget everything before it.
    pub(crate) flushed: DurableLsn,
    /// The server shall answer with a keepalive at once.
    pub(crate) reply_requested: bool,
}

impl StatusUpdate {
    /// The CopyData message, header included.
    pub(crate) fn encode(&self, now: PgTimestamp) -> [u8; 39] {
        let mut message = [0; 39];
        let written = self.written.max(self.flushed.lsn()).as_u64().to_be_bytes();
        let flushed = self.flushed.lsn().as_u64().to_be_bytes();
        message[0] = b'd';
        message[1..5].copy_from_slice(&38_u32.to_be_bytes());
        message[5] = b'r';
        message[6..14].copy_from_slice(&written);
        message[14..22].copy_from_slice(&flushed);
        message[22..30].copy_from_slice(&flushed);
        message[30..38].copy_from_slice(&now.0.to_be_bytes());
        message[38] = u8::from(self.reply_requested);
        message
    }
}

/// CopyDone, then Terminate.
pub(crate) const COPY_DONE_AND_TERMINATE: [u8; 10] = *b"c\0\0\0\x04X\0\0\0\x04";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_what_the_version_has() {
        let start = Lsn::from_u64(0x16_B374_D848);
        let at = |version, binary| start_command("my\"slot", start, "P'ub", context_for(version), binary);
        assert_eq!(
            at(140_000, false),
            "START_REPLICATION SLOT \"my\"\"slot\" LOGICAL 16/B374D848 (proto_version '2', \
             publication_names '\"P''ub\"', messages 'true', streaming 'on')"
        );
        assert!(at(150_004, true).contains("proto_version '3'") && at(150_004, true).ends_with("binary 'true')"));
        assert!(at(180_000, false).contains("proto_version '4'") && at(180_000, false).contains("'parallel'"));
        assert!(!at(130_000, false).contains("streaming"));
    }
}
