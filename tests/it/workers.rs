//! Workers among all else: transactions of every kind, kills, and rows that would show one too many or too few.

use std::thread;
use std::time::Duration;

use crate::http::{free_address, get};
use crate::load::{SCHEMA, SOURCE_SETTINGS, Source, under_load};
use crate::random::{Random, cycles};
use crate::service::{Mirror, SMALL_SEGMENTS, Service, until};

/// Written while the target is paused.
const BACKLOG: &str = "SELECT count(*) > 30000 FROM account";

#[test]
fn f02_killing_the_service_while_workers_apply_loses_and_doubles_nothing() {
    let mut random = Random::from_environment();
    let mirror = Mirror::with(1, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    let address = free_address();
    mirror.reconfigure(|text| {
        let text = text.replace("listen = \"\"", &format!("listen = \"{address}\""));
        text + "workers = 3\nbatch_max_rows = 3000\n"
    });
    mirror.everywhere(SCHEMA);
    // With it, nothing of the table can be netted there.
    mirror.at_target(0, "CREATE UNIQUE INDEX ON account (writer, id)");
    mirror.set_up();
    for _ in 0..cycles("WALCAST_KILL_CYCLES", 4) {
        let service = backlog(&mirror, &mut random);
        mirror.walcast(&["resume", mirror.names()[0]]);
        // Not a wait for anything: how long the service lives is what is drawn by lot.
        thread::sleep(Duration::from_millis(random.within(20..1500)));
        service.kill9();
    }
    let service = backlog(&mirror, &mut random);
    mirror.walcast(&["resume", mirror.names()[0]]);
    mirror.catch_up(&service);
    let (_, metrics) = get(address, "/metrics").expect("walcast answers");
    let parallel = "walcast_apply_batch_duration_seconds_count{target=\"berlin\",tier=\"parallel\"} ";
    let batches = metrics.lines().find_map(|line| line.strip_prefix(parallel));
    assert!(batches.is_some_and(|count| count != "0"), "no batch was applied by workers:\n{metrics}");
    mirror.finish(service);
}

/// A service that has caught up, and whose target is then paused, with something to do.
fn backlog(mirror: &Mirror, random: &mut Random) -> Service {
    let service = mirror.run();
    mirror.catch_up(&service);
    mirror.walcast(&["pause", mirror.names()[0]]);
    mirror.at_source("TRUNCATE account");
    let enough = || mirror.at_source(BACKLOG).trim() == "t";
    under_load(&mirror.source, Source::Steady, random, |_| until("enough is written", Duration::from_secs(60), enough));
    service
}
