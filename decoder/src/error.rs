//! What can be wrong with a message.

/// A message that pgoutput would not have sent. Always definite: the same bytes fail again.
///
/// `tag` is the message's first byte and `offset` counts from that byte, so it points into the payload as it was
/// received. No variant holds bytes of a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No tag byte.
    #[error("empty message: expected at least 1 byte, got 0")]
    Empty,
    /// A first byte that no protocol version has.
    #[error("message '{}', byte 0: unknown message tag {tag:#04x}", .tag.escape_ascii())]
    UnknownTag {
        /** First byte. */
        tag: u8,
    },
    /// A message of a later protocol version than the one asked for.
    #[error(
        "message '{}', byte 0: belongs to protocol version {first}, but version {asked} was asked for",
        .tag.escape_ascii()
    )]
    NotInVersion {
        /** First byte. */
        tag: u8,
        /** The first version that has it. */
        first: u32,
        /** The version asked for. */
        asked: u32,
    },
    /// A message that only comes between Stream Start and Stream Stop.
    #[error("message '{}', byte 0: came without a stream start", .tag.escape_ascii())]
    OutsideStream {
        /** First byte. */
        tag: u8,
    },
    /// A message that never comes between Stream Start and Stream Stop.
    #[error("message '{}', byte 0: came before the stream stop", .tag.escape_ascii())]
    InsideStream {
        /** First byte. */
        tag: u8,
    },
    /// A transaction control message where a change was expected.
    #[error("message '{}', byte 0: is not a change", .tag.escape_ascii())]
    NotAChange {
        /** First byte. */
        tag: u8,
    },
    /// The message ends inside a field.
    #[error("message '{}', byte {offset}: {field} needs {expected} bytes, got {got}", .tag.escape_ascii())]
    Truncated {
        /** First byte. */
        tag: u8,
        /** Where the field begins. */
        offset: usize,
        /** Which. */
        field: &'static str,
        /** Bytes it needs. */
        expected: usize,
        /** Bytes left. */
        got: usize,
    },
    /// A string without its NUL.
    #[error("message '{}', byte {offset}: {field} has no terminating NUL in the {got} bytes left", .tag.escape_ascii())]
    Unterminated {
        /** First byte. */
        tag: u8,
        /** Where the string begins. */
        offset: usize,
        /** Which. */
        field: &'static str,
        /** Bytes left. */
        got: usize,
    },
    /// Bytes after the last field.
    #[error("message '{}', byte {offset}: expected the end after {offset} bytes, got {got} bytes", .tag.escape_ascii())]
    Leftover {
        /** First byte. */
        tag: u8,
        /** Where the message should end. */
        offset: usize,
        /** Its real length. */
        got: usize,
    },
    /// A name that is not UTF-8 (the session's client_encoding).
    #[error("message '{}', byte {offset}: {field} is not valid UTF-8", .tag.escape_ascii())]
    NotUtf8 {
        /** First byte. */
        tag: u8,
        /** Its first wrong byte. */
        offset: usize,
        /** Which. */
        field: &'static str,
    },
    /// A count or length below zero.
    #[error("message '{}', byte {offset}: expected {field} of at least 0, got {got}", .tag.escape_ascii())]
    Negative {
        /** First byte. */
        tag: u8,
        /** Where. */
        offset: usize,
        /** Which. */
        field: &'static str,
        /** Its value. */
        got: i32,
    },
    /// An LSN, xid or OID that is 0 where pgoutput always has one.
    #[error("message '{}', byte {offset}: expected {field} other than 0, got 0", .tag.escape_ascii())]
    Zero {
        /** First byte. */
        tag: u8,
        /** Where. */
        offset: usize,
        /** Which. */
        field: &'static str,
    },
    /// Flag bits that this version of walcast does not know, so must not pass over.
    #[error("message '{}', byte {offset}: expected {field} within {known:#04x}, got {got:#04x}", .tag.escape_ascii())]
    UnknownFlags {
        /** First byte. */
        tag: u8,
        /** Where. */
        offset: usize,
        /** Which. */
        field: &'static str,
        /** All bits known. */
        known: u8,
        /** All bits there. */
        got: u8,
    },
    /// A byte that is none of the letters possible there: a tuple's tag, a column's kind, the replica identity.
    #[error(
        "message '{}', byte {offset}: expected {field} to be one of \"{expected}\", got {got:#04x}",
        .tag.escape_ascii()
    )]
    UnknownLetter {
        /** First byte. */
        tag: u8,
        /** Where. */
        offset: usize,
        /** Which. */
        field: &'static str,
        /** The letters possible. */
        expected: &'static str,
        /** The byte there. */
        got: u8,
    },
}

impl DecodeError {
    /// The message's first byte; `None` when it has none.
    pub fn tag(&self) -> Option<u8> {
        match *self {
            DecodeError::Empty => None,
            DecodeError::UnknownTag { tag }
            | DecodeError::NotInVersion { tag, .. }
            | DecodeError::OutsideStream { tag }
            | DecodeError::InsideStream { tag }
            | DecodeError::NotAChange { tag }
            | DecodeError::Truncated { tag, .. }
            | DecodeError::Unterminated { tag, .. }
            | DecodeError::Leftover { tag, .. }
            | DecodeError::NotUtf8 { tag, .. }
            | DecodeError::Negative { tag, .. }
            | DecodeError::Zero { tag, .. }
            | DecodeError::UnknownFlags { tag, .. }
            | DecodeError::UnknownLetter { tag, .. } => Some(tag),
        }
    }

    /// The byte, counted from the tag, where decoding stopped.
    pub fn offset(&self) -> usize {
        match *self {
            DecodeError::Truncated { offset, .. }
            | DecodeError::Unterminated { offset, .. }
            | DecodeError::Leftover { offset, .. }
            | DecodeError::NotUtf8 { offset, .. }
            | DecodeError::Negative { offset, .. }
            | DecodeError::Zero { offset, .. }
            | DecodeError::UnknownFlags { offset, .. }
            | DecodeError::UnknownLetter { offset, .. } => offset,
            _ => 0,
        }
    }
}
