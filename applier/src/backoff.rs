//! Waiting between attempts: exponential, bounded, with jitter so that many targets do not come back in step.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(30);

/// The delays of one target; back at the start after each success.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next attempt: between half and all of 50 ms, 100 ms, … 30 s.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        whole / 2 + (whole / 2).mul_f64(random_fraction())
    }
}

/// In 0..1. A hasher's random keys are random enough to spread reconnections.
fn random_fraction() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0u8) >> 32).unwrap_or(0);
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_half_a_minute_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST, "{delays:?}");
        assert!(delays[3] >= FIRST * 4 && delays[3] <= FIRST * 8, "{delays:?}");
        assert!(delays[20..].iter().all(|d| *d >= LAST / 2 && *d <= LAST), "{delays:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn delays_differ_between_tasks() {
        let all: std::collections::HashSet<Duration> = (0..8).map(|_| Backoff::default().next()).collect();
        assert!(all.len() > 1);
    }
}
