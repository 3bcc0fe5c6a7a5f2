//! Constraints of tables.

use crate::quote;
use crate::state::{Column, Constraint, State};
use crate::statement::Statement;
use crate::table::{column, renamed};
use crate::turn::{Turn, wanted};

/// Constraints of the target that the source dropped, or that have to be made anew.
pub(super) fn gone<'a>(turn: &Turn<'a>) -> Vec<&'a Constraint> {
    turn.now.constraints.iter().filter(|now| is_supported(turn, now) && is_gone(turn, now)).collect()
}

/// The source has it no more. What only its definition says of names is settled by [`changed`], once they are the new ones.
fn is_gone(turn: &Turn<'_>, now: &Constraint) -> bool {
    let Some(before) = turn.before.and_then(|before| find(before, &now.name)) else { return false };
    let kept = turn.after.constraints.iter().any(|constraint| constraint.oid == before.oid);
    !kept
        && !goes_with_column(turn, now)
        && find(turn.after, &now.name).is_none_or(|after| is_another(turn, now, after))
}

/// A column that is dropped takes what says that it is not null along.
fn goes_with_column(turn: &Turn<'_>, now: &Constraint) -> bool {
    let gone = |old: &&Column| !turn.after.columns.iter().any(|column| column.num == old.num);
    let mut dropped = turn.before.iter().flat_map(|before| &before.columns).filter(gone);
    now.kind == "n" && dropped.any(|old| column::is_not_null_of(&now.def, &old.name))
}

fn is_another(turn: &Turn<'_>, now: &Constraint, after: &Constraint) -> bool {
    let before = turn.before.and_then(|before| before.constraints.iter().find(|c| c.oid == after.oid));
    let only = is_only_validated(now, after) || is_only_inherited(now, after);
    wanted(&now.def, before.map(|c| &c.def), &after.def) && !only
}

/// Made anew, it would be lost to the children that keep it.
fn is_only_inherited(now: &Constraint, after: &Constraint) -> bool {
    let plain = |def: &'_ str| def.strip_suffix(" NO INHERIT").unwrap_or(def).to_owned();
    now.kind == "n" && now.def != after.def && plain(&now.def) == plain(&after.def)
}

fn is_only_validated(now: &Constraint, after: &Constraint) -> bool {
    now.def.strip_suffix(" NOT VALID") == Some(after.def.as_str())
}

/// NOT NULL has constraints from 18 on.
fn is_supported(turn: &Turn<'_>, constraint: &Constraint) -> bool {
    constraint.kind != "n" || turn.server_version >= 180_000
}

pub(super) fn drop(turn: &Turn<'_>) -> Vec<Statement> {
    drop_all(turn, gone(turn))
}

/// Constraints that are to be made anew, because their definition is another.
pub(super) fn changed(turn: &Turn<'_>) -> Vec<Statement> {
    let supported = turn.now.constraints.iter().filter(|now| is_supported(turn, now));
    let another = |now: &&Constraint| find(turn.after, &now.name).is_some_and(|after| is_another(turn, now, after));
    drop_all(turn, supported.filter(another).collect())
}

/// Foreign keys first: they may need a key of the same table, which needs its columns not null.
fn drop_all(turn: &Turn<'_>, constraints: Vec<&Constraint>) -> Vec<Statement> {
    let own = constraints.into_iter().filter(|constraint| constraint.local.unwrap_or(true));
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|constraint| (constraint.kind != "f", constraint.kind == "n"));
    let statement = |gone: &&Constraint| {
        let in_state = |state: &State| find(state, &gone.name).map(|found| (found.oid, found.local.unwrap_or(true)));
        turn.drop_part(&format!("CONSTRAINT {}", quote::identifier(&gone.name)), in_state)
    };
    own.iter().map(statement).collect()
}

pub(super) fn rename(turn: &Turn<'_>) -> Vec<Statement> {
    let before = turn.before.map_or(&[][..], |before| &before.constraints);
    let constraints = (&turn.now.constraints[..], before, &turn.after.constraints[..]);
    let renames = renamed(constraints, |constraint| constraint.oid, |constraint| &constraint.name);
    let sql = |(from, to): (String, String)| {
        format!("RENAME CONSTRAINT {} TO {}", quote::identifier(&from), quote::identifier(&to))
    };
    renames.into_iter().map(|rename| turn.alter_table(&sql(rename))).collect()
}

