//! Making the target's rows what the source's are.
//!
//! The caller holds the target at a position C and has a snapshot of the source as of C. What is written then is as if the
//! applier had written it: the target's rows are the source's as of C, and the changes from C on apply to them.
//!
//! Rows with a key are read anew on both sides, found by the key's equality, and told apart by the text of the key: what
//! the target has too much is deleted, what it has otherwise is updated, what it lacks is inserted, in this order. A
//! portion ends after [`PORTION_TIME`], because the target is held meanwhile. Rows without a key are counted anew by a
//! scan of the table on both sides, and copies are inserted or deleted; the target is held for as long as that takes.
//!
//! Every row is recorded in `walcast.repaired` on the target, in the same transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use connection::{Conninfo, TextRow};
use decoder::Lsn;

use crate::drill::{DifferentKey, KeyHash, array, key_hash};
use crate::error::{Error, Side};
use crate::report::Kind;
use crate::rows::is_true;
use crate::scan::{Hash, Scan};
use crate::sequence;
use crate::session::{Session, Value, text};
use crate::snapshot::{Gate, Snapshot, end};
use crate::table::{Pair, TableName, quote};
use crate::verification::shown_key;

/// For how long a target is held at a time.
const PORTION_TIME: Duration = Duration::from_millis(500);
/// Keys that are read in one round trip; fewer after large rows.
const BATCH_KEYS_MAX: usize = 128;
/// Bytes of rows that one round trip should bring at most.
const BATCH_BYTES: usize = 1 << 20;
/// Rows without a key that are dealt with by one scan.
const SCAN_ROWS_MAX: usize = 1000;

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS walcast.repaired (
    repaired_at timestamptz NOT NULL DEFAULT now(),
    repaired_by text NOT NULL DEFAULT session_user,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    lsn pg_lsn NOT NULL);";

const RECORD: &str =
    "INSERT INTO walcast.repaired (schema_name, table_name, key, kind, lsn) VALUES ($1, $2, $3, $4, $5)";

/// A table's keys that differ.
pub(crate) struct Damaged {
    pub(crate) pair: Arc<Pair>,
    pub(crate) hash: Hash,
    pub(crate) keys: Vec<DifferentKey>,
}

/// What a repair has done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Done {
    /// Rows written, by table; 0 where nothing was different any more.
    pub(crate) rows: BTreeMap<TableName, u64>,
    pub(crate) sequences: Vec<TableName>,
}

/// A repair under way.
pub struct Repair {
    target: Session,
    damaged: Vec<Damaged>,
    stale: Vec<TableName>,
    done: Done,
    batch_keys: usize,
}

impl Repair {
    pub(crate) async fn begin(
        conninfo: &Conninfo,
        damaged: Vec<Damaged>,
        stale: Vec<TableName>,
    ) -> Result<Repair, Error> {
        let mut target = Session::connect(conninfo, Side::Target).await?;
        let rows = target.simple("SELECT pg_is_in_recovery(), current_setting('session_replication_role')").await?;
        let field = |at: usize| rows.first().and_then(|row| row.get(at)?.as_deref());
        if field(0) != Some("f") {
            return Err(Error::InRecovery);
        }
        // A role that may not set it can have it by ALTER ROLE.
        if field(1) != Some("replica") {
            target.simple("SET session_replication_role = replica").await?;
        }
        let there = "SELECT to_regclass('walcast.repaired') IS NOT NULL";
        if text(target.simple(there).await?.first().unwrap_or(&Vec::new()), 0, Side::Target)? != "t" {
            target.simple(TABLES).await?;
        }
        Ok(Repair { target, damaged, stale, done: Done::default(), batch_keys: 1 })
    }

