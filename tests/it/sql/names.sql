-- Each name as schema, table, column, enum and enum label.
CREATE SCHEMA names;
CREATE TABLE names.list (n int PRIMARY KEY, name text);
INSERT INTO names.list SELECT row_number() OVER (), name FROM unnest(ARRAY[
    '"', '""', '''', '''''', '\', '\\', ';--', '; DROP SCHEMA names CASCADE; --', '"; DROP SCHEMA names CASCADE; --', '/*', '*/', '$$', '$1', '%', '%s',
    '%1$I', '.', 'a.b', '"a"."b"', ' ', '  two  ', E'\n', E'\t', E'\r', E'\\n', E'\b\f\u0001', '{}', '{a,b}', '(', ',', ':x', ':''x''', '?', '@', '#', '|',
    '0', '1a', 'user', 'select', 'table', 'Public', 'None', 'current_user', 'NULL', 'true', 'Walcast', 'CamelCase', 's""1',
    'büçárđo', 'pkey_⚕', '漢字', U&'\202E\05D0\05D1', E'e\u0301', '👩‍👩‍👧', E'\u00a0', E'\u200b', E'\ufeff',
    repeat('n', 63), repeat('é', 31) || 'x', repeat('"', 63), (SELECT string_agg(chr(c), '') FROM generate_series(33, 95) c),
    (SELECT string_agg(chr(c), '') FROM generate_series(96, 126) c)]) AS name;

DO $$
DECLARE
    l record;
BEGIN
    FOR l IN SELECT * FROM names.list LOOP
        EXECUTE format('CREATE SCHEMA %I', l.name);
        EXECUTE format('CREATE TYPE names.%I AS ENUM (%L, ''other'')', l.name, l.name);
        EXECUTE format('CREATE TABLE %I.%I (%I int PRIMARY KEY, v text, e names.%I)', l.name, l.name, l.name, l.name);
        EXECUTE format('CREATE TABLE %I.keyless (%I names.%I, v text)', l.name, l.name, l.name);
        EXECUTE format('ALTER TABLE %I.keyless REPLICA IDENTITY FULL', l.name);
    END LOOP;
END $$;
