//! The tutorial, run as it stands.

use crate::document::Reader;

const TUTORIAL: &str = "docs/tutorial.md";

/// Panics unless the target's dump is the source's, but for the order of lines, and for walcast's own schema.
pub(crate) fn assert_identical(reader: &mut Reader, target: &str) {
    let dump = format!(
        "for server in source {target}; do
             pg_dump --inserts --exclude-schema=walcast \"service=$server\" | grep -v 'restrict ' | sort > $server.dump
         done
         wc -l < source.dump"
    );
    reader.run(&dump, "dump of both");
    let lines: usize = reader.printed().trim().parse().unwrap();
    assert!(lines > 1000, "the source's dump has {lines} lines");
    reader.run(&format!("diff source.dump {target}.dump"), "comparison of both dumps");
}

#[test]
fn the_tutorial_ends_with_an_identical_target_and_nothing_left() {
    let mut reader = Reader::new();
    reader.follow(TUTORIAL, Some("Clean up"));
    assert_identical(&mut reader, "berlin");
    reader.follow_from(TUTORIAL, "Clean up");
    reader.run("test ! -e walcast-tutorial", "what is left");
}
