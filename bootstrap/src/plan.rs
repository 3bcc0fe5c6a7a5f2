//! In which pieces tables are copied.

use crate::catalog::Table;

/// Tables below this are never split: a part has its price.
const PART_BYTES_MIN: u64 = 48 << 20;
const PART_BYTES_MAX: u64 = 1 << 30;
/// Parts for each job, if everything were one table. The more, the less the last one is waited for.
const PARTS_PER_JOB: u64 = 5;

/// A piece of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which of the table's stores.
    pub(crate) store: usize,
    /// Its blocks; none is all of them.
    pub(crate) blocks: Option<Blocks>,
}

/// A range of blocks of a table's file. The last range has no end: the file may have grown since it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// How large a part is to be about.
pub(crate) fn part_bytes(total_bytes: u64, jobs: usize) -> u64 {
    match jobs {
        0 | 1 => u64::MAX,
        jobs => (total_bytes / (jobs as u64 * PARTS_PER_JOB)).clamp(PART_BYTES_MIN, PART_BYTES_MAX),
    }
}

/// The pieces of a table; one if it is small.
pub(crate) fn parts(table: &Table, part_bytes: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, store) in table.stores.iter().enumerate() {
        let splittable = !store.foreign && !table.columns.is_empty();
        let wanted = if splittable { store.bytes.div_ceil(part_bytes) } else { 1 };
        let count = wanted.clamp(1, store.blocks.max(1));
        parts.extend(ranges(store.blocks, count).map(|blocks| Part { store: number, blocks }));
    }
    parts
}

fn ranges(blocks: u64, count: u64) -> impl Iterator<Item = Option<Blocks>> {
    let step = blocks.div_ceil(count).max(1);
    let count = blocks.div_ceil(step).max(1);
    (0..count).map(move |i| {
        let to = (i + 1 < count).then_some((i + 1) * step);
        (count > 1).then_some(Blocks { from: i * step, to })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, Store};

    fn table(blocks: u64, bytes: u64) -> Table {
        let store = Store { oid: 1, schema: "s".into(), name: "t".into(), foreign: false, blocks, bytes };
        let column = Column { name: "c".into(), binary: true, type_name: "integer".into() };
        Table {
            schema: "s".into(),
            name: "t".into(),
            columns: vec![column],
            filter: None,
            whole: true,
            stores: vec![store],
            partitioned: false,
        }
    }

    #[test]
    fn a_small_table_is_one_part_without_a_range() {
        for blocks in [0, 1, 100] {
            assert_eq!(parts(&table(blocks, blocks * 8192), PART_BYTES_MIN), [Part { store: 0, blocks: None }]);
        }
    }

    #[test]
    fn ranges_follow_each_other_from_the_first_block_and_the_last_has_no_end() {
        for (blocks, bytes, part) in [(100, 1000, 10), (7, 70, 10), (5, 1_000_000, 1), (1000, 1000, 333), (3, 20, 10)] {
            let parts = parts(&table(blocks, bytes), part);
            assert!(parts.len() > 1);
            let mut expected = 0;
            for (at, part) in parts.iter().enumerate() {
                let range = part.blocks.unwrap();
                assert_eq!(range.from, expected);
                assert_eq!(range.to.is_none(), at + 1 == parts.len());
                assert!(range.to.is_none_or(|to| to > range.from && to < blocks));
                expected = range.to.unwrap_or(0);
            }
        }
    }

    #[test]
    fn one_job_splits_nothing_and_more_jobs_split_into_more_parts_than_there_are() {
        assert_eq!(part_bytes(1 << 40, 1), u64::MAX);
        let gigabyte = table(131_072, 1 << 30);
        assert!(parts(&gigabyte, part_bytes(1 << 30, 2)).len() >= 8);
    }
}
