-- What a dump of the database or of the cluster has and the capture has not. Events tell of little of it, so looks at the
-- catalogs compare: what is another than at the last one is named in the tick's message, and targets report it.

create or replace function walcast.uncaptured() returns table (object text, print text) language plpgsql stable as $$
begin
    return query
        select 'PUBLICATION ' || quote_ident(p.pubname), p.xmin::text || coalesce((
                   select ' ' || bit_xor(hash_record_extended(row(r.oid, r.xmin), 0)) from pg_publication_rel r where r.prpubid = p.oid), '')
          from pg_publication p where not exists (select from walcast.published d where d.publication = p.pubname)
        union all select 'SUBSCRIPTION ' || quote_ident(s.subname), s.xmin::text
          from pg_subscription s join pg_database d on d.oid = s.subdbid and d.datname = current_database()
        union all select 'EVENT TRIGGER ' || quote_ident(e.evtname), e.xmin::text
          from pg_event_trigger e where e.evtname not in ('walcast_ddl_end', 'walcast_drop', 'walcast_rewrite')
        union all select 'TABLESPACE ' || quote_ident(t.spcname), t.xmin::text from pg_tablespace t where t.oid >= 16384
        union all select 'DATABASE ' || quote_ident(d.datname), d.xmin::text from pg_database d where d.datname <> current_database()
        union all select 'DATABASE ' || quote_ident(d.datname) || ' (owner, limits, tablespace)',
                         concat_ws(' ', d.datdba, d.datconnlimit, d.datistemplate, d.datallowconn, d.dattablespace)
          from pg_database d where d.datname = current_database()
        union all select 'SECURITY LABELS of roles, databases and tablespaces', bit_xor(hash_record_extended(row(l.objoid, l.xmin), 0))::text
          from pg_shseclabel l having count(*) > 0
        -- there may be millions of them
        union all select 'LARGE OBJECTS', '' where exists (select from pg_largeobject_metadata);
    if current_setting('server_version_num')::int >= 150000 then
        return query
            select 'PARAMETER ' || quote_ident(p.parname) || ' (privileges)', p.xmin::text from pg_parameter_acl p
            union all select 'PUBLICATION ' || quote_ident(p.pubname) || ' (schemas)', string_agg(n.xmin::text, ' ' order by n.oid)
              from pg_publication_namespace n join pg_publication p on p.oid = n.pnpubid group by p.pubname;
    end if;
end
$$;

-- Names of those that came, went or changed since the last look; null: none, or it is the first one.
create or replace function walcast.uncaptured_changes() returns jsonb language plpgsql as $$
declare
    names jsonb;
begin
    with now as materialized (select 'uncaptured ' || u.object as name, u.print from walcast.uncaptured() u),
        gone as (delete from walcast.seen s where s.name like 'uncaptured %' and not exists (select from now n where n.name = s.name) returning s.name),
        new as (insert into walcast.seen as s (name, value) select n.name, n.print from now n
            on conflict (name) do update set value = excluded.value where s.value <> excluded.value returning s.name)
    select jsonb_agg(substr(c.name, length('uncaptured ') + 1) order by c.name) into names from (select g.name from gone g union all select n.name from new n) c;
    insert into walcast.seen (name, value) values ('uncaptured', '') on conflict do nothing;
    return case when found then null else names end;
end
$$;
