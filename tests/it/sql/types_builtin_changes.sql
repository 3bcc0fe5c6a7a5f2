-- Inserts, updates and deletes of every sample, one transaction per type and step.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM types.numbered LOOP
        EXECUTE format('INSERT INTO types.keyed_%s
            SELECT n * 10 + shape, value::%s, types.shaped(value::%s, shape)
            FROM types.sample, generate_series(0, 5) AS shape WHERE type = %L', t.k, t.type, t.type, t.type);
        EXECUTE format('INSERT INTO types.keyed_%s VALUES (1, NULL, NULL)', t.k);
        -- Each row twice: of two equal ones exactly one is changed below.
        EXECUTE format('INSERT INTO types.keyless_%s
            SELECT value::%s, types.shaped(value::%s, n) FROM types.sample, generate_series(1, 2) WHERE type = %L', t.k, t.type, t.type, t.type);
        EXECUTE format('INSERT INTO types.keyless_%s VALUES (NULL, NULL), (NULL, NULL)', t.k);
        COMMIT;

        -- Every value in the place of another, the key left alone, and changed.
        EXECUTE format('UPDATE types.keyed_%s SET v = s.value::%s, a = types.shaped(s.value::%s, id + 1)
            FROM types.sample s WHERE s.type = %L AND s.n = (id / 10) %% %s + 1 AND id %% 10 < 3', t.k, t.type, t.type, t.type, t.samples);
        EXECUTE format('UPDATE types.keyed_%s SET v = NULL WHERE id %% 10 = 3', t.k);
        EXECUTE format('UPDATE types.keyed_%s SET id = id + 1000 WHERE id %% 10 = 4', t.k);
        COMMIT;
        EXECUTE format('DELETE FROM types.keyed_%s WHERE id %% 10 = 5', t.k);

        -- The first of each pair is changed or deleted, the second stays.
        EXECUTE format('UPDATE types.keyless_%s SET a = NULL WHERE ctid IN
            (SELECT min(ctid) FROM types.keyless_%s GROUP BY v::text HAVING abs(hashtext(v::text)) %% 2 = 0)', t.k, t.k);
        EXECUTE format('DELETE FROM types.keyless_%s WHERE ctid IN
            (SELECT min(ctid) FROM types.keyless_%s GROUP BY v::text HAVING abs(hashtext(v::text)) %% 2 = 1)', t.k, t.k);
        EXECUTE format('UPDATE types.keyless_%s SET v = NULL WHERE ctid IN (SELECT max(ctid) FROM types.keyless_%s WHERE v IS NOT NULL)', t.k, t.k);
        EXECUTE format('DELETE FROM types.keyless_%s WHERE ctid IN (SELECT min(ctid) FROM types.keyless_%s WHERE v IS NULL)', t.k, t.k);
        COMMIT;
    END LOOP;
END $$;
