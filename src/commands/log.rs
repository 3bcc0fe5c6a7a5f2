//! `walcast log ls|check|dump`: looking into the log, whether a service runs on it or not.

mod message;

use std::collections::HashMap;
use std::path::Path;

use config::Config;
use decoder::{Change, ColumnValue, Lsn, Relation, RelationId, Tuple, TypeOid};
use segment_log::{Inspector, Piece, SegmentSummary};
use serde_json::{Map, Value, json};

use message::Ddl;

use super::print;
use crate::failure::{Failure, Result, with_causes};
use crate::status::{bytes, table};

/// What is dumped.
pub(crate) struct Range<'a> {
    /// Only transactions that end after it.
    pub after: Option<Lsn>,
    /// Only transactions that end at or before it.
    pub to: Option<Lsn>,
    /// Only changes of this `schema.table`.
    pub table: Option<&'a str>,
}

/// Lists the segments.
///
/// # Errors
/// There is no log, or a segment is damaged.
pub(crate) fn ls(config: &Config) -> Result<()> {
    let report = open(&config.log.dir)?.check()?;
    let row = |segment: &SegmentSummary| {
        [
            name(&segment.path),
            segment.first_lsn.to_string(),
            segment.last_lsn.to_string(),
            bytes(segment.used_bytes),
            bytes(segment.bytes),
            segment.frames.to_string(),
            segment.transactions.to_string(),
            if segment.sealed { "sealed" } else { "open" }.to_owned(),
        ]
    };
    let rows: Vec<[String; 8]> = report.segments.iter().map(row).collect();
    print(&table(["segment", "after", "to", "used", "size", "frames", "transactions", ""], &rows))?;
    complain(&report.problems)
}

/// Verifies every checksum.
///
/// # Errors
/// There is no log, or something in it is damaged.
pub(crate) fn check(config: &Config) -> Result<()> {
    let report = open(&config.log.dir)?.check()?;
    for segment in &report.segments {
        print(&format!("{}  {} frames, {} transactions\n", name(&segment.path), segment.frames, segment.transactions))?;
    }
    complain(&report.problems)
}

fn complain(problems: &[segment_log::OpenError]) -> Result<()> {
    let Some(first) = problems.first() else { return Ok(()) };
    for problem in problems.iter().skip(1) {
        eprintln!("walcast: {}", with_causes(problem));
    }
    Err(Failure::new(with_causes(first)).maybe_hint(first.hint()))
}

fn open(dir: &Path) -> Result<Inspector> {
    if !dir.is_dir() {
        return Err(Failure::new(format!("there is no log in \"{}\"", dir.display())).hint("`walcast run` makes it"));
    }
    Ok(segment_log::inspect(dir)?)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Prints transactions and their changes, whole transactions only.
///
/// # Errors
/// There is no log, or a frame in the range is damaged.
pub(crate) fn dump(config: &Config, range: Range<'_>, json: bool) -> Result<()> {
    let inspector = open(&config.log.dir)?;
    let (after, to) = (range.after.unwrap_or(Lsn::ZERO), range.to.unwrap_or(Lsn::MAX));
    let mut dump = Dump { range, json, relations: HashMap::new() };
    for frame in inspector.frames(after, to) {
        let frame = frame?;
        for (_, payload) in frame.descriptors() {
            dump.learn(&change(payload, None)?);
        }
        for piece in frame.pieces() {
            print(&dump.piece(&piece)?)?;
        }
    }
    Ok(())
}

fn change(payload: &[u8], end_lsn: Option<Lsn>) -> Result<Change<'_>> {
    decoder::decode_change(payload).map_err(|e| {
        let place =
            end_lsn.map_or_else(|| "a description".to_owned(), |lsn| format!("the transaction that ends at {lsn}"));
        Failure::because(place, &e).hint("`walcast log check` says whether the log is damaged")
    })
}

/// A dump under way.
struct Dump<'a> {
    range: Range<'a>,
    json: bool,
    relations: HashMap<RelationId, Relation>,
}

