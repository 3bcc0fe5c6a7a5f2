-- Removes the capture. A database that is also a target keeps the functions that describe states.
drop event trigger if exists walcast_ddl_end;
drop event trigger if exists walcast_drop;
drop event trigger if exists walcast_rewrite;
drop table if exists walcast.shadow, walcast.told, walcast.shadow_index, walcast.secret, walcast.rewritten, walcast.seen, walcast.sequence_seen, walcast.installed, walcast.published, walcast.selected;
do $$
declare
    f text;
begin
    for f in select p.oid::regprocedure from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
              where n.nspname = 'walcast' and to_regclass('walcast.checkpoint') is null loop
        execute 'drop function ' || f || ' cascade';
    end loop;
end
$$;
