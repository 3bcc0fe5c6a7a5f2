//! How much of the log is kept.

use std::sync::Arc;
use std::time::Duration;

use decoder::Lsn;
use segment_log::{Log, Positions};
use tokio_util::sync::CancellationToken;

use super::Service;

const INTERVAL: Duration = Duration::from_secs(1);

/// Trims the log until the shutdown.
pub(crate) async fn run(service: Arc<Service>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let Some(log) = service.log().cloned() else { continue };
        let too_much = exceeded(&service, &log);
        let needed = service.needed();
        service.release_pins();
        let Some(below) = removable_below(log.positions().first_lsn, &needed).max(too_much) else {
            continue;
        };
        // Removing files may wait for the disk.
        match tokio::task::spawn_blocking(move || log.trim(below)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "could not trim the log, trying again"),
            Err(error) => tracing::error!(%error, "trimming the log failed"),
        }
    }
}

/// The position below which the log is given up although a target may need it: there is more than `retain_max`.
fn exceeded(service: &Service, log: &Log) -> Option<Lsn> {
    let most = service.config().log.retain_max;
    let Positions { bytes, first_lsn, .. } = log.positions();
    let below = Some(log.first_lsn_within(most)).filter(|below| bytes > most && *below > first_lsn)?;
    tracing::warn!(bytes, retain_max = most, "the log is full: targets that are far behind become desync");
    Some(below)
}

/// The position below which no target needs a log that begins at `first_lsn`. A target whose checkpoint is not known (it
/// was not reachable since the start) holds everything. So does the lack of any target: one may still be declared at the
/// beginning of the log. A target before the log's beginning holds nothing: it is lost to the log.
fn removable_below(first_lsn: Lsn, checkpoints: &[Option<Lsn>]) -> Option<Lsn> {
    let needed = checkpoints.iter().copied().filter(|checkpoint| checkpoint.is_none_or(|lsn| lsn >= first_lsn));
    needed.min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_that_is_furthest_behind_holds_the_log() {
        let lsn = |raw| Some(Lsn::from_u64(raw));
        let below = |checkpoints: &[Option<Lsn>]| removable_below(Lsn::from_u64(5), checkpoints);
        assert_eq!(below(&[lsn(30), lsn(10), lsn(20)]), lsn(10));
        assert_eq!(below(&[lsn(30), lsn(5)]), lsn(5));
        assert_eq!(below(&[lsn(30), None]), None);
        assert_eq!(below(&[]), None);
    }

    #[test]
    fn a_target_that_the_log_has_left_behind_holds_nothing() {
        let lsn = |raw| Some(Lsn::from_u64(raw));
        assert_eq!(removable_below(Lsn::from_u64(5), &[lsn(4), lsn(20)]), lsn(20));
        assert_eq!(removable_below(Lsn::from_u64(5), &[lsn(4)]), None);
    }
}
