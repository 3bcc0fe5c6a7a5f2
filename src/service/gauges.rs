//! What is so when it is asked for, as Prometheus' text. What happens is counted by `observer.rs`.

use std::time::Duration;

use applier::Tier;
use decoder::Lsn;
use metrics::counter;
use segment_log::Log;

use super::Service;
use super::target::{Head, Target};
use crate::exposition::{Page, truth};
use crate::metrics::{self as names, gauge_value};
use crate::status;

const TARGET_STATES: [&str; 7] = ["new", "bootstrapping", "catching_up", "streaming", "paused", "stopped", "desync"];
const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// Tables of all targets that are shown at most. Each target has its part of them, but at least `TABLES_MIN`.
const TABLES_MAX: usize = 2000;
const TABLES_MIN: usize = 10;

impl Service {
    /// Everything that is known now. What is not known is left out.
    pub(crate) fn exposition(&self) -> String {
        let mut page = Page::default();
        page.sample(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let head = self.head();
        self.source_samples(&mut page, head);
        self.slot_samples(&mut page);
        if let Some(log) = self.log() {
            self.log_samples(&mut page, log, head);
        }
        self.disk_samples(&mut page);
        self.targets_samples(&mut page, head);
        for (target, progress) in self.copying.last() {
            copy_samples(&mut page, &target, progress);
        }
        crate::process::samples(&mut page);
        page.finish()
    }

    fn source_samples(&self, page: &mut Page, head: Head) {
        let (stream, view) = (&self.stream, self.source_view());
        page.sample(names::SOURCE_UP, &[], truth(view.state == "streaming"));
        page.sample(names::SOURCE_CAPTURE_UP, &[], truth(view.capture_error.is_none()));
        position(page, names::SOURCE_CURRENT_LSN, &[], head.lsn);
        position(page, names::SOURCE_RECEIVED_LSN, &[], stream.received_lsn());
        lag(page, [names::SOURCE_LAG_BYTES, names::SOURCE_LAG_SECONDS], &[], source_lag(head, stream.read_lsn()));
        page.sample(names::SOURCE_SPOOL_BYTES, &[], gauge_value(stream.spool_bytes()));
        page.sample(names::LOG_DISK_FULL, &[], truth(stream.disk_full()));
        page.sample(names::DECODE_BYTES, &[], gauge_value(stream.decoded_bytes()));
        for (kind, count) in stream.changes() {
            page.sample(names::DECODE_CHANGES, &[("kind", kind)], gauge_value(count));
        }
        counter!(names::DDL_SKIPPED, "kind" => "unsigned").absolute(stream.dropped_messages());
    }

    fn slot_samples(&self, page: &mut Page) {
        let Some(slot) = self.source.borrow().slot.clone() else { return };
        position(page, names::SOURCE_SLOT_CONFIRMED_FLUSH_LSN, &[], slot.confirmed_flush_lsn);
        let sizes = [
            (names::SOURCE_SLOT_RETAINED_BYTES, slot.retained_bytes),
            (names::SOURCE_SLOT_SAFE_BYTES, slot.safe_bytes),
        ];
        for (metric, bytes) in sizes.into_iter().filter_map(|(metric, bytes)| Some((metric, bytes?))) {
            page.sample(metric, &[], gauge_value(bytes));
        }
        let status = slot.wal_status.unwrap_or_default();
        page.choice(names::SOURCE_SLOT_WAL_STATUS, None, "kind", &WAL_STATUSES, &status);
    }

    fn log_samples(&self, page: &mut Page, log: &Log, head: Head) {
        let positions = log.positions();
        let durable = positions.durable.lsn();
        position(page, names::LOG_DURABLE_LSN, &[], Some(durable));
        // What was received is a transaction's end, and the log gets nothing beyond it.
        let read = source_lag(head, self.stream.read_lsn());
        let behind = self.stream.received_lsn().is_some_and(|received| durable < received);
        let durable_lag = further(read, behind.then(|| (head.lsn, durable, self.age(Some(durable)))));
        lag(page, [names::LOG_LAG_BYTES, names::LOG_LAG_SECONDS], &[], durable_lag);
        page.sample(names::LOG_SIZE_BYTES, &[], gauge_value(positions.bytes));
        page.sample(names::LOG_RETAIN_MAX_BYTES, &[], gauge_value(self.config().log.retain_max));
        page.sample(names::LOG_SEGMENTS, &[], gauge_value(positions.segments));
    }

    fn disk_samples(&self, page: &mut Page) {
        if let Ok(disk) = rustix::fs::statvfs(&self.config().log.dir) {
            page.sample(names::LOG_DISK_FREE_BYTES, &[], gauge_value(disk.f_bavail.saturating_mul(disk.f_frsize)));
            page.sample(names::LOG_DISK_SIZE_BYTES, &[], gauge_value(disk.f_blocks.saturating_mul(disk.f_frsize)));
        }
    }

    fn targets_samples(&self, page: &mut Page, head: Head) {
        let targets = self.targets();
        let tables = (TABLES_MAX / targets.len().max(1)).max(TABLES_MIN);
        for target in targets.values() {
            self.target_samples(page, target, head);
            for (table, count) in target.tables().busiest(tables) {
                let labels = [("target", target.name()), ("table", &table)];
                page.sample(names::TABLE_CHANGES, &labels, gauge_value(count.changes));
                page.sample(names::TABLE_APPLY_SECONDS, &labels, count.time.as_secs_f64());
            }
        }
    }

    fn target_samples(&self, page: &mut Page, target: &Target, head: Head) {
        let (mut view, connected) = target.view(head, |lsn| self.age(lsn));
        self.show_copying(&mut view);
        self.show_pending(&mut view);
        let (name, status) = (target.name(), target.watch().borrow().clone());
        let labels = [("target", name)];
        page.sample(names::TARGET_UP, &labels, truth(connected));
        page.choice(names::TARGET_STATE, Some(name), "kind", &TARGET_STATES, &view.state);
        page.choice(names::TARGET_TIER, Some(name), "tier", &Tier::ALL.map(Tier::as_str), status.tier.as_str());
        position(page, names::TARGET_APPLIED_LSN, &labels, status.applied_lsn);
        position(page, names::TARGET_CHECKPOINT_LSN, &labels, status.checkpoint_lsn);
        let applied = view.lag_bytes.zip(view.lag_seconds);
        lag(page, [names::TARGET_LAG_BYTES, names::TARGET_LAG_SECONDS], &labels, applied);
        let unflushed = status.checkpoint_lsn.filter(|flushed| Some(*flushed) < status.written_lsn);
        let flushed = further(applied, unflushed.map(|lsn| (head.lsn, lsn, self.age(Some(lsn)))));
        lag(page, [names::TARGET_FLUSH_LAG_BYTES, names::TARGET_FLUSH_LAG_SECONDS], &labels, flushed);
        page.sample(names::TARGET_TABLES_SET_ASIDE, &labels, gauge_value(status.recopy.len() as u64));
        page.sample(names::TARGET_PENDING_GRANTS, &labels, gauge_value(view.pending_grants.len() as u64));
    }
}

/// Bytes and seconds.
type Lag = (u64, f64);

fn source_lag(head: Head, read: Option<Lsn>) -> Option<Lag> {
    let (end, read) = head.lsn.zip(read)?;
    Some((end.bytes_since(read).unwrap_or(0), head.unread.max(head.silence).as_secs_f64()))
}

/// A later stage is behind by what the one before is behind, or by more where it has something to do itself: the source's
/// end, where it is, and for how long.
fn further(before: Option<Lag>, own: Option<(Option<Lsn>, Lsn, Duration)>) -> Option<Lag> {
    let Some((Some(end), at, age)) = own else { return before };
    let (bytes, seconds) = before?;
    Some((bytes.max(end.bytes_since(at).unwrap_or(0)), seconds.max(age.as_secs_f64())))
}

fn lag(page: &mut Page, metrics: [&'static str; 2], labels: &[(&str, &str)], lag: Option<Lag>) {
    if let Some((bytes, seconds)) = lag {
        page.sample(metrics[0], labels, gauge_value(bytes));
        page.sample(metrics[1], labels, seconds);
    }
}

fn position(page: &mut Page, metric: &'static str, labels: &[(&str, &str)], lsn: Option<Lsn>) {
    if let Some(lsn) = lsn {
        page.sample(metric, labels, gauge_value(lsn.as_u64()));
    }
}

fn copy_samples(page: &mut Page, target: &str, progress: status::Progress) {
    let samples = [
        (names::BOOTSTRAP_COPIED_BYTES, progress.copied_bytes),
        (names::BOOTSTRAP_EXPECTED_BYTES, progress.expected_bytes),
        (names::BOOTSTRAP_TABLES_DONE, progress.tables_done),
        (names::BOOTSTRAP_TABLES_EXPECTED, progress.tables),
    ];
    for (metric, value) in samples {
        page.sample(metric, &[("target", target)], gauge_value(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(raw: u64) -> Lsn {
        Lsn::from_u64(raw)
    }

    #[test]
    fn a_later_stage_is_never_less_behind_than_an_earlier_one() {
        let head = Head { lsn: Some(lsn(100)), silence: Duration::ZERO, unread: Duration::from_secs(2) };
        let read = source_lag(head, Some(lsn(90)));
        assert_eq!(read, Some((10, 2.0)));
        assert_eq!(further(read, None), read, "it has nothing to do");
        assert_eq!(further(read, Some((head.lsn, lsn(60), Duration::from_secs(9)))), Some((40, 9.0)));
        assert_eq!(further(read, Some((head.lsn, lsn(95), Duration::from_secs(1)))), read);
        assert_eq!(further(None, Some((head.lsn, lsn(60), Duration::ZERO))), None);
    }

    #[test]
    fn a_source_that_is_away_is_behind_by_its_silence() {
        let head = Head { lsn: Some(lsn(100)), silence: Duration::from_secs(7), unread: Duration::ZERO };
        assert_eq!(source_lag(head, Some(lsn(100))), Some((0, 7.0)));
        assert_eq!(source_lag(head, None), None);
    }

    /// A service with so many targets, none of which can be reached, all of which were given changes of so many tables.
    fn crowded(targets: usize, tables: usize, directory: &std::path::Path) -> std::sync::Arc<Service> {
        let mut text = "[source]\nconninfo = 'host=127.0.0.1'\n".to_owned();
        for target in 0..targets {
            text += &format!("[[target]]\nname = 'target-{target}'\nconninfo = 'host=127.0.0.1 port=1 user=nobody'\n");
        }
        let config = config::Config::parse(&directory.join("walcast.toml"), &text).unwrap();
        let service = std::sync::Arc::new(Service::new(config, tokio_util::sync::CancellationToken::new()));
        let identity = segment_log::Identity {
            system_id: 1,
            timeline: 1,
            database: "app".to_owned(),
            slot: "walcast".to_owned(),
            publication: "walcast".to_owned(),
        };
        let (_, log) = segment_log::open(segment_log::Options {
            dir: service.config().log.dir.clone(),
            segment_size: 1 << 20,
            retain_min: 0,
            identity,
            start: lsn(100),
            on_sync: std::sync::Arc::new(|_| ()),
        })
        .unwrap();
        service.start_targets(&log);
        let names: Vec<String> = (0..tables).map(|table| format!("public.table_{table:05}")).collect();
        let counts: Vec<_> = names.iter().zip(1..).map(|(name, changes)| (name.as_str(), changes)).collect();
        for target in service.targets().values() {
            for tier in Tier::ALL {
                target.observe(&applier::BatchReport {
                    tier,
                    changes: applier::Counts { inserts: 5, ..Default::default() },
                    transactions: 1,
                    duration: Duration::from_millis(7),
                    committed: None,
                    tables: &counts,
                });
            }
        }
        service
    }

    /// 50 targets and 5,000 tables: what is shown is bounded, and made quickly. Without optimization it takes longer; the
    /// limit that counts is that of a release.
    #[tokio::test]
    async fn many_targets_and_tables_are_shown_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let recorder = crate::metrics::builder().unwrap().build_recorder();
        let handle = recorder.handle();
        let service = metrics::with_local_recorder(&recorder, || crowded(50, 5000, directory.path()));
        let mut best = Duration::MAX;
        let mut text = String::new();
        for _ in 0..5 {
            let began = std::time::Instant::now();
            text = metrics::with_local_recorder(&recorder, || service.exposition()) + &handle.render();
            best = best.min(began.elapsed());
        }
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        println!("{series} series, {} bytes, in {best:?}", text.len());
        assert_eq!(text.matches("walcast_table_changes_total{").count(), TABLES_MAX);
        assert!(text.contains("table=\"public.table_04999\"") && !text.contains("table=\"public.table_00000\""));
        assert!(series < 15_000, "{series} series");
        let limit = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });
        assert!(best < limit, "{best:?} for {series} series");
        service.shutdown.cancel();
    }
}
