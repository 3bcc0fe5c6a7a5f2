-- case: D17 a role, and a grant to it in the next statement
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE ROLE reader;
GRANT SELECT ON t TO reader;

-- case: D17 attributes, settings, members
CREATE ROLE app LOGIN CONNECTION LIMIT 5 VALID UNTIL '2030-01-01 00:00:00+00';
CREATE ROLE team NOLOGIN;
GRANT team TO app WITH ADMIN OPTION;
GRANT reader TO team;
ALTER ROLE app SET work_mem = '7MB';
ALTER ROLE reader IN DATABASE app SET search_path = 'a, b', public;
COMMENT ON ROLE team IS 'several';
ALTER ROLE app CREATEDB;

-- case: D17 a role is renamed, another one dropped
ALTER ROLE reader RENAME TO "Reader ""r";
CREATE ROLE gone;
DROP ROLE gone;
REVOKE team FROM app;

-- case: D13 roles exchange their names
CREATE ROLE first_one; CREATE ROLE second_one;
CREATE TABLE of_first (a int PRIMARY KEY); ALTER TABLE of_first OWNER TO first_one; GRANT SELECT ON of_first TO second_one;
ALTER ROLE first_one RENAME TO third_one; ALTER ROLE second_one RENAME TO first_one; ALTER ROLE third_one RENAME TO second_one;

-- case: D18 privileges on catalogs
GRANT SELECT ON pg_catalog.pg_authid TO team;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO team;

-- case: D18 privileges of every kind
GRANT CREATE ON SCHEMA public TO app;
GRANT SELECT (id), UPDATE (v) ON t TO team WITH GRANT OPTION;
GRANT ALL ON t TO app WITH GRANT OPTION;
SET ROLE app;
GRANT INSERT ON t TO team;
RESET ROLE;
CREATE SEQUENCE s;
GRANT USAGE ON SEQUENCE s TO PUBLIC;
CREATE FUNCTION f () RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION f () FROM PUBLIC;
GRANT EXECUTE ON FUNCTION f () TO team;
CREATE TYPE ty AS ENUM ('a');
REVOKE USAGE ON TYPE ty FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO team;
GRANT CONNECT ON DATABASE app TO team;

-- case: D18 and taken away
REVOKE ALL ON t FROM app CASCADE;
REVOKE UPDATE (v) ON t FROM team;
REVOKE GRANT OPTION FOR SELECT (id) ON t FROM team;

-- case: D18 default privileges
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO team;
ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE TABLE by_default (a int PRIMARY KEY);
CREATE SCHEMA sc AUTHORIZATION app CREATE TABLE inside (a int PRIMARY KEY) GRANT SELECT ON inside TO team;

-- case: D21 owners
ALTER TABLE t OWNER TO app;
ALTER FUNCTION f () OWNER TO app;
REASSIGN OWNED BY app TO team;
CREATE TABLE owned (a int PRIMARY KEY);
ALTER TABLE owned OWNER TO app;

-- case: D21 what a role owned goes
DROP OWNED BY app;
DROP ROLE app;

-- case: D12 rows of a table with another owner
INSERT INTO t VALUES (1, 'x');
ALTER TABLE t ADD w int DEFAULT 4;
UPDATE t SET v = 'y';
ALTER TABLE t ENABLE ROW LEVEL SECURITY;

