//! What a comparison found.

use serde::Serialize;

/// How many differences of one table are listed. The others are counted.
pub const LISTED_MAX: usize = 1000;

/// What a comparison found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The position of the last snapshots.
    pub lsn: String,
    /// Nothing differs: [`differences`](Report::differences) is empty.
    pub equal: bool,
    /// Every table, by name.
    pub tables: Vec<TableReport>,
    /// What differs: rows at most [`LISTED_MAX`] per table.
    pub differences: Vec<Difference>,
    /// What is not the same and no fault of the target's rows: see [`Difference::note`].
    pub notes: Vec<Difference>,
    /// Rows and sequences that were repaired.
    pub repaired: u64,
}

/// What became of a table's rows.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// The source's rows.
    pub source_rows: u64,
    /// The target's rows.
    pub target_rows: u64,
    /// Keys that differ, listed or not. More may be in the [`further_buckets`](TableReport::further_buckets).
    pub differences: u64,
    /// Further groups of about a 16384th of the table in each of which something differs.
    pub further_buckets: u64,
    /// Rows that were repaired.
    pub repaired: u64,
}

/// Something that is not the same.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The table, or the schema or sequence.
    pub table: String,
    /// What kind of thing, or of difference.
    pub kind: Kind,
    /// A row's key (the row where there is none), or the name of a column, index, constraint …
    pub key: String,
    /// What the source has; `None`: nothing, or the row is not shown.
    pub source: Option<String>,
    /// What the target has.
    pub target: Option<String>,
}

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A row of the source that the target lacks.
    Missing,
    /// A row of the target that the source lacks.
    Extra,
    /// A row that has other values.
    Changed,
    /// A table, or what kind of table it is.
    Table,
    /// A column.
    Column,
    /// A constraint.
    Constraint,
    /// An index.
    Index,
    /// An owner.
    Owner,
    /// Access privileges.
    Acl,
    /// Whether row security applies, or a policy.
    RowSecurity,
    /// A sequence.
    Sequence,
    /// The table is being copied again, so that nothing can be said.
    NotCompared,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Changed => "changed",
            Kind::Table => "table",
            Kind::Column => "column",
            Kind::Constraint => "constraint",
            Kind::Index => "index",
            Kind::Owner => "owner",
            Kind::Acl => "acl",
            Kind::RowSecurity => "row_security",
            Kind::Sequence => "sequence",
            Kind::NotCompared => "not_compared",
        }
    }

    /// It is about a row.
    pub fn is_row(self) -> bool {
        matches!(self, Kind::Missing | Kind::Extra | Kind::Changed)
    }
}

impl Report {
    /// Puts everything into its order.
    pub(crate) fn finish(&mut self) {
        self.tables.sort_by(|a, b| a.table.cmp(&b.table));
        self.differences.sort();
        self.notes.sort();
        self.equal = self.differences.is_empty() && self.tables.iter().all(|t| t.differences + t.further_buckets == 0);
    }
}
