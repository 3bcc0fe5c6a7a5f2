//! What pg_restore could not make at several jobs is made one by one.

use super::*;

const PARTITIONED: &str = "
    CREATE TABLE part (k int, at date, v text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
    CREATE TABLE part_a PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY HASH (k);
    CREATE TABLE part_a0 PARTITION OF part_a FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    CREATE INDEX ON part (v);
    CREATE TABLE line (id int PRIMARY KEY, k int, at date, FOREIGN KEY (k, at) REFERENCES part);
    INSERT INTO part SELECT g, '2021-01-01', 'v' FROM generate_series(1, 100) g;
    INSERT INTO line SELECT g, g, '2021-01-01' FROM generate_series(1, 100) g;";
/// Refuses the first foreign key, once.
const REFUSAL: &str = "
    CREATE SCHEMA walcast; CREATE SEQUENCE walcast.refusals;
    CREATE FUNCTION walcast.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM pg_constraint WHERE contype = 'f') AND nextval('walcast.refusals') = 1 THEN
            RAISE 'deadlock detected'; END IF; END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION walcast.refuse()";

#[test]
fn what_failed_beside_another_job_is_made_again_after_what_is_there() {
    let mirror = Mirror::new(1);
    mirror.at_source(PARTITIONED);
    mirror.at_target(0, REFUSAL);
    mirror.walcast(&["setup"]);
    mirror.walcast(&["bootstrap", "berlin", "--jobs", "2"]);
    assert_eq!(mirror.at_target(0, "SELECT last_value > 1 FROM walcast.refusals").trim(), "t", "nothing was refused");
    mirror.at_target(0, "DROP EVENT TRIGGER refuse");
    similar_asserts(&definitions(&mirror.source), &definitions(&mirror.targets[0]));
    let service = mirror.run();
    mirror.finish(service);
}
