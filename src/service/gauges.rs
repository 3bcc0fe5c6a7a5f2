//! Gauges and the stream's counters, brought up to date when they are looked at.

use metrics::{counter, gauge};
use segment_log::Log;

use super::Service;
use super::target::Target;
use crate::metrics as names;
use crate::metrics::gauge_value;
use crate::status;

const TARGET_STATES: [&str; 7] = ["new", "bootstrapping", "catching_up", "streaming", "paused", "stopped", "desync"];
const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

impl Service {
    /// Sets every gauge to what is known now.
    pub(crate) fn update_gauges(&self) {
        self.source_gauges();
        self.log().map_or_else(|| (), log_gauges);
        let head = self.head();
        for target in self.targets().values() {
            let (mut view, connected) = target.view(head);
            self.show_copying(&mut view);
            target_gauges(target, &view, connected);
        }
    }

    fn source_gauges(&self) {
        let stream = &self.stream;
        let up = self.source_view().state == "streaming";
        gauge!(names::SOURCE_UP).set(truth(up));
        gauge!(names::LOG_DISK_FULL).set(truth(stream.disk_full()));
        if let Some(lsn) = stream.received_lsn() {
            gauge!(names::SOURCE_RECEIVED_LSN).set(gauge_value(lsn.as_u64()));
        }
        counter!(names::DECODE_BYTES).absolute(stream.decoded_bytes());
        for (kind, count) in stream.changes() {
            counter!(names::DECODE_CHANGES, "kind" => kind).absolute(count);
        }
        counter!(names::DDL_SKIPPED, "kind" => "unsigned").absolute(stream.dropped_messages());
        let Some(slot) = self.source.borrow().slot.clone() else { return };
        if let Some(bytes) = slot.retained_bytes {
            gauge!(names::SOURCE_SLOT_RETAINED_BYTES).set(gauge_value(bytes));
        }
        for status in WAL_STATUSES {
            let is = slot.wal_status.as_deref() == Some(status);
            gauge!(names::SOURCE_SLOT_WAL_STATUS, "kind" => status).set(truth(is));
        }
    }
}

fn log_gauges(log: &Log) {
    let positions = log.positions();
    gauge!(names::LOG_DURABLE_LSN).set(gauge_value(positions.durable.lsn().as_u64()));
    gauge!(names::LOG_SIZE_BYTES).set(gauge_value(positions.bytes));
    gauge!(names::LOG_SEGMENTS).set(gauge_value(positions.segments));
}

fn target_gauges(target: &Target, view: &status::Target, connected: bool) {
    let name = target.name().to_owned();
    let status = target.watch().borrow().clone();
    gauge!(names::TARGET_UP, "target" => name.clone()).set(truth(connected));
    for state in TARGET_STATES {
        gauge!(names::TARGET_STATE, "target" => name.clone(), "kind" => state).set(truth(view.state == state));
    }
    let optional = [
        (names::TARGET_APPLIED_LSN, status.applied_lsn.map(|lsn| gauge_value(lsn.as_u64()))),
        (names::TARGET_CHECKPOINT_LSN, status.checkpoint_lsn.map(|lsn| gauge_value(lsn.as_u64()))),
        (names::TARGET_LAG_BYTES, view.lag_bytes.map(gauge_value)),
        (names::TARGET_LAG_SECONDS, view.lag_seconds),
    ];
    for (metric, value) in optional {
        if let Some(value) = value {
            gauge!(metric, "target" => name.clone()).set(value);
        }
    }
}

/// How far the copy of a target is.
pub(super) fn bootstrap(name: &str, progress: status::Progress) {
    let gauges = [
        (names::BOOTSTRAP_COPIED_BYTES, progress.copied_bytes),
        (names::BOOTSTRAP_EXPECTED_BYTES, progress.expected_bytes),
        (names::BOOTSTRAP_TABLES_DONE, progress.tables_done),
    ];
    for (metric, value) in gauges {
        gauge!(metric, "target" => name.to_owned()).set(gauge_value(value));
    }
}

/// Gauges stay as they were last set: a target that was forgotten must not look alive for ever.
pub(super) fn target_is_gone(name: &str) {
    let name = name.to_owned();
    gauge!(names::TARGET_UP, "target" => name.clone()).set(0.0);
    for state in TARGET_STATES {
        gauge!(names::TARGET_STATE, "target" => name.clone(), "kind" => state).set(0.0);
    }
    for metric in [names::TARGET_LAG_BYTES, names::TARGET_LAG_SECONDS] {
        gauge!(metric, "target" => name.clone()).set(f64::NAN);
    }
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_gone_is_not_up() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            gauge!(names::TARGET_UP, "target" => "a").set(1.0);
            gauge!(names::TARGET_STATE, "target" => "a", "kind" => "streaming").set(1.0);
            target_is_gone("a");
        });
        let text = handle.render();
        for line in ["walcast_target_up{target=\"a\"} 0", "walcast_target_lag_seconds{target=\"a\"} NaN"] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.lines().any(|line| line.ends_with(" 1")), "{text}");
    }
}
