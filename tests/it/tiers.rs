//! Every tier, and native logical replication, leads from the same history to the same rows.
//!
//! ```text
//!                 ┌─ berlin  batches of thousands of changes                       net
//! source ─ log ───┼─ tokyo   batches of less than the net tier takes               ordered
//!          paused └─ lima    each transaction fails at its first attempt           single
//! source ─ subscription ─ a further server, the tables that no DDL alters          native
//! ```

use std::net::SocketAddr;

use cluster::Cluster;

use crate::compare::differences_in;
use crate::ddl::assert_equal;
use crate::history::{History, SCHEMA, UNALTERED};
use crate::http::{free_address, get};
use crate::load::SOURCE_SETTINGS;
use crate::postgres::{DATABASE, sql, start, versions};
use crate::random::{Random, cycles};
use crate::service::{CATCH_UP, Mirror, SMALL_SEGMENTS, until};

const TRANSACTIONS: u64 = 240;
/// Transactions of one session of `psql`.
const CHUNK: u64 = 40;

const BATCHES: &str = "walcast_apply_batch_duration_seconds_count";

/// Raises the first time that a mark comes. What `setval` did stays when the transaction is rolled back.
const FAIL_ONCE: &str = "
    CREATE SEQUENCE seen MINVALUE 0;
    SELECT setval('seen', 0);
    CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        IF (SELECT last_value FROM public.seen) < NEW.n THEN
            PERFORM setval('public.seen', NEW.n);
            RAISE EXCEPTION 'mark % comes for the first time', NEW.n;
        END IF;
        RETURN NULL;
    END$$;
    CREATE TRIGGER fail_once AFTER INSERT ON marks FOR EACH ROW EXECUTE FUNCTION fail_once();
    ALTER TABLE marks ENABLE ALWAYS TRIGGER fail_once";

#[test]
fn all_tiers_and_native_replication_agree_on_a_first_history() {
    agree_on(1);
}

#[test]
fn all_tiers_and_native_replication_agree_on_a_second_history() {
    agree_on(2);
}

#[test]
fn all_tiers_and_native_replication_agree_on_a_third_history() {
    agree_on(3);
}

#[test]
fn all_tiers_and_native_replication_agree_on_random_histories() {
    let mut seeds = Random::from_environment();
    for _ in 0..cycles("WALCAST_TIERS_CYCLES", 1) {
        agree_on(seeds.within(0..u64::from(u32::MAX)));
    }
}

fn agree_on(seed: u64) {
    eprintln!("history of seed {seed}");
    let address = free_address();
    let mirror = Mirror::with(3, &SOURCE_SETTINGS, SMALL_SEGMENTS);
    mirror.reconfigure(|text| {
        let text = text.replace("listen = \"\"", &format!("listen = \"{address}\""));
        let text = text.replace("name = \"tokyo\"", "name = \"tokyo\"\nbatch_max_rows = 40");
        text.replace("name = \"lima\"", "name = \"lima\"\nbatch_max_rows = 1")
    });
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    mirror.at_target(2, FAIL_ONCE);
    let native = Native::subscribe(&mirror.source);
    let service = mirror.run();
    mirror.catch_up(&service);
    mirror.names().iter().for_each(|name| drop(mirror.walcast(&["pause", name])));
    let mut history = History::new(Random::of(seed));
    while history.steps() < TRANSACTIONS {
        let script: String = (0..CHUNK).map(|_| history.transaction()).collect();
        mirror.at_source(&script);
    }
    mirror.names().iter().for_each(|name| drop(mirror.walcast(&["resume", name])));
    mirror.catch_up(&service);
    mirror.at_target(2, "DROP TRIGGER fail_once ON marks; DROP FUNCTION fail_once; DROP SEQUENCE seen");
    native.assert_same(&mirror.source);
    native.unsubscribe(&mirror.source);
    assert_equal(&mirror, &service, &format!("after the history of seed {seed}"));
    assert_tiers(&mirror, address);
    service.sigterm();
    mirror.undo();
}

/// Each target's changes came by the tier that it is there for.
fn assert_tiers(mirror: &Mirror, address: SocketAddr) {
    let (code, metrics) = get(address, "/metrics").expect("walcast answers");
    assert_eq!(code, 200);
    let counts: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix(BATCHES)).collect();
    let batches = |target: usize, tier: &str| -> u64 {
        let labels = format!("{{target=\"{}\",tier=\"{tier}\"}} ", mirror.names()[target]);
        counts.iter().find_map(|line| line.strip_prefix(&labels)).map_or(0, |count| count.parse().unwrap())
    };
    assert!(batches(0, "net") > 0 && batches(0, "single") == 0, "{counts:?}");
    assert!(batches(1, "ordered") > 0 && batches(1, "net") == 0 && batches(1, "single") == 0, "{counts:?}");
    assert!(batches(2, "single") >= TRANSACTIONS && batches(2, "net") == 0, "{counts:?}");
}

/// A subscription of a server of its own.
struct Native(Cluster);

impl Native {
    fn subscribe(source: &Cluster) -> Native {
        let target = start(&versions(0).0, &[]);
        sql(&target, SCHEMA);
        sql(source, &format!("CREATE PUBLICATION native FOR TABLE {}", UNALTERED.join(", ")));
        let conninfo = source.conninfo(DATABASE).to_string();
        sql(
            &target,
            &format!("CREATE SUBSCRIPTION native CONNECTION '{conninfo}' PUBLICATION native WITH (copy_data = off)"),
        );
        Native(target)
    }

    fn assert_same(&self, source: &Cluster) {
        let end = sql(source, "SELECT pg_current_wal_insert_lsn()");
        let there = format!(
            "SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots WHERE slot_name = 'native'",
            end.trim()
        );
        until("the subscription has everything", CATCH_UP, || sql(source, &there).trim() == "t");
        let differences = differences_in(source, &self.0, &UNALTERED);
        assert!(differences.is_empty(), "the subscription differs:\n{differences}");
    }

    fn unsubscribe(&self, source: &Cluster) {
        sql(&self.0, "DROP SUBSCRIPTION native");
        sql(source, "DROP PUBLICATION native");
    }
}
