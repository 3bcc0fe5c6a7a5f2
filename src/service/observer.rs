//! From an applier's reports to metrics. Handles are kept, so that a report costs a few nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use applier::{BatchReport, DdlReport, Observer, Tier};
use metrics::{Counter, Histogram, counter, histogram};

use super::lateness::Lately;
use super::tables::Tables;
use crate::metrics::{
    APPLY_BATCH_DURATION_SECONDS, APPLY_BATCH_ROWS, APPLY_CHANGES, APPLY_ERRORS, APPLY_RETRIES, APPLY_TIER_FALLBACKS,
    APPLY_TRANSACTIONS, DDL_EVENTS, DDL_SKIPPED, gauge_value,
};

/// The metrics of one target.
pub(crate) struct Recorder {
    target: String,
    inserts: Counter,
    updates: Counter,
    deletes: Counter,
    truncates: Counter,
    transactions: Counter,
    retries: Counter,
    skipped: Counter,
    rows: Histogram,
    /// By tier, in the order of [`Tier::ALL`].
    durations: [Histogram; Tier::ALL.len()],
    changes: AtomicU64,
    tables: Tables,
    lately: Lately,
}

impl Recorder {
    /// For this target. What may be counted is there with 0 from the beginning, so that the first time is seen.
    pub(crate) fn new(target: &str) -> Recorder {
        let target = target.to_owned();
        let changes = |kind: &'static str| counter!(APPLY_CHANGES, "target" => target.clone(), "kind" => kind);
        for lower in [Tier::Ordered, Tier::Single] {
            counter!(APPLY_TIER_FALLBACKS, "target" => target.clone(), "tier" => lower.as_str()).increment(0);
        }
        counter!(APPLY_ERRORS, "target" => target.clone(), "sqlstate" => "none").increment(0);
        let duration =
            |tier: Tier| histogram!(APPLY_BATCH_DURATION_SECONDS, "target" => target.clone(), "tier" => tier.as_str());
        Recorder {
            inserts: changes("insert"),
            updates: changes("update"),
            deletes: changes("delete"),
            truncates: changes("truncate"),
            transactions: counter!(APPLY_TRANSACTIONS, "target" => target.clone()),
            retries: counter!(APPLY_RETRIES, "target" => target.clone()),
            skipped: counter!(DDL_SKIPPED, "target" => target.clone(), "kind" => "refused"),
            rows: histogram!(APPLY_BATCH_ROWS, "target" => target.clone()),
            durations: Tier::ALL.map(duration),
            changes: AtomicU64::new(0),
            tables: Tables::default(),
            lately: Lately::default(),
            target,
        }
    }

    /// Changes of all kinds.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// How late it was.
    pub(super) fn lately(&self) -> &Lately {
        &self.lately
    }

    /// What was applied to which table.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }
}

impl Observer for Recorder {
    fn batch(&self, report: &BatchReport<'_>) {
        self.inserts.increment(report.changes.inserts);
        self.updates.increment(report.changes.updates);
        self.deletes.increment(report.changes.deletes);
        self.truncates.increment(report.changes.truncates);
        self.changes.fetch_add(report.changes.total(), Relaxed);
        self.transactions.increment(report.transactions);
        self.rows.record(gauge_value(report.changes.total()));
        if let Some((_, duration)) = Tier::ALL.iter().zip(&self.durations).find(|(tier, _)| **tier == report.tier) {
            duration.record(report.duration.as_secs_f64());
        }
        if let Some(committed) = report.committed {
            self.lately.note(committed);
        }
        self.tables.add(report.tables, report.duration);
    }

    fn ddl(&self, report: &DdlReport) {
        for done in &report.done {
            let labels = [("target", self.target.clone()), ("kind", done.kind.clone())];
            counter!(DDL_EVENTS, &labels).increment(1);
        }
        for skipped in &report.skipped {
            self.skipped.increment(1);
            let (object, why) = (&skipped.object, &skipped.why);
            tracing::warn!(target = self.target, object, why, "DDL is not replicated");
        }
    }

    fn retry(&self) {
        self.retries.increment(1);
    }

    fn error(&self, sqlstate: Option<&str>) {
        let labels = [("target", self.target.clone()), ("sqlstate", sqlstate.unwrap_or("none").to_owned())];
        counter!(APPLY_ERRORS, &labels).increment(1);
    }

    fn fallback(&self, tier: Tier) {
        let labels = [("target", self.target.clone()), ("tier", tier.as_str().to_owned())];
        counter!(APPLY_TIER_FALLBACKS, &labels).increment(1);
    }
}
