//! A table with its columns.

use crate::message::Message;
use crate::quote;
use crate::state::{Column, State};
use crate::statement::Statement;
use crate::table::column;

/// `CREATE TABLE`, of columns and what cannot be given to it later. A partition is made as a table of its own.
pub(crate) fn create(after: &State, message: &Message, server_version: u32) -> Statement {
    let mut sql = String::from("CREATE ");
    sql.push_str(match (after.kind.as_str(), after.persistence.as_deref()) {
        ("foreign table", _) => "FOREIGN TABLE ",
        (_, Some("u")) => "UNLOGGED TABLE ",
        _ => "TABLE ",
    });
    sql.push_str(&after.sql_name());
    sql.push_str(&body(after, message, server_version));
    if !after.inherits.is_empty() && after.of.is_none() {
        sql.push_str(&format!(" INHERITS ({})", after.inherits.join(", ")));
    }
    sql.push_str(&suffix(after));
    Statement::new(sql)
}

fn body(after: &State, message: &Message, server_version: u32) -> String {
    let mut items: Vec<String> = match &after.of {
        Some(_) => after.columns.iter().filter_map(typed_column).collect(),
        None => {
            let own = after.columns.iter().filter(|column| is_own(after, column));
            let definition = |column: &Column| column::definition(after, column, message, server_version);
            own.map(|column| match has_expression_of_parent(after, column, server_version) {
                true => column::typed(column),
                false => definition(column),
            })
            .collect()
        }
    };
    items.extend(not_null_constraints(after, server_version));
    let list = items.join(", ");
    match &after.of {
        Some(of) if items.is_empty() => format!(" OF {of}"),
        Some(of) => format!(" OF {of} ({list})"),
        None => format!(" ({list})"),
    }
}

/// Columns that only a parent has defined come with the parent, except in partitions: those are attached later.
fn is_own(after: &State, column: &Column) -> bool {
    after.parent.is_some() || after.inherits.is_empty() || column.local.unwrap_or(true)
}

/// Before 16 a generated column that is a parent's too must not say how it is generated.
fn has_expression_of_parent(after: &State, column: &Column, server_version: u32) -> bool {
    server_version < 160_000 && !after.inherits.is_empty() && column.inherited && column.generated.is_some()
}

fn typed_column(column: &Column) -> Option<String> {
    let default = column.default.as_ref().map(|default| match column.generated {
        Some(_) => format!(" GENERATED ALWAYS AS ({default}) STORED"),
        None => format!(" DEFAULT {default}"),
    })?;
    Some(format!("{} WITH OPTIONS{default}", quote::identifier(&column.name)))
}

/// Named ones, which exist from 18 on. Those of columns that a parent defines come with it.
fn not_null_constraints(after: &State, server_version: u32) -> Vec<String> {
    if server_version < 180_000 {
        return Vec::new();
    }
    let named = after.constraints.iter().filter(|c| c.kind == "n" && c.valid.unwrap_or(true));
    let own = named.filter(|c| after.parent.is_some() || c.local.unwrap_or(true));
    own.map(|c| format!("CONSTRAINT {} {}", quote::identifier(&c.name), c.def)).collect()
}

fn suffix(after: &State) -> String {
    let mut sql = String::new();
    if let Some(key) = &after.partition_key {
        sql.push_str(&format!(" PARTITION BY {key}"));
    }
    if let Some(method) = &after.access_method
        && after.kind == "table"
    {
        sql.push_str(&format!(" USING {}", quote::identifier(method)));
    }
    if let Some(server) = &after.server {
        sql.push_str(&format!(" SERVER {}", quote::identifier(server)));
        let options = after.fdw_options.iter();
        let options: Vec<_> = options.map(|(k, v)| format!("{} {}", quote::identifier(k), quote::literal(v))).collect();
        if !options.is_empty() {
            sql.push_str(&format!(" OPTIONS ({})", options.join(", ")));
        }
    }
    sql
}
