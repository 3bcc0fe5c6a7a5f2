//! Sequences: their definition. Their values travel beside changes, see `values.rs`.

use serde_json::Value;

use crate::quote;
use crate::state::{OwnedBy, State};
use crate::statement::Statement;
use crate::table::Phase;
use crate::turn::{Turn, renames};

/// The way of a sequence, in order.
pub(crate) const PHASES: &[Phase] = &[renames, definition, owner_column, comment];

/// `CREATE SEQUENCE`. One of an identity column is made with the column.
pub(crate) fn create(after: &State, server_version: u32) -> Statement {
    let unlogged = after.persistence.as_deref() == Some("u") && server_version >= 150_000;
    let kind = if unlogged { "UNLOGGED SEQUENCE" } else { "SEQUENCE" };
    let of_type = option(after, "type").map_or_else(String::new, |name| format!("AS {name} "));
    Statement::new(format!("CREATE {kind} {} {of_type}{}", after.sql_name(), options(after)))
}

/// What stands after the name and type.
pub(crate) fn options(state: &State) -> String {
    let words = [
        ("START WITH", "start"),
        ("INCREMENT BY", "increment"),
        ("MINVALUE", "min"),
        ("MAXVALUE", "max"),
        ("CACHE", "cache"),
    ];
    let items = words.iter().filter_map(|(word, key)| Some(format!("{word} {}", option(state, key)?)));
    let cycle = if state.options.get("cycle") == Some(&Value::Bool(true)) { "CYCLE" } else { "NO CYCLE" };
    items.chain([cycle.to_owned()]).collect::<Vec<_>>().join(" ")
}

fn option<'a>(state: &'a State, key: &str) -> Option<&'a str> {
    state.options.get(key)?.as_str()
}

fn definition(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    if turn.changed(|state| &state.options) {
        let of_type = match (option(turn.now, "type"), option(turn.after, "type")) {
            (now, Some(after)) if now != Some(after) => format!("AS {after} "),
            _ => String::new(),
        };
        statements.push(turn.alter(&format!("{of_type}{}", options(turn.after))));
    }
    if turn.changed(|state| &state.persistence) && turn.server_version >= 150_000 && !is_identity(turn.after) {
        let logged = if turn.after.persistence.is_some() { "SET UNLOGGED" } else { "SET LOGGED" };
        statements.push(turn.alter(logged));
    }
    statements
}

/// Whether it is an identity column's: it lives and dies with that.
pub(crate) fn is_identity(state: &State) -> bool {
    state.owned_by.as_ref().is_some_and(|of| of.identity)
}

/// Whether it changes its schema, and with its table alone can.
pub(crate) fn moves_with_table(now: &State, after: &State) -> bool {
    now.kind == "sequence" && now.owned_by.is_some() && now.schema != after.schema
}

fn owner_column(turn: &Turn<'_>) -> Vec<Statement> {
    let identity = is_identity(turn.after) || is_identity(turn.now);
    if identity || !turn.references || !turn.changed(|state| &state.owned_by) {
        return Vec::new();
    }
    let column = |of: &OwnedBy| format!("{}.{}", of.table, quote::identifier(&of.column));
    let of = turn.after.owned_by.as_ref().map_or_else(|| "NONE".to_owned(), column);
    vec![turn.alter(&format!("OWNED BY {of}"))]
}

fn comment(turn: &Turn<'_>) -> Vec<Statement> {
    turn.comment().into_iter().collect()
}
