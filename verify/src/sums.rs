//! Sums of row hashes per bucket: equal on both sides, whatever the order of the rows, exactly when the rows are (but for
//! a chance of 2^-128 or so).

use connection::TextRow;

use crate::error::{Error, Side};
use crate::scan::BUCKETS;
use crate::session::number;

/// Count and two sums, of a bucket or of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    hashes: [i128; 2],
}

impl Sum {
    /// From three fields of a row.
    pub(crate) fn read(row: &TextRow, first: usize, side: Side) -> Result<Sum, Error> {
        let hashes = [number(row, first + 1, side)?, number(row, first + 2, side)?];
        Ok(Sum { rows: number(row, first, side)?, hashes })
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: Sum) {
        self.rows = self.rows.saturating_add(other.rows);
        // 2^63 rows of 2^63 each fit.
        self.hashes = [0, 1].map(|at| self.hashes[at].wrapping_add(other.hashes[at]));
    }
}

/// A table's buckets on both sides.
pub(crate) struct Buckets(Vec<[Sum; 2]>);

impl Buckets {
    pub(crate) fn new() -> Buckets {
        Buckets(vec![[Sum::default(); 2]; BUCKETS])
    }

    /// Adds what one part of the table has of a bucket.
    pub(crate) fn add(&mut self, bucket: usize, side: Side, sum: Sum) {
        if let Some(sums) = self.0.get_mut(bucket) {
            sums[place(side)].add(sum);
        }
    }

    /// Rows of one side.
    pub(crate) fn rows(&self, side: Side) -> u64 {
        self.0.iter().map(|sums| sums[place(side)].rows).sum()
    }

    /// The buckets that differ, with the rows that both sides have in them.
    pub(crate) fn different(&self) -> Vec<(usize, u64)> {
        let different = self.0.iter().enumerate().filter(|(_, [ours, theirs])| ours != theirs);
        different.map(|(bucket, [ours, theirs])| (bucket, ours.rows.saturating_add(theirs.rows))).collect()
    }
}

pub(crate) fn place(side: Side) -> usize {
    match side {
        Side::Source => 0,
        Side::Target => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: u64, one: i128, other: i128) -> Sum {
        Sum { rows, hashes: [one, other] }
    }

    #[test]
    fn parts_add_up_whatever_their_order() {
        let mut buckets = Buckets::new();
        buckets.add(5, Side::Source, sum(2, 10, -7));
        buckets.add(5, Side::Target, sum(1, 4, 0));
        assert_eq!(buckets.different(), [(5, 3)]);
        buckets.add(5, Side::Target, sum(1, 6, -7));
        assert!(buckets.different().is_empty());
        assert_eq!((buckets.rows(Side::Source), buckets.rows(Side::Target)), (2, 2));
    }

    #[test]
    fn one_row_more_with_a_hash_of_nothing_is_a_difference() {
        let mut buckets = Buckets::new();
        buckets.add(BUCKETS - 1, Side::Target, sum(1, 0, 0));
        assert_eq!(buckets.different(), [(BUCKETS - 1, 1)]);
        buckets.add(BUCKETS, Side::Target, sum(1, 0, 0));
    }

    #[test]
    fn sums_are_read_from_text_of_any_length() {
        let row = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned())).to_vec();
        let read = Sum::read(&row(["3", "-85070591730234615865843651857942052864", "9"]), 0, Side::Source).unwrap();
        assert_eq!(read, sum(3, i128::MIN / 2, 9));
        assert!(Sum::read(&row(["3", "x", "9"]), 0, Side::Source).is_err());
    }
}
