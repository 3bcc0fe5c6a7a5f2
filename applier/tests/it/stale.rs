//! Rows of a table that waits for its copy are those of another time: whatever they break, the target goes on, and equals
//! the source once the table is copied.

use applier::State;

use crate::rig::{Rig, answers};
use crate::source::Source;

/// What the stream does not carry, so that `t` is set aside, and what is passed over then: nothing of it stays as it was.
const ASIDE: &str = "ALTER TABLE t ADD r double precision DEFAULT random(); \
     UPDATE t SET v = id, w = id, c = 'x'; INSERT INTO t VALUES (100, 100, 100, 'y', 0);";
const BASE: &str = "CREATE DOMAIN d AS int; CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL, w d, c varchar(20)); \
     INSERT INTO t SELECT g, 0, NULL, repeat('long', 4) FROM generate_series(1, 9) g;";

struct Case {
    name: &'static str,
    /// Beside [`BASE`], on both sides.
    schema: &'static str,
    /// What comes after [`ASIDE`].
    ddl: &'static str,
    /// The tables that are aside then.
    aside: &'static str,
}

const fn case(name: &'static str, schema: &'static str, ddl: &'static str) -> Case {
    Case { name, schema, ddl, aside: "t" }
}

const CASES: &[Case] = &[
    case("unique index", "", "CREATE UNIQUE INDEX ON t (v)"),
    case("check", "", "ALTER TABLE t ADD CHECK (v > 0)"),
    case(
        "validated check",
        "",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (v > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c",
    ),
    case("not null", "", "ALTER TABLE t ALTER w SET NOT NULL"),
    case("primary key", "", "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (v)"),
    case("exclusion", "", "ALTER TABLE t ADD EXCLUDE USING btree (v WITH =)"),
    case("check of a domain", "UPDATE t SET w = 0;", "ALTER DOMAIN d ADD CHECK (VALUE > 0)"),
    case("not null of a domain", "", "ALTER DOMAIN d SET NOT NULL"),
    case("expression of an index", "", "CREATE INDEX ON t ((1 / v))"),
    case("generated column", "", "ALTER TABLE t ADD g int GENERATED ALWAYS AS (1 / v) STORED"),
    case("conversion", "", "ALTER TABLE t ALTER c TYPE varchar(3)"),
    case("materialized view", "", "CREATE MATERIALIZED VIEW m AS SELECT sum(1 / v) FROM t WHERE v < 10"),
    case("referred to by a key", "CREATE TABLE r (t int REFERENCES t);", "CREATE UNIQUE INDEX ON t (v)"),
    case(
        "partition attached",
        "",
        "CREATE TABLE p (LIKE t) PARTITION BY RANGE (v); \
        ALTER TABLE t ALTER w DROP NOT NULL; ALTER TABLE p ATTACH PARTITION t FOR VALUES FROM (1) TO (200)",
    ),
    case(
        "default partition",
        "",
        "CREATE TABLE p (LIKE t) PARTITION BY RANGE (v); ALTER TABLE p ATTACH PARTITION t DEFAULT; \
         CREATE TABLE q PARTITION OF p FOR VALUES FROM (0) TO (1)",
    ),
    case(
        "foreign key of t",
        "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 100);",
        "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES parent",
    ),
    case(
        "foreign key to t",
        "CREATE TABLE child (t int);",
        "INSERT INTO child VALUES (1), (100); ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t; ALTER TABLE child ADD z int",
    ),
    case(
        "validated foreign key to t",
        "CREATE TABLE child (t int);",
        "INSERT INTO child VALUES (100); ALTER TABLE child ADD CONSTRAINT f FOREIGN KEY (t) REFERENCES t NOT VALID; \
         ALTER TABLE child VALIDATE CONSTRAINT f",
    ),
    case(
        "renamed foreign key to t",
        "CREATE TABLE child (t int);",
        "INSERT INTO child VALUES (100); ALTER TABLE child ADD CONSTRAINT f FOREIGN KEY (t) REFERENCES t; \
         ALTER TABLE child RENAME CONSTRAINT f TO g; ALTER TABLE child RENAME t TO u; ALTER TABLE child RENAME TO kid",
    ),
    case(
        "dropped foreign key to t",
        "CREATE TABLE child (t int);",
        "INSERT INTO child VALUES (100); ALTER TABLE child ADD CONSTRAINT f FOREIGN KEY (t) REFERENCES t; \
         ALTER TABLE child DROP CONSTRAINT f",
    ),
    case(
        "foreign key of a partition",
        "CREATE TABLE child (t int) PARTITION BY RANGE (t); \
         CREATE TABLE part PARTITION OF child DEFAULT;",
        "INSERT INTO child VALUES (100); ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t",
    ),
    Case {
        aside: "part,t",
        ..case(
            "partition with a foreign key to t",
            "CREATE TABLE child (t int REFERENCES t) PARTITION BY RANGE (t); CREATE TABLE part (t int);",
            "INSERT INTO part VALUES (100); ALTER TABLE child ATTACH PARTITION part DEFAULT",
        )
    },
    Case {
        aside: "child,t",
        ..case(
            "another type of a key to t",
            "CREATE TABLE child (t int REFERENCES t);",
            "INSERT INTO child VALUES (100); ALTER TABLE child ALTER t TYPE bigint",
        )
    },
];

const DEFINITIONS: &str = "SELECT conrelid::regclass, contypid::regtype, conname, pg_get_constraintdef(oid) FROM pg_constraint \
      WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2, 3; \
     SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2; \
     SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid \
      WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped ORDER BY 1, attnum";

/// As a copy does: the source's rows, and the position.
fn copy(rig: &Rig, source: &Source, end: decoder::Lsn) {
    let tables = rig.sql("SELECT table_name FROM walcast.copied WHERE start_lsn IS NULL ORDER BY 1");
    for table in tables.lines() {
        let rows = source.sql(rig, &format!("SELECT string_agg(quote_literal(x), ', ') FROM ONLY {table} x"));
        let generated = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let columns = rig.sql(&generated.replace("{}", table));
        rig.sql(&format!(
            "SET session_replication_role = replica; DELETE FROM ONLY {table}; \
             INSERT INTO {table} ({columns}) SELECT {columns} FROM (SELECT (r::{table}).* FROM unnest(ARRAY[{rows}]) r) x"
        ));
    }
    rig.sql(&format!("UPDATE walcast.copied SET start_lsn = '{end}'"));
}

/// Some of the cases, each with databases of its own.
async fn play(part: usize) {
    for case in CASES.iter().skip(part).step_by(3) {
        let schema = format!("{BASE} {}", case.schema);
        let rig = &mut Rig::new(&schema).await;
        let mut source = Source::new(rig, &schema);
        source.sql(rig, ASIDE);
        source.sql(rig, case.ddl);
        let end = source.stream(rig);
        let mut running = rig.start();
        let status = running.until(|status| status.applied_lsn >= Some(end) || status.state == State::Stopped).await;
        assert!(status.last_error.is_none(), "{}: {:?}", case.name, status.last_error);
        let aside: Vec<_> = status.recopy.iter().map(|(_, table)| table.as_str()).collect();
        assert_eq!(aside.join(","), case.aside, "{}", case.name);
        copy(rig, &source, end);
        running.reload().await.expect("reloaded");
        let waiting = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'pending_object'";
        if rig.sql(waiting) == "1" {
            answers(rig, "SELECT count(*) FROM walcast.pending_object", "0").await;
        }
        running.stop().await;
        assert_eq!(rig.sql(DEFINITIONS), source.sql(rig, DEFINITIONS), "{}", case.name);
        let rows = "SELECT id, v, w, c FROM t ORDER BY id";
        assert_eq!(rig.sql(rows), source.sql(rig, rows), "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d05_whatever_stale_rows_break_the_target_goes_on_and_gets_it_with_the_copy() {
    play(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d05_whatever_stale_rows_break_the_target_goes_on_second_part() {
    play(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d05_whatever_stale_rows_break_the_target_goes_on_third_part() {
    play(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d43_what_a_stale_table_is_not_the_reason_of_stops_the_target() {
    for (local, ddl, sqlstate) in [
        ("INSERT INTO other VALUES (1, 1), (2, 1)", "CREATE UNIQUE INDEX ON other (v)", "23505"),
        ("INSERT INTO other VALUES (1, 0)", "CREATE INDEX ON other ((1 / v))", "22012"),
        ("CREATE VIEW seen AS SELECT v FROM t", "ALTER TABLE t DROP v", "2BP01"),
    ] {
        let schema = format!("{BASE} CREATE TABLE other (id int PRIMARY KEY, v int)");
        let rig = &mut Rig::new(&schema).await;
        let mut source = Source::new(rig, &schema);
        rig.sql(local);
        source.sql(rig, ASIDE);
        source.sql(rig, ddl);
        source.stream(rig);
        let why = rig.stopped().await;
        assert_eq!(why.sqlstate.as_deref(), Some(sqlstate), "{ddl}: {why:?}");
        assert_eq!(rig.sql("SELECT count(*) FROM t"), "9", "{ddl}: nothing of it stays");
    }
}

/// Nobody tells of a copy that ended while there was no session.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_tried_again_by_the_next_session() {
    let schema = format!("{BASE} CREATE TABLE child (t int)");
    let rig = &mut Rig::new(&schema).await;
    let mut source = Source::new(rig, &schema);
    source.sql(rig, ASIDE);
    source.sql(rig, "INSERT INTO child VALUES (100); ALTER TABLE child ADD CONSTRAINT f FOREIGN KEY (t) REFERENCES t");
    let end = source.stream(rig);
    rig.apply(end).await;
    const KEY: &str = "SELECT count(*) FROM pg_constraint WHERE conname = 'f' AND convalidated";
    assert_eq!(rig.sql(KEY), "0");
    assert_eq!(rig.sql("SELECT object FROM walcast.pending_object"), "TABLE public.child");
    copy(rig, &source, end);
    let running = rig.start();
    answers(rig, KEY, "1").await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT count(*) FROM walcast.pending_object"), "0");
}
