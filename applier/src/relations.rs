//! The relations that the log has described, and how each goes to the target.

use std::sync::Arc;

use decoder::{Change, RelationId};
use hashbrown::HashMap;

use crate::encoder::Prepared;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::net::SetShape;
use crate::sql::{Cell, Shape};

/// Prepared statements and mappings beyond these numbers are given up between two batches.
const STATEMENTS_MAX: usize = 2000;
const MAPPED_MAX: usize = 2000;

/// Descriptions beyond so many bytes are forgotten where a segment of the log begins: it describes again what it uses.
const DESCRIPTIONS_MAX: usize = if cfg!(test) { 100 } else { 64 << 20 };

/// All described relations.
#[derive(Default)]
pub(crate) struct Relations {
    described: HashMap<RelationId, Described>,
    /// Bytes of descriptions.
    bytes: usize,
    /// The segment that is being read.
    segment: u64,
    mapped: usize,
    /// Relations with changes in the batch.
    touched: Vec<RelationId>,
    /// Changes in the batch of tables that were forgotten since.
    counted: Vec<(String, u64)>,
    /// Statements on the target with names of ours; also those of mappings that are gone.
    pub(crate) statements: usize,
    generation: u64,
}

struct Described {
    /// The Relation message; decoded again when needed, which is seldom.
    message: Arc<[u8]>,
    /// Its schema's name, where a message gave that another one since.
    schema: Option<String>,
    mapped: Option<Mapped>,
}

/// A relation that was looked up on the target.
pub(crate) struct Mapped {
    /// Source beside target.
    pub(crate) mapping: Mapping,
    /// `schema.table`, for messages and metrics.
    pub(crate) label: String,
    /// What was prepared for it.
    pub(crate) statements: HashMap<Shape, Prepared>,
    /// Names of its prepared set operations.
    pub(crate) sets: HashMap<SetShape, String>,
    /// The format each column last came in: that of its NULLs, so that they need no statement of their own.
    pub(crate) formats: Vec<Cell>,
    /// Changes in the batch.
    pub(crate) changes: u64,
}

impl Relations {
    /// Takes a Relation message; one that says nothing new costs a comparison. True when it changed something known.
    pub(crate) fn describe(&mut self, relation: RelationId, message: &[u8]) -> bool {
        if let Some(known) = self.described.get_mut(&relation) {
            if *known.message == *message {
                return false;
            }
            let forgotten = known.mapped.take().is_some();
            self.mapped -= usize::from(forgotten);
            self.generation += u64::from(forgotten);
            self.bytes = self.bytes + message.len() - known.message.len();
            (known.message, known.schema) = (message.into(), None);
            return true;
        }
        self.bytes += message.len();
        self.described.insert(relation, Described { message: message.into(), schema: None, mapped: None });
        false
    }

    /// The relation's mapping, once [`Relations::map`] gave it one.
    pub(crate) fn mapped(&mut self, relation: RelationId) -> Option<&mut Mapped> {
        self.described.get_mut(&relation)?.mapped.as_mut()
    }

    /// Both the mapping and the counter of statements.
    pub(crate) fn mapped_and_counter(&mut self, relation: RelationId) -> Option<(&mut Mapped, &mut usize)> {
        let mapped = self.described.get_mut(&relation)?.mapped.as_mut()?;
        Some((mapped, &mut self.statements))
    }

    /// The Relation message.
    pub(crate) fn description(&self, relation: RelationId) -> Result<Arc<[u8]>, Error> {
        let known = self.described.get(&relation).ok_or(Error::UnknownRelation(relation))?;
        Ok(known.message.clone())
    }

    /// Another one when what was learnt from the target was forgotten.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What the log says of the relation.
    pub(crate) fn definition(&self, relation: RelationId) -> Result<decoder::Relation, Error> {
        let known = self.described.get(&relation).ok_or(Error::UnknownRelation(relation))?;
        match decoder::decode_change(&known.message)? {
            Change::Relation(definition) => {
                let namespace = known.schema.clone().unwrap_or(definition.namespace);
                Ok(decoder::Relation { namespace, ..definition })
            }
            _ => Err(Error::UnknownRelation(relation)),
        }
    }

    /// Schemas (old name, new name) have other names now. A source before 16 does not describe again what is in them before
    /// the transaction's end; nor is what it said before said again by a later segment to be taken for new.
    pub(crate) fn rename_schemas(&mut self, renamed: &[(String, String)]) {
        let ids: Vec<RelationId> =
            if renamed.is_empty() { Vec::new() } else { self.described.keys().copied().collect() };
        for id in ids {
            let Ok(definition) = self.definition(id) else { continue };
            let new = renamed.iter().find(|(old, _)| *old == definition.namespace).map(|(_, new)| new.clone());
            if let Some(new) = new {
                self.set_schema(id, &new);
            }
        }
    }

