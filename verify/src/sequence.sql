-- The sequences of tables, each as json. $1: the tables, as json; $2: those of no table in the same schemas too.
WITH wanted AS (
    SELECT c.oid, c.relnamespace FROM json_to_recordset($1::json) w (schema text, name text)
      JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), owned AS (
    SELECT d.objid, d.refobjid, d.refobjsubid FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
       AND d.deptype IN ('a', 'i')
), used AS (
    SELECT d.refobjid AS objid FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid JOIN wanted w ON w.oid = e.adrelid
     WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
)
SELECT json_build_object('schema', n.nspname, 'name', c.relname, 'increment', s.seqincrement,
    'definition', format('%s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s', format_type(s.seqtypid, -1), s.seqstart,
        s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
        || coalesce((SELECT format(' OWNED BY %I.%I.%I', tn.nspname, t.relname, a.attname) FROM owned o
            JOIN pg_class t ON t.oid = o.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
            JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = o.refobjsubid WHERE o.objid = c.oid), ''),
    'owner', quote_ident(pg_get_userbyid(c.relowner)),
    'acl', coalesce((SELECT string_agg(x.item, ', ' ORDER BY x.item) FROM (
        SELECT CASE grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(grantee)) END || ': '
               || string_agg(DISTINCT privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END, ' '
                   ORDER BY privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END) AS item
          FROM aclexplode(coalesce(c.relacl, acldefault('s', c.relowner)))
         WHERE grantee = c.relowner OR NOT coalesce(pg_get_userbyid(grantee) = ANY ((SELECT array_agg(r.rolname)
             FROM pg_roles r WHERE r.rolname = current_user AND NOT r.rolsuper)::name[]), false)
         GROUP BY grantee) x), ''),
    'feeds', (SELECT json_build_array(tn.nspname, t.relname, a.attname) FROM owned o
        JOIN pg_class t ON t.oid = o.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = o.refobjsubid WHERE o.objid = c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
 WHERE c.relpersistence <> 't' AND (c.oid IN (SELECT o.objid FROM owned o JOIN wanted w ON w.oid = o.refobjid)
    OR c.oid IN (SELECT objid FROM used)
    OR $2::boolean AND c.relnamespace IN (SELECT relnamespace FROM wanted) AND c.oid NOT IN (SELECT objid FROM owned))
 ORDER BY n.nspname, c.relname
