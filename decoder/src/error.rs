//! What can be wrong with a message.

/// A message that pgoutput would not have sent. Always definite: the same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No tag byte.
    #[error("empty message")]
    Empty,
}
