-- A schema with one of everything that a copy has to carry over.
CREATE ROLE app_owner;
CREATE ROLE app_reader LOGIN CONNECTION LIMIT 5 VALID UNTIL '2035-01-01 00:00:00+00';
CREATE ROLE "R""öle; --" NOINHERIT CREATEDB;
GRANT app_reader TO app_owner WITH ADMIN OPTION;
GRANT pg_monitor TO app_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT SELECT ON TABLES TO app_reader;

CREATE SCHEMA app AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA app TO app_reader;
COMMENT ON SCHEMA app IS 'it''s "the" app';
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TYPE app.mood AS ENUM ('sad', 'it''s "ok"');
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TYPE app.pair AS (a int, b text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE COLLATION app.german (provider = icu, locale = 'de');
CREATE FUNCTION app.shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1) || ''!''';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched := true; RETURN NEW; END';
CREATE AGGREGATE app.product(float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');

CREATE TABLE app.everything (
    id bigint GENERATED ALWAYS AS IDENTITY (START 1000 INCREMENT 7) PRIMARY KEY,
    n serial, m app.mood, p app.positive, pr app.pair, sp app.span, t text COLLATE app.german, j jsonb, js json, ts timestamptz,
    d date, num numeric, f float8, arr int[], x xml, b bytea, iv interval, u uuid, v varbit, touched boolean,
    doubled bigint GENERATED ALWAYS AS (id * 2) STORED,
    CONSTRAINT "big ""enough""" CHECK (num > -1e30), UNIQUE (n), EXCLUDE USING gist (sp WITH &&));
ALTER TABLE app.everything OWNER TO app_owner;
CREATE INDEX "odd; index" ON app.everything (app.shout(t), p DESC) WHERE p > 3;
CREATE INDEX ON app.everything USING gin (j);
ALTER TABLE app.everything ALTER t SET STORAGE EXTERNAL, ALTER t SET STATISTICS 500;
CREATE STATISTICS app.both (ndistinct, dependencies) ON n, p FROM app.everything;
CREATE TRIGGER touch BEFORE INSERT ON app.everything FOR EACH ROW EXECUTE FUNCTION app.touch();
COMMENT ON COLUMN app.everything.t IS E'a\nb';
COMMENT ON INDEX app."odd; index" IS 'odd';
GRANT SELECT (id, t), UPDATE (t) ON app.everything TO "R""öle; --" WITH GRANT OPTION;
INSERT INTO app.everything (m, p, pr, sp, t, j, js, ts, d, num, f, arr, x, b, iv, u, v)
    SELECT (ARRAY['sad', 'it''s "ok"', NULL])[1 + g % 3]::app.mood, g, (g, 'x' || g)::app.pair, app.span(g, g + 0.5),
        CASE g % 4 WHEN 0 THEN repeat('long ' || g, 2000) WHEN 1 THEN E'\\N\t\\.\n' ELSE '' END, jsonb_build_object('g', g, 'a', '{}'::text[]),
        '{"b" : 1,"a":  2}', '2020-01-01'::timestamptz + g * interval '1 s', '-infinity', (g::numeric / 7), 'NaN', ARRAY[g, NULL],
        '<a>ü</a>', '\x00ff', '1 mon -2 days', md5(g::text)::uuid, B'101'
    FROM generate_series(1, 5000) g;

CREATE TABLE app.line (id int PRIMARY KEY, parent bigint REFERENCES app.everything ON DELETE CASCADE DEFERRABLE, self int REFERENCES app.line);
INSERT INTO app.line SELECT g, 1000 + 7 * (g % 100), NULLIF(g - 1, 0) FROM generate_series(1, 1000) g;
ALTER TABLE app.line ADD CHECK (id > 0) NOT VALID;
CREATE RULE nothing AS ON DELETE TO app.line WHERE OLD.id < 0 DO INSTEAD NOTHING;

CREATE TABLE app.part (k int, at date NOT NULL, v text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE app.part_a PARTITION OF app.part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE app.part_b PARTITION OF app.part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY HASH (k);
CREATE TABLE app.part_b0 PARTITION OF app.part_b FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.part_b1 PARTITION OF app.part_b FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE app.part_other PARTITION OF app.part DEFAULT;
CREATE INDEX ON app.part (v);
INSERT INTO app.part SELECT g, '2020-01-01'::date + g, 'v' || g FROM generate_series(1, 1500) g;
ALTER TABLE app.line ADD part int, ADD part_at date, ADD FOREIGN KEY (part, part_at) REFERENCES app.part;

CREATE TABLE app.base (a int PRIMARY KEY, b text);
CREATE TABLE app.child (c float8) INHERITS (app.base);
INSERT INTO app.base SELECT g, 'base' FROM generate_series(1, 10) g;
INSERT INTO app.child SELECT g, 'child', 0.1 * g FROM generate_series(1, 10) g;

CREATE TABLE app.secret (who text, what text);
ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.secret TO app_reader USING (who = current_user);
INSERT INTO app.secret VALUES ('a', 'b'), ('a', 'b'), (NULL, NULL);

CREATE UNLOGGED TABLE app.scratch (a int);
CREATE TABLE app.nothing ();
INSERT INTO app.nothing DEFAULT VALUES;
CREATE TABLE app.only_generated (g int GENERATED ALWAYS AS (1) STORED);
INSERT INTO app.only_generated DEFAULT VALUES;
CREATE TABLE app."T "" able
x" ("user" int PRIMARY KEY, "C "" ol
y" text, "select" app.mood);
INSERT INTO app."T "" able
x" VALUES (1, 'a', 'sad'), (2, NULL, NULL);
CREATE DOMAIN app.code AS char(5);
CREATE TABLE app.filled (id int PRIMARY KEY, c char(12), d app.code, b bpchar, v varchar(20), c84 char(84) DEFAULT '');
INSERT INTO app.filled VALUES (1, 'a', 'a', 'a  ', 'a  ', ''), (2, '', '', '   ', '   ', repeat(' ', 80) || 'x'),
    (3, NULL, NULL, NULL, NULL, NULL), (4, 'twelve bytes', 'five!', '', '', 'é'), (5, ' ü  é', ' é', ' é ', ' é ', ' '),
    (6, repeat('é', 12), 'ééééé', E'\t \t ', E'\n ', E' \t ');
CREATE TABLE app.dropped (a int, gone text, z text);
INSERT INTO app.dropped VALUES (1, 'x', 'y');
ALTER TABLE app.dropped DROP gone;

CREATE VIEW app.summary AS SELECT m, count(*) AS n FROM app.everything GROUP BY m;
CREATE MATERIALIZED VIEW app.mat AS SELECT m, n FROM app.summary;
CREATE MATERIALIZED VIEW app.mat_of_mat AS SELECT sum(n) AS n FROM app.mat;
CREATE MATERIALIZED VIEW app.mat_empty AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX ON app.mat (m);
CREATE SEQUENCE app.counter AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 100 START 50;
SELECT nextval('app.counter'), nextval('app.counter');
CREATE SEQUENCE app.untouched START 5;
CREATE SEQUENCE app.set_back;
SELECT setval('app.set_back', 77, false);

SELECT lo_from_bytea(4711, convert_to(repeat('large object ', 300000), 'UTF8'));
SELECT lo_create(4712);
ALTER LARGE OBJECT 4711 OWNER TO app_owner;
GRANT SELECT ON LARGE OBJECT 4711 TO app_reader;
COMMENT ON LARGE OBJECT 4711 IS 'it''s large';
CREATE PUBLICATION elsewhere FOR TABLE app.line;
CREATE FUNCTION app.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION app.on_ddl();
