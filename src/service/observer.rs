//! From an applier's reports to metrics. Handles are kept, so that a report costs a few nanoseconds.

use applier::{BatchReport, DdlReport, Observer, Tier};
use metrics::{Counter, Histogram, counter, histogram};

use crate::metrics::{
    APPLY_BATCH_DURATION_SECONDS, APPLY_BATCH_ROWS, APPLY_CHANGES, APPLY_ERRORS, APPLY_RETRIES, APPLY_TIER_FALLBACKS,
    APPLY_TRANSACTIONS, DDL_EVENTS, DDL_SKIPPED, TABLE_CHANGES, gauge_value,
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
    rows: Histogram,
}

impl Recorder {
    /// For this target.
    pub(crate) fn new(target: &str) -> Recorder {
        let changes = |kind: &'static str| counter!(APPLY_CHANGES, "target" => target.to_owned(), "kind" => kind);
        Recorder {
            target: target.to_owned(),
            inserts: changes("insert"),
            updates: changes("update"),
            deletes: changes("delete"),
            truncates: changes("truncate"),
            transactions: counter!(APPLY_TRANSACTIONS, "target" => target.to_owned()),
            retries: counter!(APPLY_RETRIES, "target" => target.to_owned()),
            rows: histogram!(APPLY_BATCH_ROWS, "target" => target.to_owned()),
        }
    }
}

impl Observer for Recorder {
    fn batch(&self, report: &BatchReport<'_>) {
        self.inserts.increment(report.changes.inserts);
        self.updates.increment(report.changes.updates);
        self.deletes.increment(report.changes.deletes);
        self.truncates.increment(report.changes.truncates);
        self.transactions.increment(report.transactions);
        self.rows.record(gauge_value(report.changes.total()));
        let labels = [("target", self.target.clone()), ("tier", report.tier.as_str().to_owned())];
        histogram!(APPLY_BATCH_DURATION_SECONDS, &labels).record(report.duration.as_secs_f64());
        for (table, changes) in report.tables {
            let labels = [("target", self.target.clone()), ("table", (*table).to_owned())];
            counter!(TABLE_CHANGES, &labels).increment(*changes);
        }
    }

    fn ddl(&self, report: &DdlReport) {
        for done in &report.done {
            let labels = [("target", self.target.clone()), ("kind", done.kind.clone())];
            counter!(DDL_EVENTS, &labels).increment(1);
        }
        for skipped in &report.skipped {
            counter!(DDL_SKIPPED, "target" => self.target.clone()).increment(1);
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
