//! Random choices that can be repeated from a seed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;

/// How often something is done: as the environment says, else `default` times.
pub(crate) fn cycles(variable: &str, default: u32) -> u32 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// A generator (splitmix64). Equal seeds make equal choices.
pub(crate) struct Random(u64);

impl Random {
    /// From `WALCAST_SEED`, else from a new seed. It is printed, so that a failure shows it.
    pub(crate) fn from_environment() -> Random {
        let seed = match std::env::var("WALCAST_SEED") {
            Ok(text) => text.parse().expect("WALCAST_SEED is not a number"),
            Err(_) => RandomState::new().hash_one(0) >> 32,
        };
        eprintln!("repeat with WALCAST_SEED={seed}");
        Random(seed)
    }

    /// From this seed.
    pub(crate) fn of(seed: u64) -> Random {
        Random(seed)
    }

    /// A generator of its own for a thread.
    pub(crate) fn split(&mut self) -> Random {
        Random(self.next())
    }

    /// A number within `range`.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
