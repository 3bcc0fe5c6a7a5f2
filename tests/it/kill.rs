//! The service is killed again and again under load, and every row is on every target exactly once.

use std::thread;
use std::time::Duration;

use crate::load::{SCHEMA, SOURCE_SETTINGS, Source, under_load};
use crate::random::{Random, cycles};
use crate::service::{Mirror, SMALL_SEGMENTS};

#[test]
fn f01_killing_the_service_at_random_loses_and_doubles_nothing() {
    let cycles = cycles("WALCAST_KILL_CYCLES", 20);
    let mut random = Random::from_environment();
    let mirror = Mirror::with(2, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    under_load(&mirror.source, Source::Steady, &mut random, |random| kill_repeatedly(&mirror, cycles, random));
    let service = mirror.run();
    mirror.catch_up(&service);
    let rows = mirror.at_target(0, "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM journal)");
    eprintln!("{cycles} cycles; rows of account and journal at the end: {}", rows.trim());
    mirror.finish(service);
}

fn kill_repeatedly(mirror: &Mirror, cycles: u32, random: &mut Random) {
    for _ in 0..cycles {
        let service = mirror.run();
        // Not a wait for anything: how long the service lives is what is drawn by lot.
        thread::sleep(Duration::from_millis(random.within(20..2000)));
        service.kill9();
    }
}
