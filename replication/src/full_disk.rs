//! A full disk stops the stream, not the service: the same is tried again until there is room.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{ReplicationError, in_one_line};
use crate::run::{blocking, pause};
use crate::status::Status;

/// How long a full disk is left alone before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Who waits for room, and who is told.
pub(crate) struct FullDisk {
    status: Arc<Status>,
    shutdown: CancellationToken,
}

impl FullDisk {
    pub(crate) fn new(status: Arc<Status>, shutdown: CancellationToken) -> FullDisk {
        FullDisk { status, shutdown }
    }

    /// Does `work` until it does not fail for want of room. Blocks meanwhile, and ends with
    /// [`ReplicationError::Stopped`] when the service does.
    pub(crate) fn until_room<E: Error + Into<ReplicationError>>(
        &self,
        mut work: impl FnMut() -> Result<(), E>,
        is_full: impl Fn(&E) -> bool,
    ) -> Result<(), ReplicationError> {
        loop {
            match work() {
                Ok(()) => {
                    self.note(None);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {
                    self.note(Some(&error));
                    blocking(|| pause(PAUSE, &self.shutdown))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note(&self, error: Option<&dyn Error>) {
        match (error, self.status.disk_full()) {
            (Some(error), false) => {
                let error = in_one_line(error);
                tracing::error!(error, "the log's disk is full: the stream waits, nothing is lost")
            }
            (None, true) => tracing::info!("the log's disk has room again"),
            _ => {}
        }
        self.status.set_disk_full(error.is_some());
    }
}

/// Whether there was no room for what was to be written.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
