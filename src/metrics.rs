//! Every metric: its name, unit, labels and help, here and nowhere else.
//!
//! Labels are few and fixed: targets and tables of the configuration, kinds, tiers, SQLSTATEs. What happens is counted as
//! it happens, through the recorder; what is so at the time of asking is written by `service/gauges.rs` when it is asked
//! for, so that nothing outlives what it tells of.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::failure::{Failure, Result};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Declares a constant for each metric and the table of all of them.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $unit:ident $labels:tt $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $constant: &str = $name;)*

        /// All metrics, for their descriptions and for tests.
        pub(crate) const ALL: &[(&str, Kind, Unit, &[&str], &str)] =
            &[$(($constant, Kind::$kind, Unit::$unit, &$labels, $help)),*];
    };
}

metrics! {
    SOURCE_UP = Gauge "walcast_source_up" Count [] "1 while changes are streamed from the source";
    SOURCE_CAPTURE_UP = Gauge "walcast_source_capture_up" Count []
        "1 while DDL, roles and grants are captured as they should be";
    SOURCE_CURRENT_LSN = Gauge "walcast_source_current_lsn" Bytes [] "Position where the source's WAL ends";
    SOURCE_RECEIVED_LSN = Gauge "walcast_source_received_lsn" Bytes [] "Position up to which the stream has been read";
    SOURCE_LAG_BYTES = Gauge "walcast_source_lag_bytes" Bytes []
        "WAL between the source's end and what it has decoded for the slot";
    SOURCE_LAG_SECONDS = Gauge "walcast_source_lag_seconds" Seconds []
        "Age of the oldest WAL that the source has not decoded for the slot";
    SOURCE_SPOOL_BYTES = Gauge "walcast_source_spool_bytes" Bytes []
        "Bytes on disk of transactions that have not committed yet";
    SOURCE_SLOT_CONFIRMED_FLUSH_LSN = Gauge "walcast_source_slot_confirmed_flush_lsn" Bytes []
        "Position that the slot knows to be on walcast's disk";
    SOURCE_SLOT_RETAINED_BYTES = Gauge "walcast_source_slot_retained_bytes" Bytes []
        "WAL that the source keeps for the slot";
    SOURCE_SLOT_SAFE_BYTES = Gauge "walcast_source_slot_safe_bytes" Bytes []
        "WAL that may be written before the slot is in danger, where max_slot_wal_keep_size is set";
    SOURCE_SLOT_WAL_STATUS = Gauge "walcast_source_slot_wal_status" Count ["kind"]
        "1 for the slot's wal_status, which is the label kind";
    DECODE_CHANGES = Counter "walcast_decode_changes_total" Count ["kind"] "Changes decoded, by kind";
    DECODE_BYTES = Counter "walcast_decode_bytes_total" Bytes [] "Bytes of pgoutput messages decoded";
    LOG_DURABLE_LSN = Gauge "walcast_log_durable_lsn" Bytes [] "Position up to which the log is fsynced";
    LOG_LAG_BYTES = Gauge "walcast_log_lag_bytes" Bytes [] "WAL between the source's end and what the log has fsynced";
    LOG_LAG_SECONDS = Gauge "walcast_log_lag_seconds" Seconds []
        "Age of the oldest WAL of which the log has not fsynced the changes";
    LOG_SIZE_BYTES = Gauge "walcast_log_size_bytes" Bytes [] "Bytes of all segment files";
    LOG_RETAIN_MAX_BYTES = Gauge "walcast_log_retain_max_bytes" Bytes []
        "Size of the log at which targets that are behind become desync";
    LOG_SEGMENTS = Gauge "walcast_log_segments" Count [] "Number of segment files";
    LOG_FSYNC_DURATION_SECONDS = Histogram "walcast_log_fsync_duration_seconds" Seconds []
        "Duration of the log's fsyncs";
    LOG_DISK_FULL = Gauge "walcast_log_disk_full" Count [] "1 while the stream waits because the log's disk is full";
    LOG_DISK_FREE_BYTES = Gauge "walcast_log_disk_free_bytes" Bytes []
        "Bytes that walcast may still write to the log's disk";
    LOG_DISK_SIZE_BYTES = Gauge "walcast_log_disk_size_bytes" Bytes [] "Size of the log's disk";
    TARGET_UP = Gauge "walcast_target_up" Count ["target"] "1 while there is a session with the target";
    TARGET_STATE = Gauge "walcast_target_state" Count ["target", "kind"]
        "1 for the target's state, which is the label kind";
    TARGET_TIER = Gauge "walcast_target_tier" Count ["target", "tier"]
        "1 for the tier by which the last batch was applied";
    TARGET_APPLIED_LSN = Gauge "walcast_target_applied_lsn" Bytes ["target"] "Position committed on the target";
    TARGET_CHECKPOINT_LSN = Gauge "walcast_target_checkpoint_lsn" Bytes ["target"]
        "Position flushed to disk on the target";
    TARGET_LAG_BYTES = Gauge "walcast_target_lag_bytes" Bytes ["target"]
        "WAL between the source's end and what the target applied";
    TARGET_LAG_SECONDS = Gauge "walcast_target_lag_seconds" Seconds ["target"]
        "Age of the oldest transaction not applied to the target";
    TARGET_FLUSH_LAG_BYTES = Gauge "walcast_target_flush_lag_bytes" Bytes ["target"]
        "WAL between the source's end and what the target has flushed to disk";
    TARGET_FLUSH_LAG_SECONDS = Gauge "walcast_target_flush_lag_seconds" Seconds ["target"]
        "Age of the oldest transaction not flushed to disk on the target";
    TARGET_TABLES_SET_ASIDE = Gauge "walcast_target_tables_set_aside" Count ["target"]
        "Tables that get no changes until they are copied again";
    TARGET_PENDING_GRANTS = Gauge "walcast_target_pending_grants" Count ["target"]
        "Privileges that wait for roles which the target lacks";
    APPLY_CHANGES = Counter "walcast_apply_changes_total" Count ["target", "kind"] "Changes applied, by kind";
    APPLY_TRANSACTIONS = Counter "walcast_apply_transactions_total" Count ["target"] "Source transactions applied";
    APPLY_BATCH_DURATION_SECONDS = Histogram "walcast_apply_batch_duration_seconds" Seconds ["target", "tier"]
        "Duration of batches, by tier";
    APPLY_BATCH_ROWS = Histogram "walcast_apply_batch_rows" Count ["target"] "Changes in a batch";
    APPLY_TIER_FALLBACKS = Counter "walcast_apply_tier_fallbacks_total" Count ["target", "tier"]
        "Batches that fell down to a slower tier, by that tier";
    APPLY_ERRORS = Counter "walcast_apply_errors_total" Count ["target", "sqlstate"] "Errors of applying, by SQLSTATE";
    APPLY_RETRIES = Counter "walcast_apply_retries_total" Count ["target"] "Attempts repeated after a transient error";
    TABLE_CHANGES = Counter "walcast_table_changes_total" Count ["target", "table"]
        "Changes applied, by table; the busiest tables only";
    TABLE_APPLY_SECONDS = Counter "walcast_table_apply_seconds_total" Seconds ["target", "table"]
        "Time of applying, each batch shared out among its tables by changes; the busiest tables only";
    BOOTSTRAP_COPIED_BYTES = Gauge "walcast_bootstrap_copied_bytes" Bytes ["target"]
        "Bytes copied to the target being made";
    BOOTSTRAP_EXPECTED_BYTES = Gauge "walcast_bootstrap_expected_bytes" Bytes ["target"]
        "Bytes to be copied to the target being made";
    BOOTSTRAP_TABLES_DONE = Gauge "walcast_bootstrap_tables_done" Count ["target"]
        "Tables copied to the target being made";
    BOOTSTRAP_TABLES_EXPECTED = Gauge "walcast_bootstrap_tables_expected" Count ["target"]
        "Tables to be copied to the target being made";
    DDL_EVENTS = Counter "walcast_ddl_events_total" Count ["target", "kind"]
        "DDL, role and GRANT events applied, by kind of object";
    DDL_SKIPPED = Counter "walcast_ddl_skipped_total" Count ["target", "kind"]
        "DDL events that targets were not given; kind unsigned: written by somebody else";
    BUILD_INFO = Gauge "walcast_build_info" Count ["version"] "Always 1; the label version is walcast's";
    PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total" Seconds [] "User and system CPU time spent";
    PROCESS_RESIDENT_MEMORY_BYTES = Gauge "process_resident_memory_bytes" Bytes []
        "Resident memory, mapped pages of the log included";
    PROCESS_VIRTUAL_MEMORY_BYTES = Gauge "process_virtual_memory_bytes" Bytes [] "Virtual memory";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" Count [] "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" Count [] "File descriptors that may be open";
    PROCESS_START_TIME_SECONDS = Gauge "process_start_time_seconds" Seconds []
        "Start of the process since the Unix epoch";
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

/// A recorder with the buckets of every histogram.
pub(crate) fn builder() -> Result<PrometheusBuilder> {
    let failed = |e| Failure::because("could not set the metrics' buckets", &e);
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(APPLY_BATCH_ROWS.to_owned()), &ROWS_BUCKETS))
        .map_err(failed)
}

fn describe() {
    for (name, kind, unit, _, help) in ALL {
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
        for (name, kind, .., help) in ALL {
            assert!(name.starts_with("walcast_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
        }
    }

    /// Names of metrics in a text, those of a histogram's series as the histogram's.
    fn names_in(text: &str) -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| word.starts_with("walcast_") || word.starts_with("process_"));
        let histogram = |name: &str| {
            let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            of.filter(|of| ALL.iter().any(|(known, kind, ..)| known == of && *kind == Kind::Histogram))
                .map(str::to_owned)
        };
        names.map(|name| histogram(name).unwrap_or_else(|| name.to_owned())).collect()
    }

    #[test]
    fn dashboard_and_alerts_use_metrics_that_exist() {
        let known = names_in(&ALL.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(" "));
        for text in [include_str!("../grafana/walcast.json"), include_str!("../grafana/alerts.yml")] {
            let unknown: Vec<_> = names_in(text).difference(&known).cloned().collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
        assert_eq!(names_in("max(walcast_nothing)").difference(&known).count(), 1);
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
