//! Objects that are made by the text that the source's server wrote, and mostly made anew when it is another.

use crate::quote;
use crate::state::State;
use crate::statement::Statement;
use crate::table::{Phase, differences, in_option_list};
use crate::turn::{Turn, renames};

/// What can only be renamed, commented on, and made anew.
pub(crate) const PHASES: &[Phase] = &[renames, anew, comment];
/// What CREATE OR REPLACE replaces: functions, procedures, aggregates, triggers, rules.
pub(crate) const REPLACED: &[Phase] = &[renames, replace, enabled, dependence, comment];
/// Statistics.
pub(crate) const STATISTICS: &[Phase] = &[renames, anew, statistics_target, comment];
/// Extensions.
pub(crate) const EXTENSION: &[Phase] = &[extension, comment];
/// Foreign data wrappers, servers, user mappings.
pub(crate) const FOREIGN: &[Phase] = &[renames, foreign, comment];
/// Operators.
pub(crate) const OPERATOR: &[Phase] = &[renames, operator, comment];
/// Operator families.
pub(crate) const FAMILY: &[Phase] = &[renames, members, comment];
/// Text search configurations.
pub(crate) const CONFIGURATION: &[Phase] = &[renames, mappings, comment];
/// Text search dictionaries.
pub(crate) const DICTIONARY: &[Phase] = &[renames, dictionary, comment];

fn comment(turn: &Turn<'_>) -> Vec<Statement> {
    turn.comment().into_iter().collect()
}

fn dependence(turn: &Turn<'_>) -> Vec<Statement> {
    turn.dependence()
}

fn creates(turn: &Turn<'_>) -> impl Iterator<Item = Statement> {
    turn.after.create.iter().map(|sql| turn.statement(sql.clone()))
}

fn anew(turn: &Turn<'_>) -> Vec<Statement> {
    if !turn.changed(|state| &state.body) {
        return Vec::new();
    }
    let drop = turn.statement(format!("DROP {}", turn.now.object)).anew();
    [drop].into_iter().chain(creates(turn)).collect()
}

fn replace(turn: &Turn<'_>) -> Vec<Statement> {
    if !turn.changed(|state| &state.body) {
        return Vec::new();
    }
    let same = |of: fn(&State) -> &Option<String>| of(turn.now) == of(turn.after);
    let replaceable = same(|state| &state.result) && turn.now.kind == turn.after.kind;
    let sql = turn.after.create.first().map_or("", String::as_str);
    let replacing = ["AGGREGATE", "TRIGGER", "RULE"].iter().find_map(|kind| {
        let rest = sql.strip_prefix(&format!("CREATE {kind} "))?;
        Some(format!("CREATE OR REPLACE {kind} {rest}"))
    });
    match replacing.or_else(|| sql.starts_with("CREATE OR REPLACE ").then(|| sql.to_owned())) {
        // a trigger or rule that is replaced is enabled, and what depends on an extension does so no more
        Some(sql) if replaceable && (turn.after.table.is_some() || !turn.after.depends.is_empty()) => {
            vec![turn.statement(sql).anew()]
        }
        Some(sql) if replaceable => vec![turn.statement(sql)],
        _ => anew(turn),
    }
}

/// When triggers and rules fire.
fn enabled(turn: &Turn<'_>) -> Vec<Statement> {
    let (Some(table), Some(name)) = (&turn.after.table, &turn.after.name) else { return Vec::new() };
    if !turn.changed(|state| &state.enabled) {
        return Vec::new();
    }
    let kind = if turn.after.object.starts_with("RULE") { "RULE" } else { "TRIGGER" };
    let how = firing(turn.after.enabled.as_deref());
    vec![turn.statement(format!("ALTER TABLE {table} {how} {kind} {}", quote::identifier(name)))]
}

/// What makes a trigger or rule fire so.
pub(crate) fn firing(enabled: Option<&str>) -> &'static str {
    match enabled {
        Some("D") => "DISABLE",
        Some("R") => "ENABLE REPLICA",
        Some("A") => "ENABLE ALWAYS",
        _ => "ENABLE",
    }
}

