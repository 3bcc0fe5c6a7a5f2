//! Dividing a batch into units, and what each touches.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use decoder::{Change, ColumnValue, Lsn, OldTuple, RelationId, Tuple};
use hashbrown::DefaultHashBuilder;
use segment_log::{FrameKind, Record, TransactionInfo};

use crate::batch::Part;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::ordered::GUARDED_MAX;
use crate::target::Target;

/// A unit ends with the transaction that reaches this many changes. What a unit costs beside its changes is then a tenth
/// of them; larger ones would sooner touch the same rows.
const UNIT_CHANGES: usize = GUARDED_MAX / 2;

const ALTERED: &str = "a table that is described anew";

/// Some whole transactions, one after the other.
pub(crate) struct Unit {
    pub(super) parts: Vec<Part>,
    /// What the log says, at the unit's beginning, of the relations that it changes.
    pub(super) described: Vec<(RelationId, Arc<[u8]>)>,
    /// Digests of the keys of the rows that it changes, before and after.
    pub(super) keys: Vec<u64>,
    pub(super) transactions: u64,
    pub(super) changes: usize,
    /// Its last transaction.
    pub(super) last: TransactionInfo,
}

/// How a batch is best applied.
pub(crate) enum Division {
    /// By workers.
    Units(Vec<Unit>),
    /// Netted: most of it can be.
    Net,
    /// By one session; why.
    Whole(&'static str),
}

/// What was read and is not a unit yet.
#[derive(Default)]
struct Open {
    parts: Vec<Part>,
    described: Vec<(RelationId, Arc<[u8]>)>,
    keys: Vec<u64>,
    transactions: u64,
    changes: usize,
}

/// While a batch is read.
struct Divider {
    hasher: DefaultHashBuilder,
    open: Open,
    units: Vec<Unit>,
    changes: u64,
    nettable: u64,
}

impl Target {
    /// Divides a batch, of which transactions up to `after` are passed over. Nothing may be outstanding.
    pub(crate) async fn divide(&mut self, parts: &[Part], after: Lsn) -> Result<Division, Error> {
        let open = Open::default();
        let mut divider =
            Divider { hasher: DefaultHashBuilder::default(), open, units: Vec::new(), changes: 0, nettable: 0 };
        for part in parts {
            if part.frame().kind() == FrameKind::Descriptors {
                for (relation, message) in part.frame().descriptors() {
                    if !self.learns(relation, message) {
                        return Ok(Division::Whole(ALTERED));
                    }
                }
                divider.open.parts.push(part.clone());
                continue;
            }
            let mut begin = part.range().start;
            for (at, piece) in part.range().zip(part.pieces()) {
                let info = piece.info();
                for record in piece.records() {
                    let done = info.end_lsn <= after;
                    if let Some(why) = self.divide_record(record, done, &mut divider).await? {
                        return Ok(Division::Whole(why));
                    }
                }
                let is_end = piece.is_last() && info.end_lsn > after;
                divider.open.transactions += u64::from(is_end);
                if is_end && divider.open.changes >= UNIT_CHANGES {
                    divider.open.parts.push(part.slice(begin..at + 1));
                    divider.close(info);
                    begin = at + 1;
                }
            }
            if begin < part.range().end {
                divider.open.parts.push(part.slice(begin..part.range().end));
            }
        }
        if let Some(last) = parts.iter().flat_map(Part::pieces).last()
            && divider.open.transactions > 0
        {
            divider.close(last.info());
        }
        Ok(match divider.nettable * 2 > divider.changes {
            true => Division::Net,
            false => Division::Units(divider.units),
        })
    }

    /// Takes a description unless another one is known: the batch may yet be walked from its beginning.
    fn learns(&mut self, relation: RelationId, message: &[u8]) -> bool {
        let fits = self.relations.description(relation).map_or(true, |known| *known == *message);
        if fits {
            self.describe(relation, message);
        }
        fits
    }

    /// Takes note of one record; says why the batch cannot be divided, if it can't.
    async fn divide_record(
        &mut self,
        record: Record<'_>,
        done: bool,
        divider: &mut Divider,
    ) -> Result<Option<&'static str>, Error> {
        if let (Some(b'R'), Some(relation)) = (record.payload.first(), record.relation) {
            return Ok((!self.learns(relation, record.payload)).then_some(ALTERED));
        }
        if done {
            return Ok(None);
        }
        let change = decoder::decode_change(record.payload)?;
        let Some(relation) = change.relation() else {
            return Ok(matches!(change, Change::Truncate { .. }).then_some("TRUNCATE"));
        };
        if self.relations.mapped(relation).is_none() && !self.finds(relation).await? {
            return Ok(Some("a table that is not there yet"));
        }
        if divider.open.described.iter().all(|(known, _)| *known != relation) {
            divider.open.described.push((relation, self.relations.description(relation)?));
        }
        let mapped = self.relations.mapped(relation).ok_or(Error::UnknownRelation(relation))?;
        if mapped.mapping.table.triggers {
            return Ok(Some("triggers that fire"));
        }
        divider.take(&change, &mapped.mapping);
        Ok(None)
    }
}

impl Divider {
    fn take(&mut self, change: &Change<'_>, mapping: &Mapping) {
        let relation = mapping.relation.id;
        match change {
            Change::Insert { new, .. } => self.key(relation, mapping, *new, *new),
            Change::Update { old, new, .. } => {
                if let Some(old) = old {
                    self.key(relation, mapping, old.tuple(), old.tuple());
                }
                self.key(relation, mapping, *new, old.map_or(*new, |old| old.tuple()));
            }
            Change::Delete { old, .. } => self.key(relation, mapping, old.tuple(), old.tuple()),
            _ => return,
        }
        let same_key = !matches!(change, Change::Update { old: Some(OldTuple::Key(_)), .. });
        self.open.changes += 1;
        self.changes += 1;
        self.nettable += u64::from(mapping.sets && same_key);
    }

    /// The source sends a key as it is stored: equal bytes are the same row, for as long as the stream's format stays. What
    /// the tuple leaves out as unchanged is in the old one, where that is the whole row. Rows without a key are only inserted.
    fn key(&mut self, relation: RelationId, mapping: &Mapping, tuple: Tuple<'_>, old: Tuple<'_>) {
        let mut hasher = self.hasher.build_hasher();
        relation.hash(&mut hasher);
        let mut has_key = false;
        let columns = mapping.relation.columns.iter().zip(tuple.columns().zip(old.columns()));
        for (_, (value, old)) in columns.filter(|(column, _)| column.is_key) {
            has_key = true;
            match if value == ColumnValue::UnchangedToast { old } else { value } {
                ColumnValue::Text(bytes) | ColumnValue::Binary(bytes) => bytes.hash(&mut hasher),
                ColumnValue::Null | ColumnValue::UnchangedToast => 0_u8.hash(&mut hasher),
            }
        }
        if has_key {
            self.open.keys.push(hasher.finish());
        }
    }

    fn close(&mut self, last: TransactionInfo) {
        let Open { parts, described, mut keys, transactions, changes } = std::mem::take(&mut self.open);
        keys.sort_unstable();
        keys.dedup();
        self.units.push(Unit { parts, described, keys, transactions, changes, last });
    }
}
