//! Tests of the decoder against recordings of real servers, a second decoder, and damaged bytes.

use std::hash::{BuildHasher, Hasher, RandomState};

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

mod damage;
mod differential;
mod errors;
#[path = "../golden/files.rs"]
mod files;
#[path = "../golden/format.rs"]
mod format;
mod recordings;
mod walstream;

/// A seed is printed, and shown when the test fails; PROPTEST_RNG_SEED in the environment repeats it. PROPTEST_CASES
/// asks for another number of cases.
fn random_cases(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().build_hasher().finish());
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("PROPTEST_RNG_SEED={seed}");
    }
    config
}
