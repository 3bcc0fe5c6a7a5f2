//! Named places where a test can make the process die (`WALCAST_FAILPOINTS=after_table=3` aborts the third time it gets
//! there). Always compiled, so that what is tested is what is shipped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable: `name=n` pairs with commas between.
pub const VARIABLE: &str = "WALCAST_FAILPOINTS";

/// Where to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// The slot was made, its snapshot is not held by another session yet.
    AfterSlot,
    /// The tables are there, and the ledger does not say so.
    AfterPreData,
    /// Some rows of a table are sent.
    DuringCopy,
    /// A table is whole and noted.
    AfterTable,
    /// The indexes of a table are there.
    AfterIndexes,
    /// The rest of the schema is there, the checkpoint is not.
    BeforeDeclare,
}

const NAMES: [(&str, Failpoint); 6] = [
    ("after_slot", Failpoint::AfterSlot),
    ("after_pre_data", Failpoint::AfterPreData),
    ("during_copy", Failpoint::DuringCopy),
    ("after_table", Failpoint::AfterTable),
    ("after_indexes", Failpoint::AfterIndexes),
    ("before_declare", Failpoint::BeforeDeclare),
];

/// How often each may still be reached, the last time included; 0: not armed.
type Armed = [AtomicU32; NAMES.len()];

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Ends the process, as a crash would, if `point` is armed and this is its time.
pub(crate) fn reach(point: Failpoint) {
    let Some(armed) = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| parse(&text))) else { return };
    let Some(left) = armed.get(point as usize) else { return };
    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) == Ok(1) {
        std::process::abort();
    }
}

fn parse(text: &str) -> Armed {
    let armed = Armed::default();
    for (name, count) in text.split(',').filter_map(|pair| pair.split_once('=')) {
        let known = NAMES.iter().find(|(known, _)| *known == name.trim()).map(|(_, point)| *point as usize);
        if let (Some(slot), Ok(count)) = (known.and_then(|index| armed.get(index)), count.trim().parse()) {
            slot.store(count, Ordering::Relaxed);
        }
    }
    armed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_points_and_counts() {
        let armed = parse("after_table=3, during_copy=1,before_commit=2,after_slot=x");
        let counts: Vec<u32> = armed.iter().map(|a| a.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [0, 0, 1, 3, 0, 0]);
        assert!(NAMES.iter().enumerate().all(|(at, (_, point))| *point as usize == at));
    }
}
