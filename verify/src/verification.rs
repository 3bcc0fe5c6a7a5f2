//! A whole comparison: rounds of it, until no table moved under its snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connection::{Conninfo, TextRow};

use crate::drill::DifferentKey;
use crate::error::Error;
use crate::repair::{Damaged, Repair};
use crate::report::{Difference, Kind, LISTED_MAX, Report, TableReport};
use crate::rows::{self, Compared, Limits, Observer, Outcome};
use crate::scan::Hash;
use crate::snapshot::Snapshots;
use crate::table::{Pair, Plan, TableName, one_line, shown};
use crate::{schema, sequence};

/// How many keys of one table a repair takes in one go; then the table is compared again.
const REPAIRED_MAX: usize = 50_000;
/// How much of a row is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// What is compared.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the publication carries is compared.
    pub publication: String,
    /// Only this table, as a person writes it: `schema.table`.
    pub table: Option<String>,
    /// Tables, or parts of tables, read at a time. Minimum: 1.
    pub jobs: usize,
    /// Whether a [`Repair`] is going to be asked for.
    pub repair: bool,
}

/// A comparison under way.
pub struct Verification {
    options: Options,
    observer: Observer,
    /// What is still to be compared; `None`: everything, nothing was compared yet.
    pending: Option<BTreeSet<TableName>>,
    report: Report,
    tables: BTreeMap<TableName, TableReport>,
    rows: BTreeMap<TableName, Vec<Difference>>,
    damaged: BTreeMap<TableName, Damaged>,
    stale: Vec<TableName>,
    repaired: BTreeMap<TableName, u64>,
}

impl Verification {
    /// Nothing is compared yet.
    pub fn new(options: Options, observer: Observer) -> Verification {
        Verification {
            options,
            observer,
            pending: None,
            report: Report::default(),
            tables: BTreeMap::new(),
            rows: BTreeMap::new(),
            damaged: BTreeMap::new(),
            stale: Vec::new(),
            repaired: BTreeMap::new(),
        }
    }

