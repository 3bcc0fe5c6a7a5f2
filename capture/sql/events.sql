-- The functions of the event triggers: what a command touched. See capture.sql.

-- The object with a state of its own that a catalog row belongs to; 0 when there is none.
create or replace function walcast.top_key(class oid, object oid) returns bigint language plpgsql stable as $$
declare
    found_key bigint;
begin
    case class
    when 'pg_class'::regclass then
        select case when c.relkind in ('i', 'I') then (select walcast.key('pg_class'::regclass, i.indrelid) from pg_index i where i.indexrelid = c.oid)
                    when c.relkind = 'c' then walcast.key('pg_type'::regclass, c.reltype)
                    when c.relkind = 't' then 0 else walcast.key(class, object) end
          into found_key from pg_class c where c.oid = object;
    when 'pg_constraint'::regclass then
        select case when k.conrelid <> 0 then walcast.key('pg_class'::regclass, k.conrelid) else walcast.key('pg_type'::regclass, k.contypid) end
          into found_key from pg_constraint k where k.oid = object;
    when 'pg_attrdef'::regclass then
        select walcast.key('pg_class'::regclass, d.adrelid) into found_key from pg_attrdef d where d.oid = object;
    when 'pg_amop'::regclass then
        select walcast.key('pg_opfamily'::regclass, o.amopfamily) into found_key from pg_amop o where o.oid = object;
    when 'pg_amproc'::regclass then
        select walcast.key('pg_opfamily'::regclass, p.amprocfamily) into found_key from pg_amproc p where p.oid = object;
    when 'pg_rewrite'::regclass then
        select case when r.rulename = '_RETURN' then walcast.key('pg_class'::regclass, r.ev_class) else walcast.key(class, object) end
          into found_key from pg_rewrite r where r.oid = object;
    else
        found_key := walcast.key(class, object);
    end case;
    return coalesce(found_key, 0);
end
$$;

-- What an ALTER of this relation may have touched beside it.
create or replace function walcast.beside_relation(relation oid, tag text) returns bigint[] language plpgsql stable as $$
declare
    c record;
    keys bigint[] := '{}';
begin
    select r.relkind, r.relhassubclass, r.relhastriggers, r.relhasrules, r.relpersistence into c from pg_class r where r.oid = relation;
    if not found or c.relpersistence = 't' then
        return keys;
    end if;
    if c.relhassubclass or c.relkind = 'p' then
        keys := keys || array(
            with recursive h as (
                select i.inhrelid from pg_inherits i where i.inhparent = relation
                union select i.inhrelid from pg_inherits i join h on i.inhparent = h.inhrelid)
            select walcast.key('pg_class'::regclass, h.inhrelid) from h join pg_class r on r.oid = h.inhrelid where r.relkind in ('r', 'p', 'f') order by 1);
        -- a detached partition is no descendant any more, but its row has just been written
        if tag = 'ALTER TABLE' then
            keys := keys || array(select walcast.key('pg_class'::regclass, r.oid) from pg_class r where r.relkind in ('r', 'p', 'f') and age(r.xmin) <= 0 and r.oid <> relation);
        end if;
    end if;
    if tag like 'ALTER%' then
        if c.relhastriggers then
            keys := keys || array(select walcast.key('pg_trigger'::regclass, t.oid) from pg_trigger t where t.tgrelid = relation and not t.tgisinternal and t.tgparentid = 0);
        end if;
        if c.relhasrules then
            keys := keys || array(select walcast.key('pg_rewrite'::regclass, r.oid) from pg_rewrite r where r.ev_class = relation and r.rulename <> '_RETURN');
        end if;
    end if;
    return keys;
end
$$;

-- Extended statistics of the relations among these keys. Another type of a column makes them anew, of which nothing tells:
-- they are then known under the OID of one that is gone and had their name.
create or replace function walcast.statistics_of(keys bigint[]) returns bigint[] language plpgsql as $$
declare
    found_keys bigint[] := '{}';
    told constant oid := 'pg_statistic_ext'::regclass;
    remade record;
    gone oid[];
begin
    for remade in select e.oid, n.nspname, e.stxname from unnest(keys) k
                    join pg_statistic_ext e on e.stxrelid = (k & 4294967295)::oid and (k >> 32)::oid = 'pg_class'::regclass
                    join pg_namespace n on n.oid = e.stxnamespace order by e.oid loop
        found_keys := found_keys || walcast.key(told, remade.oid);
        continue when exists (select from walcast.shadow s where s.class = told and s.oid = remade.oid);
        gone := array(select s.oid from walcast.shadow s
                       where s.class = told and s.state ->> 'schema' = remade.nspname and s.state ->> 'name' = remade.stxname
                         and not exists (select from pg_statistic_ext x where x.oid = s.oid));
        update walcast.shadow s set oid = remade.oid where s.class = told and s.oid = gone[1];
        delete from walcast.shadow s where s.class = told and s.oid = any (gone[2:]);
    end loop;
    return found_keys;
