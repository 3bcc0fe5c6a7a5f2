//! Whole walsender messages, framed in place.

use decoder::{Lsn, PgTimestamp};

/// What a CopyData message of the walsender holds ("Streaming Replication Protocol" in the manual).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalsenderMessage<'a> {
    /// `w`: one pgoutput message.
    Data {
        /// Position of the change in the WAL; 0/0 for messages that are not of one record.
        start: Lsn,
        /// By the source's clock.
        sent_at: PgTimestamp,
        /// pgoutput's bytes.
        payload: &'a [u8],
    },
    /// `k`: everything that committed before `end` has been sent.
    Keepalive {
        /// How far the walsender has read.
        end: Lsn,
        /// By the source's clock.
        sent_at: PgTimestamp,
        /// It wants an answer at once.
        reply_requested: bool,
    },
}

/// A CopyData payload that is neither of the two, or too short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalsenderError {
    /// Fewer bytes than the message's fixed part.
    #[error("walsender message '{tag}' is truncated: expected {expected} bytes, got {got}", tag = *tag as char)]
    Truncated {
        /// Its tag.
        tag: u8,
        /// Bytes of the fixed part.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// A tag that the protocol does not have.
    #[error("unknown walsender message with tag byte 0x{0:02x}")]
    UnknownTag(u8),
    /// No bytes at all.
    #[error("empty walsender message")]
    Empty,
}

/// Reads the header of one CopyData payload.
pub(crate) fn parse(body: &[u8]) -> Result<WalsenderMessage<'_>, WalsenderError> {
    let (&tag, rest) = body.split_first().ok_or(WalsenderError::Empty)?;
    let word = |index: usize, expected: usize| {
        let bytes = rest.get(index * 8..index * 8 + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map(u64::from_be_bytes).ok_or(WalsenderError::Truncated { tag, expected, got: body.len() })
    };
    match tag {
        b'w' => {
            let payload = rest.get(24..).ok_or(WalsenderError::Truncated { tag, expected: 25, got: body.len() })?;
            let sent_at = PgTimestamp(word(2, 25)?.cast_signed());
            Ok(WalsenderMessage::Data { start: Lsn::from_u64(word(0, 25)?), sent_at, payload })
        }
        b'k' => {
            let reply = rest.get(16).ok_or(WalsenderError::Truncated { tag, expected: 18, got: body.len() })?;
            let sent_at = PgTimestamp(word(1, 18)?.cast_signed());
            Ok(WalsenderMessage::Keepalive { end: Lsn::from_u64(word(0, 18)?), sent_at, reply_requested: *reply != 0 })
        }
        other => Err(WalsenderError::UnknownTag(other)),
    }
}

/// Walks the protocol messages (tag, length, body) of a chunk that the receiver cut at message boundaries.
pub(crate) struct Messages<'a> {
    bytes: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Messages<'a> {
        Messages { bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    /// Tag and body.
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let length = connection::first_message_len(self.bytes).ok()??;
        let (message, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some((*message.first()?, message.get(5..)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(payload: &[u8]) -> Vec<u8> {
        [&b"w"[..], &0x10_u64.to_be_bytes(), &0x20_u64.to_be_bytes(), &7_u64.to_be_bytes(), payload].concat()
    }

    #[test]
    fn a_data_message_gives_its_payload() {
        let body = data(b"Bxyz");
        let expected = WalsenderMessage::Data { start: Lsn::from_u64(0x10), sent_at: PgTimestamp(7), payload: b"Bxyz" };
        assert_eq!(parse(&body), Ok(expected));
    }

    #[test]
    fn every_prefix_of_a_header_is_an_error() {
        let keepalive = [&b"k"[..], &0x30_u64.to_be_bytes(), &7_u64.to_be_bytes(), &[1]].concat();
        let expected =
            WalsenderMessage::Keepalive { end: Lsn::from_u64(0x30), sent_at: PgTimestamp(7), reply_requested: true };
        assert_eq!(parse(&keepalive), Ok(expected));
        for message in [data(b""), keepalive] {
            for length in 0..message.len() {
                assert!(parse(&message[..length]).is_err(), "{length} bytes of {message:?}");
            }
        }
        assert_eq!(parse(b"x"), Err(WalsenderError::UnknownTag(b'x')));
    }

    #[test]
    fn messages_are_walked_and_a_partial_one_is_left() {
        let bytes = [&b"d\0\0\0\x06ab"[..], b"d\0\0\0\x04", b"d\0\0\0\x09ab"].concat();
        let walked: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(walked, [(b'd', &b"ab"[..]), (b'd', &b""[..])]);
    }
}
