//! From buckets that differ to the keys of the rows that do.

use std::cmp::Ordering;
use std::collections::HashMap;

use connection::TextRow;

use crate::error::{Error, Side};
use crate::report::Kind;
use crate::rows::{Readers, read_both};
use crate::scan::Scan;
use crate::session::number;
use crate::sums::Sum;

/// Rows, of both sides together, whose keys are held in memory at a time; but one bucket at least.
const ROWS_MAX: u64 = 250_000;
/// How much is shown of a row that has no key.
const ROW_CHARS_MAX: usize = 200;

/// Two hashes of a key.
pub(crate) type KeyHash = (i64, i64);

/// A key whose rows are not the same on both sides.
#[derive(Debug, Clone)]
pub(crate) struct DifferentKey {
    pub(crate) hash: KeyHash,
    pub(crate) kind: Kind,
    /// Of a row without a key: how many copies are missing, or too many.
    pub(crate) copies: u64,
    /// The key's columns; of a row without a key the beginning of its text.
    pub(crate) values: TextRow,
}

/// The keys that differ.
#[derive(Debug, Default)]
pub(crate) struct Drilled {
    pub(crate) keys: Vec<DifferentKey>,
    /// All that were found, listed or not.
    pub(crate) found: u64,
    /// Buckets that were not looked into, because enough was found.
    pub(crate) further_buckets: u64,
}

