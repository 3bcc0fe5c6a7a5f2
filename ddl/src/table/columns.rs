//! Columns: dropped, renamed, added, altered.

use std::collections::HashSet;

use crate::message::Change;
use crate::quote;
use crate::state::{Column, OwnedBy, State};
use crate::statement::Statement;
use crate::table::options::{differences, in_option_list, reloptions};
use crate::table::{column, renamed};
use crate::turn::{Turn, wanted};

/// SQLSTATEs of values that a type does not take: data exceptions, missing casts, violated constraints.
const VALUE_REFUSED: &[&str] = &["22", "23", "42804", "42846", "42883"];
/// SQLSTATEs of features that this server was built without.
const NOT_BUILT_IN: &[&str] = &["0A000", "22023"];

/// Columns that the source dropped; those that are generated from others before these.
pub(super) fn drop(turn: &Turn<'_>) -> Vec<Statement> {
    let Some(before) = turn.before.filter(|_| !is_typed(turn)) else { return Vec::new() };
    let gone = before.columns.iter().filter(|old| !turn.after.columns.iter().any(|column| column.num == old.num));
    // what is inherited is the parent's to drop
    let is_own = |now: &Column, old: &Column| !now.inherited && !is_replaced(turn, before, now, old);
    let there = gone.filter(|old| find(turn.now, &old.name).is_some_and(|now| is_own(now, old)));
    let mut there: Vec<_> = there.collect();
    there.sort_by_key(|old| old.generated.is_none());
    let statement = |old: &&Column| {
        let in_state = |state: &State| find(state, &old.name).map(|column| (column.num, column.local.unwrap_or(true)));
        turn.drop_part(&format!("COLUMN {}", quote::identifier(&old.name)), in_state)
    };
    there.iter().map(statement).collect()
}

/// Columns of a table of a type are the type's to change.
fn is_typed(turn: &Turn<'_>) -> bool {
    turn.now.of.is_some() && turn.after.of.is_some()
}

/// Whether the target's column of a dropped one's name is its successor already.
fn is_replaced(turn: &Turn<'_>, before: &State, now: &Column, old: &Column) -> bool {
    let Some(new) = find(turn.after, &old.name) else { return false };
    match before.columns.iter().find(|column| column.num == new.num) {
        Some(renamed) => find(turn.now, &renamed.name).is_none(),
        None => now.type_name == new.type_name && now.type_name != old.type_name,
    }
}

pub(super) fn rename(turn: &Turn<'_>) -> Vec<Statement> {
    let Some(before) = turn.before.filter(|_| !is_typed(turn)) else { return Vec::new() };
    let columns = (&turn.now.columns[..], &before.columns[..], &turn.after.columns[..]);
    // names that went round in a circle may tell by their types that it was done already
    let fits = |state: &State| {
        let same = |column: &Column| find(turn.now, &column.name).is_some_and(|now| now.type_name == column.type_name);
        state.columns.iter().all(same)
    };
    if fits(turn.after) && !fits(before) {
        return Vec::new();
    }
    let renames = renamed(columns, |column| column.num, |column| &column.name);
    let sql = |(from, to): (String, String)| {
        format!("RENAME COLUMN {} TO {}", quote::identifier(&from), quote::identifier(&to))
    };
    renames.into_iter().map(|rename| turn.alter(&sql(rename))).collect()
}

/// Columns that the target lacks and the source made.
pub(super) fn add(turn: &Turn<'_>) -> Vec<Statement> {
    if is_typed(turn) {
        return Vec::new();
    }
    let missing = turn.after.columns.iter().filter(|column| find(turn.now, &column.name).is_none());
    missing.filter(|column| turn.column_before(column).is_none()).flat_map(|column| add_one(turn, column)).collect()
}

/// Rows that exist get what the source stored in them: `now()` is another time here. So the default that evaluates to
/// that value is used while adding, and the real one afterwards.
fn add_one(turn: &Turn<'_>, wanted: &Column) -> Vec<Statement> {
    let plain = wanted.generated.is_some() || wanted.identity.is_some() || turn.rewritten || wanted.default.is_none();
    if plain {
        return vec![turn.alter_table(&format!("ADD COLUMN {}", definition(turn, wanted)))];
    }
    let stored = stored_value(turn, wanted).map(|value| format!("{}::{}", quote::literal(&value), wanted.type_name));
    let adding = Column { default: stored, ..wanted.clone() };
    let name = quote::identifier(&wanted.name);
    let set = format!("ALTER COLUMN {name} SET DEFAULT {}", wanted.default.as_deref().unwrap_or("NULL"));
    vec![
        turn.alter_table(&format!("ADD COLUMN {}", definition(turn, &adding))),
        match is_merged(turn, wanted) {
            true => turn.alter_only(&set),
            false => turn.alter_table(&set),
        },
    ]
}

