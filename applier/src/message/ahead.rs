//! Looking ahead in a transaction for the message that creates the relation of a row.
//!
//! `CREATE TABLE … AS`, `SELECT … INTO`: the source writes the rows while the command runs, and the message at its end. The
//! log has the whole transaction, so the message is looked for from its beginning on: frames are checked and passed over,
//! only pieces that are said to have messages are read.
//!
//! | in the log | on the target |
//! | --- | --- |
//! | Begin, row of relation 16400 | no table of that name: the transaction is looked through, message 0 creates 16400 |
//! | | message 0 is applied, then the row |
//! | message 0 (`before` null, OID 16400) | passed over: it was applied |
//! | row of relation 16400, Commit | as any row |

use decoder::{Change, Lsn, RelationId};
use segment_log::{Log, Piece, TransactionInfo};

use super::{Message, parse};
use crate::error::Error;

/// The runtime's other tasks come to their turn after so many frames.
const FRAMES_AT_ONCE: u32 = 64;

/// The number and content of a message of this transaction that creates the relation.
pub(super) async fn find(
    log: &Log,
    info: &TransactionInfo,
    relation: RelationId,
    is_to_come: impl Fn(u32) -> bool,
) -> Result<Option<(u32, Message)>, Error> {
    // The transaction is the first one after this, or it is in the same segment.
    let mut cursor = log.cursor(Lsn::from_u64(info.end_lsn.as_u64().saturating_sub(1)))?;
    let (mut number, mut frames) = (0, 0);
    while let Some(frame) = cursor.next_frame()? {
        for piece in frame.pieces().filter(|piece| piece.info().end_lsn == info.end_lsn) {
            if let Some(found) = find_in(&piece, &mut number, relation, &is_to_come)? {
                return Ok(Some(found));
            }
            if piece.is_last() {
                return Ok(None);
            }
        }
        frames += 1;
        if frames % FRAMES_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(None)
}

fn find_in(
    piece: &Piece<'_>,
    number: &mut u32,
    relation: RelationId,
    is_to_come: &impl Fn(u32) -> bool,
) -> Result<Option<(u32, Message)>, Error> {
    if !piece.has_messages() {
        return Ok(None);
    }
    for record in piece.records().filter(|record| record.payload.first() == Some(&b'M')) {
        let Change::Message { content, .. } = decoder::decode_change(record.payload)? else { continue };
        let Some(message) = parse(content)? else { continue };
        if is_to_come(*number) && message.creates(relation.0) {
            return Ok(Some((*number, message)));
        }
        *number += 1;
    }
    Ok(None)
}
