//! Tables that are told from others, by their names (`copied.rs`), and what DDL does to them.

use ::ddl::{Change, Message, State};
use decoder::RelationId;

use crate::copied::{self, Filter};
use crate::error::Error;
use crate::name::TableName;
use crate::session::Session;
use crate::status::Identity;

/// Notes follow a table that gets another name, or is dropped. Of one that is set aside and gets other columns, a copy that
/// is being caught up is of no use any more.
pub(super) async fn follow(
    session: &mut Session,
    filter: &mut Filter,
    identity: &Identity,
    change: &Change,
) -> Result<(), Error> {
    let Some(before) = change.before.as_ref().filter(|_| filter.is_active()) else { return Ok(()) };
    match change.class.as_str() {
        "pg_class" => {
            let Some(old) = table_name(before).filter(|old| filter.has(old)) else { return Ok(()) };
            let new = change.after.as_ref().and_then(table_name);
            if new.as_ref() != Some(&old) {
                rename(session, filter, identity, &old, new).await?;
            } else if filter.is_aside(&old) && is_altered(change) {
                copied::copy_again(session, identity, &old).await?;
            }
        }
        "pg_namespace" => {
            let Some((old, new)) = renamed_schema(change) else { return Ok(()) };
            for table in filter.names_in(&old) {
                let moved = TableName { schema: new.clone(), table: table.table.clone() };
                rename(session, filter, identity, &table, Some(moved)).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Tables (by their OIDs on the source) that are in another schema, with its name.
pub(super) fn moved_tables(message: &Message) -> impl Iterator<Item = (RelationId, &str)> {
    message.changes.iter().filter(|change| change.class == "pg_class").filter_map(|change| {
        let (before, after) = (change.before.as_ref()?, change.after.as_ref()?);
        let moved = (table_name(before)?.schema != table_name(after)?.schema).then_some(RelationId(change.oid))?;
        Some((moved, after.schema.as_deref()?))
    })
}

/// The schemas that have another name, with both.
pub(super) fn renamed_schemas(message: &Message) -> Vec<(String, String)> {
    let schemas = message.changes.iter().filter(|change| change.class == "pg_namespace");
    schemas.filter_map(renamed_schema).collect()
}

fn renamed_schema(change: &Change) -> Option<(String, String)> {
    let name = |state: &Option<State>| state.as_ref().and_then(|state| state.name.clone());
    let (old, new) = (name(&change.before)?, name(&change.after)?);
    (old != new).then_some((old, new))
}

async fn rename(
    session: &mut Session,
    filter: &mut Filter,
    identity: &Identity,
    old: &TableName,
    new: Option<TableName>,
) -> Result<(), Error> {
    copied::rename(session, identity, old, new.as_ref()).await?;
    filter.rename(old, new);
    Ok(())
}

/// In a lane: the table must have the rows and columns that were copied.
pub(super) fn stay_as_copied(message: &Message, (schema, table): &(String, String)) -> Result<(), Error> {
    let only = TableName { schema: schema.clone(), table: table.clone() };
    let is_it = |state: &Option<State>| state.as_ref().and_then(table_name).as_ref() == Some(&only);
    let differs = |change: &Change| {
        let (before, after) = (is_it(&change.before), is_it(&change.after));
        before != after || before && is_altered(change)
    };
    match message.changes.iter().filter(|change| change.class == "pg_class").any(differs) {
        true => Err(Error::AlteredMeanwhile { table: only.to_string() }),
        false => Ok(()),
    }
}

/// Other columns, or other values in them.
fn is_altered(change: &Change) -> bool {
    let columns = |state: &State| -> Vec<(String, String)> {
        state.columns.iter().map(|column| (column.name.clone(), column.type_name.clone())).collect()
    };
    change.rewritten || change.before.as_ref().map(columns) != change.after.as_ref().map(columns)
}

fn table_name(state: &State) -> Option<TableName> {
    let (schema, table) = (state.schema.clone()?, state.name.clone()?);
    (state.kind == "table").then_some(TableName { schema, table })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that makes of one table (name, its columns' types) another one.
    fn altered(before: (&str, &[&str]), after: (&str, &[&str]), rewritten: bool) -> Message {
        let state = |(name, columns): (&str, &[&str])| {
            let columns: Vec<String> =
                columns.iter().map(|c| format!(r#"{{"num": 1, "name": "c", "type": "{c}"}}"#)).collect();
            let columns = columns.join(",");
            format!(
                r#"{{"type": "table", "identity": "public.{name}", "object": "TABLE public.{name}", "schema": "public",
                    "name": "{name}", "columns": [{columns}]}}"#
            )
        };
        let (before, after) = (state(before), state(after));
        let json = format!(
            r#"{{"v": 1, "xid": "7", "changes": [{{"class": "pg_class", "oid": 1, "before": {before}, "after": {after},
                "rewritten": {rewritten}}}]}}"#
        );
        Message::parse(json.as_bytes()).expect("a message")
    }

    #[test]
    fn a_lane_ends_at_what_makes_its_copy_useless() {
        let only = ("public".to_owned(), "t".to_owned());
        let goes_on = |message: Message| stay_as_copied(&message, &only).is_ok();
        assert!(goes_on(altered(("t", &["int"]), ("t", &["int"]), false)), "an index, a comment");
        assert!(goes_on(altered(("u", &["int"]), ("u", &["text"]), true)), "another table");
        assert!(!goes_on(altered(("t", &["int"]), ("t", &["int", "text"]), false)));
        assert!(!goes_on(altered(("t", &["int"]), ("t", &["int"]), true)));
        assert!(!goes_on(altered(("t", &["int"]), ("u", &["int"]), false)));
        assert!(!goes_on(altered(("u", &["int"]), ("t", &["int"]), false)), "another table has its name now");
    }
}
