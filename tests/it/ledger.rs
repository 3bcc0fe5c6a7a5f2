//! What a copy leaves on the target and in the log's directory, and targets that are held: without any copying command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::load::{OnDrop, SCHEMA};
use crate::postgres::DATABASE;
use crate::random::cycles;
use crate::service::{CATCH_UP, Mirror, SLOT, until};

/// Transactions for some segments of the smallest size.
fn several_segments() -> String {
    "BEGIN; INSERT INTO journal SELECT 9, g, repeat('x', 1000) FROM generate_series(1, 1000) g; COMMIT;".repeat(6)
}

/// A conversation on the control socket.
struct Control(BufReader<UnixStream>);

impl Control {
    fn open(mirror: &Mirror) -> Control {
        let stream = UnixStream::connect(mirror.log_dir().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(CATCH_UP)).unwrap();
        Control(BufReader::new(stream))
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.0.get_mut(), "{request}").unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{request}: {line}: {e}"))
    }
}

fn ask(mirror: &Mirror, request: &Value) -> Value {
    Control::open(mirror).ask(request)
}

fn begin(mirror: &Mirror) -> String {
    let answer = ask(mirror, &json!({"command": "begin_bootstrap", "target": "berlin"}));
    answer["pinned"]["lsn"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Does `what` while small transactions are committed, at a rate that a target keeps up with easily.
pub(crate) fn writing(mirror: &Mirror, what: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 1..=2 {
            let stop = &stop;
            scope.spawn(move || {
                for step in 0.. {
                    let row = format!("INSERT INTO journal VALUES ({writer}, {step}, 'small');");
                    mirror.at_source(&row.repeat(10));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        let _stops_writers = OnDrop(&stop);
        what();
    });
}

fn hold(mirror: &Mirror) -> Control {
    let mut control = Control::open(mirror);
    let held = control.ask(&json!({"command": "hold", "target": "berlin"}));
    assert!(held["held"]["applied_lsn"].is_string(), "{held}");
    control
}

/// The first is smaller.
fn is_before(mirror: &Mirror, one: &str, other: &str) -> bool {
    mirror.at_source(&format!("SELECT '{one}'::pg_lsn < '{other}'::pg_lsn")).trim() == "t"
}

fn first_lsn(mirror: &Mirror) -> String {
    mirror.status()["log"]["first_lsn"].as_str().unwrap().to_owned()
}

fn until_state(mirror: &Mirror, state: &str) {
    until(&format!("berlin is {state}"), CATCH_UP, || mirror.target_status(0)["state"] == state);
}

/// Transactions of a few changes go by the ordered tier, the backlog of a long hold by the net tier.
#[test]
fn a_held_target_runs_to_exactly_the_position_that_is_asked_for_under_load() {
    let mirror = Mirror::with(2, &[], "retain_min = \"1GiB\"");
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    let service = mirror.run();
    mirror.catch_up(&service);
    let rows = || mirror.at_target(0, "SELECT count(*) FROM journal").trim().parse::<usize>().unwrap();
    let mut seen = Vec::new();
    writing(&mirror, || {
        for round in 0..cycles("WALCAST_HOLD_CYCLES", 6) {
            let mut held = hold(&mirror);
            let resting = rows();
            if round % 2 == 1 {
                mirror.at_source(&several_segments());
            }
            // A consistent point; the slot goes with its session.
            let create = "SELECT lsn FROM pg_create_logical_replication_slot('probe', 'pgoutput', true)";
            let lsn = mirror.at_source(create).trim().to_owned();
            assert_eq!(rows(), resting, "nothing was applied while it was held");
            let answer = held.ask(&json!({"run_to": &lsn}));
            assert!(answer["held"]["applied_lsn"].is_string(), "{answer}");
            seen.push((lsn, rows()));
            let refused = mirror.run_cli(&["pause", "berlin"]);
            assert!(!refused.status.success(), "it is held");
            drop(held);
            until("berlin goes on", CATCH_UP, || rows() > seen[seen.len() - 1].1);
        }
    });
    for (lsn, rows) in seen {
        let changes = mirror.walcast(&["log", "dump", "--json", "--table", "public.journal", "--to", &lsn]);
        let inserts = changes.lines().filter(|line| line.contains("\"kind\":\"insert\"")).count();
        assert_eq!(rows, inserts, "at {lsn}");
    }
    mirror.finish(service);
}

#[test]
fn a_target_that_does_not_run_is_not_held() {
    let mirror = Mirror::new(2);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    let service = mirror.run();
    mirror.catch_up(&service);
    mirror.walcast(&["pause", "berlin"]);
    let refused = ask(&mirror, &json!({"command": "hold", "target": "berlin"}));
    assert_eq!(refused["failed"]["message"], "target \"berlin\" is paused");
    mirror.walcast(&["resume", "berlin"]);
    until_state(&mirror, "streaming");
    let _held = hold(&mirror);
    let second = ask(&mirror, &json!({"command": "hold", "target": "berlin"}));
    assert_eq!(second["failed"]["message"], "target \"berlin\" is held by another command");
    drop(_held);
    mirror.finish(service);
}

/// What the copying command would do, by hand.
struct Copy<'a> {
    mirror: &'a Mirror,
    identity: applier::Identity,
    conninfo: connection::Conninfo,
}

impl Copy<'_> {
    fn new(mirror: &Mirror) -> Copy<'_> {
        let system_id = mirror.at_source("SELECT system_identifier FROM pg_control_system()");
        // The function gives it as a signed number.
        let system_id = system_id.trim().parse::<i64>().unwrap().cast_unsigned();
        let identity = applier::Identity { system_id, slot: SLOT.to_owned() };
        let conninfo = mirror.targets[0].conninfo(DATABASE).to_string();
        Copy { mirror, identity, conninfo: connection::Conninfo::parse(&conninfo).unwrap() }
    }

    fn wait_for<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// Copies a table while nobody writes, and says as of where.
    fn table(&self, table: &str) -> String {
        let mirror = self.mirror;
        let lsn = mirror.at_source("SELECT pg_current_wal_insert_lsn()").trim().to_owned();
        let rows = mirror.at_source(&format!("SELECT coalesce(json_agg(t), '[]') FROM {table} t"));
        let applier::Identity { system_id, slot } = &self.identity;
        mirror.at_target(
            0,
            &format!(
                "BEGIN; INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $rows${rows}$rows$);
                 INSERT INTO walcast.copied (system_id, slot, schema_name, table_name, start_lsn)
                 VALUES ('{system_id}', '{slot}', 'public', '{table}', '{lsn}'); COMMIT"
            ),
        );
        lsn
    }
}

#[test]
fn r15_f31_a_target_copied_table_by_table_is_pinned_over_kills_and_becomes_equal() {
    let mirror = Mirror::new(2);
    mirror.everywhere(SCHEMA);
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "--no-copy", "tokyo"]);
    let service = mirror.run();
    until_state(&mirror, "new");
    let copy = Copy::new(&mirror);
    mirror.at_source("INSERT INTO account VALUES (1, 1, 1, 'one'); INSERT INTO journal VALUES (1, 1, 'one')");
    let pin = begin(&mirror);
    assert_eq!(begin(&mirror), pin, "the same command again");
    let progress = json!({"command": "bootstrap_progress", "target": "berlin",
        "copied_bytes": 5, "expected_bytes": 10, "tables_done": 1, "tables": 2});
    assert_eq!(ask(&mirror, &progress)["done"], "noted");
    let status = mirror.target_status(0);
    assert_eq!(status["state"], "bootstrapping");
    let shown = json!({"copied_bytes": 5, "expected_bytes": 10, "tables_done": 1, "tables": 2});
    assert_eq!(status["bootstrap"], shown);
    Copy::wait_for(applier::install(&copy.conninfo)).unwrap();
    let first = copy.table("account");
    mirror.at_source("UPDATE account SET amount = 2; INSERT INTO account VALUES (2, 1, 1, 'two')");
    mirror.at_source(&several_segments());
    mirror.catch_up_one(1, &service);
    service.kill9();

    let service = mirror.run();
    until_state(&mirror, "bootstrapping");
    copy.table("journal");
    mirror.at_source("INSERT INTO journal VALUES (2, 1, 'two'); UPDATE account SET amount = amount + 1");
    mirror.at_source(&several_segments());
    mirror.catch_up_one(1, &service);
    let failed = ask(&mirror, &json!({"command": "end_bootstrap", "target": "berlin"}));
    assert_eq!(failed["failed"]["message"], "target \"berlin\" is new: the target has no checkpoint for this slot");
    assert!(!is_before(&mirror, &pin, &first_lsn(&mirror)), "the log is kept");
    Copy::wait_for(applier::declare(&copy.conninfo, &copy.identity, first.parse().unwrap())).unwrap();
    let done = ask(&mirror, &json!({"command": "end_bootstrap", "target": "berlin"}));
    assert!(done["done"].as_str().is_some_and(|text| text.contains("continues from")), "{done}");
    mirror.catch_up(&service);
    until("the log is released", CATCH_UP, || is_before(&mirror, &pin, &first_lsn(&mirror)));
    assert!(!mirror.log_dir().join("berlin.bootstrapping").exists());
    let refused = ask(&mirror, &json!({"command": "begin_bootstrap", "target": "berlin"}));
    assert_eq!(refused["failed"]["message"], "target \"berlin\" has been copied already");
    mirror.finish(service);
}

