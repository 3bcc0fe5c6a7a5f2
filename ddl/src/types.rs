//! Types: enums, domains, composite types; ranges and base types can only be made and renamed.

use crate::opaque::split_list;
use crate::quote;
use crate::state::{Column, Label, State};
use crate::statement::Statement;
use crate::table::{Phase, column, renamed};
use crate::turn::{Turn, renames, wanted};

/// The way of a type, in order.
pub(crate) const PHASES: &[Phase] = &[renames, shell, base, labels, domain, domain_constraints, attributes, comments];

/// A type whose name only was known.
fn shell(turn: &Turn<'_>) -> Vec<Statement> {
    let create = turn.after.create.iter().map(|sql| turn.statement(sql.clone()));
    if turn.now.shell && !turn.after.shell { create.collect() } else { Vec::new() }
}

/// Options that `ALTER TYPE … SET` takes.
const BASE_OPTIONS: &[&str] = &["RECEIVE", "SEND", "TYPMOD_IN", "TYPMOD_OUT", "ANALYZE", "SUBSCRIPT", "STORAGE"];

fn base(turn: &Turn<'_>) -> Vec<Statement> {
    if turn.after.type_kind.as_deref() != Some("base") || turn.now.shell || !turn.changed(|state| &state.body) {
        return Vec::new();
    }
    let (now, after) = (base_options(turn.now), base_options(turn.after));
    let value = |options: &[(String, String)], name: &str| {
        options.iter().find(|(key, _)| key == name).map_or("NONE".to_owned(), |(_, value)| value.clone())
    };
    let changed = BASE_OPTIONS.iter().filter(|name| value(&now, name) != value(&after, name));
    let list: Vec<_> = changed.map(|name| format!("{name} = {}", value(&after, name))).collect();
    if list.is_empty() { Vec::new() } else { vec![turn.alter(&format!("SET ({})", list.join(", ")))] }
}

