//! What the source does while it is recorded, and with which options its slot is then read.

/// Statements that lead to some kinds of messages, and the ways to read them.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// First major version that can do it.
    pub(crate) since: u32,
    pub(crate) sql: &'static str,
    pub(crate) sessions: &'static [Options],
}

/// pgoutput's options.
pub(crate) struct Options {
    pub(crate) proto_version: u32,
    pub(crate) streaming: &'static str,
    pub(crate) two_phase: bool,
    pub(crate) binary: bool,
}

const PLAIN: Options = Options { proto_version: 1, streaming: "off", two_phase: false, binary: false };
const BINARY: Options = Options { binary: true, ..PLAIN };
const STREAMING: Options = Options { proto_version: 2, streaming: "on", ..PLAIN };
const PARALLEL: Options = Options { proto_version: 4, streaming: "parallel", ..PLAIN };
const TWO_PHASE: Options = Options { proto_version: 3, two_phase: true, ..PLAIN };
const TWO_PHASE_STREAMING: Options = Options { streaming: "on", ..TWO_PHASE };

impl Options {
    /// First major version that knows them.
    pub(crate) fn since(&self) -> u32 {
        match self.proto_version {
            4 => 16,
            3 => 15,
            _ => 14,
        }
    }

    pub(crate) fn title(&self, scenario: &str) -> String {
        let Options { proto_version, streaming, .. } = self;
        let (two_phase, binary) = (on_off(self.two_phase), on_off(self.binary));
        format!("{scenario} proto_version={proto_version} streaming={streaming} two_phase={two_phase} binary={binary}")
    }

    /// A query that reads the slot with these options, one message in hexadecimal digits per line.
    pub(crate) fn peek(&self) -> String {
        let Options { proto_version, streaming, .. } = self;
        // PostgreSQL 14 does not know the option at all.
        let two_phase = if self.two_phase { ", 'two_phase', 'on'" } else { "" };
        format!(
            "SET logical_decoding_work_mem = '64kB';\n\
             SELECT encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('walcast_golden', NULL, NULL,\n\
             'proto_version', '{proto_version}', 'publication_names', 'golden', 'messages', 'on',\n\
             'streaming', '{streaming}', 'binary', '{}'{two_phase});",
            on_off(self.binary)
        )
    }
}

fn on_off(option: bool) -> &'static str {
    if option { "on" } else { "off" }
}

/// Tables of every replica identity, columns of every kind of type, names that need quoting. `filler` is not published:
/// it makes a transaction large enough to be streamed while little of it is sent.
pub(crate) const SETUP: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
CREATE DOMAIN percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE point3 AS (x int, y int, z text);
CREATE SCHEMA "Odd ""schema"" 🐘";
CREATE TABLE keyed (id int PRIMARY KEY, name varchar(20), amount numeric(12,3), big text, gone int, at timestamptz);
ALTER TABLE keyed ALTER big SET STORAGE EXTERNAL;
ALTER TABLE keyed DROP COLUMN gone;
CREATE TABLE full_row (a int, b text, c float8);
ALTER TABLE full_row REPLICA IDENTITY FULL;
CREATE TABLE indexed (id int, code text NOT NULL, rest bytea);
CREATE UNIQUE INDEX indexed_code ON indexed (code);
ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code;
CREATE TABLE nothing (n int);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE no_columns ();
CREATE TABLE typed (id int PRIMARY KEY, m mood, ms mood[], p percent, q point3, s pg_catalog.pg_stat_archiver, j jsonb,
                    r int4range, u uuid, h bytea, d date, i interval);
CREATE TABLE "Odd ""schema"" 🐘"."a.table; -- ' \ name" ("Öl" int PRIMARY KEY, "two
lines" text);
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY REFERENCES parent);
CREATE TABLE filler (t text);
CREATE PUBLICATION golden FOR TABLE keyed, full_row, indexed, nothing, no_columns, typed,
    "Odd ""schema"" 🐘"."a.table; -- ' \ name", parent, child;
SELECT FROM pg_replication_origin_create('walcast_golden');
"#;

/// Each is recorded through a slot of its own.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "rows", since: 14, sql: ROWS, sessions: &[PLAIN, BINARY] },
    Scenario { name: "types", since: 14, sql: TYPES, sessions: &[PLAIN, BINARY] },
    Scenario { name: "truncate", since: 14, sql: TRUNCATE, sessions: &[PLAIN] },
    Scenario { name: "messages", since: 14, sql: MESSAGES, sessions: &[PLAIN] },
    Scenario { name: "origin", since: 14, sql: ORIGIN, sessions: &[PLAIN, STREAMING] },
    Scenario { name: "streamed", since: 14, sql: STREAMED, sessions: &[PLAIN, STREAMING, PARALLEL] },
    Scenario { name: "prepared", since: 15, sql: PREPARED, sessions: &[TWO_PHASE, TWO_PHASE_STREAMING] },
];

