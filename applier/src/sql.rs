//! The statements that row changes become. Identifiers are quoted, values are parameters, nothing else gets in.
//!
//! # Which row
//!
//! * REPLICA IDENTITY DEFAULT and INDEX: `key = $n` for each key column, with the old key if the source sent one, else
//!   the new row's, whose key columns then are unchanged and stay out of SET.
//! * FULL: exactly one of the rows that are identical to the old row, found by `ctid = (SELECT ctid … LIMIT 1)`. Two
//!   values are identical when their text forms are: some types have no `=` (json, xml, point), and that of others is
//!   looser than identity (numeric 1.0 = 1.00, box compares areas). Where `=` is as strict as identity it is used
//!   alone; where it is not, it is added for indexed columns so that the planner has something to search by.
//!
//! # Exactly one row
//!
//! A change that finds no row, or several, is an error. The plain form shows it by its command tag. The *guarded* form
//! makes the target itself fail (division by zero), so that COMMIT can travel in the same flush as the change. Where
//! triggers may turn a change into nothing, the rows found are counted instead of the rows changed, always guarded.
//!
//! # Columns that SQL does not let one write
//!
//! Generated columns are left out; the target computes them. GENERATED ALWAYS AS IDENTITY takes a value at INSERT by
//! OVERRIDING SYSTEM VALUE, but UPDATE has no such clause: when such a column must change, the row is deleted and
//! inserted anew in one statement that carries over the columns kept (triggers then see DELETE and INSERT).

use decoder::TypeOid;

use crate::catalog::{Column, SourceColumn, TargetColumn};
use crate::mapping::Mapping;
use crate::name::quote;
use crate::owner;

/// How one column of a tuple takes part in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cell {
    /// Not at all: unchanged TOAST, or generated on the target, or known to be unchanged.
    Absent,
    /// NULL that the statement's text depends on.
    Null,
    /// A value (or NULL) in text format, read by the target type's input function.
    Text,
    /// A value (or NULL) in binary format, of the source's type.
    Binary,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// INSERT of this many rows at once.
    Insert { rows: u16 },
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

/// What identifies the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The new tuple's key columns; also of INSERT, which needs none.
    New,
    /// The old tuple's key columns.
    OldKey,
    /// All of the old tuple.
    OldFull,
}

/// Who notices that there was not exactly one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Guard {
    /// The client, by the command tag.
    Plain,
    /// The statement fails.
    Guarded,
}

/// Everything that a statement's text depends on besides the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) operation: Operation,
    pub(crate) identity: Identity,
    pub(crate) guard: Guard,
    /// By source column; empty for DELETE.
    pub(crate) new: Vec<Cell>,
    /// By source column; empty without an old tuple.
    pub(crate) old: Vec<Cell>,
}

/// Which tuple a parameter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    New,
    Old,
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) side: Side,
    pub(crate) column: SourceColumn,
    pub(crate) binary: bool,
    pub(crate) type_oid: TypeOid,
}

/// A statement's text. The parameters are those of the first row; further rows of an INSERT repeat them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) parameters: Vec<Parameter>,
    /// The plain form: its command tag must count one row.
    pub(crate) counted: bool,
}

/// Writes the statement for a change of this shape.
///
/// What the table's owner has to run says itself whether it hit one row.
pub(crate) fn statement(mapping: &Mapping, shape: &Shape) -> Statement {
    let Some(owner) = &mapping.table.owner else { return plain(mapping, shape) };
    let inner = plain(mapping, &Shape { guard: Guard::Guarded, ..shape.clone() });
    let rows = if let Operation::Insert { rows } = shape.operation { usize::from(rows) } else { 1 };
    let text = owner.wrapped(&inner.text, inner.parameters.len() * rows);
    Statement { text, counted: false, ..inner }
}

fn plain(mapping: &Mapping, shape: &Shape) -> Statement {
    let mut writer = Writer { mapping, shape, parameters: Vec::new() };
    let (text, counted) = match shape.operation {
        Operation::Insert { rows } => (writer.insert(rows), false),
        Operation::Update => writer.update(),
        Operation::Delete => writer.delete(),
    };
    Statement { text, parameters: writer.parameters, counted }
}

/// TRUNCATE with the flags as sent; no partition is left out, nor is a child table taken along.
pub(crate) fn truncate(references: &[String], options: decoder::TruncateOptions) -> String {
    let restart = if options.restart_identity { " RESTART IDENTITY" } else { "" };
    let cascade = if options.cascade { " CASCADE" } else { "" };
    format!("TRUNCATE {}{restart}{cascade}", references.join(", "))
}

