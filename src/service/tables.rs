//! What was applied to which table of one target. The busiest tables are shown, so that the number of series is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tables that are counted at most; those that come later are in the target's total only.
const COUNTED_MAX: usize = 10_000;

/// What was applied to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// Changes.
    pub changes: u64,
    /// Its share of the time that its batches took.
    pub time: Duration,
}

/// The tables of a target.
#[derive(Default)]
pub(crate) struct Tables {
    counts: Mutex<HashMap<String, Count>>,
}

impl Tables {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a batch. What its tables take is not measured one by one: the time is shared out by changes.
    pub(crate) fn add(&self, tables: &[(&str, u64)], duration: Duration) {
        let total: u64 = tables.iter().map(|(_, changes)| changes).sum();
        let mut counts = self.counts();
        for (table, changes) in tables {
            let time = duration.mul_f64(share(*changes, total));
            if let Some(count) = counts.get_mut(*table) {
                (count.changes, count.time) = (count.changes + changes, count.time + time);
            } else if counts.len() < COUNTED_MAX {
                counts.insert((*table).to_owned(), Count { changes: *changes, time });
            }
        }
    }

    /// At most so many tables, those with most changes, in the order of their names.
    pub(crate) fn busiest(&self, most: usize) -> Vec<(String, Count)> {
        let counts = self.counts();
        let mut all: Vec<_> = counts.iter().collect();
        if let Some(last) = most.checked_sub(1).filter(|last| *last < all.len()) {
            // Names decide between equals, or the same tables would come and go.
            all.select_nth_unstable_by(last, |a, b| b.1.changes.cmp(&a.1.changes).then(a.0.cmp(b.0)));
        }
        all.truncate(most);
        all.sort_unstable_by_key(|(table, _)| *table);
        all.into_iter().map(|(table, count)| (table.clone(), *count)).collect()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share of a time that is an estimate")]
fn share(changes: u64, total: u64) -> f64 {
    changes as f64 / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_are_shown_and_time_is_shared_out() {
        let tables = Tables::default();
        tables.add(&[("b", 3), ("a", 1)], Duration::from_secs(8));
        tables.add(&[("c", 2), ("a", 0)], Duration::from_secs(1));
        let busiest = tables.busiest(2);
        let expected = [
            ("b".to_owned(), Count { changes: 3, time: Duration::from_secs(6) }),
            ("c".to_owned(), Count { changes: 2, time: Duration::from_secs(1) }),
        ];
        assert_eq!(busiest, expected);
        assert_eq!(tables.busiest(9).len(), 3);
        assert!(tables.busiest(0).is_empty());
    }

    #[test]
    fn the_number_of_tables_is_bounded() {
        let tables = Tables::default();
        for table in 0..COUNTED_MAX + 5 {
            tables.add(&[(&table.to_string(), 1)], Duration::ZERO);
        }
        assert_eq!(tables.busiest(usize::MAX).len(), COUNTED_MAX);
        tables.add(&[("0", 1)], Duration::ZERO);
        assert_eq!(tables.busiest(1)[0].0, "0");
    }
}
