//! Partitions and inheritance.

use crate::statement::Statement;
use crate::turn::Turn;

/// From parents that are not its parents any more.
pub(super) fn detach(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    let moved = turn.changed(|state| (&state.parent, &state.bound));
    if let (Some(parent), true) = (&turn.now.parent, moved) {
        let detach = format!("ALTER TABLE {parent} DETACH PARTITION {}", turn.now.sql_name());
        statements.push(turn.statement(detach));
    }
    if turn.changed(|state| &state.inherits) {
        let gone = turn.now.inherits.iter().filter(|parent| !turn.after.inherits.contains(parent));
        // one that only the target knows stays
        let known = gone.filter(|parent| turn.before.is_some_and(|before| before.inherits.contains(parent)));
        statements.extend(known.map(|parent| turn.alter_table(&format!("NO INHERIT {parent}"))));
    }
    statements
}

/// To new parents: everything that they demand of a child is there.
pub(super) fn attach(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    if turn.changed(|state| &state.inherits) {
        let new = turn.after.inherits.iter().filter(|parent| !turn.now.inherits.contains(parent));
        statements.extend(new.map(|parent| turn.alter_table(&format!("INHERIT {parent}"))));
    }
    if let (Some(parent), Some(bound)) = (&turn.after.parent, &turn.after.bound)
        && turn.changed(|state| (&state.parent, &state.bound))
    {
        let attach = format!("ALTER TABLE {parent} ATTACH PARTITION {} {bound}", turn.now.sql_name());
        statements.push(turn.statement(attach));
    }
    statements
}