end
$$;

-- Tables of a composite type.
create or replace function walcast.beside_type(type oid) returns bigint[] language plpgsql stable as $$
begin
    return array(select walcast.key('pg_class'::regclass, c.oid) from pg_depend d join pg_class c on c.oid = d.objid and c.reloftype = type
                  where d.refclassid = 'pg_type'::regclass and d.refobjid = type and d.classid = 'pg_class'::regclass and d.objsubid = 0);
end
$$;

-- Keys of what the command that just ended touched, from the list that event triggers get; what it refreshed; what it did
-- that is not captured.
create or replace function walcast.command_objects(tag text, out keys bigint[], out refreshed jsonb, out unsupported jsonb, out sequences oid[]) language plpgsql as $$
declare
    cmd record;
    k bigint;
    granted text;
begin
    keys := '{}';
    sequences := '{}';
    for cmd in select c.classid, c.objid, c.command_tag, c.object_type, c.schema_name, c.object_identity, c.in_extension from pg_event_trigger_ddl_commands() c loop
        continue when cmd.in_extension or cmd.schema_name = 'pg_temp';
        if cmd.command_tag = 'SECURITY LABEL' then
            unsupported := coalesce(unsupported, '[]') || to_jsonb('SECURITY LABEL ON ' || upper(cmd.object_type) || ' ' || cmd.object_identity);
            continue;
        elsif cmd.objid is null or cmd.objid = 0 then
            granted := case when cmd.command_tag = 'ALTER DEFAULT PRIVILEGES' then 'DEFAULT'
                            when cmd.object_type in ('TABLE', 'SEQUENCE', 'COLUMN') then 'TABLE'
                            when cmd.object_type in ('FUNCTION', 'PROCEDURE', 'ROUTINE') then 'FUNCTION'
                            when cmd.object_type in ('TYPE', 'DOMAIN') then 'TYPE'
                            when cmd.object_type in ('SCHEMA', 'LANGUAGE', 'FOREIGN DATA WRAPPER', 'FOREIGN SERVER') then cmd.object_type else '' end;
            keys := keys || walcast.touched(0, false, granted);
            continue;
        end if;
        -- most commands by far: neither is an index, nor can it have touched anything beside
        if cmd.command_tag = 'CREATE TABLE' and cmd.classid = 'pg_class'::regclass then
            keys := keys || walcast.key(cmd.classid, cmd.objid);
            continue;
        end if;
        k := walcast.top_key(cmd.classid, cmd.objid);
        continue when k = 0;
        if keys[cardinality(keys)] is distinct from k then
            keys := keys || k;
        end if;
        if (k >> 32)::oid = 'pg_class'::regclass then
            if cmd.command_tag = 'REFRESH MATERIALIZED VIEW' then
                refreshed := coalesce(refreshed, '[]') || to_jsonb(cmd.object_identity);
            elsif cmd.command_tag = 'ALTER SEQUENCE' then
                if tag = 'ALTER SEQUENCE' then
                    sequences := sequences || cmd.objid;
                end if;
            elsif tag <> 'CREATE TABLE' and cmd.command_tag <> 'CREATE SEQUENCE' then
                keys := keys || walcast.beside_relation((k & 4294967295)::oid, cmd.command_tag);
            end if;
        elsif cmd.command_tag = 'ALTER TYPE' then
            keys := keys || walcast.beside_type((k & 4294967295)::oid);
        end if;
    end loop;
    if tag in ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER TYPE') then
        keys := keys || walcast.statistics_of(keys);
    end if;
end
$$;

-- Why the tables that the running command wrote anew were, by their oid. They are told of once.
create or replace function walcast.take_rewritten() returns jsonb language plpgsql as $$
declare
    rewrites jsonb;
begin
    if exists (select from walcast.rewritten r where r.xid = pg_current_xact_id()) then
        with gone as (delete from walcast.rewritten r where r.xid = pg_current_xact_id() returning r.relation, r.reason)
        select jsonb_object_agg(g.relation, g.reason) into rewrites from gone g;
    end if;
    return rewrites;
end
$$;

create or replace function walcast.on_ddl_end() returns event_trigger language plpgsql security definer as $$
declare
    done boolean;
    o record;
    rewrites jsonb;
    touched bigint[];
    extra jsonb := '{}';