    /// The relation is in this schema now. A source describes it again when its next row comes, perhaps as it did before.
    pub(crate) fn set_schema(&mut self, relation: RelationId, schema: &str) {
        let Some(known) = self.described.get_mut(&relation) else { return };
        known.schema = Some(schema.to_owned());
        self.mapped -= usize::from(known.mapped.take().is_some());
        self.generation += 1;
    }

    /// Remembers how a relation goes to the target.
    pub(crate) fn map(&mut self, relation: RelationId, mapping: Mapping) {
        let Some(known) = self.described.get_mut(&relation) else { return };
        self.mapped += usize::from(known.mapped.is_none());
        known.mapped = Some(Mapped {
            label: mapping.table.name.to_string(),
            formats: vec![Cell::Text; mapping.relation.columns.len()],
            statements: HashMap::new(),
            sets: HashMap::new(),
            changes: 0,
            mapping,
        });
    }

    /// OIDs and stamps of the tables that were looked up on the target.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = (&str, &str)> {
        let mapped = self.described.values().filter_map(|known| known.mapped.as_ref());
        mapped.map(|mapped| (mapped.mapping.table.oid.as_str(), mapped.mapping.table.stamp.as_str()))
    }

    /// More is kept than should be.
    pub(crate) fn is_full(&self) -> bool {
        self.mapped > MAPPED_MAX || self.statements > STATEMENTS_MAX
    }

    /// Descriptions are to be forgotten where the next segment begins.
    pub(crate) fn is_heavy(&self) -> bool {
        self.bytes > DESCRIPTIONS_MAX
    }

    /// What was read up to here, in this segment, was described without [`Relations::enter`].
    pub(crate) fn be_in(&mut self, segment: u64) {
        self.segment = segment;
    }

    /// This is the segment that is being read.
    pub(crate) fn is_in(&self, segment: u64) -> bool {
        self.segment == segment
    }

    /// What follows is in this segment of the log; nothing that came before may be left to write.
    pub(crate) fn enter(&mut self, segment: u64) {
        if segment != self.segment && self.is_heavy() {
            self.counted = self.take_counts();
            self.described.clear();
            // The target still has the statements.
            (self.bytes, self.mapped) = (0, 0);
            self.generation += 1;
        }
        self.segment = segment;
    }

    /// Forgets everything learnt from the target; its statements must be deallocated too.
    pub(crate) fn forget_target(&mut self) {
        self.described.values_mut().for_each(|known| known.mapped = None);
        (self.mapped, self.statements) = (0, 0);
        self.generation += 1;
        self.touched.clear();
    }

    /// The same in the middle of a batch, whose changes are to be counted all the same.
    pub(crate) fn forget_tables(&mut self) {
        self.counted = self.take_counts();
        self.forget_target();
    }

    /// Forgets everything, also what the log described.
    pub(crate) fn clear(&mut self) {
        *self = Relations { generation: self.generation + 1, ..Relations::default() };
    }

    /// Counts changes of a mapped relation.
    pub(crate) fn count(&mut self, relation: RelationId, changes: u64) {
        let Some(mapped) = self.mapped(relation) else { return };
        let first = mapped.changes == 0;
        mapped.changes += changes;
        if first {
            self.touched.push(relation);
        }
    }

    /// Changes per table since the last call.
    pub(crate) fn take_counts(&mut self) -> Vec<(String, u64)> {
        let touched = std::mem::take(&mut self.touched);
        let take = |id: &RelationId| {
            let mapped = self.mapped(*id)?;
            Some((mapped.label.clone(), std::mem::take(&mut mapped.changes)))
        };
        let counts = touched.iter().filter_map(take).collect::<Vec<_>>();
        std::mem::take(&mut self.counted).into_iter().chain(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(relation: u8, columns: usize) -> Vec<u8> {
        let column = b"\0some column\0\0\0\0\x17\xff\xff\xff\xff";
        let count = u8::try_from(columns).expect("few");
        [&b"R\0\0\0"[..], &[relation], b"public\0t\0d\0", &[count], &column.repeat(columns)].concat()
    }

    #[test]
    fn f26_descriptions_are_forgotten_where_a_segment_begins() {
        let mut relations = Relations::default();
        relations.enter(1);
        relations.describe(RelationId(1), &description(1, 2));
        relations.enter(2);
        assert!(relations.definition(RelationId(1)).is_ok(), "they are few");
        relations.describe(RelationId(2), &description(2, 6));
        relations.describe(RelationId(2), &description(2, 5));
        relations.enter(2);
        assert!(relations.definition(RelationId(1)).is_ok(), "the segment may use it and not describe it again");
        relations.enter(3);
        assert!(relations.definition(RelationId(1)).is_err() && relations.definition(RelationId(2)).is_err());
        relations.describe(RelationId(2), &description(2, 1));
        relations.enter(4);
        assert!(relations.definition(RelationId(2)).is_ok());
    }
}
