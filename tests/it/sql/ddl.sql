-- case: D01 several statements in one string
CREATE TABLE d01 (a int PRIMARY KEY);
INSERT INTO d01 VALUES (1);
ALTER TABLE d01 ADD b int;
INSERT INTO d01 VALUES (2, 2);

-- case: D02 commands and rows inside a block
DO $$ BEGIN FOR i IN 1..2 LOOP EXECUTE format('CREATE TABLE %I (a int PRIMARY KEY)', 'D02 ' || i);
    EXECUTE format('INSERT INTO %I SELECT generate_series(1, 10)', 'D02 ' || i); END LOOP; END $$;

-- case: D03 tables made of queries, with rows that are never the same twice
CREATE TABLE d03 AS SELECT g AS id, now() AS at, random() AS r FROM generate_series(1, 100000) g;
SELECT id, clock_timestamp() AS at INTO d03_into FROM d03 WHERE id < 100;
PREPARE p (int) AS SELECT $1 AS a;
CREATE TABLE d03_execute AS EXECUTE p (42);
CREATE TABLE IF NOT EXISTS d03 AS SELECT 7 AS id;
CREATE TABLE d03_empty AS SELECT * FROM d03 WITH NO DATA;
BEGIN;
CREATE TABLE d03_both AS SELECT 1 AS a;
INSERT INTO d03_both VALUES (2);
ALTER TABLE d03_both ADD b int DEFAULT 3;
COMMIT;

-- case: D04 one command, many objects
CREATE TABLE d04 (id serial PRIMARY KEY, code text UNIQUE, r int4range, n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (n * 2) STORED, parent int REFERENCES d04, CHECK (n > 0), EXCLUDE USING gist (r WITH &&));
INSERT INTO d04 (code, r) VALUES ('a', '[1,2)'), ('b', '[2,3)');
COMMENT ON COLUMN d04.code IS 'it''s a code';
CREATE INDEX ON d04 (lower(code)) WHERE n > 1;
CREATE STATISTICS d04_stat ON id, n FROM d04;
ALTER TABLE d04 ALTER n SET STATISTICS 77;

-- case: D05 rewrites whose values no message carries
CREATE TABLE d05 (id int PRIMARY KEY, t text);
INSERT INTO d05 SELECT g, g FROM generate_series(1, 1000) g;
ALTER TABLE d05 ADD r float8 DEFAULT random();
UPDATE d05 SET t = 'later' WHERE id % 7 = 0;
ALTER TABLE d05 ADD n bigserial;
INSERT INTO d05 (id, t) VALUES (1001, 'last');

-- case: D05 a type
ALTER TABLE d05 ALTER t TYPE float8 USING random();
DELETE FROM d05 WHERE id = 3;

-- case: D05 a type that values are cast to
ALTER TABLE d05 ALTER id TYPE bigint;
UPDATE d05 SET id = id + 10000;

-- case: D06 defaults that are evaluated once
CREATE TABLE d06 (id int PRIMARY KEY);
INSERT INTO d06 SELECT generate_series(1, 10);
ALTER TABLE d06 ADD at timestamptz DEFAULT now(), ADD who text DEFAULT current_user, ADD c int NOT NULL DEFAULT 3;
INSERT INTO d06 (id) VALUES (11);
ALTER TABLE d06 ALTER at DROP DEFAULT;
INSERT INTO d06 (id) VALUES (12);

-- case: D07 values of an enum
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE d07 (id int PRIMARY KEY, m mood);
INSERT INTO d07 VALUES (1, 'sad');
ALTER TYPE mood ADD VALUE 'so so' BEFORE 'happy';
INSERT INTO d07 VALUES (2, 'so so');
ALTER TYPE mood ADD VALUE 'glad';
INSERT INTO d07 VALUES (3, 'glad');
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
INSERT INTO d07 VALUES (4, 'blue');