struct Writer<'a> {
    mapping: &'a Mapping,
    shape: &'a Shape,
    parameters: Vec<Parameter>,
}

impl Writer<'_> {
    fn insert(&mut self, rows: u16) -> String {
        let columns = self.written();
        let table = self.mapping.table.name.quoted();
        if columns.is_empty() {
            return format!("INSERT INTO {table} DEFAULT VALUES");
        }
        let names: Vec<String> = columns.iter().map(|c| quote(&self.mapping.target(*c).name)).collect();
        let first: Vec<String> = columns.iter().map(|c| self.value(Side::New, *c)).collect();
        let mut values = vec![format!("({})", first.join(", "))];
        for row in 1..usize::from(rows) {
            let cells: Vec<String> = (0..columns.len()).map(|at| self.repeated(row, at)).collect();
            values.push(format!("({})", cells.join(", ")));
        }
        let overriding = if self.has_identity_always() { " OVERRIDING SYSTEM VALUE" } else { "" };
        format!("INSERT INTO {table} ({}){overriding} VALUES {}", names.join(", "), values.join(", "))
    }

    /// The value at `at` of a further row.
    fn repeated(&self, row: usize, at: usize) -> String {
        let parameter = self.parameters[at];
        let number = row * self.parameters.len() + at + 1;
        self.converted(parameter, number)
    }

    fn update(&mut self) -> (String, bool) {
        let columns = self.assigned();
        if columns.iter().any(|c| self.mapping.target(*c).identity_always) {
            return self.replace(&columns);
        }
        let table = self.mapping.table.reference();
        if columns.is_empty() {
            return self.touch();
        }
        let sets: Vec<String> = columns.iter().map(|c| self.assignment(*c)).collect();
        let change = format!("UPDATE {table} SET {} WHERE ", sets.join(", "));
        self.changing(change)
    }

    fn assignment(&mut self, column: SourceColumn) -> String {
        let name = quote(&self.mapping.target(column).name);
        format!("{name} = {}", self.value(Side::New, column))
    }

    fn delete(&mut self) -> (String, bool) {
        let change = format!("DELETE FROM {} WHERE ", self.mapping.table.reference());
        self.changing(change)
    }

    /// Completes `change` by its condition and wraps it as the guard asks.
    fn changing(&mut self, change: String) -> (String, bool) {
        let condition = self.row_condition();
        if self.mapping.table.filtered {
            let table = self.mapping.table.reference();
            let found = format!("SELECT count(*) AS n FROM {table} WHERE {condition}");
            return (format!("WITH c AS ({change}{condition}), m AS ({found}) SELECT 1/(n = 1)::int FROM m"), false);
        }
        match self.shape.guard {
            Guard::Plain => (format!("{change}{condition}"), true),
            Guard::Guarded => {
                (format!("WITH c AS ({change}{condition} RETURNING 1) SELECT 1/(count(*) = 1)::int FROM c"), false)
            }
        }
    }

    /// An UPDATE that changes nothing still must find its row.
    fn touch(&mut self) -> (String, bool) {
        let (table, condition) = (self.mapping.table.reference(), self.row_condition());
        match self.shape.guard {
            Guard::Plain => (format!("SELECT FROM {table} WHERE {condition} LIMIT 2"), true),
            Guard::Guarded => (format!("SELECT 1/(count(*) = 1)::int FROM {table} WHERE {condition}"), false),
        }
    }

    /// DELETE and INSERT in one, because a GENERATED ALWAYS AS IDENTITY column changes.
    fn replace(&mut self, changed: &[SourceColumn]) -> (String, bool) {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (at, column) in (0u16..).zip(&self.mapping.table.columns).filter(|(_, column)| !column.generated) {
            names.push(quote(&column.name));
            values.push(match self.mapping.source_of(TargetColumn(at)).filter(|source| changed.contains(source)) {
                Some(source) => self.value(Side::New, source),
                None => format!("d.{}", quote(&column.name)),
            });
        }
        let (reference, table) = (self.mapping.table.reference(), self.mapping.table.name.quoted());
        let deleted = format!("WITH d AS (DELETE FROM {reference} WHERE {} RETURNING *)", self.row_condition());
        let (names, values) = (names.join(", "), values.join(", "));
        let insert = format!("INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM d");
        match self.shape.guard {
            Guard::Plain => (format!("{deleted} {insert}"), true),
            Guard::Guarded => {
                (format!("{deleted}, i AS ({insert} RETURNING 1) SELECT 1/(count(*) = 1)::int FROM i"), false)
            }
        }
    }

    /// The columns of the new tuple that are written.
    fn written(&self) -> Vec<SourceColumn> {
        let present = |c: &SourceColumn| self.shape.new.get(usize::from(c.0)).is_some_and(|cell| *cell != Cell::Absent);
        let writable = |c: &SourceColumn| !self.mapping.target(*c).generated;
        self.mapping.columns().filter(present).filter(writable).collect()
    }

    /// Those that an UPDATE assigns: without an old tuple the key is unchanged.
    fn assigned(&self) -> Vec<SourceColumn> {
        let unchanged = |c: &SourceColumn| self.shape.identity == Identity::New && self.mapping.source(*c).is_key;
        self.written().into_iter().filter(|c| !unchanged(c)).collect()
    }

    fn has_identity_always(&self) -> bool {
        self.mapping.columns().any(|c| self.mapping.target(c).identity_always)
    }

    /// What selects the one row.
    fn row_condition(&mut self) -> String {
        let side = match self.shape.identity {
            Identity::OldFull => return self.full_condition(),
            Identity::OldKey => Side::Old,
            Identity::New => Side::New,
        };
        let keys: Vec<SourceColumn> = self.mapping.columns().filter(|c| self.mapping.source(*c).is_key).collect();
        let equalities: Vec<String> = keys.into_iter().map(|c| self.equality(side, c)).collect();
        equalities.join(" AND ")
    }

    fn full_condition(&mut self) -> String {
        let columns: Vec<SourceColumn> = self.mapping.columns().collect();
        let parts: Vec<String> = columns.into_iter().flat_map(|c| self.identical(c)).collect();
        let filter = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
        let table = self.mapping.table.reference();
        if self.mapping.table.partitioned {
            return format!("(tableoid, ctid) = (SELECT tableoid, ctid FROM {table}{filter} LIMIT 1)");
        }
        format!("ctid = (SELECT ctid FROM {table}{filter} LIMIT 1)")
    }

    /// The conditions under which the column is identical to the old tuple's.
    fn identical(&mut self, column: SourceColumn) -> Vec<String> {
        let target = self.mapping.target(column);
        let name = quote(&target.name);
        match self.shape.old.get(usize::from(column.0)) {
            None | Some(Cell::Absent) => Vec::new(),
            // What the target computes need not be what the source has.
            Some(_) if target.generated => Vec::new(),
            Some(Cell::Null) => vec![format!("{name} IS NULL")],
            Some(_) if target.strict => vec![self.equality(Side::Old, column)],
            Some(_) => {
                let value = self.comparable(Side::Old, column);
                let texts = format!("format('%s', {name}) COLLATE \"C\" = format('%s', {value}) COLLATE \"C\"");
                let search = target.indexed.then(|| self.equality(Side::Old, column));
                search.into_iter().chain([texts]).collect()
            }
        }
    }

    fn equality(&mut self, side: Side, column: SourceColumn) -> String {
        let target = self.mapping.target(column);
        format!("{} {} {}", quote(&target.name), target.equals, self.comparable(side, column))
    }

    /// The value as the column would hold it.
    fn comparable(&mut self, side: Side, column: SourceColumn) -> String {
        let value = self.value(side, column);
        let target = self.mapping.target(column);
        if target.modified { format!("({value})::{}", target.full_type) } else { value }
    }

    /// The parameter for a column's value, converted to the target's type; the same one if asked again.
    fn value(&mut self, side: Side, column: SourceColumn) -> String {
        let cells = if side == Side::New { &self.shape.new } else { &self.shape.old };
        let binary = cells.get(usize::from(column.0)) == Some(&Cell::Binary);
        let target = self.mapping.target(column);
        let type_oid = if binary { self.mapping.source(column).type_oid } else { target.type_oid };
        let parameter = Parameter { side, column, binary, type_oid };
        let at = self.parameters.iter().position(|known| *known == parameter).unwrap_or_else(|| {
            self.parameters.push(parameter);
            self.parameters.len() - 1
        });
        self.converted(parameter, at + 1)
    }

    /// A binary value of another type goes through its text form, so that it means what the text would have meant. The
    /// cast has no modifier: with one it would cut off what an assignment refuses.
    fn converted(&self, parameter: Parameter, number: usize) -> String {
        let Column { type_oid, bare_type, .. } = self.mapping.target(parameter.column);
        if self.mapping.table.owner.is_some() {
            return owner::parameter(number, bare_type);
        }
        if parameter.type_oid == *type_oid {
            return format!("${number}");
        }
        format!("CASE WHEN ${number} IS NOT NULL THEN format('%s', ${number})::{bare_type} END")
    }
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
