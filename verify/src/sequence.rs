//! Sequences: those that the compared tables take values from, and, where everything is published, those of nobody.
//!
//! Their values are no rows: they are not in the stream, and no snapshot holds them still. The target's are read before the
//! source's, so that a target that is level is never ahead. A value is judged by the next one that would be given:
//!
//! | the target's next value is | which is |
//! | --- | --- |
//! | the source's | equal |
//! | behind, and the sequence still is where walcast set it (`walcast.sequence`) | a note: sequences are copied, not followed |
//! | behind, and it is not known where walcast set it, and the column that it feeds has not come there yet | a note |
//! | behind otherwise: it would give values that are taken, or nobody knows what for it is | a difference |
//! | ahead: somebody took values on the target | a difference |

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::error::Error;
use crate::report::{Difference, Kind};
use crate::session::{Session, number, text};
use crate::table::{TableName, names_json, one_line, quote};

const QUERY: &str = include_str!("sequence.sql");

/// A sequence on one side.
#[derive(Debug, Clone, Deserialize)]
struct Sequence {
    schema: String,
    name: String,
    increment: i64,
    /// Type, bounds, cache, cycle, and who owns it.
    definition: String,
    owner: String,
    acl: String,
    /// The column that it feeds: schema, table, column.
    feeds: Option<(String, String, String)>,
    #[serde(skip)]
    value: Value,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Value {
    pub(crate) last: i64,
    pub(crate) is_called: bool,
}

impl Value {
    fn next(self, increment: i64) -> i128 {
        i128::from(self.last) + if self.is_called { i128::from(increment) } else { 0 }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.last, if self.is_called { "" } else { " (not called)" })
    }
}

/// A sequence that is not where the source's is.
#[derive(Debug, Clone)]
pub(crate) struct Stale {
    pub(crate) name: TableName,
}

/// What was found about sequences.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) differences: Vec<Difference>,
    pub(crate) notes: Vec<Difference>,
    /// Those of both whose values a repair sets.
    pub(crate) stale: Vec<Stale>,
}

type Sequences = BTreeMap<TableName, Sequence>;

/// Compares the sequences of these tables; `free`: those of no table in their schemas too.
pub(crate) async fn compare(
    source: &mut Session,
    target: &mut Session,
    tables: &[TableName],
    free: bool,
) -> Result<Found, Error> {
    let names = names_json(tables.iter());
    let theirs = load(target, &names, free).await?;
    let ours = load(source, &names, free).await?;
    let set = set_by_walcast(target).await?;
    let mut found = Found::default();
    for (name, our) in &ours {
        match theirs.get(name) {
            None => found.differences.push(difference(name, "", Some(our.value.to_string()), None)),
            Some(their) => judge(&mut found, target, name, [our, their], set.get(name).copied()).await?,
        }
    }
    Ok(found)
}

async fn load(session: &mut Session, names: &str, free: bool) -> Result<Sequences, Error> {
    let side = session.side();
    let rows = session.query(QUERY, &[Some(names), Some(if free { "t" } else { "f" })]).await?;
    let mut sequences = Sequences::new();
    for row in &rows {
        let parsed = serde_json::from_str::<Sequence>(text(row, 0, side)?);
        let mut sequence = parsed.map_err(|_| Error::Answer { side, what: "a sequence's description" })?;
        let name = TableName { schema: sequence.schema.clone(), table: sequence.name.clone() };
        sequence.value = value(session, &name).await?;
        sequences.insert(name, sequence);
    }
    Ok(sequences)
}

/// Where a sequence stands now.
pub(crate) async fn value(session: &mut Session, name: &TableName) -> Result<Value, Error> {
    let side = session.side();
    let rows = session.simple(&format!("SELECT last_value, is_called FROM {}", name.quoted())).await?;
    let row = rows.first().ok_or(Error::Answer { side, what: "a sequence without a row" })?;
    Ok(Value { last: number(row, 0, side)?, is_called: text(row, 1, side)? == "t" })
}

/// What walcast set sequences to, where it noted that.
async fn set_by_walcast(target: &mut Session) -> Result<HashMap<TableName, Value>, Error> {
    let side = target.side();
    let exists = target.simple("SELECT to_regclass('walcast.sequence') IS NOT NULL").await?;
    if exists.first().and_then(|row| row.first()?.as_deref()) != Some("t") {
        return Ok(HashMap::new());
    }
    let sql = "SELECT schema_name, sequence_name, last_value, is_called FROM walcast.sequence";
    let read = |row| {
        let name = TableName { schema: text(row, 0, side)?.to_owned(), table: text(row, 1, side)?.to_owned() };
        Ok((name, Value { last: number(row, 2, side)?, is_called: text(row, 3, side)? == "t" }))
    };
    target.simple(sql).await?.iter().map(read).collect()
}

async fn judge(
    found: &mut Found,
    target: &mut Session,
    name: &TableName,
    [our, their]: [&Sequence; 2],
    set: Option<Value>,
) -> Result<(), Error> {
    let parts = [("definition", &our.definition, &their.definition), ("owner", &our.owner, &their.owner)];
    for (what, our, their) in parts.into_iter().chain([("acl", &our.acl, &their.acl)]).filter(|(_, a, b)| a != b) {
        found.differences.push(difference(name, what, Some(our.clone()), Some(their.clone())));
    }
    let distance =
        (their.value.next(their.increment) - our.value.next(our.increment)) * i128::from(our.increment.signum());
    if distance == 0 {
        return Ok(());
    }
    found.stale.push(Stale { name: name.clone() });
    let known = distance < 0 && set == Some(their.value);
    let harmless = known || distance < 0 && set.is_none() && !is_taken(target, their).await?;
    let list = if harmless { &mut found.notes } else { &mut found.differences };
    list.push(difference(name, "value", Some(our.value.to_string()), Some(their.value.to_string())));
    Ok(())
}

/// Whether the column that it feeds is there already, or it feeds none.
async fn is_taken(target: &mut Session, sequence: &Sequence) -> Result<bool, Error> {
    let Some((schema, table, column)) = &sequence.feeds else { return Ok(true) };
    let name = TableName { schema: schema.clone(), table: table.clone() };
    let (most, order) = if sequence.increment > 0 { ("max", ">=") } else { ("min", "<=") };
    let next = sequence.value.next(sequence.increment);
    let sql = format!("SELECT coalesce({most}({}) {order} {next}, false) FROM {}", quote(column), name.quoted());
    let rows = target.simple(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
}

fn difference(name: &TableName, what: &str, source: Option<String>, target: Option<String>) -> Difference {
    let line = |text: Option<String>| text.map(|text| one_line(&text));
    let (source, target) = (line(source), line(target));
    Difference { table: name.to_string(), kind: Kind::Sequence, key: what.to_owned(), source, target }
}
