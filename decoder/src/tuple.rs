//! Rows: a counted list of column values, read in place.

use std::fmt;
use std::iter::FusedIterator;

use crate::error::DecodeError;
use crate::reader::Reader;

/// One column's value as pgoutput sends it; borrows the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    /// SQL NULL (`n`).
    Null,
    /// A TOASTed value that the UPDATE did not touch and that is therefore not sent (`u`).
    UnchangedToast,
    /// The type's text output (`t`), in the session's client_encoding; not NUL-terminated.
    Text(&'a [u8]),
    /// The type's binary send format (`b`).
    Binary(&'a [u8]),
}

impl<'a> ColumnValue<'a> {
    /// Cuts a well-formed value off `bytes`; `None` when there is anything wrong with it.
    ///
    /// Rows are most of what is decoded: this keeps to registers and leaves naming what is wrong to
    /// [`ColumnValue::skip`].
    #[inline(always)]
    fn split(bytes: &'a [u8]) -> Option<(ColumnValue<'a>, &'a [u8])> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'n' => Some((ColumnValue::Null, rest)),
            b'u' => Some((ColumnValue::UnchangedToast, rest)),
            b't' | b'b' => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
                let (value, rest) = rest.split_at_checked(length)?;
                let value = if *kind == b't' { ColumnValue::Text(value) } else { ColumnValue::Binary(value) };
                Some((value, rest))
            }
            _ => None,
        }
    }

    /// Passes over a value, with an error that says what is wrong.
    fn skip(reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match reader.u8("column kind")? {
            b'n' | b'u' => Ok(()),
            b't' | b'b' => {
                let length = reader.length("column length")?;
                reader.bytes(length, "column value").map(|_| ())
            }
            got => Err(reader.unknown_letter("column kind", "nutb", got)),
        }
    }
}

impl fmt::Debug for ColumnValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnValue::Null => f.write_str("Null"),
            ColumnValue::UnchangedToast => f.write_str("UnchangedToast"),
            ColumnValue::Text(bytes) => write!(f, "Text(\"{}\")", bytes.escape_ascii()),
            ColumnValue::Binary(bytes) => write!(f, "Binary(\"{}\")", bytes.escape_ascii()),
        }
    }
}

/// A row whose framing was checked when the message was decoded: walking it cannot fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Reads a row and checks all of its framing.
    #[inline(always)]
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
        let columns = reader.count("column count")?;
        let start = reader.rest();
        match walk(columns, start) {
            Some(rest) => reader.set_rest(rest),
            None => *reader = walk_slowly(columns, *reader)?,
        }
        let length = start.len().saturating_sub(reader.rest().len());
        Ok(Tuple { columns, bytes: start.get(..length).unwrap_or(start) })
    }

    /// How many columns it has.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// A row without columns.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The values in wire order; exactly [`Tuple::len`] of them.
    pub fn columns(&self) -> Columns<'a> {
        Columns { left: self.columns, bytes: self.bytes }
    }

    /// The bytes that the row takes in the message, its column count not included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

/// What follows the row's columns; `None` when there is anything wrong with one of them.
#[inline(always)]
fn walk(columns: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..columns {
        (_, rest) = ColumnValue::split(rest)?;
    }
    Some(rest)
}

/// The same, to name what is wrong.
#[cold]
#[inline(never)]
fn walk_slowly(columns: u16, mut reader: Reader<'_>) -> Result<Reader<'_>, DecodeError> {
    for _ in 0..columns {
        ColumnValue::skip(&mut reader)?;
    }
    Ok(reader)
}

impl fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns()).finish()
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = ColumnValue<'a>;
    type IntoIter = Columns<'a>;

    fn into_iter(self) -> Columns<'a> {
        self.columns()
    }
}

/// Iterator over a [`Tuple`]'s values.
#[derive(Clone)]
pub struct Columns<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Iterator for Columns<'a> {
    type Item = ColumnValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<ColumnValue<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Never None: Tuple::read() went the same way over the same bytes.
        let (value, rest) = ColumnValue::split(self.bytes)?;
        self.bytes = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Columns<'_> {}
impl FusedIterator for Columns<'_> {}
