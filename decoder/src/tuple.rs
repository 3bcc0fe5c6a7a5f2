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
    /// The one place that knows how a value is framed.
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<ColumnValue<'a>, DecodeError> {
        match reader.u8("column kind")? {
            b'n' => Ok(ColumnValue::Null),
            b'u' => Ok(ColumnValue::UnchangedToast),
            b't' => sized(reader).map(ColumnValue::Text),
            b'b' => sized(reader).map(ColumnValue::Binary),
            got => Err(reader.unknown_letter("column kind", "nutb", got)),
        }
    }
}

#[inline]
fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = reader.length("column length")?;
    reader.bytes(length, "column value")
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
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
        let columns = reader.count("column count")?;
        let start = reader.rest();
        for _ in 0..columns {
            ColumnValue::read(reader)?;
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
        let mut reader = Reader::new(0, self.bytes, 0);
        // Never an error: Tuple::read() went the same way over the same bytes.
        let value = ColumnValue::read(&mut reader).ok()?;
        self.bytes = reader.rest();
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Columns<'_> {}
impl FusedIterator for Columns<'_> {}
