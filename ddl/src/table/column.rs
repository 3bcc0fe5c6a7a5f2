//! One column.

use crate::message::Message;
use crate::quote;
use crate::state::{Column, State};

/// A column as `CREATE TABLE` and `ADD COLUMN` want it.
pub(crate) fn definition(table: &State, column: &Column, message: &Message, server_version: u32) -> String {
    let mut sql = typed(column);
    sql.push_str(&source_of_values(table, column, message));
    let named = server_version >= 180_000 && not_null_constraint(table, column);
    sql.push_str(if column.not_null && !named { " NOT NULL" } else { "" });
    sql
}

/// Its name, type and collation.
pub(crate) fn typed(column: &Column) -> String {
    let name = quote::identifier(&column.name);
    format!("{name} {}{}{}", column.type_name, foreign_options(column), collate(column))
}

fn foreign_options(column: &Column) -> String {
    if column.fdw_options.is_empty() {
        return String::new();
    }
    let option = |(key, value): (&String, &String)| format!("{} {}", quote::identifier(key), quote::literal(value));
    format!(" OPTIONS ({})", column.fdw_options.iter().map(option).collect::<Vec<_>>().join(", "))
}

pub(crate) fn collate(column: &Column) -> String {
    column.collation.as_ref().map_or_else(String::new, |collation| format!(" COLLATE {collation}"))
}

/// Default, generated or identity; a partition has its identity columns from its parent, by being attached.
fn source_of_values(table: &State, column: &Column, message: &Message) -> String {
    if column.identity.is_some() && table.parent.is_none() {
        return format!(" {}", identity(table, column, message));
    }
    match (&column.default, column.generated.as_deref()) {
        (Some(default), Some("v")) => format!(" GENERATED ALWAYS AS ({default}) VIRTUAL"),
        (Some(default), Some(_)) => format!(" GENERATED ALWAYS AS ({default}) STORED"),
        (Some(default), None) => format!(" DEFAULT {default}"),
        (None, _) => String::new(),
    }
}

/// `GENERATED … AS IDENTITY`, with the sequence as the source has it if the message tells.
pub(crate) fn identity(table: &State, column: &Column, message: &Message) -> String {
    let when = identity_when(column);
    let sequence = message.changes.iter().filter_map(|change| change.after.as_ref()).find(|state| {
        let of = state.owned_by.as_ref();
        of.is_some_and(|of| of.identity && of.table == table.identity && of.column == column.name)
    });
    let options = sequence.map_or_else(String::new, |sequence| {
        format!(" (SEQUENCE NAME {} {})", sequence.sql_name(), crate::sequence::options(sequence))
    });
    format!("GENERATED {when} AS IDENTITY{options}")
}

pub(crate) fn identity_when(column: &Column) -> &'static str {
    if column.identity.as_deref() == Some("a") { "ALWAYS" } else { "BY DEFAULT" }
}

/// Whether a constraint of the table says that the column is not null: they have names from 18 on.
pub(crate) fn not_null_constraint(table: &State, column: &Column) -> bool {
    table.constraints.iter().any(|c| c.kind == "n" && is_not_null_of(&c.def, &column.name))
}

/// Whether this is the definition of a not null constraint of this column.
pub(crate) fn is_not_null_of(def: &str, column: &str) -> bool {
    let starts = [format!("NOT NULL {column}"), format!("NOT NULL {}", quote::identifier(column))];
    let is = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    starts.iter().any(|start| def.strip_prefix(start.as_str()).is_some_and(is))
}
