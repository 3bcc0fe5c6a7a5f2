//! What is shown. In queries, `{}` stands for the service, `{T}` for its chosen targets, `{,…}` for the
//! service with further matchers, and `{,…,T}` for its chosen targets with further matchers.

use crate::panel::{Kind, Panel, Step};
use Kind::{BarGauge, Stacked, Stat, Table, TimeSeries};

/// A row with its heading.
pub(crate) struct Row {
    /// Its number.
    pub(crate) id: u32,
    pub(crate) title: &'static str,
    pub(crate) panels: Vec<Panel>,
}

/// Lag in seconds at which it is worth a look, and at which it is bad.
const LAG: [Step; 2] = [(5.0, "yellow"), (60.0, "red")];
/// Something that there should be none of.
const NONE: [Step; 1] = [(1.0, "red")];
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// WAL that the source keeps for the slot.
const RETAINED: [Step; 2] = [(4.0 * GIB, "yellow"), (16.0 * GIB, "red")];

/// All rows, from top to bottom.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row { id: 100, title: "Overview", panels: overview() },
        Row { id: 200, title: "Stages: source → log → target", panels: stages() },
        Row { id: 300, title: "Targets", panels: targets() },
        Row { id: 400, title: "Tables", panels: tables() },
        Row { id: 500, title: "Copies", panels: copies() },
        Row { id: 600, title: "DDL, roles, grants", panels: ddl() },
        Row { id: 700, title: "Process", panels: process() },
    ]
}

/// Below this value is so great a part of what a histogram counted.
fn quantile(part: &str, labels: &str, buckets: &str) -> String {
    format!("histogram_quantile({part}, sum by ({labels}) (rate({buckets}[$__rate_interval])))")
}

