//! The net tier's walk over a batch: what can be netted is gathered and written as sets, the rest is written in order.

use decoder::{Change, RelationId};
use segment_log::Record;

use crate::batch::Part;
use crate::error::Error;
use crate::net::{self, NotNettable, Plan};
use crate::target::{BatchError, Target};
use crate::walk::Walk;
use crate::write::Group;

/// What the net tier has read and not written.
#[derive(Default)]
struct Gathering<'a> {
    plan: Plan<'a>,
    /// INSERTs of tables that are not netted, or of before the plan's beginning.
    group: Group<'a>,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Add {
    /// It is in the plan.
    Added,
    /// It is to be written in order now; the plan does not matter to it.
    InOrder,
    /// It is to be written in order after the plan.
    AfterAllBefore,
}

impl Target {
    /// The net tier's walk: stretch by stretch, so that its memory is bounded.
    pub(crate) async fn walk_netting(&mut self, parts: &[Part], walk: &mut Walk) -> Result<(), BatchError> {
        let mut rest = parts;
        while !rest.is_empty() {
            let (mut bytes, segment) = (0, rest.first().map(|part| part.segment));
            let fits = |part: &&Part| {
                bytes += part.frame().bytes();
                bytes <= net::STRETCH_BYTES && Some(part.segment) == segment
            };
            let (stretch, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            self.walk_stretch(stretch, walk).await?;
            rest = after;
        }
        Ok(())
    }

    async fn walk_stretch(&mut self, parts: &[Part], walk: &mut Walk) -> Result<(), BatchError> {
        let mut gathering = Gathering::default();
        if let Some(part) = parts.first() {
            self.relations.enter(part.segment);
        }
        for part in parts {
            for (relation, message) in part.frame().descriptors() {
                self.describe_gathered(relation, message, walk, &mut gathering).await?;
            }
            for piece in part.pieces() {
                let done = walk.enter(&piece);
                for record in piece.records() {
                    self.gather(record, done, walk, &mut gathering).await?;
                }
            }
        }
        self.write_gathered(walk, &mut gathering).await
    }

    async fn describe_gathered(
        &mut self,
        relation: RelationId,
        message: &[u8],
        walk: &Walk,
        gathering: &mut Gathering<'_>,
    ) -> Result<(), BatchError> {
        if gathering.plan.contains(relation) || gathering.group.relation == Some(relation) {
            self.write_gathered(walk, gathering).await?;
        }
        self.describe(relation, message);
        Ok(())
    }

    /// Takes one change into the plan, or writes it in order: the table in [`net`] says when.
    async fn gather<'a>(
        &mut self,
        record: Record<'a>,
        done: bool,
        walk: &mut Walk,
        gathering: &mut Gathering<'a>,
    ) -> Result<(), BatchError> {
        if let (Some(b'R'), Some(relation)) = (record.payload.first(), record.relation) {
            return self.describe_gathered(relation, record.payload, walk, gathering).await;
        }
        if done || self.is_passed_over(&record, walk)? {
            return Ok(());
        }
        let change = decoder::decode_change(record.payload).map_err(|error| walk.blame(error.into()))?;
        let add = match change.relation() {
            Some(relation) => self.add(relation, &change, walk, gathering).await?,
            None => Add::AfterAllBefore,
        };
        if add == Add::Added {
            return if gathering.plan.is_full() { self.write_gathered(walk, gathering).await } else { Ok(()) };
        }
        walk.in_order += u64::from(change.relation().is_some());
        if add == Add::AfterAllBefore {
            self.write_gathered(walk, gathering).await?;
        }
        self.write(&change, walk, &mut gathering.group).await?;
        self.send_when_full().await
    }

    async fn add<'a>(
        &mut self,
        relation: RelationId,
        change: &Change<'a>,
        walk: &mut Walk,
        gathering: &mut Gathering<'a>,
    ) -> Result<Add, BatchError> {
        if !walk.begun {
            self.begin(walk).await?;
        }
        if self.relations.mapped(relation).is_none() {
            self.finish_group(&mut gathering.group).map_err(|error| walk.blame(error))?;
            if !self.is_known(relation, walk).await? {
                // A message that makes it may touch other tables, too.
                self.write_gathered(walk, gathering).await?;
                self.know(relation, walk).await?;
            }
        }
        let Some(mapped) = self.relations.mapped(relation) else { return Ok(Add::AfterAllBefore) };
        if !mapped.mapping.sets {
            return Ok(if mapped.mapping.table.triggers { Add::AfterAllBefore } else { Add::InOrder });
        }
        match gathering.plan.add(&mapped.mapping, change, walk.current()) {
            Ok(()) => {
                walk.changes.count(change);
                self.relations.count(relation, 1);
                Ok(Add::Added)
            }
            Err(why) => {
                // What is in one value's way is in the way of all of this column.
                mapped.mapping.sets &= why != NotNettable::Format;
                Ok(Add::AfterAllBefore)
            }
        }
    }

    /// Writes the plan, after the changes in order that came before what is in it.
    async fn write_gathered(&mut self, walk: &Walk, gathering: &mut Gathering<'_>) -> Result<(), BatchError> {
        self.finish_group(&mut gathering.group).map_err(|error| walk.blame(error))?;
        let Some(transactions) = gathering.plan.transactions else { return Ok(()) };
        for (relation, gathered) in gathering.plan.take() {
            let (mapped, statements) = self
                .relations
                .mapped_and_counter(relation)
                .ok_or_else(|| walk.blame(Error::UnknownRelation(relation)))?;
            let (out, pipeline) = self.session.writing();
            let mut writer = net::Writer { mapped, statements, pipeline, out, transactions };
            writer.write(&gathered).map_err(|error| walk.blame(error))?;
            self.send_when_full().await?;
        }
        Ok(())
    }
}
