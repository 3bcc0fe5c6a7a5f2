//! The ordered tier: the source's order, pipelined.
//!
//! Every statement is prepared once per relation, operation, set of columns and formats, and sent without waiting for
//! the one before. A batch that fits into [`GUARDED_MAX`] changes goes out in one flush, checkpoint and end of the
//! transaction included, whether the batch before it is answered or not. That is safe because a change that does not hit exactly
//! one row fails on the target, which then skips everything up to the Sync, COMMIT included. Larger batches use the
//! plainer statements, and read every answer before COMMIT; one more round trip is nothing to them, and an unguarded
//! statement is cheaper.

use crate::batch::Batch;
use crate::sql::Guard;
use crate::status::Tier;

/// At most so many changes are guarded.
pub(crate) const GUARDED_MAX: usize = 128;

/// Who checks that changes hit exactly one row.
pub(crate) fn guard_for(tier: Tier, batch: &Batch) -> Guard {
    match tier {
        Tier::Ordered if !batch.open && batch.changes <= GUARDED_MAX => Guard::Guarded,
        Tier::Net | Tier::Parallel | Tier::Ordered | Tier::Single => Guard::Plain,
    }
}
