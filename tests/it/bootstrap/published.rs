//! What an administrator publishes only in part is copied, followed and compared in part.

use super::*;

const TABLES: &str = "
    CREATE TABLE filtered (id int PRIMARY KEY, v text);
    CREATE TABLE listed (id int PRIMARY KEY, hidden text, v text);
    CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (1000);";
const ROWS: &str = "
    INSERT INTO filtered SELECT g, 'v' || g FROM generate_series($1, $1 + 9) g;
    INSERT INTO listed SELECT g, 'hidden', 'v' || g FROM generate_series($1, $1 + 9) g;
    INSERT INTO parted SELECT g * 50 % 997, 'v' || g FROM generate_series($1, $1 + 9) g;";

#[test]
fn row_filters_column_lists_and_partition_roots_hold_for_the_copy_as_for_the_stream() {
    let mirror = Mirror::new(1);
    if mirror.source.version() < 15 {
        return mirror.undo(); // has neither filters nor lists
    }
    mirror.reconfigure(|text| text.replacen("publication =", "tables = [\"public.*\"]\npublication =", 1));
    mirror.at_source(&format!("{TABLES}{}", ROWS.replace("$1", "1")));
    mirror.walcast(&["setup"]);
    mirror.at_source(
        "ALTER PUBLICATION walcast_it DROP TABLE filtered, listed;
         ALTER PUBLICATION walcast_it ADD TABLE filtered WHERE (id % 2 = 0), TABLE listed (id, v);
         ALTER PUBLICATION walcast_it SET (publish_via_partition_root = true)",
    );
    mirror.walcast(&["bootstrap", "berlin"]);
    let service = mirror.run();
    let check = |n: i32| {
        mirror.catch_up(&service);
        let halves = "SELECT * FROM filtered WHERE id % 2 = 0 ORDER BY id; SELECT id, v FROM listed ORDER BY id;
            SELECT tableoid::regclass, * FROM parted ORDER BY id";
        assert_eq!(mirror.at_source(halves), mirror.at_target(0, halves));
        let (all, kept) = ("SELECT count(*) FROM filtered", "SELECT count(*) FROM listed WHERE hidden IS NOT NULL");
        assert_eq!(
            (mirror.at_source(all).trim(), mirror.at_target(0, all).trim()),
            (&*(n * 10).to_string(), &*(n * 5).to_string())
        );
        assert_eq!(mirror.at_target(0, kept).trim(), "0");
        mirror.walcast(&["verify", "berlin"]);
    };
    check(1);
    mirror.at_source(&ROWS.replace("$1", "11"));
    mirror.at_source("UPDATE listed SET hidden = 'still', v = 'new' WHERE id < 5; DELETE FROM filtered WHERE id = 3");
    mirror.at_source("INSERT INTO filtered VALUES (3, 'again')");
    check(2);
    mirror.walcast(&["resync", "berlin", "--table", "public.filtered"]);
    check(2);
    service.sigterm();
    mirror.undo();
}
