//! fdatasync in groups.

use decoder::Lsn;

/// A position up to which everything is fsynced. Only this module can make one, so whatever takes one cannot be handed
/// an undurable position by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurableLsn(Lsn);

impl DurableLsn {
    /// The position.
    pub fn lsn(self) -> Lsn {
        self.0
    }
}