-- case: D08 concurrently
CREATE TABLE d08 (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE d08_a PARTITION OF d08 FOR VALUES FROM (1) TO (100);
CREATE TABLE d08_b PARTITION OF d08 FOR VALUES FROM (100) TO (200);
INSERT INTO d08 SELECT g, g FROM generate_series(1, 150) g;
CREATE INDEX CONCURRENTLY d08_v ON d08_a (v);
CREATE INDEX CONCURRENTLY d08_w ON d08_b (v);
DROP INDEX CONCURRENTLY d08_w;
REINDEX INDEX CONCURRENTLY d08_v;
ALTER TABLE d08 DETACH PARTITION d08_b CONCURRENTLY;
INSERT INTO d08_b VALUES (180, 1);

-- case: D09 materialized views
CREATE MATERIALIZED VIEW d09 AS SELECT id, m FROM d07;
CREATE UNIQUE INDEX ON d09 (id);
INSERT INTO d07 VALUES (5, 'glad');
REFRESH MATERIALIZED VIEW d09;
INSERT INTO d07 VALUES (6, 'blue');
REFRESH MATERIALIZED VIEW CONCURRENTLY d09;
CREATE MATERIALIZED VIEW d09_none AS SELECT 1 AS a WITH NO DATA;

-- case: D13 names are swapped
CREATE TABLE d13_a (id int PRIMARY KEY, x int, y int);
CREATE TABLE d13_b (id int PRIMARY KEY, z int);
INSERT INTO d13_a VALUES (1, 1, 2);
INSERT INTO d13_b VALUES (2, 3);
BEGIN;
ALTER TABLE d13_a RENAME TO d13_c;
ALTER TABLE d13_b RENAME TO d13_a;
ALTER TABLE d13_c RENAME TO d13_b;
ALTER TABLE d13_b RENAME x TO t;
ALTER TABLE d13_b RENAME y TO x;
ALTER TABLE d13_b RENAME t TO y;
COMMIT;
INSERT INTO d13_a VALUES (5, 5);
UPDATE d13_b SET y = 9;
ALTER INDEX d13_a_pkey RENAME TO was_a;
CREATE SCHEMA moved;
ALTER TABLE d13_a SET SCHEMA moved;
INSERT INTO moved.d13_a VALUES (6, 6);
ALTER SCHEMA moved RENAME TO "Moved here";

-- case: D14 D15 nothing happened, or only for this session
CREATE TABLE IF NOT EXISTS d01 (x int);
DROP TABLE IF EXISTS nosuch;
CREATE TEMP TABLE passing (a int, b text);
INSERT INTO passing VALUES (1, 'x');
CREATE TABLE d15 (LIKE passing);
ALTER TABLE d15 ADD PRIMARY KEY (a);
INSERT INTO d15 SELECT * FROM passing;
DROP TABLE passing;

-- case: D16 a table becomes logged
CREATE UNLOGGED TABLE d16 (id int PRIMARY KEY);
INSERT INTO d16 SELECT generate_series(1, 100);

-- case: D16 with its rows
ALTER TABLE d16 SET LOGGED;
INSERT INTO d16 VALUES (101);

-- case: D32 D33 schema and rows interleaved, and rolled back
CREATE TABLE d33 (id int PRIMARY KEY);
BEGIN;
INSERT INTO d33 VALUES (1);
ALTER TABLE d33 ADD b int;
INSERT INTO d33 VALUES (2, 2);
ALTER TABLE d33 DROP b;
INSERT INTO d33 VALUES (3);
ALTER TABLE d33 ADD b text DEFAULT 'x';
INSERT INTO d33 VALUES (4, 'four');
SAVEPOINT s;
ALTER TABLE d33 ADD c int;
INSERT INTO d33 VALUES (5, 'five', 5);
CREATE TABLE d33_undone (a int);
ROLLBACK TO s;
INSERT INTO d33 VALUES (6, 'six');
TRUNCATE d01;
ALTER TABLE d01 ADD c int;
INSERT INTO d01 VALUES (1, 2, 3);
COMMIT;

-- case: D34 sequences
CREATE SEQUENCE d34 INCREMENT 5 CACHE 3;
SELECT nextval('d34'), nextval('d34');
SELECT setval('d34', 1000, false);
CREATE SEQUENCE d34_new START 7;
SELECT nextval('d04_id_seq') FROM generate_series(1, 100);
ALTER SEQUENCE d34 RESTART WITH 2000 MAXVALUE 5000;

-- case: D34 a row that a sequence numbers
INSERT INTO d04 (code) SELECT 'c' || g FROM generate_series(1, 50) g;
SELECT nextval('d34');

-- case: D36 partitions come and go
CREATE TABLE d08_c (v int, id int NOT NULL);
INSERT INTO d08_c VALUES (1, 300);
ALTER TABLE d08 ATTACH PARTITION d08_c FOR VALUES FROM (300) TO (400);
CREATE INDEX ON d08 (v);
UPDATE d08 SET v = v + 1;
ALTER TABLE d08 DETACH PARTITION d08_c;
DROP TABLE d08_c;
ALTER TABLE d08 ADD note text DEFAULT 'n';
DELETE FROM d08 WHERE id < 10;

-- case: functions, triggers, rules, policies, views
CREATE FUNCTION f (a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
CREATE FUNCTION tf () RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.b := 7;
RETURN NEW;
END';
CREATE TRIGGER tr BEFORE INSERT ON d01 FOR EACH ROW EXECUTE FUNCTION tf();
INSERT INTO d01 VALUES (77);
CREATE VIEW v AS SELECT f(a) FROM d01;
CREATE OR REPLACE FUNCTION f (a int) RETURNS int LANGUAGE sql AS 'SELECT a + 2';
CREATE RULE ru AS ON DELETE TO d33 DO ALSO NOTHING;
ALTER TABLE d06 ENABLE ROW LEVEL SECURITY;
CREATE POLICY po ON d06 USING (id > 1);
ALTER TABLE d01 DISABLE TRIGGER tr;
COMMENT ON TRIGGER tr ON d01 IS 'off';

-- case: drops, by name and by cascade
DROP TABLE d03, d03_into;
DROP TYPE mood CASCADE;
DROP FUNCTION f (int) CASCADE;
DROP SCHEMA "Moved here" CASCADE;
DROP SEQUENCE d34;
ALTER TABLE d04 DROP code;

