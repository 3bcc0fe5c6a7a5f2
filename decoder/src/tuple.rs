//! Rows: a counted list of column values, read in place.

/// One column's value as pgoutput sends it; borrows the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A row whose framing was checked when the message was decoded: walking it cannot fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    pub(crate) columns: u16,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
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
}

/// Iterator over a [`Tuple`]'s values.
#[derive(Clone)]
pub struct Columns<'a> {
    pub(crate) left: u16,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Iterator for Columns<'a> {
    type Item = ColumnValue<'a>;

    fn next(&mut self) -> Option<ColumnValue<'a>> {
        None
    }
}

impl std::fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.columns()).finish()
    }
}