/// Constraints that are missing, and ones that have been validated. A foreign key may need a key of the same table.
pub(super) fn add(turn: &Turn<'_>) -> Vec<Statement> {
    let mut supported: Vec<_> = turn.after.constraints.iter().filter(|after| is_supported(turn, after)).collect();
    supported.sort_by_key(|constraint| constraint.kind == "f");
    supported.into_iter().filter_map(|after| add_one(turn, after)).collect()
}

fn add_one(turn: &Turn<'_>, after: &Constraint) -> Option<Statement> {
    let name = quote::identifier(&after.name);
    let before = turn.before.and_then(|before| before.constraints.iter().find(|c| c.oid == after.oid));
    match find(turn.now, &after.name) {
        Some(now) if is_only_validated(now, after) && wanted(&now.def, before.map(|c| &c.def), &after.def) => {
            Some(or_wait(turn, after, turn.alter_table(&format!("VALIDATE CONSTRAINT {name}"))))
        }
        Some(now) if is_only_inherited(now, after) && wanted(&now.def, before.map(|c| &c.def), &after.def) => {
            let how = if after.def.ends_with(" NO INHERIT") { "NO INHERIT" } else { "INHERIT" };
            Some(turn.alter_table(&format!("ALTER CONSTRAINT {name} {how}")))
        }
        Some(_) => None,
        // only the target's own doing took it away
        None if before.is_some_and(|before| before.def == after.def && before.name == after.name) => None,
        None if after.kind == "f" && !turn.references || is_inherited(turn.after, after) => None,
        None if after.kind == "n" => not_null(turn, after),
        None => {
            let add = turn.alter_table(&format!("ADD CONSTRAINT {name} {}", definition(turn, after)));
            Some(or_wait(turn, after, add))
        }
    }
}

fn or_wait(turn: &Turn<'_>, constraint: &Constraint, statement: Statement) -> Statement {
    let may_wait = constraint.kind == "f" && !turn.key_waits.is_empty();
    if may_wait { statement.or_wait(turn.key_waits) } else { statement }
}

/// It comes with the parent. A partition has to have it before it is attached.
fn is_inherited(table: &State, constraint: &Constraint) -> bool {
    !constraint.local.unwrap_or(true) && table.parent.is_none() && !table.inherits.is_empty()
}

/// The column may have one of another name.
fn not_null(turn: &Turn<'_>, after: &Constraint) -> Option<Statement> {
    let name = quote::identifier(&after.name);
    let same = turn.now.constraints.iter().find(|now| now.kind == "n" && now.def == after.def);
    Some(turn.alter_table(&match same {
        Some(now) => format!("RENAME CONSTRAINT {} TO {name}", quote::identifier(&now.name)),
        None => format!("ADD CONSTRAINT {name} {}", after.def),
    }))
}

/// Made from an index that the table has, if the source made it so.
fn definition(turn: &Turn<'_>, after: &Constraint) -> String {
    let kind = match after.kind.as_str() {
        "p" => "PRIMARY KEY",
        "u" => "UNIQUE",
        _ => return after.def.clone(),
    };
    let Some(index) = index_that_becomes(turn, after) else { return after.def.clone() };
    let tail = ["DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE"].into_iter().find(|tail| after.def.ends_with(tail));
    format!("{kind} USING INDEX {} {}", quote::identifier(index), tail.unwrap_or_default())
}

fn index_that_becomes<'a>(turn: &Turn<'a>, after: &Constraint) -> Option<&'a str> {
    let wanted = turn.after.indexes.iter().find(|index| index.of_constraint.as_ref() == Some(&after.name))?;
    let before = turn.before?.indexes.iter().find(|index| index.oid == wanted.oid && index.of_constraint.is_none())?;
    let there = |name: &str| turn.now.indexes.iter().any(|now| now.name == name && now.of_constraint.is_none());
    [&wanted.name, &before.name].into_iter().find(|name| there(name)).map(String::as_str)
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a Constraint> {
    state.constraints.iter().find(|constraint| constraint.name == name)
}
