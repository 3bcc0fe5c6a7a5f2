//! Every metric: its name, unit and help, here and nowhere else.
//!
//! Labels are few and fixed: targets and tables of the configuration, kinds, tiers, SQLSTATEs.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::failure::{Failure, Result};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Declares a constant for each metric and the table of all of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $unit:ident $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $constant: &str = concat!("walcast_", $name);)*

        /// All metrics, for their descriptions and for tests.
        const ALL: &[(&str, Kind, Unit, &str)] = &[$(($constant, Kind::$kind, Unit::$unit, $help)),*];
    };
}

metrics! {
    SOURCE_RECEIVED_LSN = Gauge "source_received_lsn" Bytes "Position up to which the stream has been read";
    SOURCE_SLOT_RETAINED_BYTES = Gauge "source_slot_retained_bytes" Bytes "WAL that the source keeps for the slot";
    SOURCE_SLOT_WAL_STATUS = Gauge "source_slot_wal_status" Count "1 for the slot's wal_status, which is the label kind";
    SOURCE_UP = Gauge "source_up" Count "1 while changes are streamed from the source";
    DECODE_CHANGES = Counter "decode_changes_total" Count "Changes decoded, by kind";
    DECODE_BYTES = Counter "decode_bytes_total" Bytes "Bytes of pgoutput messages decoded";
    LOG_DURABLE_LSN = Gauge "log_durable_lsn" Bytes "Position up to which the log is fsynced";
    LOG_SIZE_BYTES = Gauge "log_size_bytes" Bytes "Bytes of all segment files";
    LOG_SEGMENTS = Gauge "log_segments" Count "Number of segment files";
    LOG_FSYNC_DURATION_SECONDS = Histogram "log_fsync_duration_seconds" Seconds "Duration of the log's fsyncs";
    LOG_DISK_FULL = Gauge "log_disk_full" Count "1 while the stream waits because the log's disk is full";
    TARGET_UP = Gauge "target_up" Count "1 while there is a session with the target";
    TARGET_STATE = Gauge "target_state" Count "1 for the target's state, which is the label kind";
    TARGET_APPLIED_LSN = Gauge "target_applied_lsn" Bytes "Position committed on the target";
    TARGET_CHECKPOINT_LSN = Gauge "target_checkpoint_lsn" Bytes "Position flushed to disk on the target";
    TARGET_LAG_BYTES = Gauge "target_lag_bytes" Bytes "WAL between the source's end and what the target applied";
    TARGET_LAG_SECONDS = Gauge "target_lag_seconds" Seconds "Age of the oldest transaction not applied to the target";
    APPLY_CHANGES = Counter "apply_changes_total" Count "Changes applied, by kind";
    APPLY_TRANSACTIONS = Counter "apply_transactions_total" Count "Source transactions applied";
    APPLY_BATCH_DURATION_SECONDS = Histogram "apply_batch_duration_seconds" Seconds "Duration of batches, by tier";
    APPLY_BATCH_ROWS = Histogram "apply_batch_rows" Count "Changes in a batch";
    APPLY_TIER_FALLBACKS = Counter "apply_tier_fallbacks_total" Count "Batches that fell down to a slower tier";
    APPLY_ERRORS = Counter "apply_errors_total" Count "Errors of applying, by SQLSTATE";
    APPLY_RETRIES = Counter "apply_retries_total" Count "Attempts repeated after a transient error";
    TABLE_CHANGES = Counter "table_changes_total" Count "Changes applied, by table";
    BOOTSTRAP_COPIED_BYTES = Gauge "bootstrap_copied_bytes" Bytes "Bytes copied to the target being made";
    BOOTSTRAP_EXPECTED_BYTES = Gauge "bootstrap_expected_bytes" Bytes "Bytes to be copied to the target being made";
    BOOTSTRAP_TABLES_DONE = Gauge "bootstrap_tables_done" Count "Tables copied to the target being made";
    DDL_EVENTS = Counter "ddl_events_total" Count "DDL, role and GRANT events applied, by kind of object";
    DDL_SKIPPED = Counter "ddl_skipped_total" Count "DDL events that targets were not given; unsigned: written by somebody else";
}

/// From a local fsync to a batch that waits for a slow disk.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// From a lone transaction to the largest batch in use.
const ROWS_BUCKETS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, 100_000.0];

/// Installs the recorder of this process. Its `run_upkeep` has to be called every few seconds. There is no idle timeout on
/// purpose: with one, updates through cached handles are lost after it.
///
/// # Errors
/// There is a recorder already.
pub(crate) fn install() -> Result<PrometheusHandle> {
    let handle =
        builder()?.install_recorder().map_err(|e| Failure::because("could not install the metrics recorder", &e))?;
    describe();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder> {
    let failed = |e| Failure::because("could not set the metrics' buckets", &e);
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(APPLY_BATCH_ROWS.to_owned()), &ROWS_BUCKETS))
        .map_err(failed)
}

fn describe() {
    for (name, kind, unit, help) in ALL {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

/// A position as a gauge's value. Beyond 8 PiB of WAL the last bytes are rounded off.
#[allow(clippy::cast_precision_loss, reason = "gauges are floating point; the loss is documented")]
pub(crate) fn gauge_value(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_and_are_unique() {
        let mut names: Vec<&str> = ALL.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for (name, kind, _, help) in ALL {
            assert!(name.starts_with("walcast_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        }
    }

    #[test]
    fn histograms_have_buckets_and_names_stay_as_written() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::counter!(APPLY_CHANGES, "target" => "a", "kind" => "insert").increment(3);
            metrics::histogram!(APPLY_BATCH_DURATION_SECONDS, "tier" => "ordered").record(0.002);
            metrics::histogram!(APPLY_BATCH_ROWS, "target" => "a").record(7.0);
        });
        let text = handle.render();
        for line in [
            "# TYPE walcast_apply_changes_total counter",
            "walcast_apply_changes_total{target=\"a\",kind=\"insert\"} 3",
            "walcast_apply_batch_duration_seconds_bucket{tier=\"ordered\",le=\"0.0025\"} 1",
            "walcast_apply_batch_rows_bucket{target=\"a\",le=\"10\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
