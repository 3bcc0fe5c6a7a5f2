//! What the messages with walcast's prefix say, before their transaction goes to the log: which of them are kept, which
//! schemas it renamed, which relations it made.

use decoder::{Change, Lsn, RelationId};
use hashbrown::HashSet;
use segment_log::TransactionInfo;

use crate::error::ReplicationError;
use crate::keeper::Keeper;
use crate::names::{may_rename, renamed_schemas};
use crate::schema_names::Renamed;
use crate::signature::DIGITS;
use crate::spool::Spool;

/// What a transaction's messages say.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What becomes of each, in their order.
    pub(crate) fates: Vec<Fate>,
    /// Schemas that it renamed.
    pub(crate) renamed: Vec<Renamed>,
    /// Relations that it made; empty where no rename is remembered and it has none itself: nobody asks then.
    pub(crate) made: HashSet<RelationId>,
}

/// What becomes of a message with walcast's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is empty. The log keeps it, so that its transaction has an end to wait for.
    Marker,
    /// It is the capture's.
    Verified,
    /// Somebody else wrote it.
    Dropped,
}

impl Told {
    /// Walks the spooled messages; may read the key anew, and so block. `renames_known`: those of other transactions are
    /// remembered. `after`: the log's end, for errors.
    pub(crate) fn read(
        keeper: &mut Keeper,
        info: &TransactionInfo,
        spool: &mut Spool,
        renames_known: bool,
        after: Lsn,
    ) -> Result<Told, ReplicationError> {
        let mut told = Told::default();
        spool.replay(|_, message| {
            if message.first() == Some(&b'M') {
                let (fate, content) = fate(keeper, info, message, after)?;
                told.fates.push(fate);
                if fate == Fate::Verified && (renames_known || may_rename(content)) {
                    let renamed = renamed_schemas(content);
                    told.made.extend(renamed.made.iter().copied().map(RelationId));
                    told.renamed.extend(Some(renamed).filter(|renamed| !renamed.schemas.is_empty()));
                }
            }
            Ok::<_, ReplicationError>(())
        })?;
        Ok(told)
    }
}

/// What becomes of a message, and what it says after its signature, if that is right.
fn fate<'a>(
    keeper: &mut Keeper,
    info: &TransactionInfo,
    message: &'a [u8],
    after: Lsn,
) -> Result<(Fate, &'a [u8]), ReplicationError> {
    match decoder::decode_change(message).map_err(|source| ReplicationError::Decode { after, source })? {
        Change::Message { content: [], .. } => Ok((Fate::Marker, &[])),
        Change::Message { content, .. } if keeper.admits(content, info)? => {
            Ok((Fate::Verified, content.get(DIGITS..).unwrap_or_default()))
        }
        _ => Ok((Fate::Dropped, &[])),
    }
}
