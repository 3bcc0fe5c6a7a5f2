//! Appending.

use decoder::Lsn;

use crate::builder::FrameBuilder;
use crate::error::{AppendError, FatalError};
use crate::syncer::DurableLsn;

/// The only one who appends.
pub struct Writer {}

impl Writer {
    /// Appends what was gathered; an open transaction goes on in the same builder.
    pub fn append(&mut self, builder: &mut FrameBuilder) -> Result<(), AppendError> {
        let _ = builder;
        unimplemented!()
    }

    /// Appends a progress mark.
    pub fn append_progress(&mut self, lsn: Lsn) -> Result<(), AppendError> {
        let _ = lsn;
        unimplemented!()
    }

    /// End of the last whole transaction or progress mark.
    pub fn end_lsn(&self) -> Lsn {
        unimplemented!()
    }

    /// Waits until everything appended is fsynced, and stops.
    pub fn close(self) -> Result<DurableLsn, FatalError> {
        unimplemented!()
    }
}
