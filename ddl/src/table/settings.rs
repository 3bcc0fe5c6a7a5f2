//! What tables have beside columns, constraints and indexes.

use crate::opaque;
use crate::quote;
use crate::state::State;
use crate::statement::Statement;
use crate::table::indexes;
use crate::table::options::{UNKNOWN, UNKNOWN_PARAMETER, differences, in_option_list, reloptions};
use crate::turn::Turn;

pub(super) fn settings(turn: &Turn<'_>) -> Vec<Statement> {
    let mut changes = Vec::new();
    if turn.changed(|state| &state.persistence) {
        changes.push(if turn.after.persistence.is_some() { "SET UNLOGGED".into() } else { "SET LOGGED".into() });
    }
    if turn.changed(|state| &state.of) {
        changes.push(turn.after.of.as_ref().map_or_else(|| "NOT OF".into(), |of| format!("OF {of}")));
    }
    changes.extend(row_security(turn));
    let mut statements: Vec<_> = changes.iter().map(|what| turn.alter_table(what)).collect();
    let known = |what: &String| turn.alter_table(what).or_skip(UNKNOWN_PARAMETER, UNKNOWN);
    statements.extend(parameters(turn).iter().map(known));
    if turn.changed(|state| &state.access_method) && turn.now.kind == "table" {
        let method = turn.after.access_method.as_deref().unwrap_or("heap");
        statements.push(turn.alter_table(&format!("SET ACCESS METHOD {}", quote::identifier(method))));
    }
    statements
}

pub(crate) fn parameters(turn: &Turn<'_>) -> Vec<String> {
    let mut changes = Vec::new();
    if turn.changed(State::parameters) {
        changes.extend(reloptions(&turn.now.parameters(), &turn.after.parameters()));
    }
    if turn.changed(|state| &state.toast_options) {
        let toast = |state: &State| state.toast_options.iter().map(|item| format!("toast.{item}")).collect::<Vec<_>>();
        changes.extend(reloptions(&toast(turn.now), &toast(turn.after)));
    }
    if turn.changed(|state| (&state.fdw_options, &state.redacted)) {
        let options = differences(&turn.now.fdw_options, &turn.after.fdw_options, &turn.after.redacted);
        changes.extend(in_option_list(&options));
    }
    changes
}

fn row_security(turn: &Turn<'_>) -> Vec<String> {
    let mut changes = Vec::new();
    let is = |yes, word: &str, not: &str| if yes { word.to_owned() } else { not.to_owned() };
    if turn.changed(|state| state.rls.unwrap_or_default().enabled) {
        let enabled = turn.after.rls.unwrap_or_default().enabled;
        changes.push(is(enabled, "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY"));
    }
    if turn.changed(|state| state.rls.unwrap_or_default().forced) {
        let forced = turn.after.rls.unwrap_or_default().forced;
        changes.push(is(forced, "FORCE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"));
    }
    changes
}

/// When a partition's clones of its parent's triggers fire.
pub(super) fn triggers(turn: &Turn<'_>) -> Vec<Statement> {
    let mut names: Vec<&String> = turn.now.triggers.keys().chain(turn.after.triggers.keys()).collect();
    names.sort();
    names.dedup();
    let changed = names.into_iter().filter(|name| turn.changed(|state| state.triggers.get(*name)));
    let set = |name: &String| {
        let how = opaque::firing(turn.after.triggers.get(name).map(String::as_str));
        turn.alter_table(&format!("{how} TRIGGER {}", quote::identifier(name)))
    };
    changed.map(set).collect()
}

/// Replica identity: once the index that it may need is there.
pub(super) fn identity(turn: &Turn<'_>) -> Vec<Statement> {
    let of = |state: &State| (state.replica_identity.clone(), state.identity_index.clone());
    let lost = turn.after.identity_index.as_ref().is_some_and(|index| indexes::may_be_new(turn, index));
    let wanted = turn.changed(of) || lost && of(turn.now) != of(turn.after);
    if !wanted {
        return Vec::new();
    }
    let identity = match (turn.after.replica_identity.as_deref(), &turn.after.identity_index) {
        (Some("n"), _) => "NOTHING".to_owned(),
        (Some("f"), _) => "FULL".to_owned(),
        (Some("i"), Some(index)) => format!("USING INDEX {}", quote::identifier(index)),
        _ => "DEFAULT".to_owned(),
    };
    vec![turn.alter_table(&format!("REPLICA IDENTITY {identity}"))]
}