fn statistics_target(turn: &Turn<'_>) -> Vec<Statement> {
    let changed = turn.changed(|state| state.statistics);
    let set = || turn.alter(&format!("SET STATISTICS {}", turn.after.statistics.unwrap_or(-1)));
    changed.then(set).into_iter().collect()
}

fn extension(turn: &Turn<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    if let (true, Some(schema)) = (turn.changed(|state| &state.extension_schema), &turn.after.extension_schema) {
        statements.push(turn.alter(&format!("SET SCHEMA {}", quote::identifier(schema))));
    }
    if let (true, Some(version)) = (turn.changed(|state| &state.version), &turn.after.version) {
        statements.push(turn.alter(&format!("UPDATE TO {}", quote::literal(version))));
    }
    statements
}

fn foreign(turn: &Turn<'_>) -> Vec<Statement> {
    let mut changes = Vec::new();
    for (word, of) in [("HANDLER", handler as fn(&State) -> &Option<String>), ("VALIDATOR", validator)] {
        if turn.changed(of) {
            changes.push(of(turn.after).as_ref().map_or_else(|| format!("NO {word}"), |f| format!("{word} {f}")));
        }
    }
    if turn.changed(|state| &state.version) {
        changes.extend(turn.after.version.as_ref().map(|version| format!("VERSION {}", quote::literal(version))));
    }
    if turn.changed(|state| (&state.fdw_options, &state.redacted)) {
        let options = differences(&turn.now.fdw_options, &turn.after.fdw_options, &turn.after.redacted);
        changes.extend(in_option_list(&options));
    }
    changes.iter().map(|what| turn.alter(what)).collect()
}

fn handler(state: &State) -> &Option<String> {
    &state.handler
}

fn validator(state: &State) -> &Option<String> {
    &state.validator
}

/// The estimators of an operator are all of it that can be altered on every version; from 17 on, also what it is to others.
fn operator(turn: &Turn<'_>) -> Vec<Statement> {
    if !turn.changed(|state| &state.body) {
        return Vec::new();
    }
    let (now, after) = (attributes(turn.now), attributes(turn.after));
    let of = |list: &[(String, String)], name: &str| list.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
    let value = |name: &str| of(&after, name).unwrap_or_else(|| "NONE".to_owned());
    let estimators = turn.alter(&format!("SET (RESTRICT = {}, JOIN = {})", value("RESTRICT"), value("JOIN")));
    let relations = ["COMMUTATOR", "NEGATOR", "HASHES", "MERGES"];
    let new = relations.iter().filter(|name| of(&now, name) != of(&after, name) && of(&after, name).is_some());
    let set = |name: &&str| turn.alter(&format!("SET ({name} = {})", value(name))).or_skip(&["42601"], BEFORE_17);
    [estimators].into_iter().chain(new.map(set)).collect()
}

const BEFORE_17: &str = "servers before version 17 cannot alter what an operator is to others";

