//! The statements that read a table's rows as hashes of their text.
//!
//! A row's text is `ROW(columns)::text`: the output function of every column, NULL and the empty string told apart. Rows
//! are the same when their texts are; what the type's `=` thinks of them (`1.0 = 1.00`, `-0 = 0`) does not matter.
//!
//! ```text
//! row ─▶ t: text of the row         ─▶ h(t, 0), h(t, 1)              two sums per bucket
//!     └▶ k: text of its key, or t   ─▶ h(k, 0), h(k, 1): the key     bucket = h(k, 0) & BUCKETS - 1
//! ```

use crate::error::{Error, Side};
use crate::session::{Session, text};
use crate::table::{Pair, quote};

/// Groups of rows by the hash of their keys, in every table.
pub(crate) const BUCKETS: usize = 16 * 1024;

/// Pages of one part of a table: 128 MiB.
const PART_PAGES: u64 = 16 * 1024;

/// How texts are hashed: the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    /// `hashtextextended`, which sees the server's encoding and byte order.
    Fast,
    /// md5 of UTF-8.
    Portable,
}

/// A text of more than one block of either function, with letters that encodings write differently.
const PROBE: &str = "SELECT hashtextextended('walcast: größer als zwölf Bytes, ぜんぶ' COLLATE \"C\", 1)::text";

impl Hash {
    /// Fast, if both sides mean the same by it.
    pub(crate) async fn choose(source: &mut Session, target: &mut Session) -> Result<Hash, Error> {
        // A server that does not have the letters of the probe has another encoding than UTF-8.
        let (ours, theirs) = tokio::join!(probe(source), probe(target));
        let (ours, theirs) = (ours?, theirs?);
        Ok(if ours.is_some() && ours == theirs { Hash::Fast } else { Hash::Portable })
    }

    /// The text as it goes into [`number`](Hash::number).
    fn prepared(self, text: &str) -> String {
        match self {
            Hash::Fast => format!("{text} COLLATE \"C\""),
            Hash::Portable => format!("md5(convert_to({text}, 'UTF8'))"),
        }
    }

    /// One of two hashes, a bigint, of a prepared text.
    fn number(self, prepared: &str, seed: u8) -> String {
        match self {
            Hash::Fast => format!("hashtextextended({prepared}, {seed})"),
            Hash::Portable => format!("('x' || substr({prepared}, {}, 16))::bit(64)::bigint", 1 + 16 * seed),
        }
    }
}

async fn probe(session: &mut Session) -> Result<Option<String>, Error> {
    session.simple("SAVEPOINT probe").await?;
    let rows = session.simple(PROBE).await;
    session.simple("ROLLBACK TO probe").await?;
    match rows {
        Ok(rows) => Ok(Some(text(rows.first().unwrap_or(&Vec::new()), 0, session.side())?.to_owned())),
        // untranslatable_character
        Err(error) if error.sqlstate() == Some("22P05") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The statements about one table on one side.
pub(crate) struct Scan<'a> {
    pair: &'a Pair,
    side: Side,
    hash: Hash,
}

/// Of a number of equal parts of a table's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) of: u64,
}

/// In how many parts a table is read.
pub(crate) fn parts(pair: &Pair) -> u64 {
    (pair.source.pages.max(pair.target.pages) / PART_PAGES).max(1)
}

impl<'a> Scan<'a> {
    pub(crate) fn new(pair: &'a Pair, side: Side, hash: Hash) -> Scan<'a> {
        Scan { pair, side, hash }
    }

    fn row(&self, columns: &[String]) -> String {
        format!("ROW({})::text", columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", "))
    }

    /// The text of a whole row, for people.
    fn whole_row(&self) -> String {
        self.row(&self.pair.columns)
    }

    fn key_text(&self) -> String {
        if self.pair.is_keyed() { self.row(&self.pair.key) } else { self.whole_row() }
    }

    /// FROM and WHERE. The filter was written for the source's columns; what the target has was filtered already.
    fn from(&self, conditions: &[String]) -> String {
        let relation = self.pair.relation(self.side);
        let filter = relation.filter.iter().map(|filter| format!("({filter})"));
        let all: Vec<String> = filter.chain(conditions.iter().cloned()).collect();
        let condition = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
        // OFFSET 0 keeps the texts from being made once for each hash.
        format!("FROM {}{condition} OFFSET 0", relation.reference())
    }

    /// Columns b, k1, k2, h1, h2 of every row.
    fn hashes(&self, conditions: &[String]) -> String {
        let (key, row) = (self.hash.prepared(&self.key_text()), self.hash.prepared(&self.whole_row()));
        let keyed = self.pair.is_keyed();
        let texts = if keyed { format!("{row} AS t, {key} AS k") } else { format!("{row} AS t") };
        let k = if keyed { "k" } else { "t" };
        let h = |of: &str, seed| self.hash.number(of, seed);
        format!(
            "SELECT {} AS k1, {} AS k2, {} AS h1, {} AS h2 FROM (SELECT {texts} {}) AS texts",
            h(k, 0),
            h(k, 1),
            h("t", 0),
            h("t", 1),
            self.from(conditions)
        )
    }

    /// Bucket, count and sums of one part of the table.
    pub(crate) fn sums(&self, part: Part) -> String {
        let pages = self.pair.relation(self.side).pages;
        let first = |number: u64| pages / part.of * number;
        let mut conditions = Vec::new();
        if part.number > 0 {
            conditions.push(format!("ctid >= '({},0)'::tid", first(part.number)));
        }
        // The last part has no end: the table may have grown since.
        if part.number + 1 < part.of {
            conditions.push(format!("ctid < '({},0)'::tid", first(part.number + 1)));
        }
        let hashes = self.hashes(&conditions);
        format!("SELECT k1 & {} AS b, count(*), sum(h1), sum(h2) FROM ({hashes}) AS hashes GROUP BY b", BUCKETS - 1)
    }

