//! From a change's tuples to protocol messages: values are copied once, from the mapped log into the send buffer.

use bytes::{BufMut, BytesMut};
use decoder::{ColumnValue, OldTuple, Tuple};
use postgres_protocol::message::frontend;

use crate::error::Error;
use crate::pipeline::{Expect, Pipeline, Transactions};
use crate::relations::Mapped;
use crate::sql::{self, Cell, Guard, Identity, Operation, Parameter, Shape, Side};

/// What the server accepts as one message (`PQ_LARGE_MESSAGE_LIMIT`).
pub(crate) const MESSAGE_MAX: usize = 0x3FFF_FFFE;
/// Neighbouring rows of one table are inserted by one statement, in groups of these sizes.
const GROUPS: [usize; 3] = [64, 8, 1];
/// A Bind message counts its parameters in 16 bits.
const PARAMETERS_MAX: usize = 65_534;

/// The type of a token.
const TEXT: u32 = 25;

/// Execute of the unnamed portal, without a limit of rows.
pub(crate) const EXECUTE: [u8; 10] = [b'E', 0, 0, 0, 9, 0, 0, 0, 0, 0];

/// A statement that the target has under a name.
pub(crate) struct Prepared {
    /// Bind up to the number of parameters: portal, name, formats.
    head: Vec<u8>,
    parameters: Vec<Parameter>,
    counted: bool,
}

/// Neighbouring INSERTs of the same columns and formats.
#[derive(Default)]
pub(crate) struct Inserts<'a> {
    cells: Vec<Cell>,
    values: Vec<ColumnValue<'a>>,
    rows: usize,
    transactions: Transactions,
}

impl<'a> Inserts<'a> {
    /// Nothing is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// One UPDATE or DELETE.
pub(crate) struct RowChange<'a> {
    pub(crate) new: Option<Tuple<'a>>,
    pub(crate) old: Option<OldTuple<'a>>,
    pub(crate) guard: Guard,
    pub(crate) transaction: u32,
}

/// Writes changes of one relation.
pub(crate) struct Encoder<'e> {
    pub(crate) mapped: &'e mut Mapped,
    /// Names given to statements so far.
    pub(crate) statements: &'e mut usize,
    pub(crate) pipeline: &'e mut Pipeline,
    pub(crate) out: &'e mut BytesMut,
}

