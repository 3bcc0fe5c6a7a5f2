//! Random histories that a source could have had, as hand-made messages.

use crate::messages::{Null, Table, Toast, Value, b, t, truncate};

/// A generator (splitmix64). Equal seeds make equal choices.
pub(crate) struct Random(u64);

impl Random {
    /// From `WALCAST_SEED`, else from a new seed. It is printed, so that a failure shows it.
    pub(crate) fn seeded() -> Random {
        use std::hash::BuildHasher;
        let seed = match std::env::var("WALCAST_SEED") {
            Ok(text) => text.parse().expect("WALCAST_SEED is not a number"),
            Err(_) => std::collections::hash_map::RandomState::new().hash_one(0u8),
        };
        eprintln!("repeat with WALCAST_SEED={seed}");
        Random(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % end as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// How a column's values are made.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Whole numbers below this, also in binary.
    Int(usize),
    /// One of these.
    Of(&'static [&'static str]),
    /// As `Of`; what was there may be sent as unchanged TOAST.
    Toasted(&'static [&'static str]),
}

/// A table, what its columns hold, and what it holds at this point of the history.
pub(crate) struct Source {
    pub(crate) table: Table,
    pub(crate) kinds: Vec<Kind>,
    /// Columns that are unique together, each set by itself; the first one is the key.
    pub(crate) unique: Vec<Vec<usize>>,
    rows: Vec<Row>,
}

/// Values in text; `None` is NULL.
type Row = Vec<Option<String>>;

impl Source {
    pub(crate) fn new(table: Table, kinds: &[Kind], unique: &[&[usize]]) -> Source {
        let unique = unique.iter().map(|columns| columns.to_vec()).collect();
        Source { table, kinds: kinds.to_vec(), unique, rows: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The message of a change that is possible now, done to the rows too.
    pub(crate) fn change(&mut self, random: &mut Random) -> Vec<u8> {
        if random.once_in(400) {
            self.rows.clear();
            return truncate(&[&self.table], 0);
        }
        if random.once_in(100) {
            return self.table.describe();
        }
        match random.below(if self.rows.is_empty() { 1 } else { 10 }) {
            0..=3 => self.insert(random),
            4..=7 => self.update(random),
            _ => {
                let old = self.rows.swap_remove(random.below(self.rows.len()));
                self.table.delete(&self.old(&old, random))
            }
        }
    }

    fn insert(&mut self, random: &mut Random) -> Vec<u8> {
        let new: Row = (0..self.kinds.len()).map(|column| self.made(column, random)).collect();
        if !self.is_free(&new, None) {
            return self.table.describe();
        }
        let values: Vec<Value> = (0..new.len()).map(|at| self.sent(at, &new[at], random)).collect();
        self.rows.push(new);
        self.table.insert(&values)
    }

    fn update(&mut self, random: &mut Random) -> Vec<u8> {
        let at = random.below(self.rows.len());
        let old = self.rows[at].clone();
        let key_may_change = random.once_in(8);
        let mut new = old.clone();
        for (column, value) in new.iter_mut().enumerate() {
            if (key_may_change || !self.is_key(column)) && random.once_in(2) {
                *value = self.made(column, random);
            }
        }
        if !self.is_free(&new, Some(at)) {
            return self.table.describe();
        }
        let unchanged = |column: usize| matches!(self.kinds[column], Kind::Toasted(_)) && old[column].is_some();
        let values: Vec<Value> = (0..new.len())
            .map(|column| match new[column] == old[column] && unchanged(column) {
                true => Toast,
                false => self.sent(column, &new[column], random),
            })
            .collect();
        let key_changes = (0..new.len()).any(|column| self.is_key(column) && new[column] != old[column]);
        let before = self.old(&old, random);
        self.rows[at] = new;
        match (self.table.identity, key_changes) {
            (b'f', _) => self.table.update_full(&before, &values),
            (_, true) => self.table.update_key(&before, &values),
            (_, false) => self.table.update(&values),
        }
    }

    fn is_key(&self, column: usize) -> bool {
        self.table.columns[column].0
    }

    fn made(&self, column: usize, random: &mut Random) -> Option<String> {
        let is_unique = self.unique.iter().flatten().any(|unique| *unique == column);
        if !is_unique && random.once_in(6) {
            return None;
        }
        Some(match self.kinds[column] {
            Kind::Int(end) => random.below(end).to_string(),
            Kind::Of(values) | Kind::Toasted(values) => random.pick(values).to_owned(),
        })
    }

    /// The old tuple as the replica identity sends it.
    fn old(&self, old: &Row, random: &mut Random) -> Vec<Value> {
        let sent = |column: usize, random: &mut Random| match self.is_key(column) {
            true => self.sent(column, &old[column], random),
            false => Null,
        };
        (0..old.len()).map(|column| sent(column, random)).collect()
    }

    fn sent(&self, column: usize, value: &Option<String>, random: &mut Random) -> Value {
        match (value, self.kinds[column]) {
            (None, _) => Null,
            // Seldom: of a column with both formats nothing is netted until it is described anew.
            (Some(number), Kind::Int(_)) if column > 0 && random.once_in(150) => {
                b(number.parse::<i32>().expect("a number").to_be_bytes())
            }
            (Some(text), _) => t(text.clone()),
        }
    }

    fn is_free(&self, new: &Row, except: Option<usize>) -> bool {
        let others = || self.rows.iter().enumerate().filter(|(at, _)| Some(*at) != except).map(|(_, row)| row);
        let same = |a: &Row, columns: &[usize]| columns.iter().all(|c| canonical(&a[*c]) == canonical(&new[*c]));
        self.unique.iter().all(|columns| !others().any(|row| same(row, columns)))
    }
}

/// Equal for values that are `=` to PostgreSQL though their bytes differ: `1.0` and `1.00`, `a` and `a  ` in char(n).
fn canonical(value: &Option<String>) -> Option<String> {
    let value = value.as_ref()?;
    Some(value.parse::<f64>().map_or_else(|_| value.trim_end().to_owned(), |number| number.to_string()))
}
