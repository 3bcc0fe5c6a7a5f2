//! Cursors.

use crate::error::ReadError;
use crate::frame::Frame;

/// Tails the log.
pub struct Cursor {}

impl Cursor {
    /// The next frame; `None` at the head.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        unimplemented!()
    }
}
