//! What the task reports for metrics: once per batch, never per row.

use std::time::Duration;

use decoder::{Change, PgTimestamp};

use crate::status::Tier;

/// Changes by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// INSERT.
    pub inserts: u64,
    /// UPDATE.
    pub updates: u64,
    /// DELETE.
    pub deletes: u64,
    /// TRUNCATE, counted once per message.
    pub truncates: u64,
}

impl Counts {
    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.inserts + self.updates + self.deletes + self.truncates
    }

    pub(crate) fn add(&mut self, more: &Counts) {
        self.inserts += more.inserts;
        self.updates += more.updates;
        self.deletes += more.deletes;
        self.truncates += more.truncates;
    }

    pub(crate) fn count(&mut self, change: &Change<'_>) {
        match change {
            Change::Insert { .. } => self.inserts += 1,
            Change::Update { .. } => self.updates += 1,
            Change::Delete { .. } => self.deletes += 1,
            Change::Truncate { .. } => self.truncates += 1,
            Change::Relation(_) | Change::Type { .. } | Change::Message { .. } => {}
        }
    }
}

/// One batch that is committed on the target.
#[derive(Debug, Clone, Copy)]
pub struct BatchReport<'a> {
    /// How it was applied.
    pub tier: Tier,
    /// What it held.
    pub changes: Counts,
    /// How many source transactions.
    pub transactions: u64,
    /// From the first byte sent to the COMMIT's reply.
    pub duration: Duration,
    /// When its first transaction was committed on the source, by the source's clock.
    pub committed: Option<PgTimestamp>,
    /// Changes per table, as `schema.table`, in no order.
    pub tables: &'a [(&'a str, u64)],
}

/// What messages of the capture did in a batch that is committed on the target.
#[derive(Debug, Default)]
pub struct DdlReport {
    /// What was done to which objects.
    pub done: Vec<::ddl::Done>,
    /// What was not done, and why.
    pub skipped: Vec<::ddl::Skipped>,
}

impl DdlReport {
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.skipped.is_empty()
    }
}

/// Takes reports of one target. Called on the task that applies: it must be quick and must not block.
pub trait Observer: Send + Sync {
    /// A batch was committed.
    fn batch(&self, report: &BatchReport<'_>);
    /// DDL, roles, grants in a batch that was committed.
    fn ddl(&self, report: &DdlReport);
    /// The task goes again at something after a transient error.
    fn retry(&self);
    /// An error, transient or not; with the target's SQLSTATE if it has one.
    fn error(&self, sqlstate: Option<&str>);
    /// A batch failed and falls down to `tier`.
    fn fallback(&self, tier: Tier);
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn batch(&self, _report: &BatchReport<'_>) {}
    fn ddl(&self, _report: &DdlReport) {}
    fn retry(&self) {}
    fn error(&self, _sqlstate: Option<&str>) {}
    fn fallback(&self, _tier: Tier) {}
}