    /// Key (two hashes), count and sums of the rows in buckets. Parameter: the buckets, as bigint[].
    pub(crate) fn keys(&self) -> String {
        format!(
            "SELECT k1, k2, count(*), sum(h1), sum(h2) FROM ({}) AS hashes WHERE k1 & {} = ANY ($1::bigint[]) GROUP BY k1, k2",
            self.hashes(&[]),
            BUCKETS - 1
        )
    }

    /// Key (two hashes), the row's hash, and the key's columns, or up to so many characters of the row's text where there
    /// is no key. Parameter: first hashes of the keys, as bigint[].
    pub(crate) fn key_values(&self, row_chars: usize) -> String {
        let k = self.hash.prepared(&self.key_text());
        let (inner, outer) = match self.pair.is_keyed() {
            false => (format!("left({}, {row_chars}) AS v0", self.whole_row()), "v0".to_owned()),
            true => {
                let columns = self.pair.key.iter().enumerate();
                let outer: Vec<String> = (0..self.pair.key.len()).map(|at| format!("v{at}")).collect();
                let inner: Vec<String> = columns.map(|(at, name)| format!("{} AS v{at}", text_of(name))).collect();
                (inner.join(", "), outer.join(", "))
            }
        };
        format!(
            "SELECT {}, {}, {outer} FROM (SELECT {k} AS k, {inner} {}) AS texts WHERE {} = ANY ($1::bigint[])",
            self.hash.number("k", 0),
            self.hash.number("k", 1),
            self.from(&[]),
            self.hash.number("k", 0),
        )
    }

    /// Key (two hashes) and place of the rows without a key. Parameter as above.
    pub(crate) fn places(&self) -> String {
        format!(
            "SELECT {0}, {1}, o, c FROM (SELECT {2} AS k, tableoid::bigint AS o, ctid AS c {3}) AS texts WHERE {0} = ANY ($1::bigint[])",
            self.hash.number("k", 0),
            self.hash.number("k", 1),
            self.hash.prepared(&self.key_text()),
            self.from(&[]),
        )
    }

    /// Key (two hashes), then every column, of the rows without a key. Parameter as above.
    pub(crate) fn copies(&self) -> String {
        let names = 0..self.pair.columns.len();
        let inner: String =
            self.pair.columns.iter().zip(names.clone()).map(|(c, at)| format!(", {} AS v{at}", text_of(c))).collect();
        let outer: String = names.map(|at| format!(", v{at}")).collect();
        format!(
            "SELECT {0}, {1}{outer} FROM (SELECT {2} AS k{inner} {3}) AS texts WHERE {0} = ANY ($1::bigint[])",
            self.hash.number("k", 0),
            self.hash.number("k", 1),
            self.hash.prepared(&self.key_text()),
            self.from(&[]),
        )
    }

    /// Place (table's OID, ctid), then every column, of the rows that one key finds by the type's equality. Parameters: the
    /// key's values.
    pub(crate) fn lookup(&self) -> String {
        let columns: Vec<String> = self.pair.columns.iter().map(|c| text_of(c)).collect();
        let filter = self.pair.relation(self.side).filter.iter().map(|filter| format!("({filter}) AND "));
        format!(
            "SELECT tableoid, ctid, {} FROM {} WHERE {}{}",
            columns.join(", "),
            self.pair.relation(self.side).reference(),
            filter.collect::<String>(),
            self.key_condition(1)
        )
    }

    /// The key equals parameters from this number on.
    pub(crate) fn key_condition(&self, first: usize) -> String {
        let relation = self.pair.relation(self.side);
        let equality = |(at, name): (usize, &String)| {
            let equals = relation.column(name).map_or("=", |column| &column.equals);
            format!("{} {equals} ${}", quote(name), first + at)
        };
        self.pair.key.iter().enumerate().map(equality).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether what the snapshot shows is still what is stored: not after TRUNCATE, or anything else that gives the table
    /// new files, for then the snapshot shows an empty table. Asked in the transaction that read the table, whose lock
    /// keeps it as it is.
    pub(crate) fn unmoved(&self) -> String {
        format!(
            "WITH RECURSIVE tree (oid) AS (SELECT {oid}::oid UNION ALL SELECT i.inhrelid FROM tree \
                 JOIN pg_class c ON c.oid = tree.oid AND c.relkind = 'p' JOIN pg_inherits i ON i.inhparent = tree.oid), \
             leaf AS (SELECT c.oid, c.relfilenode FROM tree JOIN pg_class c ON c.oid = tree.oid AND c.relkind <> 'p') \
             SELECT coalesce(bool_and(leaf.relfilenode = coalesce(pg_relation_filenode(leaf.oid), 0)), {partitioned}) \
                 AND (NOT {partitioned} OR count(*) = (SELECT count(*) FROM pg_partition_tree({oid}) WHERE isleaf)) FROM leaf",
            oid = self.pair.relation(self.side).oid,
            partitioned = self.pair.relation(self.side).partitioned,
        )
    }
}

/// A column as its type's output function writes it. A cast would not always do that (`char(n)`, `inet`, `boolean`), and
/// `IS NOT NULL` would ask for the fields of a composite.
fn text_of(column: &str) -> String {
    let column = quote(column);
    format!("CASE WHEN {column} IS DISTINCT FROM NULL THEN format('%s', {column}) END")
}
