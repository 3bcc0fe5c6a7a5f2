//! What a server of an older version does not know.
//!
//! A state is compared and applied without what the target's version lacks, where the target can do without: that is left
//! out, and reported. What cannot be left out, because the object would be another one or give more rights, stops the target
//! ([`impossible`]).
//!
//! | of version | left out before it | stops an older target |
//! | --- | --- | --- |
//! | 15 | NULLS NOT DISTINCT; foreign keys that set some columns only | views with `security_invoker`; another access method |
//! | 16 | | collations with rules |
//! | 17 | the access method of a partitioned table | another expression of a generated column; built-in collations |
//! | 18 | constraints that are not enforced; NOT NULL that is not valid | virtual columns; WITHOUT OVERLAPS, PERIOD |

use std::borrow::Cow;

use serde_json::Value;

use crate::state::{Column, Constraint, State};

/// A state as a server of this version can have it, and what was left out.
pub(crate) fn known_to(version: u32, state: &State) -> (Cow<'_, State>, Vec<String>) {
    let mut state = Cow::Borrowed(state);
    let mut left_out = Vec::new();
    if version < 180_000 {
        without_unenforced(&mut state, &mut left_out);
    }
    if version < 170_000 && state.partition_key.is_some() && state.access_method.is_some() {
        state.to_mut().access_method = None;
        left_out.push("partitioned tables have access methods from version 17 on".to_owned());
    }
    if version < 150_000 {
        without_distinct_nulls(&mut state, &mut left_out);
        without_invoker(&mut state);
    }
    (state, left_out)
}

fn without_unenforced(state: &mut Cow<'_, State>, left_out: &mut Vec<String>) {
    let is_unenforced = |constraint: &Constraint| constraint.def.ends_with(" NOT ENFORCED");
    take(state, left_out, is_unenforced, "is not enforced, which only servers from version 18 on know");
    let invalid = |constraint: &&Constraint| constraint.kind == "n" && !constraint.valid.unwrap_or(true);
    let defs: Vec<String> = state.constraints.iter().filter(invalid).map(|c| c.def.clone()).collect();
    for def in defs {
        let of = |name: &str| crate::table::column::is_not_null_of(&def, name);
        let state = state.to_mut();
        for column in state.columns.iter_mut().filter(|column| of(&column.name)) {
            column.not_null = false;
            left_out.push(format!("{} is not valid, which only servers from version 18 on know", column.name));
        }
    }
}

/// Takes constraints out.
fn take(state: &mut Cow<'_, State>, left_out: &mut Vec<String>, which: impl Fn(&Constraint) -> bool, why: &str) {
    if state.constraints.iter().any(&which) {
        let constraints = &mut state.to_mut().constraints;
        left_out.extend(constraints.iter().filter(|c| which(c)).map(|c| format!("constraint {} {why}", c.name)));
        constraints.retain(|constraint| !which(constraint));
    }
}

/// Not to be what an older version cannot be needs no word.
fn without_invoker(state: &mut Cow<'_, State>) {
    let is_said =
        |item: &Value| item.as_str().is_some_and(|item| item.starts_with("security_invoker=") && !is_invoker(item));
    if state.kind == "view" && state.options.as_array().is_some_and(|items| items.iter().any(is_said)) {
        let options = state.to_mut().options.as_array_mut();
        options.into_iter().for_each(|items| items.retain(|item| !is_said(item)));
    }
}

fn without_distinct_nulls(state: &mut Cow<'_, State>, left_out: &mut Vec<String>) {
    const CLAUSE: &str = " NULLS NOT DISTINCT";
    let sets_some =
        |c: &Constraint| c.kind == "f" && (c.def.contains(" SET NULL (") || c.def.contains(" SET DEFAULT ("));
    take(state, left_out, sets_some, "sets some columns only, which servers from version 15 on know");
    // a predicate may have such words in a text
    let clause = |def: &str| def.split(" WHERE ").next().is_some_and(|def| def.contains(CLAUSE));
    if !state.indexes.iter().any(|index| clause(&index.def)) {
        return;
    }
    let state = state.to_mut();
    for index in state.indexes.iter_mut().filter(|index| clause(&index.def)) {
        index.def = index.def.replacen(CLAUSE, "", 1);
        left_out.push(format!("NULLS NOT DISTINCT of index {} is of version 15", index.name));
    }
    for constraint in state.constraints.iter_mut().filter(|constraint| constraint.kind == "u") {
        constraint.def = constraint.def.replacen(CLAUSE, "", 1);
    }
}

