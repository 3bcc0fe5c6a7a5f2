DO $$
DECLARE
    l record;
BEGIN
    FOR l IN SELECT * FROM names.list LOOP
        EXECUTE format('INSERT INTO %I.%I VALUES (1, %L, %L), (2, %L, ''other''), (3, NULL, NULL)', l.name, l.name, l.name, l.name, l.name);
        EXECUTE format('INSERT INTO %I.keyless VALUES (%L, %L), (NULL, %L), (''other'', NULL)', l.name, l.name, l.name, l.name);
        EXECUTE format('UPDATE %I.%I SET v = v || v WHERE %I = 1', l.name, l.name, l.name);
        EXECUTE format('UPDATE %I.%I SET %I = 10, e = %L WHERE %I = 2', l.name, l.name, l.name, l.name, l.name);
        EXECUTE format('DELETE FROM %I.%I WHERE %I = 3', l.name, l.name, l.name);
        EXECUTE format('UPDATE %I.keyless SET v = ''changed'' WHERE %I = %L', l.name, l.name, l.name);
        EXECUTE format('DELETE FROM %I.keyless WHERE %I IS NULL', l.name, l.name);
        COMMIT;
    END LOOP;
    FOR l IN SELECT * FROM names.list WHERE n % 5 = 0 LOOP
        EXECUTE format('TRUNCATE %I.%I, %I.keyless', l.name, l.name, l.name);
    END LOOP;
END $$;
