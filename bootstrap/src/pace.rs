//! How fast rows are copied at most, so that what else the servers do is not slowed down by it: what the user says, or
//! what the [`Governor`] does, if that is less.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Options;
use crate::governor::{Governor, TICK};

/// What was not used of the rate is lent for no longer than this: a burst is what others feel.
const BURST: Duration = Duration::from_millis(5);

/// A rate that all workers of a copy share.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    governor: Option<Arc<Governor>>,
    /// Until when the rate is used up.
    used_until: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(options: &Options) -> Pace {
        Pace::of(options.max_rate, options.governor.clone())
    }

    fn of(bytes_per_second: Option<u64>, governor: Option<Arc<Governor>>) -> Pace {
        Pace { bytes_per_second, governor, used_until: Mutex::new(Instant::now()) }
    }

    /// Waits after `bytes` were copied until there may be more.
    pub(crate) async fn after(&self, bytes: u64) {
        let governed = self.governor.as_ref().map_or(f64::INFINITY, |governor| {
            governor.copied(bytes);
            governor.rate()
        });
        let rate = self.bytes_per_second.map_or(governed, |limit| governed.min(limit.max(1) as f64));
        if rate.is_finite() {
            tokio::time::sleep_until(self.reserve(bytes, rate, Instant::now())).await;
        }
    }

    /// A governed rate is another one a tick later: nothing is put off for longer than that, or what is large and comes
    /// while the copy rests would hold up all workers.
    fn reserve(&self, bytes: u64, rate: f64, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / rate);
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now.checked_sub(BURST).map_or(*used_until, |lent| lent.max(*used_until));
        *used_until = from + takes;
        if self.bytes_per_second.is_none_or(|limit| rate < limit as f64) {
            *used_until = (*used_until).min(now + TICK);
        }
        *used_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_rate_and_what_is_not_used_is_not_saved_up() {
        let pace = Pace::of(Some(1000), None);
        let start = Instant::now();
        let after = |bytes, at: u64| pace.reserve(bytes, 1000.0, start + Duration::from_millis(at)) - start;
        let begun = after(100, 0);
        assert!(begun <= Duration::from_millis(100) && begun >= Duration::from_millis(95), "{begun:?}");
        assert_eq!(after(100, 0), begun + Duration::from_millis(100), "another worker's bytes come after these");
        assert_eq!(after(100, 10_000), Duration::from_millis(10_000 - 5 + 100), "a pause lends a burst and no more");
    }

    #[tokio::test]
    async fn without_a_rate_nothing_waits() {
        Pace::of(None, None).after(u64::MAX).await;
    }
}
