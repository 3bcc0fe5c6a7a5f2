//! A copy that slows down for the sake of other targets, and does not wait for those that have another reason to be late.

use super::*;

/// Berlin takes its time for one row of twenty.
const SLOW: &str = "
    CREATE SCHEMA local;
    CREATE FUNCTION local.wait() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN IF NEW.id % 20 = 0 THEN PERFORM pg_sleep(0.2); END IF; RETURN NEW; END$$;
    CREATE TRIGGER slow AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION local.wait();
    ALTER TABLE t ENABLE ALWAYS TRIGGER slow;";

#[test]
fn a_copy_is_held_back_for_a_target_that_gets_later_and_not_for_one_that_stopped() {
    let mirror = Mirror::new(2);
    mirror.at_source(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE ballast (id int PRIMARY KEY, v text);
         INSERT INTO ballast SELECT g, repeat('x', 100) FROM generate_series(1, 200000) g",
    );
    mirror.walcast(&["setup"]);
    let service = mirror.run();
    mirror.walcast(&["bootstrap", "berlin"]);
    mirror.catch_up_one(0, &service);
    mirror.at_target(0, SLOW);

    // So slowly that there is time to look.
    let mut command = mirror.command(&["bootstrap", "tokyo", "--considerate", "--max-rate", "128KiB"]);
    let mut command = command.stdout(Stdio::null()).spawn().unwrap();
    let mut row = 0;
    until("the copy is held back", CATCH_UP, || {
        row += 1;
        mirror.at_source(&format!("INSERT INTO t VALUES ({row})"));
        mirror.target_status(1)["bootstrap"]["held_back_to"].is_u64()
    });
    assert!(mirror.walcast(&["status"]).contains("held back to "));
    kill_process(Pid::from_child(&command), Signal::INT).unwrap();
    command.wait().unwrap();

    mirror.at_target(0, "INSERT INTO t VALUES (0)");
    mirror.at_source("INSERT INTO t VALUES (0)");
    mirror.until_stopped(0);
    mirror.walcast(&["bootstrap", "tokyo", "--considerate"]);
    mirror.at_target(0, "DELETE FROM t WHERE id = 0");
    mirror.walcast(&["resume", "berlin"]);
    mirror.walcast(&["resync", "tokyo", "--considerate"]);
    mirror.finish(service);
}