impl Dump<'_> {
    /// The lines of a transaction, or of a part of it.
    fn piece(&mut self, piece: &Piece<'_>) -> Result<String> {
        let info = piece.info();
        let shown = self.range.after.is_none_or(|after| info.end_lsn > after)
            && self.range.to.is_none_or(|to| info.end_lsn <= to);
        let mut lines = String::new();
        if shown && piece.is_first() && !self.json {
            lines = format!("transaction {}  commit {}  end {}\n", info.xid, info.commit_lsn, info.end_lsn);
        }
        for record in piece.records() {
            let change = change(record.payload, Some(info.end_lsn))?;
            self.learn(&change);
            if shown && self.selects(&change) {
                lines.push_str(&self.line(&info, &change));
            }
        }
        Ok(lines)
    }

    fn learn(&mut self, change: &Change<'_>) {
        if let Change::Relation(relation) = change {
            self.relations.insert(relation.id, relation.clone());
        }
    }

    /// Descriptions are not changes. Of changes that are about no single table, TRUNCATE is shown when it names the table.
    fn selects(&self, change: &Change<'_>) -> bool {
        let Some(wanted) = self.range.table else {
            return !matches!(change, Change::Relation(_) | Change::Type { .. });
        };
        if let Some(ddl) = ddl(change) {
            return ddl.is_about(wanted);
        }
        let is_wanted = |id: &RelationId| self.table(*id) == wanted;
        match change {
            Change::Relation(_) | Change::Type { .. } | Change::Message { .. } => false,
            Change::Truncate { relations, .. } => relations.iter().any(is_wanted),
            _ => change.relation().as_ref().is_some_and(is_wanted),
        }
    }

    fn table(&self, id: RelationId) -> String {
        match self.relations.get(&id) {
            Some(relation) => format!("{}.{}", relation.namespace, relation.name),
            None => format!("relation {id}"),
        }
    }

    fn line(&self, info: &segment_log::TransactionInfo, change: &Change<'_>) -> String {
        let (kind, fields) = self.fields(change);
        if let (false, Some(ddl)) = (self.json, ddl(change)) {
            return ddl.lines();
        }
        if self.json {
            let mut object = Map::new();
            object.insert("end_lsn".into(), json!(info.end_lsn.to_string()));
            object.insert("commit_lsn".into(), json!(info.commit_lsn.to_string()));
            object.insert("xid".into(), json!(info.xid.0));
            object.insert("kind".into(), json!(kind));
            object.extend(fields);
            return format!("{}\n", Value::Object(object));
        }
        let table = fields.get("table").and_then(Value::as_str).map(|name| format!(" {}", name.escape_debug()));
        let rest = fields.iter().filter(|(name, _)| *name != "table").map(|(name, value)| format!(" {name} {value}"));
        format!("  {kind}{}{}\n", table.unwrap_or_default(), rest.collect::<String>())
    }

    fn fields(&self, change: &Change<'_>) -> (&'static str, Map<String, Value>) {
        if let Some(ddl) = ddl(change) {
            return ("ddl", ddl.fields());
        }
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        if let Some(id) = change.relation() {
            set("table", json!(self.table(id)));
        }
        let kind = match change {
            Change::Insert { relation, new } => {
                set("new", self.row(*relation, *new));
                "insert"
            }
            Change::Update { relation, old, new } => {
                if let Some(old) = old {
                    set("old", self.row(*relation, old.tuple()));
                }
                set("new", self.row(*relation, *new));
                "update"
            }
            Change::Delete { relation, old } => {
                set("old", self.row(*relation, old.tuple()));
                "delete"
            }
            Change::Truncate { relations, options } => {
                set("tables", relations.iter().map(|id| self.table(*id)).collect());
                set("cascade", json!(options.cascade));
                set("restart_identity", json!(options.restart_identity));
                "truncate"
            }
            Change::Message { prefix, content, .. } => {
                set("prefix", json!(prefix));
                set("bytes", json!(content.len()));
                "message"
            }
            Change::Relation(_) => "relation",
            Change::Type { .. } => "type",
        };
        (kind, fields)
    }

    /// Columns by name; those that were not sent are left out.
    fn row(&self, id: RelationId, row: Tuple<'_>) -> Value {
        let columns = self.relations.get(&id).map(|relation| relation.columns.as_slice()).unwrap_or_default();
        let mut columns = columns.iter();
        let mut object = Map::new();
        for (number, value) in row.columns().enumerate() {
            let column = columns.next();
            let name = column.map_or_else(|| format!("column {}", number + 1), |column| column.name.clone());
            if let Some(value) = shown_value(column.map(|column| column.type_oid), value) {
                object.insert(name, value);
            }
        }
        Value::Object(object)
    }
}

fn ddl(change: &Change<'_>) -> Option<Ddl> {
    match change {
        Change::Message { prefix, content, .. } => Ddl::read(prefix, content),
        _ => None,
    }
}

/// A value for reading; `None` for one that was not sent. Values that PostgreSQL sent in text are texts as they are.
fn shown_value(type_oid: Option<TypeOid>, value: ColumnValue<'_>) -> Option<Value> {
    match value {
        ColumnValue::Null => Some(Value::Null),
        ColumnValue::UnchangedToast => None,
        ColumnValue::Text(text) => Some(json!(String::from_utf8_lossy(text))),
        ColumnValue::Binary(binary) => {
            let readable = type_oid.and_then(|type_oid| readable(type_oid, binary));
            Some(readable.unwrap_or_else(|| json!(hexadecimal(binary))))
        }
    }
}

/// Values of the commonest types in PostgreSQL's binary format, as PostgreSQL would show them.
fn readable(type_oid: TypeOid, binary: &[u8]) -> Option<Value> {
    // OIDs of pg_type.dat; they never change.
    let text = match type_oid.0 {
        16 => if binary == [0] { "f" } else { "t" }.to_owned(),
        21 => i16::from_be_bytes(binary.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(binary.try_into().ok()?).to_string(),
        20 => i64::from_be_bytes(binary.try_into().ok()?).to_string(),
        25 | 1042 | 1043 => String::from_utf8_lossy(binary).into_owned(),
        _ => return None,
    };
    Some(json!(text))
}

/// The rest, as bytea is shown.
fn hexadecimal(binary: &[u8]) -> String {
    binary.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_postgresql_would_or_in_hexadecimal() {
        let shown = |type_oid, bytes| shown_value(Some(TypeOid(type_oid)), ColumnValue::Binary(bytes));
        assert_eq!(shown(23, &[0xff, 0xff, 0xff, 0xfe]), Some(json!("-2")));
        assert_eq!(shown(25, b"a\nb"), Some(json!("a\nb")));
        assert_eq!(shown(16, &[1]), Some(json!("t")));
        assert_eq!(shown(23, &[1, 2]), Some(json!("\\x0102")), "a value of the wrong length");
        assert_eq!(shown(1700, &[0, 0xab]), Some(json!("\\x00ab")));
        assert_eq!(shown_value(None, ColumnValue::Text(b"1")), Some(json!("1")));
        assert_eq!(shown_value(None, ColumnValue::UnchangedToast), None);
    }
}