/// `CREATE OPERATOR x (FUNCTION = f, LEFTARG = integer, HASHES)`
fn attributes(state: &State) -> Vec<(String, String)> {
    let sql = state.create.first().map_or("", String::as_str);
    let list = sql.split_once(" (FUNCTION = ").map_or("", |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    let pair = |item: &String| {
        let (name, value) = item.split_once(" = ").unwrap_or((item, "true"));
        (name.to_owned(), value.to_owned())
    };
    split_list(list).iter().skip(1).map(pair).collect()
}

/// Loose operators and functions of a family.
fn members(turn: &Turn<'_>) -> Vec<Statement> {
    let (now, after) = (&turn.now.members, &turn.after.members);
    let known = |member: &String| turn.before.is_some_and(|before| before.members.contains(member));
    let gone = now.iter().filter(|member| !after.contains(member) && known(member)).filter_map(|m| key_of_member(m));
    let new = after.iter().filter(|member| !now.contains(member) && !known(member));
    let drops = gone.map(|member| turn.alter(&format!("DROP {member}")));
    drops.chain(new.map(|member| turn.alter(&format!("ADD {member}")))).collect()
}

/// `OPERATOR 1 public.=(integer, bigint)` is dropped as `OPERATOR 1 (integer, bigint)`, `FUNCTION 1 (integer, bigint) f(…)`
/// as `FUNCTION 1 (integer, bigint)`.
fn key_of_member(member: &str) -> Option<String> {
    let mut words = member.splitn(3, ' ');
    let (kind, number, rest) = (words.next()?, words.next()?, words.next()?);
    let types = match kind {
        "OPERATOR" => {
            let name = rest.split(" FOR ORDER BY ").next()?;
            &name[name.rfind('(')?..]
        }
        _ => &rest[..=rest.find(')')?],
    };
    Some(format!("{kind} {number} {types}"))
}

/// Which dictionaries a configuration uses for which tokens.
fn mappings(turn: &Turn<'_>) -> Vec<Statement> {
    let (now, after) = (&turn.now.mappings, &turn.after.mappings);
    let known = |mapping: &String| turn.before.is_some_and(|before| before.mappings.contains(mapping));
    let token = |mapping: &String| mapping.strip_prefix("ADD MAPPING FOR ")?.split(" WITH ").next().map(str::to_owned);
    let gone = now.iter().filter(|mapping| !after.contains(mapping) && (known(mapping) || turn.before.is_none()));
    let drops = gone.filter_map(token).map(|token| turn.alter(&format!("DROP MAPPING FOR {token}")));
    let new = after.iter().filter(|mapping| !now.contains(mapping) && !known(mapping));
    drops.chain(new.map(|mapping| turn.alter(mapping))).collect()
}

/// Options of a dictionary; those that are gone are named without a value.
fn dictionary(turn: &Turn<'_>) -> Vec<Statement> {
    if !turn.changed(|state| &state.body) {
        return Vec::new();
    }
    let (now, after) = (dictionary_options(turn.now), dictionary_options(turn.after));
    let name = |option: &str| option.split(" = ").next().unwrap_or_default().to_owned();
    let kept: Vec<_> = after.iter().map(|option| name(option)).collect();
    let gone = now.iter().map(|option| name(option)).filter(|option| !kept.contains(option));
    let list: Vec<_> = gone.chain(after.iter().cloned()).collect();
    if list.is_empty() { Vec::new() } else { vec![turn.alter(&format!("({})", list.join(", ")))] }
}

/// `CREATE … (TEMPLATE = x, a = 'b', …)`: what stands behind the template.
fn dictionary_options(state: &State) -> Vec<String> {
    let sql = state.create.first().map_or("", String::as_str);
    let Some((_, rest)) = sql.split_once("(TEMPLATE = ") else { return Vec::new() };
    let items = split_list(rest.strip_suffix(')').unwrap_or(rest));
    items.into_iter().skip(1).collect()
}

/// Items between commas that are in no quotes.
pub(crate) fn split_list(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == ',' => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items.iter().map(|item| item.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_families_are_dropped_by_their_types() {
        let key = |member| key_of_member(member).unwrap();
        assert_eq!(key("OPERATOR 1 public.=(integer, bigint)"), "OPERATOR 1 (integer, bigint)");
        assert_eq!(key("OPERATOR 1 x.<->(a, b) FOR ORDER BY x.f"), "OPERATOR 1 (a, b)");
        assert_eq!(key("FUNCTION 1 (integer, bigint) public.f(integer,bigint)"), "FUNCTION 1 (integer, bigint)");
        assert_eq!(key_of_member("OPERATOR"), None);
    }

    #[test]
    fn options_of_a_dictionary_stand_behind_its_template() {
        let create = vec!["CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = t, a = 'x, ''y''', b = 'z')".to_owned()];
        assert_eq!(dictionary_options(&State { create, ..State::default() }), ["a = 'x, ''y'''", "b = 'z'"]);
    }
}
