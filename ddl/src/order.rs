//! In which order the changes of a message are applied: the message's own, but for what has to give way first.

use crate::message::{Change, Message};
use crate::state::State;

/// The changes in the order in which they are applied.
///
/// The message has the altered before the dropped where something was dropped, because tables lose what depended on it.
/// Views, rules, triggers and policies are what depended, never what loses: they go first. So do base types, which take
/// their functions with them.
pub(crate) fn ordered(message: &Message) -> Vec<&Change> {
    let mut changes: Vec<&Change> = message.changes.iter().collect();
    changes.sort_by_key(|change| !goes_first(change));
    changes
}

fn goes_first(change: &Change) -> bool {
    let Some(before) = change.before.as_ref().filter(|_| change.after.is_none() && change.member_of.is_none()) else {
        return false;
    };
    match change.class.as_str() {
        "pg_class" => matches!(before.kind.as_str(), "view" | "materialized view"),
        "pg_rewrite" | "pg_trigger" | "pg_policy" | "pg_statistic_ext" => true,
        "pg_type" => before.type_kind.as_deref() == Some("base"),
        _ => false,
    }
}

/// Whether something else has the name of what is dropped by now.
pub(crate) fn has_successor(message: &Message, dropped: &Change) -> bool {
    let named = |change: &&Change| {
        change.class == dropped.class
            && change.oid != dropped.oid
            && identity(&change.after) == identity(&dropped.before)
    };
    message.changes.iter().any(|change| named(&change))
}

fn identity(state: &Option<State>) -> Option<&str> {
    state.as_ref().map(|state| state.identity.as_str())
}

/// Whether something else had the name of what is there by now.
pub(crate) fn has_predecessor(message: &Message, new: &Change) -> bool {
    let named = |change: &&Change| {
        change.class == new.class && change.oid != new.oid && identity(&change.before) == identity(&new.after)
    };
    message.changes.iter().any(|change| named(&change))
}

/// Relations that the message alters. Keys of one may be what foreign keys of another need.
pub(crate) fn altered_tables(message: &Message) -> Vec<&Change> {
    let is_altered = |change: &&Change| change.before.is_some() && change.after.is_some();
    let has_constraints =
        |change: &&Change| change.before.as_ref().is_some_and(|before| !before.constraints.is_empty());
    let tables = message.changes.iter().filter(|change| change.class == "pg_class");
    tables.filter(is_altered).filter(has_constraints).collect()
}

/// Whether more tables than one come into being: foreign keys wait for all of them.
pub(crate) fn makes_tables(message: &Message) -> bool {
    let new = |change: &&Change| {
        let after = change.after.as_ref().filter(|_| change.before.is_none());
        change.class == "pg_class" && after.is_some_and(|after| after.kind == "table")
    };
    message.changes.iter().filter(new).count() > 1
}
