-- For each built-in type a domain, a domain of that domain, arrays of domains, a composite and an array of it.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM types.numbered LOOP
        EXECUTE format('CREATE DOMAIN types.d_%s AS %s', t.k, t.type);
        EXECUTE format('CREATE DOMAIN types.dd_%s AS types.d_%s', t.k, t.k);
        EXECUTE format('CREATE DOMAIN types.da_%s AS %s[]', t.k, t.type);
        EXECUTE format('CREATE TYPE types.c_%s AS (v %s, a %s[], d types.dd_%s)', t.k, t.type, t.type, t.k);
        EXECUTE format('CREATE TABLE types.derived_%s (id int PRIMARY KEY, d types.d_%s, dd types.dd_%s, da types.da_%s,
            ad types.d_%s[], c types.c_%s, ac types.c_%s[])', t.k, t.k, t.k, t.k, t.k, t.k, t.k);
    END LOOP;
END $$;

-- Enums, composites of composites and of arrays of enums, ranges and multiranges of one's own types.
CREATE TYPE types.mood AS ENUM ('', 'happy', 'it''s "ok"', 'a,b', '{x}', 'É', 'null');
CREATE DOMAIN types.good_mood AS types.mood CHECK (VALUE <> 'a,b');
CREATE TYPE types.inner_row AS (moods types.mood[], n int);
CREATE TYPE types.outer_row AS (one types.inner_row, many types.inner_row[], g types.good_mood);
CREATE DOMAIN types.checked_row AS types.inner_row CHECK ((VALUE).n > 0);
CREATE TYPE types.moodrange AS RANGE (SUBTYPE = types.mood, MULTIRANGE_TYPE_NAME = types.moodmultirange);
CREATE TYPE types.textrange AS RANGE (SUBTYPE = text, COLLATION = "C", MULTIRANGE_TYPE_NAME = types.textmultirange);
CREATE TABLE types.own (
    id int PRIMARY KEY, e types.mood, ae types.mood[], g types.good_mood, i types.inner_row, o types.outer_row, ao types.outer_row[],
    c types.checked_row, r types.moodrange, m types.moodmultirange, t types.textrange, at types.textmultirange[]);
CREATE TABLE types.own_keyless (LIKE types.own);
ALTER TABLE types.own_keyless REPLICA IDENTITY FULL;
CREATE TABLE types.enum_key (k types.mood PRIMARY KEY, v int);
CREATE TABLE types.composite_key (k types.inner_row PRIMARY KEY, v int);
