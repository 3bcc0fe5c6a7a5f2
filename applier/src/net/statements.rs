//! Set operations as protocol messages: arrays for UPDATE and DELETE, COPY for INSERT.
//!
//! A column's values travel as one array parameter in binary. Text values are elements of a `text[]` and are cast to
//! the column's type, which reads them with the type's input function; binary values are elements of an array of the
//! column's own type. COPY reads text with the input function and binary with the receive function.

use bytes::{BufMut, BytesMut};
use decoder::ColumnValue;
use postgres_protocol::message::frontend;

use super::{Format, Gathered};
use crate::catalog::SourceColumn;
use crate::encoder::{EXECUTE, MESSAGE_MAX};
use crate::error::Error;
use crate::name::quote;
use crate::pipeline::{Expect, Pipeline, Transactions};
use crate::relations::Mapped;

/// `text` and `text[]` in pg_type.dat.
const TEXT_OID: u32 = 25;
const TEXT_ARRAY_OID: u32 = 1009;
/// COPY's binary signature, flags and header extension length ("Binary Format" of COPY in the manual).
const COPY_BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A CopyData message is ended when it holds this much.
const COPY_DATA_BYTES: usize = 64 << 10;

/// Everything that a set operation's text depends on besides the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SetShape {
    /// By source column: whether it is assigned, and the formats.
    Update { changed: Vec<usize>, formats: Vec<Option<Format>> },
    /// The formats of the key.
    Delete { formats: Vec<Option<Format>> },
}

/// Writes one table's sets.
pub(crate) struct Writer<'w> {
    pub(crate) mapped: &'w mut Mapped,
    /// Names given to statements so far.
    pub(crate) statements: &'w mut usize,
    pub(crate) pipeline: &'w mut Pipeline,
    pub(crate) out: &'w mut BytesMut,
    pub(crate) transactions: Transactions,
}

