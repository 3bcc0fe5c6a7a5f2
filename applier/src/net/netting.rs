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

use decoder::{Change, ColumnValue, OldTuple, Tuple};
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
    /// A value in another format than the column's others, or in one that cannot be put in an array.
    Format,
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
            let same =
                |set: &UpdateSet| (0..self.width).filter(|column| is_changed(*column)).eq(set.changed.iter().copied());
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

/// Nets row messages (Insert, Update, Delete) of one table, and works out the sets: how many rows are deleted, updated and
/// inserted; `None` when they cannot be netted. For the benchmark alone: it measures this without a server.
pub fn sizes_of_sets<'a>(
    width: usize,
    key: Vec<usize>,
    messages: impl Iterator<Item = &'a [u8]>,
) -> Option<(usize, usize, usize)> {
    let mut net = TableNet::new(width, key);
    for message in messages {
        let netted = match decoder::decode_change(message).ok()? {
            Change::Insert { new, .. } => net.insert(new),
            Change::Update { old, new, .. } => net.update(old, new),
            Change::Delete { old, .. } => net.delete(old),
            _ => return None,
        };
        netted.ok()?;
    }
    let updated = net.updates().iter().map(|set| set.rows.len()).sum();
    Some((net.deletes().len(), updated, net.inserts().len()))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Key, one column, and one that may come as unchanged TOAST.
    type Row = (u8, u8, u8);

    #[derive(Debug, Clone, Copy)]
    enum Op {
        Insert(u8, u8, u8),
        Update(u8, u8, Option<u8>),
        Delete(u8),
    }

    fn tuple(columns: &[Option<u8>]) -> Vec<u8> {
        let mut bytes = (columns.len() as u16).to_be_bytes().to_vec();
        for column in columns {
            match column {
                Some(value) => bytes.extend([b't', 0, 0, 0, 1, *value]),
                None => bytes.push(b'u'),
            }
        }
        bytes
    }

    fn message(op: Op) -> Vec<u8> {
        let (head, tuple) = match op {
            Op::Insert(k, a, b) => (&b"I\0\0\0\x01N"[..], tuple(&[Some(k), Some(a), Some(b)])),
            Op::Update(k, a, b) => (&b"U\0\0\0\x01N"[..], tuple(&[Some(k), Some(a), b])),
            Op::Delete(k) => (&b"D\0\0\0\x01K"[..], [&[0, 3, b't', 0, 0, 0, 1, k][..], b"nn"].concat()),
        };
        [head, &tuple].concat()
    }

    /// `None` when the source could not have done it.
    fn on_model(rows: &mut BTreeMap<u8, Row>, op: Op) -> Option<()> {
        match op {
            Op::Insert(k, a, b) if !rows.contains_key(&k) => drop(rows.insert(k, (k, a, b))),
            Op::Update(k, a, b) => {
                let row = rows.get_mut(&k)?;
                *row = (k, a, b.unwrap_or(row.2));
            }
            Op::Delete(k) => drop(rows.remove(&k)?),
            Op::Insert(..) => return None,
        }
        Some(())
    }

    fn byte(value: ColumnValue<'_>) -> u8 {
        let ColumnValue::Text([byte]) = value else { panic!("a value: {value:?}") };
        *byte
    }

    /// Applies the sets as the target would, each row exactly once.
    fn apply(net: &TableNet<'_>, rows: &mut BTreeMap<u8, Row>) {
        for row in net.deletes() {
            assert!(rows.remove(&byte(net.values(row)[0])).is_some(), "a deleted row was there");
        }
        for set in net.updates() {
            for row in set.rows {
                let values = net.values(row);
                let target = rows.get_mut(&byte(values[0])).expect("an updated row is there");
                for column in &set.changed {
                    *[&mut target.0, &mut target.1, &mut target.2][*column] = byte(values[*column]);
                }
            }
        }
        for row in net.inserts() {
            let values = net.values(row);
            let row = (byte(values[0]), byte(values[1]), byte(values[2]));
            assert_eq!(rows.insert(row.0, row), None, "an inserted row was not there");
        }
    }

    fn op() -> impl Strategy<Value = Op> {
        let key = || 0..6_u8;
        prop_oneof![
            (key(), any::<u8>(), any::<u8>()).prop_map(|(k, a, b)| Op::Insert(k, a, b)),
            (key(), any::<u8>(), any::<Option<u8>>()).prop_map(|(k, a, b)| Op::Update(k, a, b)),
            key().prop_map(Op::Delete),
        ]
    }

    proptest! {
        #[test]
        fn sets_lead_to_the_same_rows_as_the_changes_one_by_one(
            before in prop::collection::btree_map(0..6_u8, (0..6_u8, any::<u8>(), any::<u8>()), 0..6),
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let mut one_by_one: BTreeMap<u8, Row> = before.into_iter().map(|(k, (_, a, b))| (k, (k, a, b))).collect();
            let mut by_sets = one_by_one.clone();
            let done: Vec<Vec<u8>> =
                ops.into_iter().filter(|op| on_model(&mut one_by_one, *op).is_some()).map(message).collect();
            let mut net = TableNet::new(3, vec![0]);
            for bytes in &done {
                match decoder::decode_change(bytes).expect("a message") {
                    Change::Insert { new, .. } => net.insert(new).expect("netted"),
                    Change::Update { old, new, .. } => net.update(old, new).expect("netted"),
                    Change::Delete { old, .. } => net.delete(old).expect("netted"),
                    other => panic!("{other:?}"),
                }
            }
            apply(&net, &mut by_sets);
            prop_assert_eq!(by_sets, one_by_one);
        }
    }

    #[test]
    fn what_no_source_does_and_what_changes_a_key_is_not_netted() {
        let messages = [Op::Insert(1, 1, 1), Op::Delete(1)].map(message);
        let changes: Vec<Change<'_>> =
            messages.iter().map(|bytes| decoder::decode_change(bytes).expect("a message")).collect();
        let [Change::Insert { new, .. }, Change::Delete { old, .. }] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let mut net = TableNet::new(3, vec![0]);
        net.insert(*new).expect("netted");
        assert_eq!(net.insert(*new), Err(NotNettable::Conflict));
        assert_eq!(net.update(Some(*old), *new), Err(NotNettable::KeyChange));
        net.delete(*old).expect("netted");
        assert_eq!(net.delete(*old), Err(NotNettable::Conflict));
        assert_eq!(net.update(None, *new), Err(NotNettable::Conflict));
        assert_eq!((net.deletes(), net.inserts(), net.updates()), (vec![], vec![], vec![]));
        assert_eq!(net.delete(OldTuple::Full(*new)), Err(NotNettable::NoKey));
    }
}
