//! How far a copy is, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::governor::{Governor, HeldBack};

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// Making the slot.
    #[default]
    Snapshot,
    /// Roles, and the schema without indexes.
    Schema,
    /// Rows, and the indexes of tables that are whole.
    Data,
    /// The rest of the schema, sequences, materialized views.
    Rest,
}

impl Stage {
    /// In a word or two.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Snapshot => "snapshot",
            Stage::Schema => "schema",
            Stage::Data => "data",
            Stage::Rest => "rest of the schema",
        }
    }
}

/// Written by the workers, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    meters: Vec<Arc<Meter>>,
    notes: Vec<String>,
    governor: Option<Arc<Governor>>,
}

/// One table's counters.
#[derive(Debug)]
pub(crate) struct Meter {
    name: String,
    expected: u64,
    bytes: AtomicU64,
    rows: AtomicU64,
    state: AtomicU64,
}

const WAITING: u64 = 0;
const RUNNING: u64 = 1;
const DONE: u64 = 2;

impl Meter {
    pub(crate) fn add(&self, bytes: u64, rows: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) {
        self.state.store(RUNNING, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.state.store(DONE, Ordering::Relaxed);
    }

    /// What a table takes on disk and in COPY differs; once it is whole, its true size counts.
    fn expected(&self) -> u64 {
        let bytes = self.bytes();
        if self.state.load(Ordering::Relaxed) == DONE { bytes } else { self.expected.max(bytes) }
    }
}

/// A table that is being copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `schema.table`.
    pub name: String,
    /// Bytes of rows so far.
    pub copied_bytes: u64,
    /// About how many there will be.
    pub expected_bytes: u64,
    /// Rows so far.
    pub rows: u64,
}

/// A moment of a copy.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of rows so far.
    pub copied_bytes: u64,
    /// About how many there will be.
    pub expected_bytes: u64,
    /// Rows so far.
    pub rows: u64,
    /// Tables that are whole, those of earlier runs included.
    pub tables_done: u64,
    /// All tables.
    pub tables: u64,
    /// What is being copied.
    pub running: Vec<Running>,
    /// Why rows are copied more slowly than they could be.
    pub held_back: Option<HeldBack>,
}

impl Progress {
    /// What is to be said once, since this was asked last.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    /// How far it is.
    #[must_use]
    pub fn view(&self) -> View {
        let state = self.state();
        let held_back = state.governor.as_ref().and_then(|governor| governor.held_back());
        let mut view = View { stage: state.stage, tables: state.meters.len() as u64, held_back, ..View::default() };
        for meter in &state.meters {
            let (copied_bytes, expected_bytes) = (meter.bytes(), meter.expected());
            let rows = meter.rows.load(Ordering::Relaxed);
            view.copied_bytes += copied_bytes;
            view.expected_bytes += expected_bytes;
            view.rows += rows;
            match meter.state.load(Ordering::Relaxed) {
                DONE => view.tables_done += 1,
                RUNNING => {
                    view.running.push(Running { name: meter.name.clone(), copied_bytes, expected_bytes, rows });
                }
                _ => {}
            }
        }
        view
    }

    pub(crate) fn note(&self, text: String) {
        tracing::debug!(text, "note");
        self.state().notes.push(text);
    }

    pub(crate) fn govern(&self, governor: Option<Arc<Governor>>) {
        self.state().governor = governor;
    }

    pub(crate) fn enter(&self, stage: Stage) {
        tracing::info!(stage = stage.as_str(), "bootstrap");
        self.state().stage = stage;
    }

    /// Adds a table of about so many bytes.
    pub(crate) fn table(&self, name: String, expected: u64) -> Arc<Meter> {
        let (bytes, rows, state) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(WAITING));
        let meter = Arc::new(Meter { name, expected, bytes, rows, state });
        self.state().meters.push(Arc::clone(&meter));
        meter
    }

    /// Forgets all tables: they are planned anew.
    pub(crate) fn clear(&self) {
        self.state().meters.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_becomes_what_was_copied() {
        let progress = Progress::default();
        let (a, b) = (progress.table("a".into(), 100), progress.table("b".into(), 10));
        a.begin();
        a.add(40, 4);
        b.begin();
        b.add(30, 3);
        let view = progress.view();
        assert_eq!((view.copied_bytes, view.expected_bytes, view.rows, view.tables_done), (70, 130, 7, 0));
        assert_eq!(view.running.len(), 2);
        a.finish();
        let view = progress.view();
        assert_eq!((view.copied_bytes, view.expected_bytes, view.tables_done, view.tables), (70, 70, 1, 2));
    }
}
