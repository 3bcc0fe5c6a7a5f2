//! The last minutes of every target, for the curves of the web page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::metrics::gauge_value;

const EVERY: Duration = Duration::from_secs(2);
/// Ten minutes.
const POINTS_MAX: usize = 300;

/// What is shown of the past; the newest is last.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Past {
    /// `None` where it was not known.
    lag_seconds: VecDeque<Option<f64>>,
    changes_per_second: VecDeque<f64>,
    #[serde(skip)]
    changes: u64,
}

impl Past {
    fn add(&mut self, lag_seconds: Option<f64>, changes: u64, elapsed: Duration) {
        let rate = gauge_value(changes.saturating_sub(self.changes)) / elapsed.as_secs_f64().max(f64::EPSILON);
        push(&mut self.lag_seconds, lag_seconds.map(rounded));
        push(&mut self.changes_per_second, rounded(rate));
        self.changes = changes;
    }
}

/// A millisecond, or a thousandth of a change, is as much as anybody sees.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn push<T>(points: &mut VecDeque<T>, point: T) {
    if points.len() == POINTS_MAX {
        points.pop_front();
    }
    points.push_back(point);
}

/// The past of all targets.
#[derive(Default)]
pub(crate) struct History {
    targets: Mutex<BTreeMap<String, Past>>,
}

/// The answer to `/history`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    every_seconds: f64,
    targets: BTreeMap<String, Past>,
}

impl History {
    /// As it is now.
    pub(crate) fn shown(&self) -> Shown {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Shown { every_seconds: EVERY.as_secs_f64(), targets }
    }

    /// Adds a point to every target that is there: its name, its lag, and what it has been given. Others are forgotten.
    fn add(&self, points: &[(String, Option<f64>, u64)], elapsed: Duration) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|name, _| points.iter().any(|(target, ..)| target == name));
        for (name, lag_seconds, changes) in points {
            // The first time there is nothing to compare the number of changes with.
            let past = targets.entry(name.clone()).or_insert_with(|| Past { changes: *changes, ..Past::default() });
            past.add(*lag_seconds, *changes, elapsed);
        }
    }
}

/// Looks until the shutdown.
pub(super) async fn run(service: Arc<Service>, shutdown: CancellationToken) {
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        let points = service.points();
        service.history.add(&points, looked.elapsed());
        looked = Instant::now();
    }
}

impl Service {
    fn points(&self) -> Vec<(String, Option<f64>, u64)> {
        let head = self.head();
        let point = |target: &super::Target| {
            let (view, _) = target.view(head, |lsn| self.age(lsn));
            (view.name, view.lag_seconds, target.changes())
        };
        self.targets().values().map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_bounded_and_goes_with_its_target() {
        let history = History::default();
        let second = Duration::from_secs(1);
        for changes in 0..POINTS_MAX as u64 + 5 {
            history.add(&[("a".into(), Some(1.0), 10 * changes), ("b".into(), None, 7)], second);
        }
        let shown = history.shown();
        assert_eq!(shown.targets["a"].lag_seconds.len(), POINTS_MAX);
        assert_eq!(shown.targets["a"].changes_per_second.back(), Some(&10.0));
        assert_eq!(shown.targets["b"].changes_per_second.back(), Some(&0.0));
        history.add(&[("b".into(), None, 7)], second);
        assert_eq!(history.shown().targets.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_was_applied_before_the_first_look_is_no_speed() {
        let history = History::default();
        history.add(&[("a".into(), None, 1_000_000)], Duration::from_secs(2));
        let json = serde_json::to_value(history.shown()).unwrap();
        assert_eq!(json["targets"]["a"], serde_json::json!({ "lag_seconds": [null], "changes_per_second": [0.0] }));
    }
}