impl Writer<'_> {
    /// DELETE, then UPDATE, then INSERT.
    pub(crate) fn write(&mut self, gathered: &Gathered<'_>) -> Result<(), Error> {
        self.delete(gathered)?;
        self.update(gathered)?;
        self.insert(gathered)
    }

    fn delete(&mut self, gathered: &Gathered<'_>) -> Result<(), Error> {
        let rows = gathered.net.deletes();
        if rows.is_empty() {
            return Ok(());
        }
        let key = self.key();
        let formats = key.iter().map(|column| gathered.formats[*column]).collect();
        let table = self.mapped.mapping.table.reference();
        let text = format!("DELETE FROM {table} AS t USING {} WHERE {}", unnest(&key), self.matches(&key));
        let name = self.prepared(SetShape::Delete { formats }, &text, &key, gathered)?;
        self.bind(&name, gathered, &rows, &key)
    }

    fn update(&mut self, gathered: &Gathered<'_>) -> Result<(), Error> {
        for set in gathered.net.updates() {
            let key = self.key();
            let mapping = &self.mapped.mapping;
            let written = |column: &usize| !key.contains(column) && !mapping.target(source(*column)).generated;
            let changed: Vec<usize> = set.changed.iter().copied().filter(written).collect();
            let assignments: Vec<String> = changed.iter().map(|column| self.assignment(*column)).collect();
            let all: Vec<usize> = key.iter().chain(&changed).copied().collect();
            let table = mapping.table.reference();
            let (rows, condition) = (unnest(&all), self.matches(&key));
            let text = match assignments.as_slice() {
                // Nothing is left to be written, but the rows must be there.
                [] => format!("SELECT FROM {table} AS t, {rows} WHERE {condition}"),
                some => format!("UPDATE {table} AS t SET {} FROM {rows} WHERE {condition}", some.join(", ")),
            };
            let formats = gathered.formats.clone();
            let name = self.prepared(SetShape::Update { changed, formats }, &text, &all, gathered)?;
            self.bind(&name, gathered, &set.rows, &all)?;
        }
        Ok(())
    }

    fn key(&self) -> Vec<usize> {
        let columns = &self.mapped.mapping.relation.columns;
        (0..columns.len()).filter(|at| columns[*at].is_key).collect()
    }

    fn matches(&self, key: &[usize]) -> String {
        let one = |column: &usize| {
            let target = self.mapped.mapping.target(source(*column));
            let as_held = if target.modified { &target.full_type } else { &target.bare_type };
            format!("t.{} {} u.v{column}::{as_held}", quote(&target.name), target.equals)
        };
        key.iter().map(one).collect::<Vec<_>>().join(" AND ")
    }

    /// The cast has no modifier: with one it would cut off what an assignment refuses.
    fn assignment(&self, column: usize) -> String {
        let target = self.mapped.mapping.target(source(column));
        format!("{} = u.v{column}::{}", quote(&target.name), target.bare_type)
    }

    /// The name under which the target has the statement.
    fn prepared(
        &mut self,
        shape: SetShape,
        text: &str,
        columns: &[usize],
        gathered: &Gathered<'_>,
    ) -> Result<String, Error> {
        if let Some(name) = self.mapped.sets.get(&shape) {
            return Ok(name.clone());
        }
        *self.statements += 1;
        let name = format!("w{}", self.statements);
        let types: Vec<u32> = columns.iter().map(|column| self.array_type(*column, gathered).1).collect();
        frontend::parse(&name, text, types, self.out).map_err(|_| self.too_large(text.len()))?;
        self.mapped.sets.insert(shape, name.clone());
        Ok(name)
    }

    /// OIDs of a column's elements and of their array.
    fn array_type(&self, column: usize, gathered: &Gathered<'_>) -> (u32, u32) {
        let target = self.mapped.mapping.target(source(column));
        match (gathered.formats[column], target.array_oid) {
            (Some(Format::Binary), Some(array)) => (target.type_oid.0, array.0),
            _ => (TEXT_OID, TEXT_ARRAY_OID),
        }
    }

    fn bind(&mut self, name: &str, gathered: &Gathered<'_>, rows: &[u32], columns: &[usize]) -> Result<(), Error> {
        let start = self.out.len();
        self.out.put_u8(b'B');
        self.out.put_u32(0);
        self.out.put_u8(0); // the unnamed portal
        self.out.put_slice(name.as_bytes());
        self.out.put_u8(0);
        self.out.put_slice(&[0, 1, 0, 1]); // one format for all parameters: binary
        self.out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for column in columns {
            let (element, _) = self.array_type(*column, gathered);
            put_array(self.out, element, rows.iter().map(|row| gathered.net.values(*row)[*column]), rows.len());
        }
        self.out.put_u16(0);
        self.end_message(start)?;
        self.out.put_slice(&EXECUTE);
        self.pipeline.expect(Expect::Rows(rows.len() as u64, self.transactions));
        Ok(())
    }

    fn insert(&mut self, gathered: &Gathered<'_>) -> Result<(), Error> {
        let rows = gathered.net.inserts();
        if rows.is_empty() {
            return Ok(());
        }
        let mapping = &self.mapped.mapping;
        let written = |column: &usize| !mapping.target(source(*column)).generated;
        let columns: Vec<usize> = (0..gathered.formats.len()).filter(written).collect();
        let is_binary = columns.iter().any(|column| gathered.formats[*column] == Some(Format::Binary));
        let is_text = columns.iter().any(|column| gathered.formats[*column] == Some(Format::Text));
        if is_binary && is_text {
            return self.insert_from_arrays(gathered, &rows, &columns);
        }
        let names: Vec<String> = columns.iter().map(|c| quote(&mapping.target(source(*c)).name)).collect();
        let format = if is_binary { " WITH (FORMAT binary)" } else { "" };
        let text = format!("COPY {} ({}) FROM STDIN{format}", mapping.table.name.quoted(), names.join(", "));
        let start = self.out.len();
        frontend::parse("", &text, [], self.out).map_err(|_| self.too_large(text.len()))?;
        self.out.put_slice(&BIND_UNNAMED);
        self.out.put_slice(&EXECUTE);
        let copied = self.copy_rows(gathered, &rows, &columns, is_binary);
        // The target would wait for the end of a COPY that was begun.
        copied.inspect_err(|_| self.out.truncate(start))?;
        self.pipeline.expect(Expect::Rows(rows.len() as u64, self.transactions));
        Ok(())
    }

    /// Neither of COPY's formats has both: text and binary columns side by side.
    fn insert_from_arrays(&mut self, gathered: &Gathered<'_>, rows: &[u32], columns: &[usize]) -> Result<(), Error> {
        let mapping = &self.mapped.mapping;
        let target = |column: &usize| mapping.target(source(*column));
        let names: Vec<String> = columns.iter().map(|c| quote(&target(c).name)).collect();
        let values: Vec<String> = columns.iter().map(|c| format!("u.v{c}::{}", target(c).bare_type)).collect();
        let text = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            mapping.table.name.quoted(),
            names.join(", "),
            values.join(", "),
            unnest(columns)
        );
        let types: Vec<u32> = columns.iter().map(|column| self.array_type(*column, gathered).1).collect();
        frontend::parse("", &text, types, self.out).map_err(|_| self.too_large(text.len()))?;
        self.bind("", gathered, rows, columns)
    }

    fn copy_rows(
        &mut self,
        gathered: &Gathered<'_>,
        rows: &[u32],
        columns: &[usize],
        is_binary: bool,
    ) -> Result<(), Error> {
        let mut start = self.begin_copy_data();
        if is_binary {
            self.out.put_slice(COPY_BINARY_HEADER);
        }
        for row in rows {
            let values = gathered.net.values(*row);
            let values = columns.iter().map(|column| &values[*column]);
            if is_binary {
                put_binary_row(self.out, values)
            } else {
                put_text_row(self.out, values)
            }
            if self.out.len() - start >= COPY_DATA_BYTES {
                self.end_message(start)?;
                start = self.begin_copy_data();
            }
        }
        if is_binary {
            self.out.put_i16(-1);
        }
        self.end_message(start)?;
        self.out.put_slice(b"c\0\0\0\x04");
        Ok(())
    }

    fn begin_copy_data(&mut self) -> usize {
        let start = self.out.len();
        self.out.put_slice(b"d\0\0\0\0");
        start
    }

    /// Fills in the length of the message that began at `start`.
    fn end_message(&mut self, start: usize) -> Result<(), Error> {
        let length = self.out.len() - start - 1;
        match (i32::try_from(length), self.out.get_mut(start + 1..start + 5)) {
            (Ok(number), Some(place)) if length <= MESSAGE_MAX => place.copy_from_slice(&number.to_be_bytes()),
            _ => {
                self.out.truncate(start);
                return Err(self.too_large(length));
            }
        }
        Ok(())
    }

    fn too_large(&self, bytes: usize) -> Error {
        Error::TooLarge { table: self.mapped.label.clone(), bytes, max: MESSAGE_MAX }
    }
}