    /// Nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.damaged.is_empty() && self.stale.is_empty()
    }

    /// Rows and sequences so far.
    pub fn repaired(&self) -> u64 {
        self.done.rows.values().sum::<u64>() + self.done.sequences.len() as u64
    }

    pub(crate) fn done(self) -> Done {
        self.done
    }

    /// Repairs a portion in one transaction of the target, which has to be held at the snapshot's position.
    ///
    /// # Errors
    /// A row cannot be written, or a session is lost; nothing of the portion is done then.
    pub async fn portion(&mut self, source: &Snapshot, lsn: Lsn) -> Result<(), Error> {
        let gate = &source.gate;
        let mut source = gate.session().await?;
        let lsn = lsn.to_string();
        let mut done = self.done.clone();
        self.target.simple("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        self.set_sequences(&mut source, &lsn, &mut done).await?;
        let began = Instant::now();
        while let Some(damaged) = self.damaged.last() {
            let pair = Arc::clone(&damaged.pair);
            let rows = self.some_of_last(gate, &mut source, &lsn).await;
            let rows = rows.map_err(|error| Error::Repair { table: pair.name.to_string(), source: Box::new(error) })?;
            *done.rows.entry(pair.name.clone()).or_default() += rows;
            if began.elapsed() >= PORTION_TIME {
                break;
            }
        }
        self.target.simple("COMMIT").await?;
        self.done = done;
        source.close().await;
        Ok(())
    }

    async fn set_sequences(&mut self, source: &mut Session, lsn: &str, done: &mut Done) -> Result<(), Error> {
        for name in std::mem::take(&mut self.stale) {
            let value = sequence::value(source, &name).await?;
            let (last, is_called) = (value.last.to_string(), value.is_called.to_string());
            let (schema, table) = (Some(name.schema.as_str()), Some(name.table.as_str()));
            let set = "SELECT setval(format('%I.%I', $1::text, $2::text)::regclass, $3::bigint, $4::boolean)";
            let parameters = [schema, table, Some(&last), Some(&is_called)];
            self.target.query(set, &parameters).await?;
            let note = "INSERT INTO walcast.sequence (schema_name, sequence_name, last_value, is_called) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (schema_name, sequence_name) DO UPDATE \
                 SET last_value = excluded.last_value, is_called = excluded.is_called, set_at = now()";
            self.target.query(note, &parameters).await?;
            self.target.query(RECORD, &[schema, table, Some(&last), Some("sequence"), Some(lsn)]).await?;
            done.sequences.push(name);
        }
        Ok(())
    }

    /// Takes keys of the last table and repairs them.
    async fn some_of_last(&mut self, gate: &Gate, source: &mut Session, lsn: &str) -> Result<u64, Error> {
        let Some(damaged) = self.damaged.last_mut() else { return Ok(0) };
        let most = if damaged.pair.is_keyed() { self.batch_keys } else { SCAN_ROWS_MAX };
        let keys = damaged.keys.split_off(damaged.keys.len().saturating_sub(most));
        let (pair, hash) = (Arc::clone(&damaged.pair), damaged.hash);
        if damaged.keys.is_empty() {
            self.damaged.pop();
        }
        gate.begin(source).await?;
        let (edits, bytes) = match pair.is_keyed() {
            true => keyed(source, &mut self.target, &pair, hash, &keys).await?,
            false => (unkeyed(source, &mut self.target, &pair, hash, &keys).await?, 0),
        };
        // A table that was rewritten after the snapshot looks empty through it: its rows would all be deleted. It is compared
        // again after the repair, and is repaired then.
        let unmoved = source.simple(&Scan::new(&pair, Side::Source, hash).unmoved()).await?;
        let edits = if is_true(&unmoved, Side::Source)? { edits } else { Edits::default() };
        end(source).await?;
        self.batch_keys = if bytes > BATCH_BYTES { 1 } else { (self.batch_keys * 2).min(BATCH_KEYS_MAX) };
        edits.write(&mut self.target, &pair, lsn).await
    }
}

/// Where a row is on the target: the table's OID and ctid.
type RowPlace = (String, String);

/// What is to be written to one table.
#[derive(Default)]
struct Edits {
    deletes: Vec<(RowPlace, TextRow)>,
    updates: Vec<(RowPlace, TextRow)>,
    inserts: Vec<TextRow>,
    /// Rows that replace a deleted one, because a column of theirs cannot be updated.
    replacing: Vec<TextRow>,
}

