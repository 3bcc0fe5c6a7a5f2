-- What no event trigger tells: looked for once a second by the service, on a connection of its own, in a transaction of
-- isolation level REPEATABLE READ. There, a change of the shadow that another transaction has overtaken fails with 40001
-- instead of being sent after the newer one; the next tick finds what is left to find.

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
    insert into walcast.seen (name, value) values ('role names', walcast.names_print()), ('roles', walcast.roles_print()),
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

-- Sequences whose value is another one than at the last look. pg_sequence_last_value tells nothing of a sequence that was
-- not called since it was made or set: of those some are read each time, in turn, and all of them when `every`.
create or replace function walcast.moved_sequences(every boolean) returns jsonb language plpgsql as $$
declare
    moved jsonb;
    uncalled oid[];
    sequence oid;
    value jsonb;
    last oid := coalesce((select s.value::oid from walcast.seen s where s.name = 'sequence'), 0);
begin
    with now as materialized (
        select s.seqrelid as oid, pg_sequence_last_value(s.seqrelid) as last_value from pg_sequence s
         where exists (select from walcast.shadow h where h.class = 'pg_class'::regclass and h.oid = s.seqrelid)
    ), moved as (
        insert into walcast.sequence_seen as n (oid, last_value, is_called)
        select now.oid, now.last_value, true from now left join walcast.sequence_seen e on e.oid = now.oid
         where now.last_value is not null and (e.oid is null or not e.is_called or e.last_value <> now.last_value)
            on conflict (oid) do update set last_value = excluded.last_value, is_called = true
        returning n.oid, n.last_value
    )
    select coalesce((select jsonb_agg(jsonb_build_object('identity', walcast.relation_name(m.oid), 'last_value', m.last_value::text, 'is_called', true)) from moved m), '[]'),
           array(select now.oid from now where now.last_value is null)
      into moved, uncalled;
    for sequence in select u.oid from unnest(uncalled) u (oid) left join walcast.sequence_seen e on e.oid = u.oid
                     order by e.oid is null or e.is_called desc, u.oid <= last, u.oid limit case when every then null else 20 end loop
        value := walcast.sequence_value(sequence);
        last := sequence;
        if not exists (select from walcast.sequence_seen e where e.oid = sequence and not e.is_called and e.last_value = (value ->> 'last_value')::bigint) then
            insert into walcast.sequence_seen (oid, last_value, is_called) values (sequence, (value ->> 'last_value')::bigint, false)
                on conflict (oid) do update set last_value = excluded.last_value, is_called = false;
            moved := moved || value;
        end if;
    end loop;
    if cardinality(uncalled) > 20 then
        insert into walcast.seen (name, value) values ('sequence', last::text) on conflict (name) do update set value = excluded.value;
    end if;
    return moved;
end
$$;

-- What the statistics have counted for the catalogs: another text means that something was written there. They come late
-- and can be lost, so the same text means nothing for longer than a few seconds.
create or replace function walcast.catalogs_print() returns text language plpgsql stable as $$
begin
    return (select string_agg((pg_stat_get_tuples_inserted(c) + pg_stat_get_tuples_updated(c) + pg_stat_get_tuples_deleted(c))::text, ',')
              from unnest('{pg_class,pg_attribute,pg_attrdef,pg_constraint,pg_index,pg_inherits,pg_sequence,pg_rewrite,pg_trigger,pg_policy,pg_type,pg_enum,pg_proc,pg_namespace,
                            pg_statistic_ext,pg_extension,pg_language,pg_cast,pg_collation,pg_conversion,pg_operator,pg_opclass,pg_opfamily,pg_amop,pg_amproc,pg_am,
                            pg_ts_parser,pg_ts_template,pg_ts_dict,pg_ts_config,pg_ts_config_map,pg_transform,pg_foreign_data_wrapper,pg_foreign_server,
                            pg_foreign_table,pg_user_mapping,pg_default_acl,pg_description,pg_publication,pg_publication_rel,pg_event_trigger}'::regclass[]) c);
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
    done boolean;
    keys bigint[];
    published jsonb;
    roles jsonb[] := '{}';
    changes jsonb[] := '{}';
    moved jsonb;
    uncaptured jsonb;
    failed int := 0;
begin
    if current_setting('transaction_isolation') <> 'repeatable read' then
        raise exception 'walcast.tick needs a transaction of isolation level repeatable read' using errcode = '25001';
    end if;
    if not pg_try_advisory_xact_lock(1463897164, 2) then
        return '{"busy": true}';
    end if;
    every := every or not exists (select from walcast.seen s where s.name = 'snapshot');
    roles := walcast.tick_roles();
    -- before a role is dropped, what it owned or granted has to be known to be another one's
    keys := walcast.tick_keys(every, exists (select from unnest(roles) r where r -> 'after' = 'null'));
    if keys is not null then
        published := walcast.publish('tick', walcast.unpublished(), null);
        keys := walcast.unique_keys(keys || array(select walcast.key('pg_class'::regclass, p::oid) from jsonb_object_keys(published) p));
        uncaptured := walcast.uncaptured_changes();
    end if;
    if cardinality(keys) > 0 then
        changes := walcast.compare(keys, published);
        done := walcast.store(changes);
        select count(*) into failed from unnest(changes) c where c ? 'failed';
    end if;
    moved := walcast.moved_sequences(every);
    if cardinality(roles) + cardinality(changes) > 0 or moved <> '[]' or uncaptured is not null then
        done := walcast.emit(walcast.message('tick', roles, changes) || jsonb_build_object('sequences', moved)
            || case when uncaptured is null then '{}' else jsonb_build_object('unsupported', uncaptured) end);
    end if;
    -- what failed is looked at again
    if keys is not null and failed = 0 then
        insert into walcast.seen (name, value) values ('snapshot', pg_snapshot_xmin(pg_current_snapshot())::text),
                ('catalogs', walcast.catalogs_print()), ('scanned', extract(epoch from now())::text)
            on conflict (name) do update set value = excluded.value;
    end if;
    return jsonb_build_object('changes', cardinality(changes), 'roles', cardinality(roles), 'sequences', jsonb_array_length(moved),
        'compared', cardinality(keys), 'every', every, 'failed', failed, 'blind', walcast.blind_spots());
end
$$;

-- Objects that may have changed unnoticed; null when there was no reason to look.
create or replace function walcast.tick_keys(every boolean, look boolean) returns bigint[] language plpgsql as $$
declare
    last xid8;
begin
    if every then
        return walcast.unique_keys(walcast.vanished() || walcast.objects());
    elsif not look and exists (select from walcast.seen s where s.name = 'catalogs' and s.value = walcast.catalogs_print())
          and exists (select from walcast.seen s where s.name = 'scanned' and s.value::float8 between extract(epoch from now()) - 10 and extract(epoch from now())) then
        return null;
    end if;
    select s.value::xid8 into strict last from walcast.seen s where s.name = 'snapshot';
    return walcast.touched(age(last::xid), true) || walcast.vanished();
end
$$;