begin
    if tg_tag ~ '(PUBLICATION|SUBSCRIPTION|EVENT TRIGGER)$' or tg_tag like 'DROP %' and tg_tag <> 'DROP OWNED' then
        return;
    end if;
    o := walcast.command_objects(tg_tag);
    touched := o.keys;
    if tg_tag = 'DROP OWNED' then
        touched := touched || walcast.touched(0, false);
    elsif tg_tag like 'ALTER %' then
        rewrites := walcast.take_rewritten();
        if rewrites is not null then
            touched := touched || array(select walcast.key('pg_class'::regclass, r::oid) from jsonb_object_keys(rewrites) r);
        end if;
    end if;
    if o.refreshed is not null then
        extra := extra || jsonb_build_object('refresh', o.refreshed);
    end if;
    if o.unsupported is not null then
        extra := extra || jsonb_build_object('unsupported', o.unsupported);
    end if;
    if cardinality(o.sequences) > 0 then
        extra := extra || coalesce((select jsonb_build_object('sequences', jsonb_agg(walcast.sequence_value(s))) from unnest(o.sequences) s
                                      join pg_class c on c.oid = s where c.relpersistence <> 't'), '{}');
    end if;
    done := walcast.capture(tg_tag, touched, rewrites, '{}', extra);
end
$$;

create or replace function walcast.on_drop() returns event_trigger language plpgsql security definer as $$
declare
    done boolean;
    d record;
    state jsonb;
    relation oid;
    rewrites jsonb;
    touched bigint[] := '{}';
    changes jsonb[] := '{}';
begin
    if tg_tag ~ '(PUBLICATION|SUBSCRIPTION|EVENT TRIGGER)$' then
        return;
    end if;
    -- this comes before the end of the command: what it tells of a table has to say that its rows are others
    if tg_tag like 'ALTER %' then
        rewrites := walcast.take_rewritten();
        touched := array(select walcast.key('pg_class'::regclass, r::oid) from jsonb_object_keys(rewrites) r);
    end if;
    -- what goes with its table and has no state of its own is passed over; an index may go with an extension
    for d in select o.classid, o.objid, o.objsubid, o.object_type, o.original or o.normal as asked, o.address_names from pg_event_trigger_dropped_objects() o
              where not o.is_temporary and (o.original or o.normal or o.object_type not in ('type', 'index', 'table constraint', 'default value', 'toast table')
                  or o.object_type = 'index' and exists (select from walcast.shadow_index i join pg_class c on c.oid = i.relation where i.index = o.objid)) loop
        if d.objsubid <> 0 then
            if d.classid = 'pg_class'::regclass then
                touched := touched || walcast.top_key(d.classid, d.objid);
            end if;
        elsif d.object_type = 'index' then
            delete from walcast.shadow_index i where i.index = d.objid returning i.relation into relation;
            -- REINDEX CONCURRENTLY, of which nothing tells, gave it another oid
            if relation is null then
                select s.oid into relation from walcast.shadow s
                 where s.class = 'pg_class'::regclass and s.state ->> 'schema' = d.address_names[1]
                   and s.state -> 'indexes' @> jsonb_build_array(jsonb_build_object('name', d.address_names[2]));
            end if;
            touched := touched || walcast.top_key('pg_class'::regclass, relation);
        elsif d.object_type in ('table constraint', 'default value') then
            touched := touched || coalesce((select walcast.key('pg_class'::regclass, c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                                             where n.nspname = d.address_names[1] and c.relname = d.address_names[2]), 0);
        elsif d.object_type = 'domain constraint' then
            touched := touched || coalesce(walcast.key('pg_type'::regclass, to_regtype(d.address_names[1])), 0);
        else
            delete from walcast.shadow s where s.class = d.classid and s.oid = d.objid returning s.state into state;
            continue when state is null or state ? 'limited';
            changes := jsonb_build_object('class', d.classid::regclass::text, 'oid', d.objid::bigint, 'before', state, 'after', null)
                || case when d.asked then '{}' else '{"auto": true}' end::jsonb || changes;
            if state ? 'indexes' then
                delete from walcast.shadow_index i where i.relation = d.objid;
            end if;
        end if;
    end loop;
    -- Of a column or constraint that only the parent lost, the same message says that the children have it still. Partitions
    -- have what their parent has.
    if tg_tag in ('ALTER TABLE', 'ALTER FOREIGN TABLE') and cardinality(touched) > 0 then
        touched := touched || array(select walcast.key('pg_class'::regclass, r.oid) from pg_inherits i join pg_class r on r.oid = i.inhrelid and not r.relispartition
                                     where i.inhparent in (select (t & 4294967295)::oid from unnest(touched) t where (t >> 32)::oid = 'pg_class'::regclass));
    end if;
    done := walcast.capture(tg_tag, array_remove(touched, 0::bigint), rewrites, changes, '{}');
end
$$;

create or replace function walcast.on_rewrite() returns event_trigger language plpgsql security definer as $$
begin
    insert into walcast.rewritten (xid, relation, reason)
    select pg_current_xact_id(), c.oid, pg_event_trigger_table_rewrite_reason() from pg_class c
     where c.oid = pg_event_trigger_table_rewrite_oid() and c.relpersistence <> 't'
        on conflict (xid, relation) do update set reason = rewritten.reason | excluded.reason;
end
$$;