impl Encoder<'_> {
    /// Adds a row to the group, after writing out a group that it does not fit into.
    pub(crate) fn insert<'a>(&mut self, group: &mut Inserts<'a>, new: Tuple<'a>, at: u32) -> Result<(), Error> {
        self.check_length(new)?;
        let start = group.values.len();
        group.values.extend(new.columns());
        let row = group.values.get(start..).unwrap_or_default();
        if row.contains(&ColumnValue::UnchangedToast) {
            return Err(Error::NoIdentity { table: self.mapped.label.clone() });
        }
        if !self.same_cells(&group.cells, row) || group.rows == 0 {
            let row = group.values.split_off(start);
            self.finish_inserts(group)?;
            group.cells = self.cells(&row);
            group.values = row;
            group.transactions = Transactions { first: at, last: at };
        }
        group.rows += 1;
        group.transactions.last = at;
        if group.rows >= self.rows_max(group.cells.len()) { self.finish_inserts(group) } else { Ok(()) }
    }

    /// Writes out the group.
    pub(crate) fn finish_inserts(&mut self, group: &mut Inserts<'_>) -> Result<(), Error> {
        let width = group.cells.len();
        let mut done = 0;
        while done < group.rows {
            let fits = |size: &usize| *size <= group.rows - done && *size <= self.rows_max(width);
            let rows = GROUPS.into_iter().find(fits).unwrap_or(1);
            let values = group.values.get(done * width..(done + rows) * width).unwrap_or_default();
            self.insert_rows(&group.cells, values, rows, group.transactions)?;
            done += rows;
        }
        group.values.clear();
        group.rows = 0;
        Ok(())
    }

    fn insert_rows(
        &mut self,
        cells: &[Cell],
        values: &[ColumnValue<'_>],
        rows: usize,
        at: Transactions,
    ) -> Result<(), Error> {
        let operation = Operation::Insert { rows: u16::try_from(rows).unwrap_or(1) };
        let (new, old) = (cells.to_vec(), Vec::new());
        let shape = Shape { operation, identity: Identity::New, guard: Guard::Plain, new, old };
        self.prepare(&shape)?;
        let width = cells.len();
        let row = |row: usize| values.get(row * width..(row + 1) * width).unwrap_or_default();
        self.bind(&shape, (0..rows).map(|at| (row(at), [].as_slice())), rows, at)
    }

    /// A row without columns inserts defaults, which takes a statement for each.
    fn rows_max(&self, width: usize) -> usize {
        PARAMETERS_MAX.checked_div(width).map_or(1, |rows| rows.clamp(1, GROUPS[0]))
    }

    /// Writes an UPDATE or DELETE.
    pub(crate) fn change(&mut self, change: &RowChange<'_>) -> Result<(), Error> {
        let identity = match change.old {
            None => Identity::New,
            Some(OldTuple::Key(_)) => Identity::OldKey,
            Some(OldTuple::Full(_)) => Identity::OldFull,
        };
        let old = self.values(change.old.map(|old| old.tuple()))?;
        let new = self.values(change.new)?;
        let operation = if change.new.is_some() { Operation::Update } else { Operation::Delete };
        let shape = Shape {
            operation,
            identity,
            guard: change.guard,
            new: self.new_cells(&new, &old, identity),
            old: self.old_cells(&old, identity),
        };
        self.check_identity(&shape)?;
        self.prepare(&shape)?;
        let at = Transactions { first: change.transaction, last: change.transaction };
        self.bind(&shape, [(new.as_slice(), old.as_slice())].into_iter(), 1, at)
    }

    fn values<'a>(&self, tuple: Option<Tuple<'a>>) -> Result<Vec<ColumnValue<'a>>, Error> {
        let Some(tuple) = tuple else { return Ok(Vec::new()) };
        self.check_length(tuple)?;
        Ok(tuple.columns().collect())
    }

    fn check_length(&self, tuple: Tuple<'_>) -> Result<(), Error> {
        let (got, expected) = (tuple.len(), self.mapped.formats.len());
        let table = || self.mapped.label.clone();
        if got == expected { Ok(()) } else { Err(Error::ColumnCount { table: table(), got, expected }) }
    }

    /// Something must select the row: every key column's value, or the whole old row.
    fn check_identity(&self, shape: &Shape) -> Result<(), Error> {
        let cells = if shape.identity == Identity::New { &shape.new } else { &shape.old };
        let columns = &self.mapped.mapping.relation.columns;
        let mut keys = columns.iter().zip(cells).filter(|(column, _)| column.is_key).map(|(_, cell)| *cell).peekable();
        let usable = match shape.identity {
            Identity::OldFull => cells.iter().all(|cell| *cell != Cell::Absent),
            _ => keys.peek().is_some() && keys.all(|cell| cell != Cell::Absent),
        };
        if usable { Ok(()) } else { Err(Error::NoIdentity { table: self.mapped.label.clone() }) }
    }

    fn cells(&mut self, row: &[ColumnValue<'_>]) -> Vec<Cell> {
        let formats = &mut self.mapped.formats;
        formats.iter_mut().zip(row).map(|(format, value)| cell(format, value)).collect()
    }

    fn same_cells(&self, cells: &[Cell], row: &[ColumnValue<'_>]) -> bool {
        let same = |(known, value): (&Cell, &ColumnValue<'_>)| match value {
            ColumnValue::Null => true,
            ColumnValue::Text(_) => *known == Cell::Text,
            ColumnValue::Binary(_) => *known == Cell::Binary,
            ColumnValue::UnchangedToast => *known == Cell::Absent,
        };
        cells.len() == row.len() && cells.iter().zip(row).all(same)
    }

    /// A GENERATED ALWAYS AS IDENTITY column that is known not to change need not be written.
    fn new_cells(&mut self, new: &[ColumnValue<'_>], old: &[ColumnValue<'_>], identity: Identity) -> Vec<Cell> {
        let mut cells = self.cells(new);
        if identity == Identity::New {
            return cells;
        }
        let mapping = &self.mapped.mapping;
        for ((column, cell), (new, old)) in mapping.columns().zip(&mut cells).zip(new.iter().zip(old)) {
            let known = identity == Identity::OldFull || mapping.source(column).is_key;
            if known && new == old && mapping.target(column).identity_always {
                *cell = Cell::Absent;
            }
        }
        cells
    }

    fn old_cells(&mut self, old: &[ColumnValue<'_>], identity: Identity) -> Vec<Cell> {
        let mut cells = self.cells(old);
        for (at, (cell, value)) in cells.iter_mut().zip(old).enumerate() {
            let is_key = self.mapped.mapping.relation.columns.get(at).is_some_and(|column| column.is_key);
            match identity {
                Identity::OldFull if *value == ColumnValue::Null => *cell = Cell::Null,
                Identity::OldKey if !is_key => *cell = Cell::Absent,
                _ => {}
            }
        }
        cells
    }

    /// Has the target prepare the statement unless it did; the answer is not waited for.
    fn prepare(&mut self, shape: &Shape) -> Result<(), Error> {
        if self.mapped.statements.contains_key(shape) {
            return Ok(());
        }
        let statement = sql::statement(&self.mapped.mapping, shape);
        *self.statements += 1;
        let name = format!("w{}", self.statements);
        let rows = if let Operation::Insert { rows } = shape.operation { usize::from(rows) } else { 1 };
        let types = statement.parameters.iter().map(|parameter| parameter.type_oid.0);
        let owner = self.mapped.mapping.table.owner.as_ref();
        let types =
            owner.map(|_| TEXT).into_iter().chain(std::iter::repeat_n(types, rows).flatten()).collect::<Vec<u32>>();
        frontend::parse(&name, &statement.text, types, self.out).map_err(|_| self.too_large(statement.text.len()))?;
        let head = bind_head(&name, &statement.parameters, rows, owner.is_some());
        let prepared = Prepared { head, parameters: statement.parameters, counted: statement.counted };
        self.mapped.statements.insert(shape.clone(), prepared);
        Ok(())
    }

    fn bind<'a>(
        &mut self,
        shape: &Shape,
        rows: impl Iterator<Item = (&'a [ColumnValue<'a>], &'a [ColumnValue<'a>])>,
        count: usize,
        transactions: Transactions,
    ) -> Result<(), Error> {
        let Some(prepared) = self.mapped.statements.get(shape) else { return Ok(()) };
        let start = self.out.len();
        self.out.put_u8(b'B');
        self.out.put_u32(0);
        self.out.put_slice(&prepared.head);
        let token = self.mapped.mapping.table.owner.as_ref().map(|owner| owner.token.as_str());
        let parameters = prepared.parameters.len() * count + usize::from(token.is_some());
        self.out.put_u16(u16::try_from(parameters).unwrap_or(u16::MAX));
        if let Some(token) = token {
            put_value(self.out, Some(&ColumnValue::Text(token.as_bytes())));
        }
        for (new, old) in rows {
            for parameter in &prepared.parameters {
                let side = if parameter.side == Side::New { new } else { old };
                put_value(self.out, side.get(usize::from(parameter.column.0)));
            }
        }
        self.out.put_u16(0);
        let length = self.out.len() - start - 1;
        match (u32::try_from(length), self.out.get_mut(start + 1..start + 5)) {
            (Ok(number), Some(place)) if length <= MESSAGE_MAX => place.copy_from_slice(&number.to_be_bytes()),
            _ => {
                self.out.truncate(start);
                return Err(self.too_large(length));
            }
        }
        self.out.put_slice(&EXECUTE);
        let counted = prepared.counted;
        self.pipeline.expect(if counted { Expect::OneRow(transactions) } else { Expect::Done(transactions) });
        Ok(())
    }

    fn too_large(&self, bytes: usize) -> Error {
        Error::TooLarge { table: self.mapped.label.clone(), bytes, max: MESSAGE_MAX }
    }
}

