-- For each built-in type a table with a key and one without, so that a stream of only these can be binary.
DO $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT * FROM types.numbered LOOP
        EXECUTE format('CREATE TABLE types.keyed_%s (id int PRIMARY KEY, v %s, a %s[])', t.k, t.type, t.type);
        EXECUTE format('CREATE TABLE types.keyless_%s (v %s, a %s[])', t.k, t.type, t.type);
        EXECUTE format('ALTER TABLE types.keyless_%s REPLICA IDENTITY FULL', t.k);
    END LOOP;
END $$;

-- An array of the value in the shape number n: plain with a NULL, shifted bounds, two and three dimensions, empty, none.
CREATE FUNCTION types.shaped(v anyelement, n int) RETURNS anyarray LANGUAGE sql AS $$
    SELECT CASE n % 6
        WHEN 0 THEN array_fill(v, ARRAY[2]) || NULL || array_fill(v, ARRAY[1])
        WHEN 1 THEN array_fill(v, ARRAY[2], ARRAY[-3])
        WHEN 2 THEN array_fill(v, ARRAY[2, 3], ARRAY[0, 5])
        WHEN 3 THEN array_fill(v, ARRAY[1, 2, 1])
        WHEN 4 THEN array_fill(v, ARRAY[0])
    END $$;