/// Whether a table that inherits had a column of this name before, which then keeps its own default. What else inherits
/// gets the same one, also what only the target has.
fn is_merged(turn: &Turn<'_>, wanted: &Column) -> bool {
    let both = turn.message.changes.iter().filter_map(|change| change.before.as_ref().zip(change.after.as_ref()));
    let mut children = both.filter(|(_, after)| !after.inherits.is_empty());
    children.any(|(before, _)| find(before, &wanted.name).is_some())
}

fn definition(turn: &Turn<'_>, wanted: &Column) -> String {
    column::definition(turn.after, wanted, turn.message, turn.server_version)
}

/// A partitioned table has no rows, and so no such value: its partitions have it.
fn stored_value(turn: &Turn<'_>, wanted: &Column) -> Option<String> {
    let mut family = HashSet::from([turn.after.identity.as_str()]);
    let tables = || turn.message.changes.iter().filter_map(|change: &Change| change.after.as_ref());
    loop {
        let size = family.len();
        let child = |state: &&State| state.parent.as_deref().is_some_and(|parent| family.contains(parent));
        let children: Vec<_> = tables().filter(child).map(|state| state.identity.as_str()).collect();
        family.extend(children);
        if family.len() == size {
            break;
        }
    }
    let own = wanted.missing.clone();
    let relatives = tables().filter(|state| family.contains(state.identity.as_str()));
    own.or_else(|| relatives.filter_map(|state| find(state, &wanted.name)?.missing.clone()).next())
}

/// Columns that both have.
pub(super) fn alter(turn: &Turn<'_>) -> Vec<Statement> {
    let both = turn.after.columns.iter().filter_map(|after| Some((find(turn.now, &after.name)?, after)));
    both.flat_map(|(now, after)| Altered { turn, now, before: turn.column_before(after), after }.statements()).collect()
}

/// How columns that both have are stored: all that can be altered of a materialized view's.
pub(crate) fn storage(turn: &Turn<'_>) -> Vec<Statement> {
    let both = turn.after.columns.iter().filter_map(|after| Some((find(turn.now, &after.name)?, after)));
    both.flat_map(|(now, after)| Altered { turn, now, before: turn.column_before(after), after }.storage()).collect()
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a Column> {
    state.columns.iter().find(|column| column.name == name)
}

/// A column that is there.
struct Altered<'a> {
    turn: &'a Turn<'a>,
    now: &'a Column,
    before: Option<&'a Column>,
    after: &'a Column,
}

impl<'a> Altered<'a> {
    fn statements(&self) -> Vec<Statement> {
        let retyped = self.retyped();
        let mut statements = self.retype(retyped);
        statements.extend(self.values(retyped));
        statements.extend(self.storage());
        statements
    }

