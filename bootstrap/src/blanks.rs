//! Rows without the blanks that fill up values of `character(n)`. Who takes such a value fills it up again, so the blanks
//! need be neither sent nor looked at one by one, which is much of what a server does with a narrow row (measured, seven
//! million rows with a `char(84)`: a quarter of it).

use bytes::{BufMut, BytesMut};

/// What COPY in binary begins with. No row does: it would have more columns than a table can.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Behind it are flags, and the length of what may follow.
const FLAGS_BYTES: usize = 4;
/// Comes instead of the number of columns behind the last row.
const TRAILER: i16 = -1;

/// Which columns of a table are filled up, as rows have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blanks(Vec<bool>);

impl Blanks {
    pub(crate) fn new(columns: impl IntoIterator<Item = bool>) -> Blanks {
        let columns: Vec<bool> = columns.into_iter().collect();
        Blanks(if columns.contains(&true) { columns } else { Vec::new() })
    }

    /// Appends a row in binary, or what is before or behind rows. None: it is no row of such columns.
    pub(crate) fn put(&self, row: &[u8], out: &mut BytesMut) -> Option<()> {
        let mut put = 0;
        if !self.0.is_empty() {
            let mut at = header_length(row)?;
            let count = i16::from_be_bytes(*row.get(at..)?.first_chunk()?);
            at += size_of::<i16>();
            if count != TRAILER && usize::try_from(count) != Ok(self.0.len()) {
                return None;
            }
            let columns = if count == TRAILER { &[][..] } else { &self.0 };
            for filled in columns {
                let length = i32::from_be_bytes(*row.get(at..)?.first_chunk()?);
                let start = at + size_of::<i32>();
                // A negative one is NULL's.
                let value = row.get(start..)?.get(..usize::try_from(length).unwrap_or(0))?;
                let kept = if *filled { without_blanks(value) } else { value };
                if kept.len() < value.len() {
                    out.put_slice(row.get(put..at)?);
                    out.put_i32(i32::try_from(kept.len()).ok()?);
                    out.put_slice(kept);
                    put = start + value.len();
                }
                at = start + value.len();
            }
        }
        out.put_slice(row.get(put..)?);
        Some(())
    }
}

/// The first row comes with the header before it.
fn header_length(row: &[u8]) -> Option<usize> {
    let Some(rest) = row.strip_prefix(SIGNATURE) else { return Some(0) };
    let more = u32::from_be_bytes(*rest.get(FLAGS_BYTES..)?.first_chunk()?);
    Some(SIGNATURE.len() + FLAGS_BYTES + size_of::<u32>() + usize::try_from(more).ok()?)
}

fn without_blanks(mut value: &[u8]) -> &[u8] {
    // By eight, as there may be many.
    while let Some(rest) = value.strip_suffix(b"        ") {
        value = rest;
    }
    while let Some(rest) = value.strip_suffix(b" ") {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> Vec<u8> {
        let mut row = i16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
            row.extend(length.to_be_bytes());
            row.extend(value.unwrap_or_default().bytes());
        }
        row
    }

    fn put(columns: &[bool], row: &[u8]) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        Blanks::new(columns.iter().copied()).put(row, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn only_the_blanks_behind_values_of_filled_columns_are_left_out() {
        let many = format!("a b{}", " ".repeat(19));
        let given = [Some("x "), Some(&many), None, Some("   "), Some(" y"), Some("")];
        let expected = [Some("x "), Some("a b"), None, Some(""), Some(" y"), Some("")];
        assert_eq!(put(&[false, true, true, true, true, true], &row(&given)), Some(row(&expected)));
        assert_eq!(put(&[false; 6], &row(&given)), Some(row(&given)));
    }

    #[test]
    fn what_is_before_and_behind_rows_stays() {
        let begin = [SIGNATURE, &[0; 4], &3_u32.to_be_bytes(), b"abc"].concat();
        let (given, expected) = (row(&[Some("a ")]), row(&[Some("a")]));
        assert_eq!(put(&[true], &[&begin[..], &given].concat()), Some([&begin[..], &expected].concat()));
        let trailer = TRAILER.to_be_bytes();
        assert_eq!(put(&[true], &trailer), Some(trailer.to_vec()));
        assert_eq!(put(&[true], &[&begin[..], &trailer].concat()), Some([&begin[..], &trailer].concat()));
    }

    #[test]
    fn what_is_no_row_is_told() {
        let whole = row(&[Some("a "), Some("b")]);
        for length in 0..whole.len() {
            assert_eq!(put(&[true, false], &whole[..length]), None, "{length} bytes");
        }
        assert_eq!(put(&[true], &whole), None, "too many columns");
        assert_eq!(put(&[true], &[SIGNATURE, &[0xff; 8]].concat()), None);
    }
}
