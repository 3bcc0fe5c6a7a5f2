-- What no event trigger tells: looked for once a second by the service, on a connection of its own, in a transaction of
-- isolation level REPEATABLE READ. There, a change of the shadow that another transaction has overtaken fails with 40001
-- instead of being sent after the newer one; the next tick finds what is left to find.

-- Keys of all objects that have a state, in the order in which they can be made.
create or replace function walcast.objects() returns bigint[] language plpgsql stable as $$
begin
    return array(select o.k from (
        select walcast.key('pg_class'::regclass, c.oid) as k, c.oid from pg_class c where c.oid >= 16384 and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S') and c.relpersistence <> 't'
        union all select walcast.key('pg_class'::regclass, c.oid), c.oid from pg_class c where c.oid < 16384 and c.relkind in ('r', 'v') and c.relacl is not null
        union all select walcast.key('pg_type'::regclass, t.oid), t.oid from pg_type t left join pg_class c on c.oid = t.typrelid
                   where t.oid >= 16384 and (t.typrelid = 0 or c.relkind = 'c') and not (t.typelem <> 0 and t.typlen = -1)
        union all select walcast.key('pg_proc'::regclass, p.oid), p.oid from pg_proc p where p.oid >= 16384 or p.proacl is not null
        union all select walcast.key('pg_namespace'::regclass, n.oid), n.oid from pg_namespace n
        union all select walcast.key('pg_trigger'::regclass, t.oid), t.oid from pg_trigger t where not t.tgisinternal and t.tgparentid = 0
        union all select walcast.key('pg_rewrite'::regclass, r.oid), r.oid from pg_rewrite r where r.oid >= 16384 and r.rulename <> '_RETURN'
        union all select walcast.key('pg_policy'::regclass, p.oid), p.oid from pg_policy p
        union all select walcast.key('pg_statistic_ext'::regclass, s.oid), s.oid from pg_statistic_ext s
        union all select walcast.key('pg_extension'::regclass, e.oid), e.oid from pg_extension e
        union all select walcast.key('pg_language'::regclass, l.oid), l.oid from pg_language l
        union all select walcast.key('pg_cast'::regclass, c.oid), c.oid from pg_cast c where c.oid >= 16384
        union all select walcast.key('pg_collation'::regclass, c.oid), c.oid from pg_collation c where c.oid >= 16384
        union all select walcast.key('pg_conversion'::regclass, c.oid), c.oid from pg_conversion c where c.oid >= 16384
        union all select walcast.key('pg_operator'::regclass, o.oid), o.oid from pg_operator o where o.oid >= 16384
        union all select walcast.key('pg_opclass'::regclass, c.oid), c.oid from pg_opclass c where c.oid >= 16384
        union all select walcast.key('pg_opfamily'::regclass, f.oid), f.oid from pg_opfamily f where f.oid >= 16384
        union all select walcast.key('pg_am'::regclass, m.oid), m.oid from pg_am m where m.oid >= 16384
        union all select walcast.key('pg_ts_parser'::regclass, p.oid), p.oid from pg_ts_parser p where p.oid >= 16384
        union all select walcast.key('pg_ts_template'::regclass, t.oid), t.oid from pg_ts_template t where t.oid >= 16384
        union all select walcast.key('pg_ts_dict'::regclass, d.oid), d.oid from pg_ts_dict d where d.oid >= 16384
        union all select walcast.key('pg_ts_config'::regclass, c.oid), c.oid from pg_ts_config c where c.oid >= 16384
        union all select walcast.key('pg_transform'::regclass, t.oid), t.oid from pg_transform t where t.oid >= 16384
        union all select walcast.key('pg_foreign_data_wrapper'::regclass, w.oid), w.oid from pg_foreign_data_wrapper w
        union all select walcast.key('pg_foreign_server'::regclass, s.oid), s.oid from pg_foreign_server s
        union all select walcast.key('pg_user_mapping'::regclass, m.oid), m.oid from pg_user_mapping m
        union all select walcast.key('pg_default_acl'::regclass, d.oid), d.oid from pg_default_acl d) o (k, oid)
        order by walcast.place(o.k), o.oid);
