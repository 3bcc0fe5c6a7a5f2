//! Tables: ordinary, partitioned and foreign ones.
//!
//! A table that is missing is made with its columns only, and then converges like one that is there, phase by phase. Each
//! phase is planned from what the target has at that moment, so that none has to foresee what the ones before it do to
//! texts of definitions.

mod attach;
pub(crate) mod column;
mod columns;
pub(crate) mod comments;
mod constraints;
mod create;
pub(crate) mod indexes;
pub(crate) mod options;
mod settings;

pub(crate) use columns::storage;
pub(crate) use create::create;
pub(crate) use options::{differences, in_option_list};
pub(crate) use settings::parameters;

use crate::quote;
use crate::statement::Statement;
use crate::turn::{Turn, rename_order, renames};

/// What one step of the way plans.
pub(crate) type Phase = fn(&Turn<'_>) -> Vec<Statement>;

/// The way of a table, in order.
pub(crate) const PHASES: &[Phase] = &[
    renames,
    attach::detach,
    drops,
    renamed_parts,
    changed_parts,
    columns::add,
    columns::alter,
    constraints::add,
    indexes::add,
    settings::settings,
    attach::attach,
    settings::triggers,
    indexes::of_partitions,
    columns::alter,
    indexes::settings,
    settings::identity,
    comments::comments,
];

/// Foreign keys that are gone: before anything else, because keys that they refer to may go too.
pub(crate) fn drop_foreign_keys(turn: &Turn<'_>) -> Vec<Statement> {
    let keys = constraints::gone(turn).into_iter().filter(|constraint| constraint.kind == "f");
    keys.map(|constraint| turn.alter_table(&format!("DROP CONSTRAINT {}", quote::identifier(&constraint.name))))
        .collect()
}

/// What the source dropped.
fn drops(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = constraints::drop(turn);
    statements.extend(indexes::drop(turn));
    statements.extend(columns::drop(turn));
    statements
}

/// What has another definition though nothing that it names has another name.
fn changed_parts(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = constraints::changed(turn);
    statements.extend(indexes::changed(turn));
    statements
}

fn renamed_parts(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = columns::rename(turn);
    statements.extend(constraints::rename(turn));
    statements.extend(indexes::rename(turn));
    statements
}

/// Parts of `before` that have other names in `after`, and that the target has under their old ones: from, to. A part is
/// what its identity says, or else its name.
pub(crate) fn renamed<I: PartialEq, T>(
    (now, before, after): (&[T], &[T], &[T]),
    identity: impl Fn(&T) -> I,
    name: impl Fn(&T) -> &str,
) -> Vec<(String, String)> {
    let has = |wanted: &str| now.iter().any(|part| name(part) == wanted);
    let mut renames: Vec<(String, String)> = Vec::new();
    for part in after {
        let Some(old) = before.iter().find(|old| identity(old) == identity(part)) else { continue };
        if name(old) != name(part) {
            renames.push((name(old).to_owned(), name(part).to_owned()));
        }
    }
    // done already: of names that went round in a circle nothing tells
    let is_old = |from: &String| !renames.iter().any(|(_, to)| to == from);
    let mut old = renames.iter().map(|(from, _)| from).filter(|from| is_old(from)).peekable();
    if old.peek().is_some() && old.all(|from| !has(from)) && renames.iter().all(|(_, to)| has(to)) {
        return Vec::new();
    }
    renames.retain(|(from, _)| has(from));
    let taken: Vec<&str> = now.iter().map(name).collect();
    rename_order(&taken, renames)
}
