//! Sequences: they are not in the stream, so they are set to where they are at the end of the copy.
//!
//! Where that was is noted in `walcast.sequence` on the target: `verify` then knows a sequence that has only been left
//! behind since from one that somebody else has set.

use std::collections::BTreeSet;

use capture::{quote_identifier, quote_literal, shown_table};
use tokio_postgres::{Client, Row};

use crate::error::{Error, Whom};
use crate::progress::Progress;

const READ: &str = "read sequences";
/// Each is a table of its own to read from.
const READ_AT_ONCE: usize = 100;

const NAMES: &str = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' \
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'walcast') ORDER BY 1, 2";

type Name = (String, String);

/// Sets the target's sequences to the source's, those of identity columns too.
pub(crate) async fn copy(source: &Client, target: &Client, progress: &Progress) -> Result<(), Error> {
    let wanted = names(source, Whom::Source).await?;
    let there: BTreeSet<Name> = names(target, Whom::Target).await?.into_iter().collect();
    let (found, missing): (Vec<Name>, Vec<Name>) = wanted.into_iter().partition(|name| there.contains(name));
    for (schema, name) in missing {
        progress.note(format!("the target has no sequence {}", shown_table(&schema, &name)));
    }
    for some in found.chunks(READ_AT_ONCE) {
        let read = |(at, name): (usize, &Name)| {
            format!("SELECT {at}, last_value::text, is_called::text FROM {}", quoted(name))
        };
        let sql = some.iter().enumerate().map(read).collect::<Vec<_>>().join(" UNION ALL ");
        let rows = source.query(&format!("{sql} ORDER BY 1"), &[]).await.map_err(Whom::Source.doing(READ))?;
        let values: Result<Vec<(String, String)>, _> =
            rows.iter().map(|row| Ok((row.try_get(1)?, row.try_get(2)?))).collect();
        let values = values.map_err(Whom::Source.doing(READ))?;
        let set = some.iter().zip(&values).map(|(name, value)| set_and_note(name, value));
        target.batch_execute(&set.collect::<String>()).await.map_err(Whom::Target.doing("set sequences"))?;
    }
    Ok(())
}

fn set_and_note(name: &Name, (value, called): &(String, String)) -> String {
    let whole = quote_literal(&quoted(name));
    let (schema, sequence) = (quote_literal(&name.0), quote_literal(&name.1));
    format!(
        "SELECT pg_catalog.setval({whole}::regclass, {value}, {called}); \
         INSERT INTO walcast.sequence (schema_name, sequence_name, last_value, is_called) \
         VALUES ({schema}, {sequence}, {value}, {called}) ON CONFLICT (schema_name, sequence_name) DO UPDATE \
         SET last_value = excluded.last_value, is_called = excluded.is_called, set_at = now();"
    )
}

fn quoted((schema, name): &Name) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(name))
}

async fn names(client: &Client, whom: Whom) -> Result<Vec<Name>, Error> {
    let rows = client.query(NAMES, &[]).await.map_err(whom.doing(READ))?;
    let name = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(name).collect::<Result<_, _>>().map_err(whom.doing(READ))
}
