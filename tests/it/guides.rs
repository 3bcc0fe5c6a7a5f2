//! The guides, run as they stand, behind the tutorial.

use crate::document::Reader;
use crate::tutorial::assert_identical;

/// What the tutorial has once the target was copied; then the guide. `target` has to be identical in the end.
fn follow(guide: &str, target: &str) {
    let mut reader = Reader::new();
    reader.follow("docs/tutorial.md", Some("Change things"));
    reader.follow(&format!("docs/guides/{guide}.md"), None);
    reader.run("kill $!\nwait $!\nwalcast teardown", "the end of the guide");
    assert_identical(&mut reader, target);
}

#[test]
fn a_target_is_added() {
    follow("add-a-target", "tokyo");
}

#[test]
fn a_target_that_differs_is_repaired() {
    follow("repair", "berlin");
}

#[test]
fn a_stopped_target_goes_on() {
    follow("stopped-target", "berlin");
}

#[test]
fn a_lost_slot_is_replaced() {
    follow("lost-slot", "berlin");
}

#[test]
fn a_slow_target_is_waited_for() {
    follow("slow-target", "berlin");
}

#[test]
fn a_source_that_failed_over_is_taken_up_anew() {
    follow("source-failover", "berlin");
}

#[test]
fn rows_are_mirrored_without_a_superuser() {
    let mut reader = Reader::new();
    reader.follow("docs/tutorial.md", Some("Change things"));
    reader.follow("docs/guides/managed.md", None);
    let slot = "SELECT pg_drop_replication_slot('walcast')";
    let end = format!("kill $!\nwait $!\nwalcast verify berlin --repair\npsql --command=\"{slot}\" service=source");
    reader.run(&end, "the end of the guide");
}

#[test]
fn another_version_takes_over() {
    let mut reader = Reader::of_oldest_and_newest();
    reader.follow("docs/tutorial.md", Some("Change things"));
    reader.follow("docs/guides/switch-versions.md", None);
    let there = "psql --tuples-only --no-align --command=\"SELECT count(*), max(id) FROM customer WHERE id > 1000\" service=new";
    reader.run(there, "the new server");
    // The sequence goes on after the source's last value.
    assert_eq!(reader.printed(), "1|1001\n");
}
