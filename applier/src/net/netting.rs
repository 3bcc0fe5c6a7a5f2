//! What a batch does to one table, netted by key: several changes of a row become the one that leads to its last state.
//!
//! "At the start" means before the batch. A key is the bytes of its columns: PostgreSQL sends the old key whenever
//! those bytes change, so a row keeps one key within a batch, or the table is not netted.
//!
//! | state of the key | INSERT | UPDATE (same key) | DELETE |
//! | --- | --- | --- | --- |
//! | not seen | Insert | Update | Delete |
//! | Insert: not there at the start | conflict | Insert, merged | Gone |
//! | Update: there at the start | conflict | Update, merged | Delete |
//! | Delete: was there, is not any more | Replace | conflict | conflict |
//! | Replace: was there, another row now | conflict | Replace, merged | Delete |
//! | Gone: came and went | Insert | conflict | conflict |
//!
//! A conflict cannot come from a source whose rows the target has; the ordered tier will name it. Merged means: a column
//! that the UPDATE sends replaces the one before, an unchanged TOASTed one leaves it.
//!
//! Sets are applied as DELETE (Delete, Replace), UPDATE (Update), INSERT (Insert, Replace), in this order.

use std::hash::{BuildHasher, Hash, Hasher};

use decoder::{ColumnValue, OldTuple, Tuple};
use hashbrown::{DefaultHashBuilder, HashTable};

/// Why a change cannot be netted: the batch is applied in order instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNettable {
    /// The row's key changes.
    KeyChange,
    /// The table above says "conflict".
    Conflict,
    /// The old values are not a key.
    NoKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Insert,
    Update,
    Delete,
    Replace,
    Gone,
}

/// The netted changes of one table; values borrow the log's map.
pub(crate) struct TableNet<'a> {
    width: usize,
    /// Positions of the key's columns in a row message.
    key: Vec<usize>,
    /// `width` values per row.
    values: Vec<ColumnValue<'a>>,
    states: Vec<State>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// One set operation's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateSet {
    /// The columns that these rows change: all but the unchanged TOASTed ones.
    pub(crate) changed: Vec<usize>,
    /// Row numbers.
    pub(crate) rows: Vec<u32>,
}

impl<'a> TableNet<'a> {
    /// For row messages of `width` columns, the ones in `key` (not empty) being the replica identity.
    pub(crate) fn new(width: usize, key: Vec<usize>) -> TableNet<'a> {
        assert!(!key.is_empty() && key.iter().all(|column| *column < width), "a key within the row");
        TableNet {
            width,
            key,
            values: Vec::new(),
            states: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// How many keys it has seen.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn insert(&mut self, new: Tuple<'a>) -> Result<(), NotNettable> {
        let (row, before) = self.row(new);
        let after = match before {
            None | Some(State::Gone) => State::Insert,
            Some(State::Delete) => State::Replace,
            Some(_) => return Err(NotNettable::Conflict),
        };
        self.overwrite(row, new);
        self.states[row] = after;
        Ok(())
    }

