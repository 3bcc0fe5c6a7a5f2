//! In which pieces tables are copied.

use tokio_postgres::Client;

use crate::catalog::Table;
use crate::error::{Error, Whom};

/// The environment variable by which a test sets how large parts are, in bytes, so that a small table has several.
pub const PART_BYTES_VARIABLE: &str = "WALCAST_PART_BYTES";

/// Tables below this are never split: a part has its price.
const PART_BYTES_MIN: u64 = 48 << 20;
const PART_BYTES_MAX: u64 = 1 << 30;
/// Parts for each stream, if everything were one table. The more, the less the last one is waited for.
const PARTS_PER_STREAM: u64 = 5;

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

/// So many cores one stream of rows keeps busy: a server that gives, one that takes, and what is between. Where they are all
/// on one machine, a table in parts is copied faster only if there are as many for each of them; with fewer, it only loses
/// what a table in one piece has, rows that are written as frozen (measured: 1 GB in one table, two cores: 1.03 to 1.2 times
/// as long in parts).
const CORES_PER_STREAM: usize = 2;

/// How large a part is to be about, with so many bytes in all.
pub(crate) async fn part_bytes(
    (source, target): (&Client, &Client),
    total_bytes: u64,
    jobs: usize,
) -> Result<u64, Error> {
    if let Some(bytes) = std::env::var(PART_BYTES_VARIABLE).ok().and_then(|bytes| bytes.parse().ok()) {
        return Ok(bytes);
    }
    let here = is_here(source, Whom::Source).await? && is_here(target, Whom::Target).await?;
    let cores = std::thread::available_parallelism().ok().filter(|_| here);
    Ok(part_bytes_of(total_bytes, streams(jobs, cores.map(usize::from))))
}

/// Whether a server is on this machine: a socket in the file system has no address, and over TCP both ends have the same.
async fn is_here(client: &Client, whom: Whom) -> Result<bool, Error> {
    let sql = "SELECT pg_catalog.inet_server_addr() IS NOT DISTINCT FROM pg_catalog.inet_client_addr()";
    let row = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0));
    row.map_err(whom.doing("ask for the server's address"))
}

/// Into how many streams it pays to split. `cores` are those of the machine that everything is on, if it is one.
fn streams(jobs: usize, cores: Option<usize>) -> usize {
    cores.map_or(jobs, |cores| jobs.min(cores / CORES_PER_STREAM).max(1))
}

fn part_bytes_of(total_bytes: u64, streams: usize) -> u64 {
    match streams {
        0 | 1 => u64::MAX,
        streams => (total_bytes / (streams as u64 * PARTS_PER_STREAM)).clamp(PART_BYTES_MIN, PART_BYTES_MAX),
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
    fn on_one_machine_no_more_streams_than_it_has_cores_for() {
        assert_eq!([1, 2, 8].map(|jobs| streams(jobs, None)), [1, 2, 8], "machines of their own");
        assert_eq!([1, 2, 4].map(|cores| streams(2, Some(cores))), [1, 1, 2]);
        assert_eq!(streams(4, Some(6)), 3);
    }

    #[test]
    fn one_job_splits_nothing_and_more_jobs_split_into_more_parts_than_there_are() {
        assert_eq!(part_bytes_of(1 << 40, 1), u64::MAX);
        let gigabyte = table(131_072, 1 << 30);
        assert!(parts(&gigabyte, part_bytes_of(1 << 30, 2)).len() >= 8);
    }
}