/// Bind of the unnamed statement to the unnamed portal, without parameters.
const BIND_UNNAMED: [u8; 13] = [b'B', 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0];

fn source(column: usize) -> SourceColumn {
    SourceColumn(u16::try_from(column).unwrap_or(u16::MAX))
}

/// `unnest($1, $2) AS u(v0, v3)`: the columns keep their source numbers as names.
fn unnest(columns: &[usize]) -> String {
    let parameters: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let names: Vec<String> = columns.iter().map(|column| format!("v{column}")).collect();
    // Without a schema on purpose: the parser takes several arrays only by the bare name.
    format!("unnest({}) AS u({})", parameters.join(", "), names.join(", "))
}

/// A one-dimensional array in binary (array_send in PostgreSQL's arrayfuncs.c), its parameter length included.
fn put_array<'a>(out: &mut BytesMut, element: u32, values: impl Iterator<Item = ColumnValue<'a>>, count: usize) {
    let start = out.len();
    out.put_u32(0);
    out.put_i32(1); // dimensions
    out.put_i32(1); // there may be NULLs
    out.put_u32(element);
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
    out.put_i32(1); // lower bound
    for value in values {
        put_value(out, &value);
    }
    // Beyond 2 GiB the whole message is refused by its own length.
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn put_value(out: &mut BytesMut, value: &ColumnValue<'_>) {
    match value {
        ColumnValue::Text(bytes) | ColumnValue::Binary(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.put_slice(bytes);
        }
        ColumnValue::Null | ColumnValue::UnchangedToast => out.put_i32(-1),
    }
}

fn put_binary_row<'v, 'a: 'v>(out: &mut BytesMut, values: impl ExactSizeIterator<Item = &'v ColumnValue<'a>>) {
    out.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
    for value in values {
        put_value(out, value);
    }
}

fn put_text_row<'v, 'a: 'v>(out: &mut BytesMut, values: impl Iterator<Item = &'v ColumnValue<'a>>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.put_u8(b'\t');
        }
        match value {
            ColumnValue::Text(bytes) | ColumnValue::Binary(bytes) => put_escaped(out, bytes),
            ColumnValue::Null | ColumnValue::UnchangedToast => out.put_slice(b"\\N"),
        }
    }
    out.put_u8(b'\n');
}

/// COPY's text format: a backslash before what would end a value, a row or the data.
fn put_escaped(out: &mut BytesMut, mut bytes: &[u8]) {
    while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        let (plain, rest) = bytes.split_at(at);
        out.put_slice(plain);
        let escaped: &[u8] = match rest.first() {
            Some(b'\t') => b"\\t",
            Some(b'\n') => b"\\n",
            Some(b'\r') => b"\\r",
            _ => b"\\\\",
        };
        out.put_slice(escaped);
        bytes = rest.get(1..).unwrap_or_default();
    }
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_rows_are_escaped_for_copy() {
        let mut out = BytesMut::new();
        let values =
            [ColumnValue::Text(b"a\tb\\N\n\r"), ColumnValue::Null, ColumnValue::Text(b""), ColumnValue::Text(b"\\.")];
        put_text_row(&mut out, values.iter());
        assert_eq!(&out[..], b"a\\tb\\\\N\\n\\r\t\\N\t\t\\\\.\n");
    }

    #[test]
    fn an_array_has_its_length_and_its_nulls() {
        let mut out = BytesMut::new();
        put_array(&mut out, 25, [ColumnValue::Text(b"xy"), ColumnValue::Null].into_iter(), 2);
        let expected = [
            &30_i32.to_be_bytes()[..],
            &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1],
            &[0, 0, 0, 2],
            b"xy",
            &[255; 4],
        ];
        assert_eq!(out.to_vec(), expected.concat());
    }

    #[test]
    fn the_parameters_are_named_by_their_columns() {
        assert_eq!(unnest(&[0, 3]), "unnest($1, $2) AS u(v0, v3)");
    }
}