end
$$;

-- Before what it is needed by: among objects of one place, the older one.
create or replace function walcast.place(k bigint) returns int language sql immutable as $$
    select case (k >> 32)::oid when 'pg_namespace'::regclass then 1 when 'pg_extension'::regclass then 2
        when 'pg_trigger'::regclass then 4 when 'pg_rewrite'::regclass then 4 when 'pg_policy'::regclass then 4
        when 'pg_user_mapping'::regclass then 4 when 'pg_default_acl'::regclass then 4 else 3 end
$$;

-- Takes everything into the shadow as it is now, without a message: for an installation.
create or replace function walcast.fill() returns bigint language plpgsql as $$
declare
    filled bigint;
    -- taken first: what others do from here on is left for the first tick to find
    oldest xid8 := pg_snapshot_xmin(pg_current_snapshot());
begin
    delete from walcast.shadow;
    delete from walcast.shadow_index;
    delete from walcast.seen;
    insert into walcast.shadow (class, oid, state)
    select d.class, d.oid, d.state from (
        select (k >> 32)::oid as class, (k & 4294967295)::oid as oid, walcast.describe((k >> 32)::oid, (k & 4294967295)::oid) as state
          from unnest(walcast.role_keys() || walcast.objects()) k) d where d.state is not null;
    get diagnostics filled = row_count;
    insert into walcast.shadow_index (index, relation)
    select (i ->> 'oid')::oid, s.oid from walcast.shadow s, jsonb_array_elements(s.state -> 'indexes') i
     where s.class = 'pg_class'::regclass and not i ? 'of_constraint';
    insert into walcast.seen (name, value) values ('roles', walcast.roles_print()),
        ('snapshot', oldest::text);
    return filled;
end
$$;

-- Shadow rows whose object is gone.
create or replace function walcast.vanished() returns bigint[] language plpgsql stable as $$
begin
    return array(select walcast.key(s.class, s.oid) from walcast.shadow s where case s.class
        when 'pg_class'::regclass then not exists (select from pg_class c where c.oid = s.oid)
        when 'pg_type'::regclass then not exists (select from pg_type t where t.oid = s.oid)
        when 'pg_proc'::regclass then not exists (select from pg_proc p where p.oid = s.oid)
        when 'pg_authid'::regclass then false
        when 'pg_database'::regclass then false
        else (pg_identify_object(s.class, s.oid, 0)).identity is null end order by s.class, s.oid desc);
end
$$;

-- Sequences whose value is another one than at the last look. What pg_sequence_last_value does not tell is whether one
-- that was not called yet was set to another start: of those, some are read each time, all of them when `every`.
create or replace function walcast.moved_sequences(every boolean) returns jsonb language plpgsql as $$
declare
    moved jsonb;
    q record;
    value jsonb;
begin
    with now as (
        select s.seqrelid as oid, pg_sequence_last_value(s.seqrelid) as last_value from pg_sequence s
         where s.seqrelid in (select h.oid from walcast.shadow h where h.class = 'pg_class'::regclass and h.state ->> 'type' = 'sequence')
    ), moved as (
        insert into walcast.sequence_seen as n (oid, last_value, is_called)
        select now.oid, now.last_value, true from now left join walcast.sequence_seen e on e.oid = now.oid
         where now.last_value is not null and (e.oid is null or not e.is_called or e.last_value <> now.last_value)
            on conflict (oid) do update set last_value = excluded.last_value, is_called = true
        returning n.oid, n.last_value
    )
    select jsonb_agg(jsonb_build_object('identity', walcast.relation_name(m.oid), 'last_value', m.last_value::text, 'is_called', true)) into moved from moved m;
    return coalesce(moved, '[]');
