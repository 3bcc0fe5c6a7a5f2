//! Named places where a test can make the process die (`WALCAST_FAILPOINTS=before_commit=3` aborts the third time it
//! gets there). Always compiled, so that what is tested is what is shipped; without the variable each costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable: `name=n` pairs with commas between.
pub const VARIABLE: &str = "WALCAST_FAILPOINTS";

/// Where to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Nothing of the batch is sent.
    BeforeBegin,
    /// Some rows of a batch are sent.
    AfterNthRow,
    /// All rows of the batch are sent, the checkpoint and COMMIT are not.
    BeforeCommit,
    /// COMMIT is sent, its reply not read.
    AfterCommitBeforeReply,
}

const NAMES: [(&str, Failpoint); 4] = [
    ("before_begin", Failpoint::BeforeBegin),
    ("after_nth_row", Failpoint::AfterNthRow),
    ("before_commit", Failpoint::BeforeCommit),
    ("after_commit_before_reply", Failpoint::AfterCommitBeforeReply),
];

/// How often each may still be reached, the last time included; 0: not armed.
type Armed = [AtomicU32; NAMES.len()];

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Whether `point` is armed and this is its time to end the process.
pub(crate) fn is_due(point: Failpoint) -> bool {
    let Some(armed) = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| parse(&text))) else { return false };
    let Some(left) = armed.get(point as usize) else { return false };
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) == Ok(1)
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
        let armed = parse("before_commit=3, after_nth_row=1,log_rotate=2,before_begin=x");
        let counts: Vec<u32> = armed.iter().map(|a| a.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [0, 1, 3, 0]);
        assert!(NAMES.iter().enumerate().all(|(at, (_, point))| *point as usize == at));
    }
}
