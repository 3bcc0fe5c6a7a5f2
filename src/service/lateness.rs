//! How late a target has been lately: from commit on the source to commit on the target, by a high percentile.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bootstrap::Lateness;
use decoder::PgTimestamp;

/// Batches that are remembered; more than a few seconds' are of no use.
const BATCHES_MAX: usize = 2048;
/// One batch of so many is later.
const ONE_OF: usize = 20;

/// The last batches of one target.
#[derive(Debug, Default)]
pub(super) struct Lately {
    /// When each was committed on the target, and how many microseconds after its first transaction on the source.
    batches: Mutex<VecDeque<(Instant, i64)>>,
}

impl Lately {
    /// A batch is committed whose first transaction was committed on the source then, by the source's clock.
    pub(super) fn note(&self, committed: PgTimestamp) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        self.add(Instant::now(), now.saturating_sub(committed.unix_micros()));
    }

    fn add(&self, at: Instant, micros: i64) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() == BATCHES_MAX {
            batches.pop_front();
        }
        batches.push_back((at, micros));
    }

    /// Of the batches that were committed within this time.
    pub(super) fn within(&self, time: Duration, target: &str) -> Lateness {
        let since = Instant::now().checked_sub(time);
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = batches.iter().rev().take_while(|(at, _)| since.is_none_or(|since| *at >= since));
        let mut micros: Vec<i64> = recent.map(|(_, micros)| *micros).collect();
        drop(batches);
        micros.sort_unstable();
        let high = micros.len().saturating_sub(1 + micros.len() / ONE_OF);
        let (micros, least_micros) = (micros.get(high).copied(), micros.first().copied());
        Lateness { target: target.to_owned(), micros, least_micros }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_twenty_may_be_later_and_what_is_old_does_not_count() {
        let lately = Lately::default();
        let now = Instant::now();
        let old = now.checked_sub(Duration::from_secs(60)).unwrap();
        lately.add(old, 1_000_000);
        let none = Lateness { target: "berlin".into(), micros: None, least_micros: None };
        assert_eq!(lately.within(Duration::from_secs(10), "berlin"), none);
        for micros in (1..=40).rev() {
            lately.add(now, micros);
        }
        let seen = lately.within(Duration::from_secs(10), "berlin");
        assert_eq!((seen.micros, seen.least_micros), (Some(38), Some(1)));
        for _ in 0..BATCHES_MAX {
            lately.add(now, -5);
        }
        assert_eq!(lately.within(Duration::from_secs(3600), "berlin").micros, Some(-5), "clocks are apart");
    }
}
