DO $$
DECLARE
    t record;
    row_of text;
BEGIN
    FOR t IN SELECT * FROM types.numbered LOOP
        row_of := format('ROW(value::%s, types.shaped(value::%s, n), value::types.dd_%s)::types.c_%s', t.type, t.type, t.k, t.k);
        EXECUTE format('INSERT INTO types.derived_%s
            SELECT n, value::types.d_%s, value::types.dd_%s, types.shaped(value::%s, n), ARRAY[NULL, value]::types.d_%s[], %s, ARRAY[%s, NULL, %s]
            FROM types.sample WHERE type = %L', t.k, t.k, t.k, t.type, t.k, row_of, row_of, row_of, t.type);
        EXECUTE format('INSERT INTO types.derived_%s (id, c) VALUES (1000, ROW(NULL, NULL, NULL)), (1001, NULL)', t.k);
        COMMIT;
        EXECUTE format('UPDATE types.derived_%s SET d = NULL, ad = ''{}'', c = (ac)[3] WHERE id %% 2 = 0', t.k);
        EXECUTE format('UPDATE types.derived_%s SET id = id + 2000, dd = d, ac = ARRAY[ac[1], c] WHERE id %% 3 = 0', t.k);
        EXECUTE format('DELETE FROM types.derived_%s WHERE id = 1', t.k);
        COMMIT;
    END LOOP;
END $$;

INSERT INTO types.own
SELECT n, e, ARRAY[e, NULL, e], nullif(e, 'a,b'), ROW(ARRAY[e], n)::types.inner_row,
       ROW(ROW('{}', NULL), ARRAY[ROW(ARRAY[e, NULL], 1)::types.inner_row, NULL], 'happy')::types.outer_row,
       ARRAY[ROW(NULL, NULL, NULL)::types.outer_row, ROW(ROW(ARRAY[e], 2), '{}', NULL)::types.outer_row],
       ROW(ARRAY[e], n)::types.inner_row, types.moodrange(e, NULL), types.moodmultirange(types.moodrange('', e)),
       types.textrange(e::text, e::text || E'"\\,)', '[]'), ARRAY[types.textmultirange(types.textrange(NULL, e::text)), '{}']
FROM (SELECT e, n::int FROM unnest(enum_range(NULL::types.mood)) WITH ORDINALITY AS m (e, n)) AS moods;
INSERT INTO types.own (id) VALUES (100);
INSERT INTO types.own_keyless SELECT * FROM types.own UNION ALL SELECT * FROM types.own;
INSERT INTO types.enum_key SELECT e, 1 FROM types.own WHERE e IS NOT NULL;
INSERT INTO types.composite_key SELECT i, 1 FROM types.own WHERE e IS NOT NULL;

UPDATE types.own SET e = 'É', o.one.n = 7, ao[1].g = 'null', r = 'empty', m = '{}' WHERE id % 2 = 0;
UPDATE types.own SET id = id + 1000 WHERE id % 3 = 0;
DELETE FROM types.own WHERE id = 1;
UPDATE types.own_keyless SET e = NULL WHERE ctid IN (SELECT min(ctid) FROM types.own_keyless GROUP BY id HAVING id % 2 = 0);
DELETE FROM types.own_keyless WHERE ctid IN (SELECT min(ctid) FROM types.own_keyless GROUP BY id HAVING id % 2 = 1);
UPDATE types.enum_key SET v = 2 WHERE k < 'a,b';
DELETE FROM types.enum_key WHERE k = 'happy';
UPDATE types.enum_key SET k = 'happy' WHERE k = 'null';
UPDATE types.composite_key SET v = 3 WHERE (k).n % 2 = 0;
UPDATE types.composite_key SET k.n = (k).n + 100 WHERE (k).n % 3 = 0;
DELETE FROM types.composite_key WHERE (k).n = 1;
