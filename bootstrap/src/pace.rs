//! How fast rows are copied at most, so that what else the servers do is not slowed down by it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was not used of the rate is lent for no longer than this: a burst is what others feel.
const BURST: Duration = Duration::from_millis(5);

/// A rate that all workers of a copy share.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    /// Until when the rate is used up.
    used_until: Mutex<Instant>,
}

impl Pace {
    /// `None` is as fast as it goes.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace { bytes_per_second, used_until: Mutex::new(Instant::now()) }
    }

    /// Waits after `bytes` were copied until there may be more.
    pub(crate) async fn after(&self, bytes: u64) {
        if let Some(rate) = self.bytes_per_second {
            tokio::time::sleep_until(self.reserve(bytes, rate, Instant::now())).await;
        }
    }

    fn reserve(&self, bytes: u64, rate: u64, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now.checked_sub(BURST).map_or(*used_until, |lent| lent.max(*used_until));
        *used_until = from + takes;
        *used_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_rate_and_what_is_not_used_is_not_saved_up() {
        let pace = Pace::new(Some(1000));
        let start = Instant::now();
        let after = |bytes, at: u64| pace.reserve(bytes, 1000, start + Duration::from_millis(at)) - start;
        let begun = after(100, 0);
        assert!(begun <= Duration::from_millis(100) && begun >= Duration::from_millis(95), "{begun:?}");
        assert_eq!(after(100, 0), begun + Duration::from_millis(100), "another worker's bytes come after these");
        assert_eq!(after(100, 10_000), Duration::from_millis(10_000 - 5 + 100), "a pause lends a burst and no more");
    }

    #[tokio::test]
    async fn without_a_rate_nothing_waits() {
        Pace::new(None).after(u64::MAX).await;
    }
}