/// What says that a server of this version cannot have the object; None: it can.
pub(crate) fn impossible(
    version: u32,
    (now, before): (Option<&State>, Option<&State>),
    after: &State,
) -> Option<&'static str> {
    let has = |kinds: &[&str], text: &str| {
        after.constraints.iter().any(|c| kinds.contains(&c.kind.as_str()) && c.def.contains(text))
    };
    if version < 180_000 && after.columns.iter().any(|column| column.generated.as_deref() == Some("v")) {
        return Some("it has a virtual generated column, which only servers from version 18 on know");
    }
    if version < 180_000 && (has(&["p", "u"], " WITHOUT OVERLAPS)") || has(&["f"], ", PERIOD ")) {
        return Some("it has a key WITHOUT OVERLAPS or with PERIOD, which only servers from version 18 on know");
    }
    if version < 170_000 && now.zip(before).is_some_and(|(now, before)| has_other_expression(now, before, after)) {
        return Some("a generated column got another expression, which only servers from version 17 on can change");
    }
    let says = |text: &str| after.kind == "collation" && after.create.iter().any(|sql| sql.contains(text));
    if version < 170_000 && says("(PROVIDER = builtin") {
        return Some("it is a built-in collation, which only servers from version 17 on know");
    }
    if version < 160_000 && says(", RULES = ") {
        return Some("it is a collation with rules, which only servers from version 16 on know");
    }
    if version < 150_000 && after.kind == "view" && after.parameters().iter().any(|p| is_invoker(p)) {
        return Some("it is a view with security_invoker, which only servers from version 15 on know");
    }
    let method = |state: &State| state.access_method.clone();
    let other_method = now.zip(before).is_some_and(|(n, b)| method(b) != method(after) && method(n) != method(after));
    (version < 150_000 && other_method)
        .then_some("it got another access method, which only servers from version 15 on can change")
}

fn is_invoker(parameter: &str) -> bool {
    parameter.strip_prefix("security_invoker=").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0"))
}

/// Names of columns in it may have changed; with another type comes another text.
fn has_other_expression(now: &State, before: &State, after: &State) -> bool {
    let mut generated = after.columns.iter().filter(|column| column.generated.is_some());
    generated.any(|new| {
        let is_there = now.columns.iter().any(|column| column.name == new.name && column.default == new.default);
        let mut old = before.columns.iter().filter(|old| old.num == new.num && old.generated == new.generated);
        let differs = |old: &Column| old.default != new.default && old.type_name == new.type_name;
        !is_there && same_names(before, after) && old.any(differs)
    })
}

fn same_names(before: &State, after: &State) -> bool {
    let kept = |old: &Column| after.columns.iter().find(|new| new.num == old.num);
    before.columns.iter().all(|old| kept(old).is_none_or(|new| new.name == old.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Index;

    fn constraint(kind: &str, def: &str) -> Constraint {
        Constraint { name: "c".to_owned(), kind: kind.to_owned(), def: def.to_owned(), ..Constraint::default() }
    }

    #[test]
    fn what_is_not_enforced_is_left_out_before_18() {
        let state = State { constraints: vec![constraint("c", "CHECK ((a > 0)) NOT ENFORCED")], ..State::default() };
        let (known, left_out) = known_to(170_000, &state);
        assert!(known.constraints.is_empty() && left_out.len() == 1);
        let (known, left_out) = known_to(180_000, &state);
        assert!(known.constraints.len() == 1 && left_out.is_empty());
    }

    #[test]
    fn not_null_that_is_not_valid_is_none_before_18() {
        let invalid = Constraint { valid: Some(false), ..constraint("n", "NOT NULL a NOT VALID") };
        let column = Column { name: "a".to_owned(), not_null: true, ..Column::default() };
        let state = State { constraints: vec![invalid], columns: vec![column], ..State::default() };
        assert!(!known_to(170_000, &state).0.columns[0].not_null);
        assert!(known_to(180_000, &state).0.columns[0].not_null);
    }

    #[test]
    fn nulls_are_distinct_before_15_except_in_texts() {
        let index = |def: &str| Index { name: "i".to_owned(), def: def.to_owned(), ..Index::default() };
        let clause = "CREATE UNIQUE INDEX i ON t USING btree (a) NULLS NOT DISTINCT WHERE (b > 0)";
        let text = "CREATE INDEX i ON t USING btree (a) WHERE (b = ' NULLS NOT DISTINCT'::text)";
        let state = State { indexes: vec![index(clause), index(text)], ..State::default() };
        let (known, left_out) = known_to(140_000, &state);
        assert_eq!(known.indexes[0].def, "CREATE UNIQUE INDEX i ON t USING btree (a) WHERE (b > 0)");
        assert!(known.indexes[1].def == text && left_out.len() == 1);
    }
}