    pub(crate) fn update(&mut self, old: Option<OldTuple<'a>>, new: Tuple<'a>) -> Result<(), NotNettable> {
        match old {
            None => {}
            Some(OldTuple::Key(_)) => return Err(NotNettable::KeyChange),
            Some(OldTuple::Full(_)) => return Err(NotNettable::NoKey),
        }
        let (row, before) = self.row(new);
        match before {
            None => self.states[row] = State::Update,
            Some(State::Insert | State::Update | State::Replace) => self.merge(row, new),
            Some(State::Delete | State::Gone) => return Err(NotNettable::Conflict),
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, old: OldTuple<'a>) -> Result<(), NotNettable> {
        let OldTuple::Key(old) = old else { return Err(NotNettable::NoKey) };
        let (row, before) = self.row(old);
        self.states[row] = match before {
            None | Some(State::Update | State::Replace) => State::Delete,
            Some(State::Insert) => State::Gone,
            Some(State::Delete | State::Gone) => return Err(NotNettable::Conflict),
        };
        Ok(())
    }

    /// A row's values, `width` of them.
    pub(crate) fn values(&self, row: u32) -> &[ColumnValue<'a>] {
        let start = row as usize * self.width;
        &self.values[start..start + self.width]
    }

    /// Rows whose key is to be deleted.
    pub(crate) fn deletes(&self) -> Vec<u32> {
        self.rows_in(&[State::Delete, State::Replace])
    }

    /// Rows to be inserted, in the order in which their keys were first seen.
    pub(crate) fn inserts(&self) -> Vec<u32> {
        self.rows_in(&[State::Insert, State::Replace])
    }

    /// Rows to be updated, one set for each set of unchanged TOASTed columns.
    pub(crate) fn updates(&self) -> Vec<UpdateSet> {
        let mut sets: Vec<UpdateSet> = Vec::new();
        for row in self.rows_in(&[State::Update]) {
            let values = self.values(row);
            let is_changed = |column: usize| values[column] != ColumnValue::UnchangedToast;
            // Neighbours mostly belong to the same set: it is looked for from the end.
            let same = |set: &UpdateSet| (0..self.width).filter(|column| is_changed(*column)).eq(set.changed.iter().copied());
            match sets.iter().rposition(same) {
                Some(at) => sets[at].rows.push(row),
                None => {
                    let changed = (0..self.width).filter(|column| is_changed(*column)).collect();
                    sets.push(UpdateSet { changed, rows: vec![row] });
                }
            }
        }
        sets
    }

    fn rows_in(&self, states: &[State]) -> Vec<u32> {
        let wanted = |row: &u32| states.contains(&self.states[*row as usize]);
        (0..self.states.len() as u32).filter(wanted).collect()
    }

    /// The row of this tuple's key, made with the tuple's values (state undefined until the caller sets it) when it is
    /// new, and its state before.
    fn row(&mut self, tuple: Tuple<'a>) -> (usize, Option<State>) {
        let row = self.states.len();
        self.values.extend(tuple.columns().take(self.width));
        self.values.resize((row + 1) * self.width, ColumnValue::Null);
        let hash = self.hash(row);
        let found = self.index.find(hash, |other| self.same_key(*other as usize, row)).copied();
        if let Some(found) = found {
            self.values.truncate(row * self.width);
            return (found as usize, Some(self.states[found as usize]));
        }
        self.states.push(State::Gone);
        let (values, key, width, hasher) = (&self.values, &self.key, self.width, &self.hasher);
        let rehash = |row: &u32| hash_key(hasher, key, &values[*row as usize * width..]);
        self.index.insert_unique(hash, row as u32, rehash);
        (row, None)
    }

    fn hash(&self, row: usize) -> u64 {
        hash_key(&self.hasher, &self.key, &self.values[row * self.width..])
    }

    fn same_key(&self, a: usize, b: usize) -> bool {
        self.key.iter().all(|column| self.values[a * self.width + column] == self.values[b * self.width + column])
    }

    fn overwrite(&mut self, row: usize, tuple: Tuple<'a>) {
        let start = row * self.width;
        for (slot, value) in self.values[start..start + self.width].iter_mut().zip(tuple.columns()) {
            *slot = value;
        }
    }

    fn merge(&mut self, row: usize, tuple: Tuple<'a>) {
        let start = row * self.width;
        for (slot, value) in self.values[start..start + self.width].iter_mut().zip(tuple.columns()) {
            if value != ColumnValue::UnchangedToast {
                *slot = value;
            }
        }
    }
}

fn hash_key(hasher: &DefaultHashBuilder, key: &[usize], values: &[ColumnValue<'_>]) -> u64 {
    let mut state = hasher.build_hasher();
    for column in key {
        match values[*column] {
            ColumnValue::Text(bytes) | ColumnValue::Binary(bytes) => bytes.hash(&mut state),
            ColumnValue::Null | ColumnValue::UnchangedToast => 0_u8.hash(&mut state),
        }
    }
    state.finish()
}
