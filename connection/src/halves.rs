//! The two directions of a session, for a loop that selects over both.

use std::future::poll_fn;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use crate::error::{Endpoint, WireError};
use crate::message::first_message_len;
use crate::stream::Stream;
use crate::wire::{length_error, make_room, poll_send};

/// The receiving direction: fills a large buffer and hands out whole messages, without copying.
///
/// Notices and parameter changes are left in the buffer for the caller to pass over.
pub struct ReadHalf {
    pub(crate) stream: tokio::io::ReadHalf<Stream>,
    pub(crate) buffer: BytesMut,
    pub(crate) at: Endpoint,
    pub(crate) unix: bool,
}

impl ReadHalf {
    /// Whether the socket is a Unix one: it holds some hundred small messages, where TCP's buffers hold megabytes.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.unix
    }

    /// Waits for bytes and appends them to the buffer; the number of new bytes, never 0. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub async fn fill(&mut self) -> Result<usize, WireError> {
        make_room(&mut self.buffer);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(WireError::Closed { at: self.at.clone() }),
            Ok(read) => Ok(read),
            Err(source) => Err(WireError::Io { at: self.at.clone(), source }),
        }
    }

    /// Reads and throws away until the server has closed the connection.
    pub async fn drain(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    /// What was received and not taken yet.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes all whole messages off the buffer, back to back with their headers; empty when there is none.
    ///
    /// # Errors
    /// A message with an impossible length.
    pub fn take_messages(&mut self) -> Result<BytesMut, WireError> {
        let mut end = 0;
        while let Some(total) =
            first_message_len(self.buffer.get(end..).unwrap_or_default()).map_err(|bad| length_error(&self.at, bad))?
        {
            end += total;
        }
        Ok(self.buffer.split_to(end))
    }

    /// Host, port, user and database of the session.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.at
    }
}

/// The sending direction.
pub struct WriteHalf {
    pub(crate) stream: tokio::io::WriteHalf<Stream>,
    pub(crate) out: BytesMut,
    pub(crate) unflushed: bool,
    pub(crate) at: Endpoint,
}

impl WriteHalf {
    /// Where frontend messages are appended.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Is there anything that [`flush`](WriteHalf::flush) has not sent yet?
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.unflushed
    }

    /// Sends all of [`out`](WriteHalf::out). Cancel-safe: what was not sent is sent by the next call.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        let sent = poll_fn(|cx| poll_send(&mut self.stream, &mut self.out, &mut self.unflushed, cx)).await;
        sent.map_err(|source| WireError::Io { at: self.at.clone(), source })
    }
}
