//! The net tier: what many transactions do to a table, netted by key, as a few set operations.
//!
//! A stretch of the log (some frames of a batch) is read into one [`TableNet`] per table and then written as DELETE,
//! UPDATE and INSERT of whole sets: arrays and COPY. Everything happens in the batch's one target transaction, so that
//! a reader sees only states that the source had.
//!
//! # Why the order may change
//!
//! In a replica session neither foreign keys nor ordinary triggers fire, so changes of different tables commute. Within
//! a table with one unique index, the replica identity, the last state of each key is all that counts.
//!
//! | what comes | what is done |
//! | --- | --- |
//! | a change of a table whose [`Table::sets`](crate::catalog::Table) is false | written in order at once, others are still gathered |
//! | the same, and the table has triggers that fire here | what was gathered is written first: the trigger may look |
//! | a change that cannot be netted (key change, conflict) | what was gathered is written first, then this change in order |
//! | TRUNCATE, another definition of a gathered table | what was gathered is written first |
//! | values in text and in binary in one column | what was gathered is written first, then this change in order |
//!
//! A set that hits another number of rows than it has fails the batch; the ordered tier tries it again.

mod netting;
mod statements;

use decoder::{Change, ColumnValue, RelationId, Tuple};
use hashbrown::HashMap;

pub use netting::sizes_of_sets;
pub(crate) use netting::{NotNettable, TableNet};
pub(crate) use statements::{SetShape, Writer};

use crate::mapping::Mapping;
use crate::pipeline::Transactions;

/// Batches with fewer changes are applied in order: a set operation would not pay.
pub(crate) const CHANGES_MIN: usize = 200;
/// Bytes of log frames that are gathered before they are written: the bound of this tier's memory.
pub(crate) const STRETCH_BYTES: u64 = 4 << 20;

/// Values of rows that are gathered before they are written: in the log a NULL is one byte, here it is a cell.
const CELLS_MAX: usize = 1 << 18;

/// What was gathered of a stretch.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    tables: HashMap<RelationId, Gathered<'a>>,
    /// The order in which tables were met: the same batch always becomes the same statements.
    order: Vec<RelationId>,
    /// The transactions that it holds changes of.
    pub(crate) transactions: Option<Transactions>,
    cells: usize,
}

/// One table's part.
pub(crate) struct Gathered<'a> {
    pub(crate) net: TableNet<'a>,
    /// By source column: the format all its values have so far.
    pub(crate) formats: Vec<Option<Format>>,
}

/// A value's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    Text,
    Binary,
}

impl<'a> Plan<'a> {
    /// It holds changes of this relation.
    pub(crate) fn contains(&self, relation: RelationId) -> bool {
        self.tables.contains_key(&relation)
    }

    /// Adds a change of transaction number `at`, or says why it cannot be added; the plan is as before then.
    pub(crate) fn add(&mut self, mapping: &Mapping, change: &Change<'a>, at: u32) -> Result<(), NotNettable> {
        let Some(relation) = change.relation() else { return Err(NotNettable::NoKey) };
        let order = &mut self.order;
        let gathered = self.tables.entry(relation).or_insert_with(|| {
            order.push(relation);
            Gathered::new(mapping)
        });
        gathered.add(mapping, change)?;
        self.cells += mapping.relation.columns.len();
        let transactions = self.transactions.get_or_insert(Transactions { first: at, last: at });
        transactions.last = at;
        Ok(())
    }

    /// It is to be written before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.cells >= CELLS_MAX
    }

    /// Takes everything out, table by table.
    pub(crate) fn take(&mut self) -> Vec<(RelationId, Gathered<'a>)> {
        let order = std::mem::take(&mut self.order);
        (self.transactions, self.cells) = (None, 0);
        order.into_iter().filter_map(|relation| self.tables.remove_entry(&relation)).collect()
    }
}

impl<'a> Gathered<'a> {
    fn new(mapping: &Mapping) -> Gathered<'a> {
        let columns = &mapping.relation.columns;
        let key = (0..columns.len()).filter(|at| columns[*at].is_key).collect();
        Gathered { net: TableNet::new(columns.len(), key), formats: vec![None; columns.len()] }
    }

    fn add(&mut self, mapping: &Mapping, change: &Change<'a>) -> Result<(), NotNettable> {
        match change {
            Change::Insert { new, .. } => {
                self.check_values(mapping, *new, true)?;
                self.net.insert(*new)
            }
            Change::Update { old, new, .. } => {
                self.check_values(mapping, *new, false)?;
                self.net.update(*old, *new)
            }
            Change::Delete { old, .. } => {
                self.check_values(mapping, old.tuple(), false)?;
                self.net.delete(*old)
            }
            _ => Err(NotNettable::NoKey),
        }
    }

    /// All values of a column must come in one format, and a binary one must be of the target's type and no array:
    /// arrays of arrays do not exist. Values of the key, and of a `whole` row, must be there.
    fn check_values(&mut self, mapping: &Mapping, tuple: Tuple<'a>, whole: bool) -> Result<(), NotNettable> {
        if tuple.len() != self.formats.len() {
            return Err(NotNettable::Format);
        }
        for ((known, value), column) in self.formats.iter().zip(tuple.columns()).zip(mapping.columns()) {
            let format = match value {
                ColumnValue::UnchangedToast if whole || mapping.source(column).is_key => {
                    return Err(NotNettable::NoKey);
                }
                ColumnValue::Null | ColumnValue::UnchangedToast => continue,
                ColumnValue::Text(_) => Format::Text,
                ColumnValue::Binary(_) => Format::Binary,
            };
            let target = mapping.target(column);
            let possible = match format {
                Format::Text => target.castable,
                Format::Binary => target.array_oid.is_some() && mapping.source(column).type_oid == target.type_oid,
            };
            if !possible || known.is_some_and(|known| known != format) {
                return Err(NotNettable::Format);
            }
        }
        for (known, value) in self.formats.iter_mut().zip(tuple.columns()) {
            match value {
                ColumnValue::Text(_) => *known = Some(Format::Text),
                ColumnValue::Binary(_) => *known = Some(Format::Binary),
                ColumnValue::Null | ColumnValue::UnchangedToast => {}
            }
        }
        Ok(())
    }
}
