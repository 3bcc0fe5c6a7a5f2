//! Indexes of tables and materialized views.

use crate::quote;
use crate::state::{Index, State};
use crate::statement::Statement;
use crate::table::options::reloptions;
use crate::table::renamed;
use crate::turn::{Turn, dependences, wanted};

/// Indexes that the source dropped. Those of constraints go with them, those of partitions with the partitioned table's.
pub(crate) fn drop(turn: &Turn<'_>) -> Vec<Statement> {
    drop_where(turn, |now| is_gone(turn, now))
}

/// Indexes that are to be made anew, because their definition is another: once names in it are the new ones.
pub(crate) fn changed(turn: &Turn<'_>) -> Vec<Statement> {
    drop_where(turn, |now| {
        let before = |after: &Index| turn.before?.indexes.iter().find(|index| index.oid == after.oid);
        find(turn.after, &now.name).is_some_and(|after| is_another(turn, now, before(after), after))
    })
}

fn drop_where(turn: &Turn<'_>, which: impl Fn(&Index) -> bool) -> Vec<Statement> {
    let plain = turn.now.indexes.iter().filter(|now| now.of_constraint.is_none() && now.parent.is_none());
    let gone = plain.filter(|now| which(now));
    gone.map(|now| turn.statement(format!("DROP INDEX {}", sql_name(turn, &now.name)))).collect()
}

fn is_gone(turn: &Turn<'_>, now: &Index) -> bool {
    let Some(before) = turn.before.and_then(|before| find(before, &now.name)) else { return false };
    let kept = turn.after.indexes.iter().any(|index| index.oid == before.oid);
    !kept && find(turn.after, &now.name).is_none_or(|after| is_another(turn, now, Some(before), after))
}

fn is_another(turn: &Turn<'_>, now: &Index, before: Option<&Index>, after: &Index) -> bool {
    let changed = wanted(&now.def, before.map(|index| &index.def), &after.def);
    // an index that becomes a constraint's, or a partition's, is not another one
    changed && is_own(turn, after) && split(&now.def).0 != split(&after.def).0 && only(&now.def) != only(&after.def)
}

/// Whether the definition is for one table only is settled by attaching.
fn only(def: &str) -> String {
    let (head, _) = split(def);
    head.replacen(" ON ONLY ", " ON ", 1)
}

/// Whether it is to be made by itself: not invalid (except while parts of a partitioned index are missing), nor a
/// constraint's.
fn is_own(turn: &Turn<'_>, index: &Index) -> bool {
    let partitioned = turn.after.partition_key.is_some();
    index.of_constraint.is_none() && (index.valid.unwrap_or(true) || partitioned)
}

pub(crate) fn rename(turn: &Turn<'_>) -> Vec<Statement> {
    let before = turn.before.map_or(&[][..], |before| &before.indexes);
    // a constraint is renamed, and its index with it; one that belongs to a parent's has no name of its own
    let own = |name: &String| turn.now.constraints.iter().any(|constraint| constraint.name == *name);
    let goes_along = |index: &&Index| index.of_constraint.as_ref().is_some_and(own);
    let now: Vec<Index> = turn.now.indexes.iter().filter(|index| !goes_along(index)).cloned().collect();
    let renames = renamed((&now, before, &turn.after.indexes), |index| index.oid, |index| &index.name);
    let becomes_constraint = |to: &str| turn.after.indexes.iter().any(|i| i.name == to && i.of_constraint.is_some());
    let own = renames.into_iter().filter(|(_, to)| !becomes_constraint(to) || has_child(turn, to));
    own.map(|(from, to)| alter_index(turn, &from, &format!("RENAME TO {}", quote::identifier(&to)))).collect()
}

fn has_child(turn: &Turn<'_>, name: &str) -> bool {
    find(turn.after, name).is_some_and(|index| index.parent.is_some())
}

/// Indexes that are missing.
pub(crate) fn add(turn: &Turn<'_>) -> Vec<Statement> {
    let missing =
        turn.after.indexes.iter().filter(|after| find(turn.now, &after.name).is_none() && is_own(turn, after));
    let wanted = missing.filter(|after| !is_known(turn, after) && !comes_with_parent(turn, after));
    wanted.map(|after| turn.statement(create(turn, after))).collect()
}

/// The source had it before in the same way: only the target's own doing took it away.
fn is_known(turn: &Turn<'_>, after: &Index) -> bool {
    let same = |before: &Index| before.def == after.def && before.valid == after.valid;
    turn.before.is_some_and(|before| before.indexes.iter().any(same))
}

/// A partition gets it from the partitioned table, under a name of the server's choice: see [`of_partitions`].
fn comes_with_parent(turn: &Turn<'_>, after: &Index) -> bool {
    after.parent.is_some() && (turn.now.parent.is_some() || turn.after.parent.is_some())
}

/// `CREATE INDEX … ON ONLY` is how a partitioned table's is described: its partitions get theirs by it if it is valid.
fn create(turn: &Turn<'_>, after: &Index) -> String {
    match turn.after.partition_key.is_some() && after.valid.unwrap_or(true) {
        true => after.def.replacen(" ON ONLY ", " ON ", 1),
        false => after.def.clone(),
    }
}