    fn changed<T: PartialEq>(&self, of: impl Fn(&'a Column) -> T) -> bool {
        wanted(&of(self.now), self.before.map(&of).as_ref(), &of(self.after))
    }

    fn retyped(&self) -> bool {
        self.changed(|column| &column.type_name) || self.changed(|column| &column.collation)
    }

    fn column(&self, what: &str) -> Statement {
        self.turn.alter_table(&self.clause(what))
    }

    /// Without descendants.
    fn only(&self, what: &str) -> Statement {
        self.turn.alter_only(&self.clause(what))
    }

    fn clause(&self, what: &str) -> String {
        format!("ALTER COLUMN {} {what}", quote::identifier(&self.after.name))
    }

    /// Another type. Values that do not fit are to come anew if the table was rewritten, so it is emptied then.
    fn retype(&self, retyped: bool) -> Vec<Statement> {
        if !retyped || self.turn.now.of.is_some() {
            return Vec::new();
        }
        let name = quote::identifier(&self.after.name);
        let (to, collate) = (&self.after.type_name, column::collate(self.after));
        let mut statements = Vec::new();
        if self.now.default.is_some() && self.now.generated.is_none() {
            statements.push(self.column("DROP DEFAULT"));
        }
        let stored = self.now.generated.is_none() && self.turn.now.kind == "table";
        let using = if stored { format!(" USING {name}::{to}") } else { String::new() };
        let convert = self.column(&format!("TYPE {to}{collate}{using}"));
        statements.push(match self.turn.rewritten && self.turn.now.kind == "table" {
            false => convert,
            true => {
                let empty = self.turn.statement(format!("DELETE FROM {}", self.turn.now.sql_name()));
                let anew = self.column(&format!("TYPE {to}{collate} USING NULL::{to}"));
                convert.or_else(VALUE_REFUSED, vec![empty, anew])
            }
        });
        statements
    }

    /// Default, generation, identity, not null.
    fn values(&self, retyped: bool) -> Vec<Statement> {
        let mut statements = Vec::new();
        if self.now.generated.is_some() || self.after.generated.is_some() {
            statements.extend(self.generation());
        } else if self.after.identity.is_none() && (retyped || self.lost_default() || self.changed(|c| &c.default)) {
            let default = self.after.default.as_ref().map(|default| format!("SET DEFAULT {default}"));
            let dropped = self.now.default.is_some() && !retyped;
            statements.extend(default.or(dropped.then(|| "DROP DEFAULT".to_owned())).map(|what| self.only(&what)));
        }
        statements.extend(self.nullability());
        statements.extend(self.identity());
        statements
    }

    /// A parent's other type took it along.
    fn lost_default(&self) -> bool {
        let form = |column: &'a Column| (&column.type_name, &column.collation);
        let retyped = self.before.is_some_and(|before| form(before) != form(self.after));
        retyped && self.now.default.is_none() && self.after.default.is_some()
    }

    fn generation(&self) -> Option<Statement> {
        let changed = self.changed(|column| (&column.generated, &column.default));
        match (&self.now.generated, &self.after.generated, &self.after.default) {
            _ if !changed => None,
            (Some(_), None, _) => Some(self.column("DROP EXPRESSION")),
            (Some(_), Some(_), Some(default)) => Some(self.column(&format!("SET EXPRESSION AS ({default})"))),
            _ => None,
        }
    }

    fn nullability(&self) -> Option<Statement> {
        let has_constraints = self.turn.server_version >= 180_000;
        let named = |state| has_constraints && column::not_null_constraint(state, self.after);
        // constraints of this kind are inherited
        let alter = |what: &str| match has_constraints {
            true => self.column(what),
            false => self.turn.alter_without_children(&self.clause(what)),
        };
        match self.changed(|column| column.not_null) {
            true if self.after.not_null && !named(self.turn.after) => Some(alter("SET NOT NULL")),
            true if !self.after.not_null => Some(alter("DROP NOT NULL")),
            _ => None,
        }
    }

    fn identity(&self) -> Vec<Statement> {
        if !self.changed(|column| &column.identity) || self.turn.after.parent.is_some() && !self.may_be_of_partition() {
            return Vec::new();
        }
        match (&self.now.identity, &self.after.identity) {
            (Some(_), None) => vec![self.column("DROP IDENTITY")],
            (Some(_), Some(_)) => vec![self.column(&format!("SET GENERATED {}", column::identity_when(self.after)))],
            (None, Some(_)) => {
                let add = column::identity(self.turn.after, self.after, self.turn.message);
                let drop = self.now.default.is_some().then(|| self.column("DROP DEFAULT"));
                // before 18, its constraint is not among the table's
                let not_null = (!self.now.not_null).then(|| self.column("SET NOT NULL"));
                drop.into_iter().chain(not_null).chain([self.column(&format!("ADD {add}"))]).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Before 17 a partition can have an identity column that its parent lacks; from then on it has the parent's.
    fn may_be_of_partition(&self) -> bool {
        let (turn, name) = (self.turn, &self.after.name);
        let sequences = turn.message.changes.iter().filter_map(|change| change.after.as_ref()?.owned_by.as_ref());
        let own = |of: &OwnedBy| of.identity && of.table == turn.after.identity && of.column == *name;
        let has_one = self.now.identity.is_some();
        turn.server_version < 170_000 && (has_one || self.after.identity.is_none() || sequences.into_iter().any(own))
    }

    /// What says how values are stored, and what the planner is told.
    fn storage(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        if self.changed(|column| &column.storage) {
            statements.push(self.only(&format!("SET STORAGE {}", self.storage_name())));
        }
        if self.changed(|column| &column.compression) {
            let method = match self.after.compression.as_deref() {
                Some("p") => "pglz",
                Some("l") => "lz4",
                _ => "DEFAULT",
            };
            let set = self.only(&format!("SET COMPRESSION {method}"));
            statements.push(set.or_skip(NOT_BUILT_IN, "the target was built without this compression"));
        }
        if self.changed(|column| column.statistics) {
            statements.push(self.only(&format!("SET STATISTICS {}", self.after.statistics.unwrap_or(-1))));
        }
        if self.changed(|column| &column.options) {
            let (now, after) = (self.now.options.as_deref(), self.after.options.as_deref());
            let changes = reloptions(now.unwrap_or_default(), after.unwrap_or_default());
            statements.extend(changes.iter().map(|what| self.only(what)));
        }
        if self.changed(|column| &column.fdw_options) {
            let changes = differences(&self.now.fdw_options, &self.after.fdw_options, &[]);
            statements.extend(in_option_list(&changes).map(|list| self.column(&list)));
        }
        statements
    }

    /// The type's own has no name before 16: it is what types that can be compressed have, or it was plain.
    fn storage_name(&self) -> &'static str {
        match self.after.storage.as_deref() {
            Some("p") => "PLAIN",
            Some("e") => "EXTERNAL",
            Some("m") => "MAIN",
            Some(_) => "EXTENDED",
            None if self.turn.server_version >= 160_000 => "DEFAULT",
            None => {
                if self.after.type_name.starts_with("numeric") {
                    "MAIN"
                } else {
                    "EXTENDED"
                }
            }
        }
    }
}
