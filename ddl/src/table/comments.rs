//! Comments on a table and its parts.

use crate::quote;
use crate::state::State;
use crate::statement::Statement;
use crate::turn::{Turn, wanted};

/// A part of a table: what COMMENT ON wants, and what it says.
type Part = (String, Option<String>);

pub(crate) fn comments(turn: &Turn<'_>) -> Vec<Statement> {
    let (now, after) = (parts(turn.now), parts(turn.after));
    let before = turn.before.map(|before| {
        parts(&State { schema: turn.after.schema.clone(), name: turn.after.name.clone(), ..before.clone() })
    });
    let said = |list: &[Part], part: &str| list.iter().find(|(name, _)| name == part).map(|(_, text)| text.clone());
    let mut statements: Vec<_> = turn.comment().into_iter().collect();
    for (part, text) in &after {
        let Some(is) = said(&now, part) else { continue };
        let was = before.as_ref().and_then(|before| said(before, part));
        if wanted(&is, was.as_ref(), text) {
            statements.push(turn.comment_on(part, text.as_deref()));
        }
    }
    statements
}

fn parts(state: &State) -> Vec<Part> {
    let (schema, table) = (state.schema.as_deref().unwrap_or_default(), state.sql_name());
    let columns = state.columns.iter();
    let columns = columns.map(|c| (format!("COLUMN {table}.{}", quote::identifier(&c.name)), c.comment.clone()));
    let constraints = state.constraints.iter();
    let constraints =
        constraints.map(|c| (format!("CONSTRAINT {} ON {table}", quote::identifier(&c.name)), c.comment.clone()));
    let indexes = state.indexes.iter();
    let indexes = indexes.map(|i| (format!("INDEX {}", quote::qualified(schema, &i.name)), i.comment.clone()));
    columns.chain(constraints).chain(indexes).collect()
}