/// A NULL takes the format that its column came in last.
fn cell(format: &mut Cell, value: &ColumnValue<'_>) -> Cell {
    match value {
        ColumnValue::UnchangedToast => return Cell::Absent,
        ColumnValue::Null => {}
        ColumnValue::Text(_) => *format = Cell::Text,
        ColumnValue::Binary(_) => *format = Cell::Binary,
    }
    *format
}

/// Portal, name and formats of a Bind message. A token before the parameters is a text, whatever format it is said to have.
fn bind_head(name: &str, parameters: &[Parameter], rows: usize, token: bool) -> Vec<u8> {
    let mut head = vec![0];
    head.extend_from_slice(name.as_bytes());
    head.push(0);
    let formats: Vec<u16> = parameters.iter().map(|parameter| u16::from(parameter.binary)).collect();
    match formats.split_first() {
        Some((first, rest)) if rest.iter().any(|format| format != first) => {
            head.put_u16(u16::try_from(formats.len() * rows + usize::from(token)).unwrap_or(u16::MAX));
            head.extend_from_slice(if token { &[0, 0] } else { &[] });
            (0..rows).flat_map(|_| &formats).for_each(|format| head.put_u16(*format));
        }
        Some((first, _)) => {
            head.put_u16(1); // for all of them
            head.put_u16(*first);
        }
        None => head.put_u16(0),
    }
    head
}

fn put_value(out: &mut BytesMut, value: Option<&ColumnValue<'_>>) {
    match value {
        Some(ColumnValue::Text(bytes) | ColumnValue::Binary(bytes)) => {
            out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.put_slice(bytes);
        }
        _ => out.put_i32(-1),
    }
}
