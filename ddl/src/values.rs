//! What travels beside changes: values of sequences, and which materialized views were refreshed.

use crate::apply::Context;
use crate::error::Failure;
use crate::message::{Message, SequenceValue};
use crate::outcome::{Done, Verb};
use crate::session::Session;
use crate::statement::Statement;

/// Sets sequences that differ, and notes where they were set. Values are never rolled back, nor need they be: a sequence
/// that is ahead of its rows is harmless, and the message comes again.
const SET: &str = "\
    WITH wanted AS MATERIALIZED ( \
        SELECT c.oid, n.nspname, c.relname, v.last_value, v.is_called \
          FROM jsonb_to_recordset($1::text::jsonb) v (identity text, last_value bigint, is_called boolean) \
          JOIN pg_class c ON c.oid = to_regclass(v.identity) AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace), \
    done AS MATERIALIZED (SELECT w.*, setval(w.oid, w.last_value, w.is_called) FROM wanted w), \
    noted AS ( \
        INSERT INTO walcast.sequence (schema_name, sequence_name, last_value, is_called) \
        SELECT nspname, relname, last_value, is_called FROM done \
            ON CONFLICT (schema_name, sequence_name) DO UPDATE \
           SET last_value = excluded.last_value, is_called = excluded.is_called, set_at = now()) \
    SELECT v.identity FROM jsonb_to_recordset($1::text::jsonb) v (identity text) \
     WHERE NOT EXISTS (SELECT FROM done d WHERE d.oid = to_regclass(v.identity))";

/// Gives sequences the values that the source's have.
pub(crate) async fn set_sequences<S: Session + Send>(
    context: &mut Context<'_, S>,
    values: &[SequenceValue],
) -> Result<(), Failure<S::Error>> {
    if values.is_empty() {
        return Ok(());
    }
    let list = values.iter().map(|value| {
        serde_json::json!({"identity": value.identity, "last_value": value.last_value, "is_called": value.is_called})
    });
    let list = serde_json::Value::Array(list.collect()).to_string();
    let missing = context.ask("values of sequences", SET, &[Some(&list)]).await?;
    for name in missing.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        context.skip(&format!("SEQUENCE {name}"), "the target has no such sequence");
    }
    Ok(())
}

/// Refreshes materialized views that the source refreshed.
pub(crate) async fn refresh<S: Session + Send>(
    context: &mut Context<'_, S>,
    message: &Message,
) -> Result<(), Failure<S::Error>> {
    for view in &message.refresh {
        let state = message.changes.iter().filter_map(|change| change.after.as_ref()).find(|s| s.identity == *view);
        let data = if state.and_then(|state| state.populated) == Some(false) { " WITH NO DATA" } else { "" };
        let object = format!("MATERIALIZED VIEW {view}");
        let Some(owner) = context.owner_of(&object, view).await? else {
            context.skip(&object, "the target has no such view to refresh");
            continue;
        };
        let refresh = Statement::new(format!("REFRESH {object}{data}")).with_rights_of(Some(&owner));
        context.run(&object, &refresh).await?;
        let kind = "materialized view".to_owned();
        context.outcome.done.push(Done { verb: Verb::Refreshed, kind, object });
    }
    Ok(())
}