fn overview() -> Vec<Panel> {
    vec![
        Panel::new(
            101,
            Stat,
            "Worst lag",
            "Age of the oldest transaction that some target has not applied. The row “Stages” shows which stage \
             is slow, “Targets” which target.",
        )
        .unit("s")
        .query("max(walcast_target_lag_seconds{T})", "")
        .steps(&LAG),
        Panel::new(
            102,
            Stat,
            "Targets that need you",
            "Stopped by an error, or desync: the log no longer holds what they need. `walcast status` names the \
             error; docs/operations.md says what to do.",
        )
        .query(r#"sum(walcast_target_state{,kind=~"stopped|desync",T})"#, "")
        .steps(&NONE),
        Panel::new(
            103,
            Stat,
            "Source",
            "Whether changes are streamed. When it is down, look whether the source runs and `walcast status` \
             for the error; targets still get what the log holds.",
        )
        .query("min(walcast_source_up{})", "")
        .words(&[(0, "down"), (1, "streaming")])
        .steps(&[(0.0, "red"), (1.0, "green")]),
        Panel::new(
            104,
            Stat,
            "Changes applied",
            "Row changes per second, all targets together. Compare with “Changes decoded”: with N targets it \
             should be N times as much.",
        )
        .unit("ops")
        .query("sum(rate(walcast_apply_changes_total{T}[$__rate_interval]))", ""),
        Panel::new(
            105,
            Stat,
            "WAL kept by the slot",
            "The source cannot remove this WAL. It grows while walcast is down, while its disk is full, and \
             behind transactions that stay open on the source: look for those in pg_stat_activity.",
        )
        .unit("bytes")
        .query("max(walcast_source_slot_retained_bytes{})", "")
        .steps(&RETAINED),
        Panel::new(
            106,
            Stat,
            "Free disk of the log",
            "The log keeps what the slowest target needs. Let that target catch up or remove it, or enlarge the \
             disk; at zero walcast stops reading and the source keeps the WAL.",
        )
        .unit("percentunit")
        .query("min(walcast_log_disk_free_bytes{} / walcast_log_disk_size_bytes{})", "")
        .steps(&[(0.0, "red"), (0.1, "yellow"), (0.2, "green")])
        .max(1.0),
        Panel::new(
            107,
            Table,
            "Targets",
            "State, lag and tier of each target. `stopped` and `desync` need a person, `paused` was a person; a \
             target that stays `catching_up` is slower than the source.",
        )
        .query("max by (target, kind) (walcast_target_state{T} == 1)", "")
        .query("max by (target) (walcast_target_lag_seconds{T})", "")
        .query("max by (target) (walcast_target_lag_bytes{T})", "")
        .query("max by (target, tier) (walcast_target_tier{T} == 1)", "")
        .steps(&LAG)
        .size(14, 7),
        Panel::new(
            108,
            TimeSeries,
            "Errors",
            "Errors of targets per minute, those included that are tried again. A few after a restart of a \
             target are normal; the row “Targets” has them by SQLSTATE.",
        )
        .query("sum by (target) (increase(walcast_apply_errors_total{T}[1m]))", "{{target}}")
        .size(10, 7),
    ]
}

fn stages() -> Vec<Panel> {
    vec![
        Panel::new(
            201,
            TimeSeries,
            "Lag by stage",
            "The first curve that is high is the slow stage. Decoded: the source's walsender. On disk: the disk \
             of the log. Applied: the target, its indexes, its locks. Flushed: the target's disk.",
        )
        .unit("s")
        .query("max(walcast_source_lag_seconds{})", "decoded")
        .query("max(walcast_log_lag_seconds{})", "on disk")
        .query("max(walcast_target_lag_seconds{T})", "applied")
        .query("max(walcast_target_flush_lag_seconds{T})", "flushed")
        .steps(&LAG),
        Panel::new(
            202,
            TimeSeries,
            "WAL behind, by stage",
            "The same in bytes of the source's WAL, which also counts what is not replicated. A source that is \
             idle for a while may show some bytes.",
        )
        .unit("bytes")
        .query("max(walcast_source_lag_bytes{})", "decoded")
        .query("max(walcast_log_lag_bytes{})", "on disk")
        .query("max(walcast_target_lag_bytes{T})", "applied")
        .query("max(walcast_target_flush_lag_bytes{T})", "flushed"),
        Panel::new(
            203,
            Stacked,
            "Changes decoded",
            "What the source sends per second, by kind. A step up here explains lag everywhere else: look for a \
             bulk job on the source.",
        )
        .unit("ops")
        .query("sum by (kind) (rate(walcast_decode_changes_total{}[$__rate_interval]))", "{{kind}}")
        .size(8, 8),
        Panel::new(
            204,
            TimeSeries,
            "Bytes decoded",
            "Bytes of the stream per second; compare with what the network between source and walcast can carry.",
        )
        .unit("Bps")
        .query("sum(rate(walcast_decode_bytes_total{}[$__rate_interval]))", "decoded")
        .size(8, 8),
        Panel::new(
            205,
            TimeSeries,
            "fsync of the log",
            "Until a change is on the log's disk the slot does not move. Above 100 ms the disk is overloaded or \
             shared with somebody: give the log one of its own.",
        )
        .unit("s")
        .query(&quantile("0.5", "le", "walcast_log_fsync_duration_seconds_bucket{}"), "median")
        .query(&quantile("0.99", "le", "walcast_log_fsync_duration_seconds_bucket{}"), "99 %")
        .steps(&[(0.1, "red")])
        .size(8, 8),
        Panel::new(
            206,
            TimeSeries,
            "Slot",
            "WAL kept for the slot, and what may still be written before it is in danger, where \
             max_slot_wal_keep_size is set on the source. Raise that before it reaches zero.",
        )
        .unit("bytes")
        .query("max(walcast_source_slot_retained_bytes{})", "kept")
        .query("min(walcast_source_slot_safe_bytes{})", "may still be written")
        .size(8, 8),
        Panel::new(
            207,
            TimeSeries,
            "wal_status of the slot",
            "1 for what it is: extended is beyond max_wal_size, unreserved is about to be lost, and lost means \
             that every target has to be copied again.",
        )
        .query(r#"max by (kind) (walcast_source_slot_wal_status{,kind!="reserved"})"#, "{{kind}}")
        .steps(&NONE)
        .size(8, 8),
        Panel::new(
            208,
            TimeSeries,
            "Log and its disk",
            "The log is trimmed behind the slowest target. Beyond retain_max it goes whoever needs it, and a \
             target that does becomes desync.",
        )
        .unit("bytes")
        .query("max(walcast_log_size_bytes{})", "log")
        .query("max(walcast_log_retain_max_bytes{})", "retain_max")
        .query("min(walcast_log_disk_free_bytes{})", "free on its disk")
        .size(8, 8),
        Panel::new(
            209,
            TimeSeries,
            "Transactions in progress",
            "Bytes on walcast's disk of transactions that the source has not committed yet. The disk holds each \
             twice when it commits: split bulk jobs that are too large.",
        )
        .unit("bytes")
        .query("max(walcast_source_spool_bytes{})", "on disk")
        .size(8, 8),
        Panel::new(
            210,
            TimeSeries,
            "Segments of the log",
            "Number of the log's files. It goes up while a target is behind, paused or stopped, and down once \
             that one has caught up.",
        )
        .query("max(walcast_log_segments{})", "segments")
        .size(8, 8),
        Panel::new(
            211,
            Stat,
            "Log's disk is full",
            "While it is, walcast waits, the connection stays and nothing is lost, but the source keeps WAL. \
             Make room, or let the slowest target catch up or go.",
        )
        .query("max(walcast_log_disk_full{})", "")
        .words(&[(0, "no"), (1, "full")])
        .steps(&NONE)
        .size(8, 8),
    ]
}

fn targets() -> Vec<Panel> {
    vec![
        Panel::new(
            301,
            TimeSeries,
            "Lag",
            "Age of the oldest transaction that the target has not applied. If it grows steadily, the target is \
             slower than the source: see its tier, the duration of batches, and locks on the target.",
        )
        .unit("s")
        .query("max by (target) (walcast_target_lag_seconds{T})", "{{target}}")
        .steps(&LAG),
        Panel::new(
            302,
            TimeSeries,
            "WAL behind",
            "WAL of the source that the target has not applied. The log has to keep it; retain_max is the limit.",
        )
        .unit("bytes")
        .query("max by (target) (walcast_target_lag_bytes{T})", "{{target}}"),
        Panel::new(
            303,
            TimeSeries,
            "Changes applied",
            "Row changes per second. Flat at a high lag is the target's limit: missing indexes of a replica \
             identity, triggers that fire in a replica session, or a slow disk.",
        )
        .unit("ops")
        .query("sum by (target) (rate(walcast_apply_changes_total{T}[$__rate_interval]))", "{{target}}")
        .size(8, 8),
        Panel::new(
            304,
            TimeSeries,
            "Transactions applied",
            "Transactions of the source per second; many of them share one transaction of the target.",
        )
        .unit("ops")
        .query("sum by (target) (rate(walcast_apply_transactions_total{T}[$__rate_interval]))", "{{target}}")
        .size(8, 8),
        Panel::new(
            305,
            TimeSeries,
            "Rows of a batch, on average",
            "Small at the head of the log, up to batch_max_rows behind it. Small and behind means many \
             statements for few rows: see the tier.",
        )
        .query(
            "sum by (target) (rate(walcast_apply_batch_rows_sum{T}[$__rate_interval])) \
                 / sum by (target) (rate(walcast_apply_batch_rows_count{T}[$__rate_interval]))",
            "{{target}}",
        )
        .size(8, 8),
        Panel::new(
            306,
            TimeSeries,
            "Duration of a batch, 99 %",
            "From the first byte sent to the reply to COMMIT. A jump without more rows is the target: locks, \
             checkpoints, vacuum, network.",
        )
        .unit("s")
        .query(
            &quantile("0.99", "target, tier, le", "walcast_apply_batch_duration_seconds_bucket{T}"),
            "{{target}} {{tier}}",
        )
        .size(8, 8),
        Panel::new(
            307,
            TimeSeries,
            "Tier",
            "1 for the way the last batch was applied. ordered is right for small batches; under load net is \
             faster, and a table without a primary key, or with another unique index, keeps out of it. single \
             looks for the change that fails.",
        )
        .query("max by (target, tier) (walcast_target_tier{T})", "{{target}} {{tier}}")
        .size(8, 8),
        Panel::new(
            308,
            TimeSeries,
            "Batches that fell to a slower tier",
            "Per minute. Now and then is harmless; all the time costs speed: the service's log names the error \
             that made them fall.",
        )
        .query("sum by (target, tier) (increase(walcast_apply_tier_fallbacks_total{T}[1m]))", "{{target}} to {{tier}}")
        .size(8, 8),
        Panel::new(
            309,
            TimeSeries,
            "Errors by SQLSTATE",
            "Per minute. 23 is a constraint: somebody writes to the target, or it was not equal. 42 is the \
             schema or a privilege. 08 and 57 are connections and tried again, 40 are conflicts with others and \
             tried again.",
        )
        .query("sum by (target, sqlstate) (increase(walcast_apply_errors_total{T}[1m]))", "{{target}} {{sqlstate}}")
        .size(8, 8),
        Panel::new(
            310,
            TimeSeries,
            "Attempts after transient errors",
            "Per minute. The target cannot be reached, is starting, or has no connection left; walcast goes on \
             by itself once it can.",
        )
        .query("sum by (target) (increase(walcast_apply_retries_total{T}[1m]))", "{{target}}")
        .size(8, 8),
        Panel::new(
            311,
            TimeSeries,
            "Session",
            "1 while there is a session with the target. 0 with state catching_up: it cannot be reached; \
             `walcast status` says why.",
        )
        .query("min by (target) (walcast_target_up{T})", "{{target}}")
        .size(8, 8),
    ]
}

fn tables() -> Vec<Panel> {
    vec![
        Panel::new(
            401,
            Stacked,
            "Changes by table",
            "The ten busiest tables, changes per second. One that dominates is where an index, or another way of \
             writing on the source, pays.",
        )
        .unit("ops")
        .query(
            "topk(10, sum by (target, table) (rate(walcast_table_changes_total{T}[$__rate_interval])))",
            "{{target}} {{table}}",
        ),
        Panel::new(
            402,
            Stacked,
            "Time of applying, by table",
            "Seconds per second of each target's one session; 1 is a target at its limit. A batch's time is \
             shared out among its tables by changes.",
        )
        .unit("s")
        .query(
            "topk(10, sum by (target, table) (rate(walcast_table_apply_seconds_total{T}[$__rate_interval])))",
            "{{target}} {{table}}",
        ),
        Panel::new(
            403,
            TimeSeries,
            "Tables set aside",
            "They get no changes until they are copied again, which walcast does by itself. If it stays, \
             `walcast status` says what is in the way.",
        )
        .query("sum by (target) (walcast_target_tables_set_aside{T})", "{{target}}")
        .steps(&NONE)
        .size(24, 6),
    ]
}

fn copies() -> Vec<Panel> {
    vec![
        Panel::new(
            501,
            BarGauge,
            "Copied",
            "Part of the bytes that are on the target. If it stands still, look at the command that copies; run \
             again, it goes on with what is left.",
        )
        .unit("percentunit")
        .query("walcast_bootstrap_copied_bytes{T} / clamp_min(walcast_bootstrap_expected_bytes{T}, 1)", "{{target}}")
        .max(1.0)
        .size(8, 6),
        Panel::new(
            502,
            BarGauge,
            "Tables copied",
            "Part of the tables that are whole. Large tables come first, so that it moves late.",
        )
        .unit("percentunit")
        .query("walcast_bootstrap_tables_done{T} / clamp_min(walcast_bootstrap_tables_expected{T}, 1)", "{{target}}")
        .max(1.0)
        .size(8, 6),
        Panel::new(
            503,
            TimeSeries,
            "Speed of copying",
            "Bytes per second. `--jobs` copies more tables at a time, `--max-rate` leaves the servers to others.",
        )
        .unit("Bps")
        .query("clamp_min(deriv(walcast_bootstrap_copied_bytes{T}[1m]), 0)", "{{target}}")
        .size(8, 6),
    ]
}

fn ddl() -> Vec<Panel> {
    vec![
        Panel::new(
            601,
            TimeSeries,
            "Events applied",
            "DDL, roles and grants per minute, by kind of object. Each is applied in its place among the rows.",
        )
        .query("sum by (target, kind) (increase(walcast_ddl_events_total{T}[1m]))", "{{target}} {{kind}}"),
        Panel::new(
            602,
            TimeSeries,
            "Events not applied",
            "Per minute. refused: the target cannot be given it, the service's log names object and reason. \
             unsigned: somebody writes messages with walcast's prefix on the source; find out who.",
        )
        .query("sum by (target, kind) (increase(walcast_ddl_skipped_total{}[1m]))", "{{target}} {{kind}}")
        .steps(&NONE),
        Panel::new(
            603,
            Stat,
            "Capture on the source",
            "Broken: event triggers are missing or switched off. DDL is then found by comparing, once a second; \
             `walcast setup` repairs it.",
        )
        .query("min(walcast_source_capture_up{})", "")
        .words(&[(0, "broken"), (1, "as it should be")])
        .steps(&[(0.0, "red"), (1.0, "green")])
        .size(6, 6),
        Panel::new(
            604,
            TimeSeries,
            "Privileges that wait for a role",
            "Grants of roles that the target lacks. Make the role there, or let walcast replicate roles: the \
             grants follow within seconds.",
        )
        .query("sum by (target) (walcast_target_pending_grants{T})", "{{target}}")
        .size(18, 6),
    ]
}

fn process() -> Vec<Panel> {
    vec![
        Panel::new(
            701,
            TimeSeries,
            "CPU",
            "Cores in use. One target at its limit takes about one core of the target, and less than that here.",
        )
        .unit("short")
        .query(
            "rate(process_cpu_seconds_total{}[$__rate_interval]) and on (instance) walcast_build_info{}",
            "{{instance}}",
        )
        .size(8, 7),
        Panel::new(
            702,
            TimeSeries,
            "Memory",
            "Resident memory. Pages of the log that are mapped count, and the kernel takes them back when it \
             needs them.",
        )
        .unit("bytes")
        .query("process_resident_memory_bytes{} and on (instance) walcast_build_info{}", "{{instance}}")
        .size(8, 7),
        Panel::new(
            703,
            TimeSeries,
            "Open files",
            "Each transaction in progress and each segment in use takes one. Near the limit, raise LimitNOFILE \
             of the service.",
        )
        .query("process_open_fds{} and on (instance) walcast_build_info{}", "open")
        .query("process_max_fds{} and on (instance) walcast_build_info{}", "limit")
        .size(8, 7),
        Panel::new(
            704,
            Stat,
            "Running for",
            "Time since the start of the service. If it is short and nobody restarted it, the service's log says \
             why it ended.",
        )
        .unit("s")
        .query("time() - process_start_time_seconds{} and on (instance) walcast_build_info{}", "{{instance}}")
        .size(8, 4),
        Panel::new(
            705,
            Stat,
            "Version",
            "What runs. Restarting with another version takes seconds; targets go on where they were.",
        )
        .query("max by (version) (walcast_build_info{})", "{{version}}")
        .size(8, 4),
    ]
}