    /// Compares what is left, or everything the first time.
    ///
    /// # Errors
    /// A side cannot be read, or has no such table or publication.
    pub async fn round(&mut self, mut snapshots: Snapshots) -> Result<(), Error> {
        let (source, target) = (&mut snapshots.source.keeper, &mut snapshots.target.keeper);
        let plan = Plan::load(source, target, &self.options.publication, self.options.table.as_deref()).await?;
        if self.pending.is_none() {
            self.compare_definitions(&mut snapshots, &plan).await?;
        }
        let hash = Hash::choose(&mut snapshots.source.keeper, &mut snapshots.target.keeper).await?;
        self.report.lsn = snapshots.lsn.to_string();
        let wanted = |pair: &Pair| self.pending.as_ref().is_none_or(|pending| pending.contains(&pair.name));
        let pairs: Vec<Arc<Pair>> = plan.pairs.into_iter().filter(wanted).map(Arc::new).collect();
        let listed_max = if self.options.repair { REPAIRED_MAX } else { LISTED_MAX };
        let limits = Limits { jobs: self.options.jobs, listed_max };
        let outcomes = rows::compare(snapshots, &pairs, hash, limits, Arc::clone(&self.observer)).await?;
        let mut moved = BTreeSet::new();
        for (pair, outcome) in pairs.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Compared(compared) => self.take(pair, compared, hash),
                Outcome::Moved => drop(moved.insert(pair.name.clone())),
            }
        }
        self.pending = Some(moved);
        Ok(())
    }

    async fn compare_definitions(&mut self, snapshots: &mut Snapshots, plan: &Plan) -> Result<(), Error> {
        let (source, target) = (&mut snapshots.source.keeper, &mut snapshots.target.keeper);
        self.report.differences = schema::compare(source, target, &plan.defined).await?;
        let free = plan.all_tables && self.options.table.is_none();
        let sequences = sequence::compare(source, target, &plan.defined, free).await?;
        self.report.differences.extend(sequences.differences);
        self.report.notes = sequences.notes;
        self.stale = sequences.stale.into_iter().map(|stale| stale.name).collect();
        let in_copy = plan.in_copy.iter().map(|name| {
            let text = "is being copied again".to_owned();
            Difference {
                table: name.to_string(),
                kind: Kind::NotCompared,
                key: String::new(),
                source: None,
                target: Some(text),
            }
        });
        self.report.differences.extend(in_copy);
        Ok(())
    }

    fn take(&mut self, pair: Arc<Pair>, compared: Compared, hash: Hash) {
        let table = pair.name.to_string();
        let [source_rows, target_rows] = compared.rows;
        let (differences, further_buckets) = (compared.drilled.found, compared.drilled.further_buckets);
        let repaired = 0;
        let report = TableReport { table, source_rows, target_rows, differences, further_buckets, repaired };
        self.tables.insert(pair.name.clone(), report);
        let listed = compared.keys().iter().take(LISTED_MAX).map(|key| row_difference(&pair, key)).collect();
        self.rows.insert(pair.name.clone(), listed);
        self.damaged.remove(&pair.name);
        if self.options.repair && !compared.keys().is_empty() {
            self.damaged.insert(pair.name.clone(), Damaged { pair, hash, keys: compared.drilled.keys });
        }
    }

    /// Tables that have to be compared in another round, because they were truncated or altered under the last one.
    pub fn pending(&self) -> impl Iterator<Item = &TableName> {
        self.pending.iter().flatten()
    }

    /// What is to be repaired of what was found; `None`: nothing. It takes the findings with it: the tables are to be
    /// compared again afterwards.
    ///
    /// # Errors
    /// The target cannot be reached, or takes no changes.
    pub async fn repair(&mut self, target: &Conninfo) -> Result<Option<Repair>, Error> {
        let damaged = std::mem::take(&mut self.damaged);
        let stale = std::mem::take(&mut self.stale);
        if damaged.is_empty() && stale.is_empty() {
            return Ok(None);
        }
        Ok(Some(Repair::begin(target, damaged.into_values().collect(), stale).await?))
    }

    /// Takes what a repair did: its tables are pending again.
    pub fn after(&mut self, repair: Repair) {
        let done = repair.done();
        for (name, rows) in &done.rows {
            *self.repaired.entry(name.clone()).or_default() += rows;
        }
        for name in &done.sequences {
            let is_value = |d: &Difference| d.kind == Kind::Sequence && d.key == "value" && d.table == name.to_string();
            self.report.differences.retain(|d| !is_value(d));
            self.report.notes.retain(|d| !is_value(d));
        }
        self.report.repaired += done.rows.values().sum::<u64>() + done.sequences.len() as u64;
        self.pending = Some(done.rows.into_keys().collect());
    }

    /// What was found.
    pub fn into_report(self) -> Report {
        let Verification { mut report, tables, rows, repaired, .. } = self;
        report.differences.extend(rows.into_values().flatten());
        report.tables.extend(tables.into_iter().map(|(name, table)| {
            let repaired = repaired.get(&name).copied().unwrap_or(0);
            TableReport { repaired, ..table }
        }));
        report.finish();
        report
    }
}

/// A key that differs, for people.
fn row_difference(pair: &Pair, key: &DifferentKey) -> Difference {
    let copies = match key.copies {
        0 | 1 => None,
        copies => Some(format!("{copies} copies")),
    };
    let (source, target) = match key.kind {
        Kind::Missing => (copies, None),
        _ => (None, copies),
    };
    Difference { table: pair.name.to_string(), kind: key.kind, key: shown_key(pair, &key.values), source, target }
}

/// `id = 7`, or the row's text where there is no key.
pub(crate) fn shown_key(pair: &Pair, values: &TextRow) -> String {
    let value = |value: &Option<String>| value.as_deref().map_or("NULL".to_owned(), one_line);
    let text = match pair.is_keyed() {
        false => values.first().map(value).unwrap_or_default(),
        true => {
            let parts = pair.key.iter().zip(values);
            parts.map(|(name, of)| format!("{} = {}", shown(name), value(of))).collect::<Vec<_>>().join(", ")
        }
    };
    cut(text)
}

/// The beginning of a text that is too long to be shown.
pub(crate) fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
