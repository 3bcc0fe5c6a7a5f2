//! What is done with objects of each kind.

use crate::message::Message;
use crate::state::{Column, State};
use crate::statement::Statement;
use crate::table::Phase;
use crate::{opaque, sequence, table, types, version, view};

/// The way of an object that is there.
pub(crate) fn phases(class: &str, after: &State) -> &'static [Phase] {
    match (class, after.kind.as_str()) {
        ("pg_class", "sequence") => sequence::PHASES,
        ("pg_class", "view") => view::VIEW,
        ("pg_class", "materialized view") => view::MATERIALIZED,
        ("pg_class", _) => table::PHASES,
        ("pg_type", _) => types::PHASES,
        ("pg_proc" | "pg_trigger" | "pg_rewrite", _) => opaque::REPLACED,
        ("pg_statistic_ext", _) => opaque::STATISTICS,
        ("pg_extension", _) => opaque::EXTENSION,
        ("pg_foreign_data_wrapper" | "pg_foreign_server" | "pg_user_mapping", _) => opaque::FOREIGN,
        ("pg_operator", _) => opaque::OPERATOR,
        ("pg_opfamily", _) => opaque::FAMILY,
        ("pg_ts_config", _) => opaque::CONFIGURATION,
        ("pg_ts_dict", _) => opaque::DICTIONARY,
        _ => opaque::PHASES,
    }
}

/// Statements that make an object that is not there.
pub(crate) fn create(class: &str, after: &State, message: &Message, server_version: u32) -> Vec<Statement> {
    match (class, after.kind.as_str()) {
        ("pg_class", "sequence") => vec![sequence::create(after, server_version)],
        ("pg_class", "view" | "materialized view") => vec![view::create(after)],
        ("pg_class", _) => vec![table::create(after, message, server_version)],
        _ => after.create.iter().map(Statement::new).collect(),
    }
}

/// Whether only a superuser, or whom one allows, can make and alter such objects; the owner's rights would not do.
pub(crate) fn needs_login(class: &str, state: &State) -> bool {
    match class {
        "pg_type" => matches!(state.type_kind.as_deref(), Some("base")) || state.shell,
        "pg_am" | "pg_cast" | "pg_language" | "pg_opclass" | "pg_opfamily" | "pg_transform" => true,
        "pg_ts_parser" | "pg_ts_template" | "pg_foreign_data_wrapper" => true,
        _ => false,
    }
}

/// Whether options of such objects may be secrets.
pub(crate) fn has_secrets(class: &str, state: &State) -> bool {
    matches!(class, "pg_foreign_data_wrapper" | "pg_foreign_server" | "pg_user_mapping") || state.server.is_some()
}

/// What says why this target cannot have the object as it is wanted; None: it can.
pub(crate) fn impossible(
    now: Option<&State>,
    before: Option<&State>,
    after: &State,
    server_version: u32,
) -> Option<&'static str> {
    if let Some(why) = version::impossible(server_version, (now, before), after) {
        return Some(why);
    }
    let now = now?;
    let kind = |state: &State| (state.kind.clone(), state.partition_key.is_some());
    let is_relation =
        matches!(after.kind.as_str(), "table" | "view" | "materialized view" | "sequence" | "foreign table");
    if is_relation && kind(now) != kind(after) {
        return Some("the target has something of another kind by this name");
    }
    let plain = |state: &State, is: &dyn Fn(&Column) -> bool| {
        state.columns.iter().any(|column| is(column) && column.generated.is_none())
    };
    let generated = after.columns.iter().filter(|column| column.generated.is_some());
    // one that was dropped and made anew is another column
    let kept = |new: &&Column| before.is_none_or(|before| plain(before, &|old| old.num == new.num));
    let became = generated.filter(kept).any(|new| plain(now, &|column| column.name == new.name));
    became.then_some("a column became a generated one, which is no change that a server makes")
}