/// Indexes that belong to a partitioned table's: found by it, attached to it, or made.
pub(crate) fn of_partitions(turn: &Turn<'_>) -> Vec<Statement> {
    turn.after.indexes.iter().filter_map(|after| of_partition(turn, after, after.parent.as_ref()?)).collect()
}

fn of_partition(turn: &Turn<'_>, after: &Index, parent: &str) -> Option<Statement> {
    let attached = turn.now.indexes.iter().find(|now| now.parent.as_deref() == Some(parent));
    match (attached, find(turn.now, &after.name)) {
        (Some(now), None) => {
            Some(alter_index(turn, &now.name, &format!("RENAME TO {}", quote::identifier(&after.name))))
        }
        (None, Some(now)) => {
            let attach = format!("ALTER INDEX {parent} ATTACH PARTITION {}", sql_name(turn, &now.name));
            Some(turn.statement(attach))
        }
        (Some(_), Some(_)) => None,
        (None, None) if after.of_constraint.is_none() && !is_known(turn, after) => {
            Some(turn.statement(after.def.clone()))
        }
        (None, None) => None,
    }
}

/// Parameters, clustering, statistics.
pub(crate) fn settings(turn: &Turn<'_>) -> Vec<Statement> {
    let both = turn.after.indexes.iter().filter_map(|after| Some((find(turn.now, &after.name)?, after)));
    let mut statements: Vec<_> = both.flat_map(|(now, after)| set_one(turn, now, after)).collect();
    let clustered = |state: &State| state.indexes.iter().find(|index| index.clustered).map(|index| index.name.clone());
    let lost = clustered(turn.now).is_none() && clustered(turn.after).is_some_and(|index| may_be_new(turn, &index));
    if turn.changed(clustered) || lost {
        statements.push(turn.alter_table(&match clustered(turn.after) {
            Some(index) => format!("CLUSTER ON {}", quote::identifier(&index)),
            None => "SET WITHOUT CLUSTER".to_owned(),
        }));
    }
    statements
}

/// Whether an index may have been made anew, and so have lost what is not in its definition.
pub(super) fn may_be_new(turn: &Turn<'_>, name: &str) -> bool {
    let before = |after: &Index| {
        let same = |old: &&Index| old.oid == after.oid && old.def == after.def;
        turn.before.and_then(|before| before.indexes.iter().find(same))
    };
    find(turn.after, name).is_some_and(|after| before(after).is_none())
}

fn set_one(turn: &Turn<'_>, now: &Index, after: &Index) -> Vec<Statement> {
    let before = turn.before.filter(|_| !may_be_new(turn, &after.name));
    let before = before.and_then(|before| before.indexes.iter().find(|index| index.oid == after.oid));
    let mut changes = Vec::new();
    let parameters = |index: &Index| split(&index.def).1;
    if wanted(&parameters(now), before.map(parameters).as_ref(), &parameters(after)) {
        changes.extend(reloptions(&parameters(now), &parameters(after)));
    }
    for number in now.statistics.keys().chain(after.statistics.keys()) {
        let target = |index: &Index| index.statistics.get(number).copied();
        if wanted(&target(now), before.map(target).as_ref(), &target(after)) {
            changes.push(format!("ALTER COLUMN {number} SET STATISTICS {}", target(after).unwrap_or(-1)));
        }
    }
    if wanted(&&now.depends, before.map(|index| &index.depends).as_ref(), &&after.depends) {
        changes.extend(dependences(&now.depends, &after.depends));
    }
    changes.dedup();
    changes.iter().map(|what| alter_index(turn, &after.name, what)).collect()
}

fn alter_index(turn: &Turn<'_>, name: &str, what: &str) -> Statement {
    turn.statement(format!("ALTER INDEX {} {what}", sql_name(turn, name)))
}

/// Indexes are in the schema of their table.
fn sql_name(turn: &Turn<'_>, name: &str) -> String {
    quote::qualified(turn.now.schema.as_deref().unwrap_or_default(), name)
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a Index> {
    state.indexes.iter().find(|index| index.name == name)
}

/// A definition without its parameters, and those: they can be altered. Written by `pg_get_indexdef` as
/// `… WITH (fillfactor='70') WHERE …`.
fn split(def: &str) -> (String, Vec<String>) {
    const WITH: &str = " WITH (";
    let Some(start) = def.find(WITH) else { return (def.to_owned(), Vec::new()) };
    let rest = &def[start + WITH.len()..];
    let Some(end) = rest.find(')') else { return (def.to_owned(), Vec::new()) };
    let parameters = rest[..end].split(", ").map(|item| item.replace('\'', ""));
    (format!("{}{}", &def[..start], &rest[end + 1..]), parameters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_the_rest_of_a_definition() {
        let def =
            "CREATE INDEX i ON public.t USING btree (a) WITH (fillfactor='70', deduplicate_items=off) WHERE (a > 1)";
        let (rest, parameters) = split(def);
        assert_eq!(rest, "CREATE INDEX i ON public.t USING btree (a) WHERE (a > 1)");
        assert_eq!(parameters, ["fillfactor=70", "deduplicate_items=off"]);
        assert_eq!(split("x WITH ("), ("x WITH (".to_owned(), Vec::new()));
    }
}