/// Reads what the keys find on both sides; also gives how many bytes that were.
async fn keyed(
    source: &mut Session,
    target: &mut Session,
    pair: &Pair,
    hash: Hash,
    keys: &[DifferentKey],
) -> Result<(Edits, usize), Error> {
    let sets = || keys.iter().map(|key| key.values.iter().map(Option::as_deref).collect::<Vec<Value<'_>>>());
    let (mut ours, mut theirs) = (HashMap::new(), HashMap::new());
    let (mut our_bytes, mut their_bytes) = (0, 0);
    let size = |row: &TextRow| row.iter().flatten().map(String::len).sum::<usize>();
    let [our_sql, their_sql] = [Side::Source, Side::Target].map(|side| Scan::new(pair, side, hash).lookup());
    // Two keys that are equal to their type find the same rows.
    let (read_ours, read_theirs) = tokio::join!(
        source.each_of(&our_sql, sets(), |_, row| {
            our_bytes += size(&row);
            ours.insert(key_values(pair, &row[2.min(row.len())..]), row);
            Ok(())
        }),
        target.each_of(&their_sql, sets(), |_, row| {
            their_bytes += size(&row);
            theirs.insert(place(&row)?, row);
            Ok(())
        }),
    );
    read_ours?;
    read_theirs?;
    let ours = ours.into_iter().map(|(key, mut row)| (key, row.split_off(2.min(row.len()))));
    let theirs = theirs.into_iter().map(|(place, mut row)| (place, row.split_off(2.min(row.len()))));
    Ok((Edits::between(pair, ours.collect(), theirs.collect()), our_bytes + their_bytes))
}

fn place(row: &TextRow) -> Result<RowPlace, Error> {
    Ok((text(row, 0, Side::Target)?.to_owned(), text(row, 1, Side::Target)?.to_owned()))
}

/// The key's columns out of all of them.
fn key_values(pair: &Pair, row: &[Option<String>]) -> TextRow {
    let at = |name: &String| pair.columns.iter().position(|column| column == name);
    pair.key.iter().map(|name| at(name).and_then(|at| row.get(at).cloned().flatten())).collect()
}

impl Edits {
    /// What makes `theirs` into `ours`.
    fn between(pair: &Pair, mut ours: HashMap<TextRow, TextRow>, theirs: HashMap<RowPlace, TextRow>) -> Edits {
        let mut edits = Edits::default();
        for (place, their) in theirs {
            match ours.remove(&key_values(pair, &their)) {
                // Gone at the source, or the key is there twice.
                None => edits.deletes.push((place, their)),
                Some(our) if our == their => {}
                Some(our) if Edits::can_update(pair, &our, &their) => edits.updates.push((place, our)),
                Some(our) => {
                    edits.deletes.push((place, their));
                    edits.replacing.push(our);
                }
            }
        }
        edits.inserts = ours.into_values().collect();
        edits
    }

    fn can_update(pair: &Pair, our: &TextRow, their: &TextRow) -> bool {
        let fixed = |name: &String| pair.target.column(name).is_some_and(|column| column.identity_always);
        let values = our.iter().zip(their);
        !pair.columns.iter().zip(values).any(|(name, (our, their))| our != their && fixed(name))
    }

    /// Writes it all, with a record for each row; how many there were.
    async fn write(self, target: &mut Session, pair: &Pair, lsn: &str) -> Result<u64, Error> {
        let Edits { deletes, updates, inserts, replacing } = self;
        delete(target, pair, &deletes).await?;
        update(target, pair, &updates).await?;
        insert(target, pair, &replacing).await?;
        insert(target, pair, &inserts).await?;
        let replaced: Vec<TextRow> = replacing.iter().map(|row| key_values(pair, row)).collect();
        let deleted = deletes.iter().map(|(_, row)| row).filter(|row| !replaced.contains(&key_values(pair, row)));
        let deleted = deleted.map(|row| (Kind::Extra, row));
        let changed = updates.iter().map(|(_, row)| row).chain(&replacing).map(|row| (Kind::Changed, row));
        let all = deleted.chain(changed).chain(inserts.iter().map(|row| (Kind::Missing, row)));
        record(target, pair, lsn, all.collect()).await
    }
}

async fn delete(target: &mut Session, pair: &Pair, rows: &[(RowPlace, TextRow)]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = format!("DELETE FROM {} WHERE tableoid = $1 AND ctid = $2", pair.target.reference());
    let sets = rows.iter().map(|((table, ctid), _)| vec![Some(table.as_str()), Some(ctid.as_str())]);
    target.each_of(&sql, sets, |_, _| Ok(())).await
}

/// The columns that a row is written with, by their places, or of an update those of them that can be updated.
fn written(pair: &Pair, update: bool) -> Vec<usize> {
    let can = |name: &String| {
        let column = pair.target.column(name);
        column.is_some_and(|column| !(column.generated || update && column.identity_always))
    };
    (0..pair.columns.len()).filter(|at| can(&pair.columns[*at])).collect()
}

async fn update(target: &mut Session, pair: &Pair, rows: &[(RowPlace, TextRow)]) -> Result<(), Error> {
    let columns = written(pair, true);
    if rows.is_empty() || columns.is_empty() {
        return Ok(());
    }
    let assign = |(number, at): (usize, &usize)| format!("{} = ${}", quote(&pair.columns[*at]), number + 3);
    let assignments: Vec<String> = columns.iter().enumerate().map(assign).collect();
    let (reference, assignments) = (pair.target.reference(), assignments.join(", "));
    let sql = format!("UPDATE {reference} SET {assignments} WHERE tableoid = $1 AND ctid = $2");
    let sets = rows.iter().map(|((table, ctid), row)| {
        let values = columns.iter().map(|at| row.get(*at).and_then(Option::as_deref));
        [Some(table.as_str()), Some(ctid.as_str())].into_iter().chain(values).collect()
    });
    target.each_of(&sql, sets, |_, _| Ok(())).await
}

async fn insert(target: &mut Session, pair: &Pair, rows: &[TextRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (table, columns) = (pair.name.quoted(), written(pair, false));
    let names: Vec<String> = columns.iter().map(|at| quote(&pair.columns[*at])).collect();
    let values: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let sql = match columns.is_empty() {
        true => format!("INSERT INTO {table} DEFAULT VALUES"),
        false => {
            let (names, values) = (names.join(", "), values.join(", "));
            format!("INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})")
        }
    };
    let sets = rows.iter().map(|row| columns.iter().map(|at| row.get(*at).and_then(Option::as_deref)).collect());
    target.each_of(&sql, sets, |_, _| Ok(())).await
}

async fn record(target: &mut Session, pair: &Pair, lsn: &str, rows: Vec<(Kind, &TextRow)>) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let key = |row: &TextRow| match pair.is_keyed() {
        true => shown_key(pair, &key_values(pair, row)),
        false => shown_row(row),
    };
    let keys: Vec<(&str, String)> = rows.iter().map(|(kind, row)| (kind.as_str(), key(row))).collect();
    let (schema, table) = (Some(pair.name.schema.as_str()), Some(pair.name.table.as_str()));
    let sets = keys.iter().map(|(kind, key)| vec![schema, table, Some(key.as_str()), Some(kind), Some(lsn)]);
    target.each_of(RECORD, sets, |_, _| Ok(())).await?;
    Ok(rows.len() as u64)
}

/// The beginning of a row that has no key.
fn shown_row(row: &TextRow) -> String {
    let cells: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
    crate::verification::cut(crate::table::one_line(&format!("({})", cells.join(","))))
}

/// Counts the copies of rows anew on both sides.
async fn unkeyed(
    source: &mut Session,
    target: &mut Session,
    pair: &Pair,
    hash: Hash,
    keys: &[DifferentKey],
) -> Result<Edits, Error> {
    let list = array(keys.iter().map(|key| key.hash.0));
    let mut ours: HashMap<KeyHash, (usize, TextRow)> = HashMap::new();
    let mut theirs: HashMap<KeyHash, Vec<RowPlace>> = HashMap::new();
    let (copies, places) = (Scan::new(pair, Side::Source, hash).copies(), Scan::new(pair, Side::Target, hash).places());
    let parameter = [Some(list.as_str())];
    let (read_ours, read_theirs) = tokio::join!(
        source.each(&copies, &parameter, |mut row| {
            let (key, row) = (key_hash(&row, Side::Source)?, row.split_off(2));
            ours.entry(key).or_insert((0, row)).0 += 1;
            Ok(())
        }),
        target.each(&places, &parameter, |mut row| {
            theirs.entry(key_hash(&row, Side::Target)?).or_default().push(place(&row.split_off(2))?);
            Ok(())
        }),
    );
    read_ours?;
    read_theirs?;
    let mut edits = Edits::default();
    for key in keys {
        let (copies, row) = ours.remove(&key.hash).unwrap_or_default();
        let places = theirs.remove(&key.hash).unwrap_or_default();
        let shown = if row.is_empty() { key.values.clone() } else { row.clone() };
        edits.inserts.extend(std::iter::repeat_n(row, copies.saturating_sub(places.len())));
        edits.deletes.extend(places.into_iter().skip(copies).map(|place| (place, shown.clone())));
    }
    Ok(edits)
}
