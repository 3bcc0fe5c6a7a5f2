-- Before anything else is made on a target: whoever owned the schema so far, and was no superuser, may have left functions or
-- tables there that would be called, or written, with a superuser's rights. Tables of the applier are not among these.
do $$
declare
    o text;
begin
    for o in select 'routine ' || p.oid::regprocedure from pg_proc p join pg_roles r on r.oid = p.proowner
              where p.pronamespace = 'walcast'::regnamespace and not r.rolsuper
             union all
             select case c.relkind when 'v' then 'view ' else 'table ' end || c.oid::regclass from pg_class c join pg_roles r on r.oid = c.relowner
              where c.relnamespace = 'walcast'::regnamespace and not r.rolsuper and c.relkind in ('r', 'v')
                and c.relname in ('role', 'pending_grant', 'pending_object', 'renamed', 'caller', 'version', 'code_in_the_way') loop
        execute 'drop ' || o || ' cascade';
    end loop;
end
$$;