/// `CREATE TYPE … (INPUT = f, OUTPUT = g, …)`
fn base_options(state: &State) -> Vec<(String, String)> {
    let sql = state.create.first().map_or("", String::as_str);
    let list = sql.split_once(" (INPUT = ").map_or("", |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    let pair = |item: &String| item.split_once(" = ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    split_list(list).iter().filter_map(pair).collect()
}

/// Labels of an enum: renamed, and added at their place. None can be dropped.
fn labels(turn: &Turn<'_>) -> Vec<Statement> {
    if turn.after.type_kind.as_deref() != Some("enum") || turn.now.shell {
        return Vec::new();
    }
    let before = turn.before.map_or(&[][..], |before| &before.values);
    let renames = renamed((&turn.now.values, before, &turn.after.values), |value| value.oid, |value| &value.label);
    let mut labels: Vec<String> = turn.now.values.iter().map(|value| value.label.clone()).collect();
    let mut statements = Vec::new();
    for (from, to) in renames {
        statements.push(turn.alter(&format!("RENAME VALUE {} TO {}", quote::literal(&from), quote::literal(&to))));
        labels.iter_mut().filter(|label| **label == from).for_each(|label| label.clone_from(&to));
    }
    for (at, Label { label, .. }) in turn.after.values.iter().enumerate() {
        if labels.contains(label) {
            continue;
        }
        let place = place_of(&turn.after.values, at, &labels);
        labels.push(label.clone());
        statements.push(turn.alter(&format!("ADD VALUE {}{place}", quote::literal(label))));
    }
    statements
}

/// After the label that precedes it, or before the first one that is there.
fn place_of(wanted: &[Label], at: usize, there: &[String]) -> String {
    let is_there = |value: &&Label| there.contains(&value.label);
    let (before, after) = wanted.split_at(at);
    match (before.iter().rev().find(is_there), after.iter().find(is_there)) {
        (Some(value), _) => format!(" AFTER {}", quote::literal(&value.label)),
        (None, Some(value)) => format!(" BEFORE {}", quote::literal(&value.label)),
        (None, None) => String::new(),
    }
}

fn is_domain(turn: &Turn<'_>) -> bool {
    turn.after.type_kind.as_deref() == Some("domain")
}

fn domain(turn: &Turn<'_>) -> Vec<Statement> {
    if !is_domain(turn) {
        return Vec::new();
    }
    let mut statements = Vec::new();
    if turn.changed(|state| &state.default) {
        statements.push(default(turn));
    }
    if turn.changed(|state| state.not_null) {
        statements.push(turn.alter(if turn.after.not_null { "SET NOT NULL" } else { "DROP NOT NULL" }));
    }
    let before = turn.before.map_or(&[][..], |before| &before.constraints);
    let constraints = (&turn.now.constraints[..], before, &turn.after.constraints[..]);
    for (from, to) in renamed(constraints, |c| c.oid, |c| &c.name) {
        let rename = format!("RENAME CONSTRAINT {} TO {}", quote::identifier(&from), quote::identifier(&to));
        statements.push(turn.alter(&rename));
    }
    statements
}

fn domain_constraints(turn: &Turn<'_>) -> Vec<Statement> {
    if !is_domain(turn) {
        return Vec::new();
    }
    let definition =
        |state: &State, name: &str| state.constraints.iter().find(|c| c.name == name).map(|c| c.def.clone());
    let mut statements = Vec::new();
    for now in &turn.now.constraints {
        let (after, name) = (definition(turn.after, &now.name), quote::identifier(&now.name));
        let before = turn.before.map(|before| definition(before, &now.name));
        let known = before.as_ref().is_some_and(Option::is_some) || after.is_some();
        if !known || !wanted(&Some(now.def.clone()), before.as_ref(), &after) {
            continue;
        }
        let validated = after.as_deref().is_some_and(|def| now.def.strip_suffix(" NOT VALID") == Some(def));
        statements.push(turn.alter(&match validated {
            true => format!("VALIDATE CONSTRAINT {name}"),
            false => format!("DROP CONSTRAINT {name}"),
        }));
        let anew = after.filter(|_| !validated);
        statements.extend(anew.map(|def| turn.alter(&format!("ADD CONSTRAINT {name} {def}"))));
    }
    if statements.iter().any(|statement| statement.sql.contains(" DROP CONSTRAINT ")) {
        // DROP CONSTRAINT leaves messages that no write follows, and servers refuse a savepoint before they are sent.
        statements.push(default(turn));
    }
    let missing = turn.after.constraints.iter().filter(|c| definition(turn.now, &c.name).is_none());
    let new = missing.filter(|c| turn.before.is_none_or(|before| definition(before, &c.name).as_ref() != Some(&c.def)));
    statements.extend(new.map(|c| turn.alter(&format!("ADD CONSTRAINT {} {}", quote::identifier(&c.name), c.def))));
    statements
}

/// Says what the default is.
fn default(turn: &Turn<'_>) -> Statement {
    let default = turn.after.default.as_ref();
    turn.alter(&default.map_or_else(|| "DROP DEFAULT".to_owned(), |default| format!("SET DEFAULT {default}")))
}

/// Attributes of a composite type. CASCADE takes them to its typed tables.
fn attributes(turn: &Turn<'_>) -> Vec<Statement> {
    if turn.after.type_kind.as_deref() != Some("composite") {
        return Vec::new();
    }
    let before = turn.before.map_or(&[][..], |before| &before.columns);
    let mut there: Vec<Column> = turn.now.columns.clone();
    let mut changes = Vec::new();
    for gone in before.iter().filter(|old| !turn.after.columns.iter().any(|column| column.num == old.num)) {
        if there.iter().any(|column| column.name == gone.name) {
            changes.push(format!("DROP ATTRIBUTE {} CASCADE", quote::identifier(&gone.name)));
            there.retain(|column| column.name != gone.name);
        }
    }
    for (from, to) in renamed((&there, before, &turn.after.columns), |c| c.num, |c| &c.name) {
        let (old, new) = (quote::identifier(&from), quote::identifier(&to));
        changes.push(format!("RENAME ATTRIBUTE {old} TO {new} CASCADE"));
        there.iter_mut().filter(|column| column.name == from).for_each(|column| column.name.clone_from(&to));
    }
    changes.extend(turn.after.columns.iter().filter_map(|after| attribute(turn, &there, after)));
    changes.iter().map(|what| turn.alter(what)).collect()
}

fn attribute(turn: &Turn<'_>, there: &[Column], after: &Column) -> Option<String> {
    let before = turn.column_before(after);
    let definition = |column: &Column| (column.type_name.clone(), column.collation.clone());
    match there.iter().find(|now| now.name == after.name) {
        None if before.is_none() => Some(format!("ADD ATTRIBUTE {} CASCADE", column::typed(after))),
        Some(now) if wanted(&definition(now), before.map(definition).as_ref(), &definition(after)) => {
            let name = quote::identifier(&after.name);
            Some(format!("ALTER ATTRIBUTE {name} TYPE {}{} CASCADE", after.type_name, column::collate(after)))
        }
        _ => None,
    }
}

/// On the type, its attributes, its constraints.
fn comments(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements: Vec<_> = turn.comment().into_iter().collect();
    let parts = |state: &State| {
        let (name, mut parts) = (state.sql_name(), Vec::new());
        let attributes = state.columns.iter();
        parts.extend(
            attributes.map(|c| {
                (format!("COLUMN {}.{}", turn.after.sql_name(), quote::identifier(&c.name)), c.comment.clone())
            }),
        );
        let constraints = state.constraints.iter();
        let on = |c: &crate::state::Constraint| format!("CONSTRAINT {} ON DOMAIN {name}", quote::identifier(&c.name));
        parts.extend(constraints.map(|c| (on(c), c.comment.clone())));
        parts
    };
    let (now, before) = (parts(turn.now), turn.before.map(parts));
    for (part, text) in parts(turn.after) {
        let said =
            |list: &[(String, Option<String>)]| list.iter().find(|(name, _)| *name == part).map(|(_, t)| t.clone());
        let Some(is) = said(&now) else { continue };
        if wanted(&is, before.as_deref().and_then(said).as_ref(), &text) {
            statements.push(turn.comment_on(&part, text.as_deref()));
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_label_finds_its_place() {
        let values: Vec<_> = ["a", "b", "c"].iter().map(|l| Label { oid: 1, label: (*l).to_owned() }).collect();
        let there = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        assert_eq!(place_of(&values, 1, &there(&["a", "c"])), " AFTER 'a'");
        assert_eq!(place_of(&values, 0, &there(&["b", "c"])), " BEFORE 'b'");
        assert_eq!(place_of(&values, 0, &there(&[])), "");
    }
}
