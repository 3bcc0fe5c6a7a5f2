//! Comments on a table and its parts.

use crate::quote;
use crate::state::{Column, Constraint, Index};
use crate::statement::Statement;
use crate::turn::{Turn, wanted};

pub(crate) fn comments(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements: Vec<_> = turn.comment().into_iter().collect();
    let parts = columns(turn).into_iter().chain(constraints(turn)).chain(indexes(turn));
    let changed = parts.filter(|part| wanted(&part.now, part.before.as_ref(), &part.after));
    statements.extend(changed.map(|part| turn.comment_on(&part.name, part.after)));
    statements
}

/// A part of a table that the target has: what COMMENT ON wants, and comments.
struct Part<'a> {
    name: String,
    now: Option<&'a str>,
    before: Option<Option<&'a str>>,
    after: Option<&'a str>,
}

fn columns<'a>(turn: &Turn<'a>) -> Vec<Part<'a>> {
    let part = |after: &'a Column| {
        let now = turn.now.columns.iter().find(|now| now.name == after.name)?.comment.as_deref();
        let before = turn.column_before(after).map(|before| before.comment.as_deref());
        let name = format!("COLUMN {}.{}", turn.now.sql_name(), quote::identifier(&after.name));
        Some(Part { name, now, before, after: after.comment.as_deref() })
    };
    turn.after.columns.iter().filter_map(part).collect()
}

fn constraints<'a>(turn: &Turn<'a>) -> Vec<Part<'a>> {
    let part = |after: &'a Constraint| {
        let now = turn.now.constraints.iter().find(|now| now.name == after.name)?.comment.as_deref();
        // another definition: it may have been made anew
        let same = |before: &&Constraint| before.oid == after.oid && before.def == after.def;
        let before = turn.before.and_then(|before| before.constraints.iter().find(same));
        let name = format!("CONSTRAINT {} ON {}", quote::identifier(&after.name), turn.now.sql_name());
        Some(Part { name, now, before: before.map(|c| c.comment.as_deref()), after: after.comment.as_deref() })
    };
    turn.after.constraints.iter().filter_map(part).collect()
}

fn indexes<'a>(turn: &Turn<'a>) -> Vec<Part<'a>> {
    let schema = turn.now.schema.as_deref().unwrap_or_default();
    let part = |after: &'a Index| {
        let now = turn.now.indexes.iter().find(|now| now.name == after.name)?.comment.as_deref();
        let same = |before: &&Index| before.oid == after.oid && before.def == after.def;
        let before = turn.before.and_then(|before| before.indexes.iter().find(same));
        let name = format!("INDEX {}", quote::qualified(schema, &after.name));
        Some(Part { name, now, before: before.map(|i| i.comment.as_deref()), after: after.comment.as_deref() })
    };
    turn.after.indexes.iter().filter_map(part).collect()
}
