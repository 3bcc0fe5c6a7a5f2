//! Values of every type and names of every kind arrive as they are.

use crate::service::Mirror;

const SAMPLES: &str = include_str!("sql/types_samples.sql");
const BUILTIN: &str = include_str!("sql/types_builtin.sql");
const BUILTIN_CHANGES: &str = include_str!("sql/types_builtin_changes.sql");
const DERIVED: &str = include_str!("sql/types_derived.sql");
const DERIVED_CHANGES: &str = include_str!("sql/types_derived_changes.sql");
const NAMES: &str = include_str!("sql/names.sql");
const NAMES_CHANGES: &str = include_str!("sql/names_changes.sql");

fn mirrored(schema: &[&str], changes: &[&str]) {
    let mirror = Mirror::new(1);
    schema.iter().for_each(|script| mirror.everywhere(script));
    mirror.set_up();
    let service = mirror.run();
    for script in changes {
        mirror.at_source(script);
    }
    mirror.finish(service);
}

#[test]
fn built_in_types_and_their_arrays_arrive_as_they_are() {
    mirrored(&[SAMPLES, BUILTIN], &[BUILTIN_CHANGES]);
}

/// Types of one's own make the stream textual, so this takes the built-in ones that way too.
#[test]
fn domains_enums_composites_and_ranges_arrive_as_they_are() {
    mirrored(&[SAMPLES, BUILTIN, DERIVED], &[DERIVED_CHANGES, BUILTIN_CHANGES]);
}

/// The first type of one's own comes when binary values are in the log already.
#[test]
fn a_stream_that_turns_textual_half_way_loses_nothing() {
    mirrored(&[SAMPLES, BUILTIN, DERIVED], &[BUILTIN_CHANGES, DERIVED_CHANGES]);
}

#[test]
fn quoted_long_and_hostile_names_are_only_names() {
    mirrored(&[NAMES], &[NAMES_CHANGES]);
}

#[test]
fn values_of_fifty_megabytes_arrive_and_stay_when_they_are_not_changed() {
    let schema = "CREATE TABLE huge (id int PRIMARY KEY, t text, b bytea, n int)";
    let insert = "
        INSERT INTO huge SELECT 1, string_agg(md5(g::text), ''), NULL, 0 FROM generate_series(1, 50 * 1024 * 1024 / 32) g;
        INSERT INTO huge SELECT 2, NULL, convert_to(t, 'UTF8'), 0 FROM huge;";
    let update = "
        UPDATE huge SET n = 1;
        UPDATE huge SET id = id + 10, n = 2;
        UPDATE huge SET t = 'short' WHERE id = 11;
        DELETE FROM huge WHERE id = 12;
        INSERT INTO huge SELECT 3, string_agg(md5(g::text), '-'), NULL, 0 FROM generate_series(1, 1000 * 1000) g;";
    mirrored(&[schema], &[insert, update]);
}