#[test]
fn a_copy_whose_log_was_given_up_is_refused_and_begins_anew() {
    let mirror = Mirror::with(2, &[], "segment_size = \"1MiB\"\nretain_max = \"2MiB\"");
    mirror.everywhere(SCHEMA);
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "--no-copy", "tokyo"]);
    let service = mirror.run();
    until_state(&mirror, "new");
    let pin = begin(&mirror);
    mirror.at_source(&several_segments());
    until_state(&mirror, "desync");
    for request in ["end_bootstrap", "bootstrap_progress"] {
        let mut request = json!({"command": request, "target": "berlin"});
        if request["command"] == "bootstrap_progress" {
            for key in ["copied_bytes", "expected_bytes", "tables_done", "tables"] {
                request[key] = json!(1);
            }
        }
        let failed = ask(&mirror, &request);
        let expected = "the log no longer holds what target \"berlin\" needs: it grew beyond retain_max";
        assert_eq!(failed["failed"]["message"], expected);
        assert!(failed["failed"]["hint"].as_str().is_some_and(|hint| hint.contains("retain_max")));
    }
    assert!(is_before(&mirror, &pin, &begin(&mirror)), "it is pinned anew");
    until_state(&mirror, "bootstrapping");
    mirror.walcast(&["remove", "berlin"]);
    assert!(!mirror.log_dir().join("berlin.bootstrapping").exists(), "removing releases the log");
    service.sigterm();
    mirror.undo();
}