const ROWS: &str = r#"
INSERT INTO keyed VALUES (1, 'one', 1.500, repeat('t', 2100), '2001-02-03 04:05:06+00'),
    (2, NULL, 'NaN', '', 'infinity');
UPDATE keyed SET amount = 2 WHERE id = 1;
UPDATE keyed SET id = 3 WHERE id = 1;
DELETE FROM keyed WHERE id = 2;
BEGIN;
INSERT INTO full_row VALUES (1, NULL, 'NaN'), (2, E'tab\tquote''', -0.0);
UPDATE full_row SET b = 'set' WHERE a = 1;
DELETE FROM full_row WHERE a = 2;
COMMIT;
INSERT INTO indexed VALUES (1, 'k', '\x00ff');
UPDATE indexed SET id = 2;
UPDATE indexed SET code = 'l';
DELETE FROM indexed;
INSERT INTO nothing VALUES (1);
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO "Odd ""schema"" 🐘"."a.table; -- ' \ name" VALUES (1, 'é');
ALTER TABLE nothing ADD added int DEFAULT 7;
INSERT INTO nothing VALUES (2);
"#;

const TYPES: &str = r#"
INSERT INTO typed VALUES (1, 'sad', '{sad,NULL,"it''s \"fine\""}', 99.5, (1, NULL, 'a "b", c'), NULL,
    '{"k": [1, null]}', '[1,5)',
    '00000000-0000-0000-0000-000000000001', '\xdeadbeef', '0044-03-15 BC', '1 mon -2 days 03:04:05.678');
INSERT INTO typed (id) VALUES (2);
"#;

const TRUNCATE: &str = r#"
TRUNCATE keyed;
TRUNCATE keyed, full_row, filler;
TRUNCATE parent CASCADE;
TRUNCATE parent, child RESTART IDENTITY;
TRUNCATE parent RESTART IDENTITY CASCADE;
"#;

const MESSAGES: &str = r#"
SELECT FROM pg_logical_emit_message(false, 'at once', 'not transactional');
SELECT FROM pg_logical_emit_message(true, '', '');
BEGIN;
SELECT FROM pg_logical_emit_message(true, 'with it', '\x00ff'::bytea);
INSERT INTO nothing VALUES (3);
COMMIT;
BEGIN;
SELECT FROM pg_logical_emit_message(true, 'never', 'rolled back');
SELECT FROM pg_logical_emit_message(false, 'nevertheless', 'not rolled back');
ROLLBACK;
"#;

const ORIGIN: &str = r#"
SELECT FROM pg_replication_origin_session_setup('walcast_golden');
BEGIN;
SELECT FROM pg_replication_origin_xact_setup('16/B374D848', '2001-02-03 04:05:06+00');
INSERT INTO nothing VALUES (4);
COMMIT;
BEGIN;
SELECT FROM pg_replication_origin_xact_setup('16/B374D900', '2001-02-03 04:05:07+00');
INSERT INTO nothing VALUES (5);
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
COMMIT;
SELECT FROM pg_replication_origin_session_reset();
"#;

const STREAMED: &str = r#"
BEGIN;
INSERT INTO keyed VALUES (11, 'streamed', 1, NULL, NULL);
INSERT INTO typed (id, m) VALUES (11, 'ok');
SELECT FROM pg_logical_emit_message(true, 'streamed', 'message');
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
SAVEPOINT kept;
UPDATE keyed SET id = 12 WHERE id = 11;
RELEASE SAVEPOINT kept;
SAVEPOINT lost;
INSERT INTO keyed VALUES (13, 'rolled back', 1, NULL, NULL);
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
ROLLBACK TO SAVEPOINT lost;
DELETE FROM keyed WHERE id = 12;
TRUNCATE nothing;
COMMIT;
BEGIN;
INSERT INTO keyed VALUES (14, 'rolled back', 1, NULL, NULL);
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
ROLLBACK;
"#;

const PREPARED: &str = r#"
BEGIN;
INSERT INTO nothing VALUES (6);
PREPARE TRANSACTION 'small';
COMMIT PREPARED 'small';
BEGIN;
INSERT INTO nothing VALUES (7);
PREPARE TRANSACTION 'rolled "back" ü';
ROLLBACK PREPARED 'rolled "back" ü';
BEGIN;
INSERT INTO nothing VALUES (8);
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
PREPARE TRANSACTION 'large';
COMMIT PREPARED 'large';
BEGIN;
INSERT INTO nothing VALUES (9);
INSERT INTO filler SELECT repeat('x', 200) FROM generate_series(1, 400);
PREPARE TRANSACTION 'large and rolled back';
ROLLBACK PREPARED 'large and rolled back';
"#;
