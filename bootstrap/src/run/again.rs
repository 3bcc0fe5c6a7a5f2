//! One table copied again, while the log goes on being applied to the others.

use std::sync::Arc;

use connection::Wire;
use decoder::Lsn;

use super::{empty, encoding, encoding_of_target, named};
use crate::Options;
use crate::catalog;
use crate::error::{Error, Whom};
use crate::ledger::Ledger;
use crate::pace::Pace;
use crate::plan;
use crate::post_data::TableIndexes;
use crate::progress::{Progress, Stage};
use crate::readers;
use crate::snapshot::Snapshot;
use crate::target;
use crate::work::{Copying, Work};

/// How often a snapshot is taken anew because the table was rewritten just then.
const ATTEMPTS: u32 = 5;

/// Empties a table of the target (schema, name), fills it as of a new snapshot, and notes the snapshot's position as the
/// checkpoint of the table's lane, in the transaction that completes it. Nothing else may write to the table meanwhile:
/// see `applier::set_aside`.
///
/// # Errors
/// A server cannot be reached, the table is not published, or the target lacks it or one of its columns.
pub async fn copy_table(options: &Options, (schema, name): (&str, &str), progress: &Progress) -> Result<Lsn, Error> {
    let options = named(options.clone());
    let ledger = Ledger::open(&options.target, &options.identity).await?;
    progress.govern(options.governor.clone());
    progress.enter(Stage::Snapshot);
    let (snapshot, readers, table) = snapshot(&options, (schema, name), progress).await?;
    let tables = [table];
    let found = target::find(&ledger.client, &tables).await?;
    let [table] = tables;
    let encoding = encoding(&snapshot.keeper, Whom::Source).await?;
    let ascii = "SQL_ASCII";
    let bytes_only = encoding == ascii || encoding_of_target(&ledger.client).await? == ascii;
    let part_bytes = plan::part_bytes((&snapshot.keeper, &ledger.client), table.bytes(), options.jobs).await?;
    let parts = plan::parts(&table, part_bytes);
    let emptying = empty(&ledger.client, &table, &found, parts.len() > 1).await?;
    let format = target::format(&table, &found, bytes_only)?;
    let meter = progress.table(table.shown(), table.bytes());
    let mark = ledger.lane_mark(options.identity.lane(schema, name).slot, snapshot.lsn);
    let work = Work::new(table, parts, (format, emptying), TableIndexes::default(), meter);
    let pace = Pace::new(&options);
    let copying = Copying::new(options.target.clone(), encoding, mark, pace, vec![work], None);
    progress.enter(Stage::Data);
    Arc::new(copying).run(readers).await?;
    Ok(snapshot.lsn)
}

/// A snapshot, sessions on it, and the table in it, locked as the snapshot shows it.
async fn snapshot(
    options: &Options,
    (schema, name): (&str, &str),
    progress: &Progress,
) -> Result<(Snapshot, Vec<Wire>, catalog::Table), Error> {
    for _ in 0..ATTEMPTS {
        let snapshot = Snapshot::take(&options.source, progress).await?;
        let mut tables = catalog::published(&snapshot.keeper, &options.publication).await?;
        tables.retain(|table| table.schema == schema && table.name == name);
        let mut readers = readers::open(&options.source, &snapshot.name, options.jobs).await?;
        let changed = catalog::lock(&snapshot.keeper, &tables).await?;
        let locked = changed.is_none() && readers::lock(&mut readers, &tables).await?;
        match tables.pop() {
            None => return Err(Error::NotPublished(capture::shown_table(schema, name))),
            Some(table) if locked => return Ok((snapshot, readers, table)),
            Some(_) => {}
        }
    }
    Err(Error::Rewritten { table: capture::shown_table(schema, name), attempts: ATTEMPTS })
}