end
$$;

-- Whether the event triggers are there, fire always, and their functions are what was installed.
create or replace function walcast.blind_spots() returns jsonb language plpgsql stable as $$
begin
    return coalesce((select jsonb_agg(w.name || ' ' || case when t.oid is null then 'is missing' when t.evtenabled <> 'A' then 'is not enabled always' else 'calls another function' end order by w.name)
      from (values ('walcast_ddl_end', 'ddl_command_end', 'walcast.on_ddl_end()'), ('walcast_drop', 'sql_drop', 'walcast.on_drop()'),
                   ('walcast_rewrite', 'table_rewrite', 'walcast.on_rewrite()')) w (name, event, function)
      left join pg_event_trigger t on t.evtname = w.name and t.evtevent = w.event
     where t.oid is null or t.evtenabled <> 'A' or t.evtfoid <> to_regprocedure(w.function) or t.evttags is not null), '[]');
end
$$;

-- One look. `every`: compare all objects, however long ago they were written.
create or replace function walcast.tick(every boolean default false) returns jsonb language plpgsql security definer as $$
declare
    last xid8;
    keys bigint[];
    roles jsonb[] := '{}';
    changes jsonb[] := '{}';
    moved jsonb;
    failed int;
begin
    if current_setting('transaction_isolation') <> 'repeatable read' then
        raise exception 'walcast.tick needs a transaction of isolation level repeatable read' using errcode = '25001';
    end if;
    if not pg_try_advisory_xact_lock(1463897164, 2) then
        return '{"busy": true}';
    end if;
    select s.value::xid8 into last from walcast.seen s where s.name = 'snapshot';
    every := every or last is null;
    if every then
        keys := walcast.unique_keys(walcast.vanished() || walcast.objects());
    else
        keys := walcast.touched(age(last::xid), true) || walcast.vanished();
    end if;
    roles := walcast.tick_roles();
    if cardinality(keys) > 0 then
        changes := walcast.compare(keys, null);
        perform walcast.store(changes);
        select count(*) into failed from unnest(changes) c where c ? 'failed';
    end if;
    moved := walcast.moved_sequences(every);
    if cardinality(roles) + cardinality(changes) > 0 or moved <> '[]' then
        perform walcast.emit(walcast.message('tick', roles, changes) || jsonb_build_object('sequences', moved));
    end if;
    if last is distinct from pg_snapshot_xmin(pg_current_snapshot()) and coalesce(failed, 0) = 0 then
        insert into walcast.seen (name, value) values ('snapshot', pg_snapshot_xmin(pg_current_snapshot())::text)
            on conflict (name) do update set value = excluded.value;
    end if;
    return jsonb_build_object('changes', cardinality(changes), 'roles', cardinality(roles), 'sequences', jsonb_array_length(moved),
        'compared', coalesce(cardinality(keys), 0), 'every', every, 'failed', coalesce(failed, 0), 'blind', walcast.blind_spots());
end
$$;

-- Roles that changed. Kept in the shadow unless a command in progress is just keeping them: then they are sent all the
-- same, once, because that command may be long in committing.
create or replace function walcast.tick_roles() returns jsonb[] language plpgsql as $$
declare
    print text := walcast.roles_print();
    changes jsonb[];
begin
    if exists (select from walcast.seen s where s.name in ('roles', 'roles of tick') and s.value = print) then
        return '{}';
    end if;
    changes := walcast.differences(walcast.role_keys());
    if pg_try_advisory_xact_lock(1463897164, 1) then
        perform walcast.store(changes);
        insert into walcast.seen (name, value) values ('roles', print) on conflict (name) do update set value = excluded.value;
    else
        insert into walcast.seen (name, value) values ('roles of tick', print) on conflict (name) do update set value = excluded.value;
    end if;
    return changes;
end
$$;