/// Looks into the buckets until `listed_max` keys are found. `None`: the table moved meanwhile.
pub(crate) async fn drill(
    readers: &mut Readers,
    scans: &[Scan<'_>; 2],
    buckets: &[(usize, u64)],
    listed_max: usize,
) -> Result<Option<Drilled>, Error> {
    let mut drilled = Drilled::default();
    let mut rest = buckets;
    while !rest.is_empty() && drilled.keys.len() < listed_max {
        let (batch, after) = rest.split_at(batch_len(rest));
        let Some(keys) = different_keys(readers, scans, batch).await? else { return Ok(None) };
        drilled.found += keys.len() as u64;
        let room = listed_max - drilled.keys.len();
        drilled.keys.extend(keys.into_iter().take(room));
        rest = after;
    }
    drilled.further_buckets = rest.len() as u64;
    Ok(fill_in(readers, scans, &mut drilled.keys).await?.then_some(drilled))
}

fn batch_len(buckets: &[(usize, u64)]) -> usize {
    let mut rows = 0_u64;
    let fits = buckets.iter().take_while(|(_, more)| {
        rows = rows.saturating_add(*more);
        rows <= ROWS_MAX
    });
    fits.count().max(1)
}

async fn different_keys(
    readers: &mut Readers,
    scans: &[Scan<'_>; 2],
    buckets: &[(usize, u64)],
) -> Result<Option<Vec<DifferentKey>>, Error> {
    let list = array(buckets.iter().map(|(bucket, _)| *bucket as i64));
    let mut sums: [HashMap<KeyHash, Sum>; 2] = Default::default();
    let [ours, theirs] = &mut sums;
    let mut take_ours = |row: TextRow| keep_sum(ours, Side::Source, &row);
    let mut take_theirs = |row: TextRow| keep_sum(theirs, Side::Target, &row);
    let sql = scans.each_ref().map(Scan::keys);
    if !read_both(readers, scans, &sql, [Some(&list); 2], [&mut take_ours, &mut take_theirs]).await? {
        return Ok(None);
    }
    Ok(Some(differences(&sums)))
}

fn keep_sum(sums: &mut HashMap<KeyHash, Sum>, side: Side, row: &TextRow) -> Result<(), Error> {
    sums.insert(key_hash(row, side)?, Sum::read(row, 2, side)?);
    Ok(())
}

fn differences([ours, theirs]: &[HashMap<KeyHash, Sum>; 2]) -> Vec<DifferentKey> {
    let none = Sum::default();
    let of = |hash: KeyHash, our: Sum, their: Sum| {
        let kind = match our.rows.cmp(&their.rows) {
            Ordering::Greater => Kind::Missing,
            Ordering::Less => Kind::Extra,
            Ordering::Equal => Kind::Changed,
        };
        let copies = our.rows.abs_diff(their.rows);
        (our != their).then(|| DifferentKey { hash, kind, copies, values: Vec::new() })
    };
    let ours_too = ours.iter().filter_map(|(hash, our)| of(*hash, *our, *theirs.get(hash).unwrap_or(&none)));
    let only_theirs = theirs.iter().filter(|(hash, _)| !ours.contains_key(hash));
    ours_too.chain(only_theirs.filter_map(|(hash, their)| of(*hash, none, *their))).collect()
}

pub(crate) fn key_hash(row: &TextRow, side: Side) -> Result<KeyHash, Error> {
    Ok((number(row, 0, side)?, number(row, 1, side)?))
}

/// An array of numbers as a parameter.
pub(crate) fn array(numbers: impl Iterator<Item = i64>) -> String {
    format!("{{{}}}", numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(","))
}

/// Reads the values of the keys, each from a side that has them.
async fn fill_in(readers: &mut Readers, scans: &[Scan<'_>; 2], keys: &mut [DifferentKey]) -> Result<bool, Error> {
    if keys.is_empty() {
        return Ok(true);
    }
    let wanted = |extra: bool| array(keys.iter().filter(|k| (k.kind == Kind::Extra) == extra).map(|k| k.hash.0));
    let lists = [wanted(false), wanted(true)];
    let mut values: [HashMap<KeyHash, TextRow>; 2] = Default::default();
    let [ours, theirs] = &mut values;
    let mut take_ours = |row: TextRow| keep_values(ours, Side::Source, row);
    let mut take_theirs = |row: TextRow| keep_values(theirs, Side::Target, row);
    let sql = scans.each_ref().map(|scan| scan.key_values(ROW_CHARS_MAX));
    let lists = [Some(lists[0].as_str()), Some(lists[1].as_str())];
    if !read_both(readers, scans, &sql, lists, [&mut take_ours, &mut take_theirs]).await? {
        return Ok(false);
    }
    for key in keys {
        let found = values[usize::from(key.kind == Kind::Extra)].get(&key.hash);
        key.values = found.cloned().unwrap_or_default();
    }
    Ok(true)
}

fn keep_values(values: &mut HashMap<KeyHash, TextRow>, side: Side, mut row: TextRow) -> Result<(), Error> {
    let hash = key_hash(&row, side)?;
    values.entry(hash).or_insert_with(|| row.split_off(2));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_rows_and_has_one_bucket_at_least() {
        assert_eq!(batch_len(&[(1, ROWS_MAX * 2), (2, 1)]), 1);
        assert_eq!(batch_len(&[(1, ROWS_MAX - 1), (2, 1), (3, 1)]), 2);
        assert_eq!(batch_len(&[(1, 0), (2, 0)]), 2);
    }

    fn sum(rows: &str, hash: &str) -> Sum {
        let row = vec![Some(rows.to_owned()), Some(hash.to_owned()), Some("0".to_owned())];
        Sum::read(&row, 0, Side::Source).unwrap()
    }

    #[test]
    fn keys_are_missing_extra_or_changed() {
        let ours = HashMap::from([((1, 1), sum("1", "5")), ((2, 2), sum("1", "5")), ((3, 3), sum("2", "6"))]);
        let theirs = HashMap::from([((2, 2), sum("1", "6")), ((3, 3), sum("2", "6")), ((4, 4), sum("3", "9"))]);
        let mut found = differences(&[ours, theirs]);
        found.sort_by_key(|key| key.hash);
        let kinds: Vec<_> = found.iter().map(|key| (key.hash.0, key.kind, key.copies)).collect();
        assert_eq!(kinds, [(1, Kind::Missing, 1), (2, Kind::Changed, 0), (4, Kind::Extra, 3)]);
    }
}
