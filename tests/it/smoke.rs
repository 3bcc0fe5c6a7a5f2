//! The whole way once: set up, mirror to two targets, stop, take down.

use crate::service::Mirror;

const SCHEMA: &str = "
    CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    CREATE TABLE history (tid int, bid int, aid int, delta int, mtime timestamp);
    CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,
                        size int GENERATED ALWAYS AS (length(body)) STORED);
    ALTER TABLE history REPLICA IDENTITY FULL;";

const LOAD: &str = "
    INSERT INTO accounts SELECT g, g % 10, 0, 'x' FROM generate_series(1, 5000) g;
    INSERT INTO notes (body) SELECT repeat('note ' || g, g) FROM generate_series(1, 200) g;
    BEGIN;
    UPDATE accounts SET abalance = abalance + aid WHERE aid % 3 = 0;
    INSERT INTO history SELECT 1, bid, aid, aid, '2026-01-01' FROM accounts WHERE aid % 3 = 0;
    COMMIT;
    DELETE FROM accounts WHERE aid % 7 = 0;
    UPDATE accounts SET aid = aid + 100000 WHERE aid % 11 = 0;
    UPDATE history SET delta = NULL WHERE aid % 2 = 0;
    DELETE FROM history WHERE aid < 100;
    BEGIN; DELETE FROM accounts; ROLLBACK;";

#[test]
fn rows_reach_two_targets_and_nothing_is_left_afterwards() {
    let mirror = Mirror::new(2);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    let service = mirror.run();
    mirror.at_source(LOAD);
    mirror.catch_up(&service);
    mirror.assert_same();

    let status = mirror.status();
    assert_eq!(status["source"]["state"], "streaming", "{status}");
    assert_eq!(status["targets"].as_array().unwrap().len(), 2, "{status}");

    mirror.at_source("TRUNCATE history; INSERT INTO history VALUES (2, 2, 2, 2, 'infinity')");
    mirror.finish(service);
}

#[test]
fn what_is_written_while_the_service_is_down_arrives_after_its_start() {
    let mirror = Mirror::new(1);
    mirror.everywhere(SCHEMA);
    mirror.set_up();
    mirror.at_source(LOAD);
    let service = mirror.run();
    mirror.catch_up(&service);
    service.sigterm();
    mirror.at_source("UPDATE accounts SET abalance = -1; DELETE FROM notes WHERE id < 50");
    let service = mirror.run();
    mirror.finish(service);
}
