-- What event triggers capture. README.md in this folder describes the messages.
--
-- A command is captured in three steps: which objects it touched (a list of keys, that is class and oid in one bigint),
-- how their state differs from the shadow (only reading, so that an error can be caught without using a transaction id),
-- and then the writing of shadow and message, whose errors are the command's errors.
--
-- The shadow is always read before the catalogs. A concurrent commit between the two then makes a change appear twice,
-- which is harmless, and never makes an older state appear after a newer one.
--
-- `done := f()` stands for PERFORM f(), which would be a query of its own.

create or replace function walcast.key(class oid, object oid) returns bigint language sql immutable as $$
    select class::bigint << 32 | object::bigint
$$;

create or replace function walcast.emit(message jsonb) returns boolean language plpgsql as $$
declare
    subxid xid;
    content bytea;
begin
    -- In a stream of a transaction in progress the server says of rows, but not of messages, which subtransaction made
    -- them. Nothing but a row tells here which one this is.
    insert into walcast.rewritten (xid, relation, reason) values (pg_current_xact_id(), 0, 0) returning xmin into subxid;
    delete from walcast.rewritten r where r.xid = pg_current_xact_id() and r.relation = 0;
    content := convert_to((message || jsonb_build_object('v', 1, 'xid', pg_current_xact_id()::xid::text, 'subxid', subxid::text))::text, 'UTF8');
    perform pg_logical_emit_message(true, 'walcast',
        convert_to(encode(sha256(k.outer_key || sha256(k.inner_key || content)), 'hex'), 'UTF8') || content) from walcast.secret k;
    -- the shadow is written already: without the message, targets would never hear of it
    if not found then
        raise exception 'walcast.secret is empty' using hint = 'Run `walcast setup` again, or disable the event triggers of walcast.';
    end if;
    return true;
end
$$;

-- Sequences that a table's columns own: they have its schema, owner and persistence.
create or replace function walcast.owned_sequences(relation oid) returns bigint[] language plpgsql stable as $$
begin
    return array(select walcast.key('pg_class'::regclass, d.objid) from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
                  where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i'));
end
$$;

-- How the objects differ from the shadow: one change each. `rewritten` has the reasons why tables were rewritten, by oid.
create or replace function walcast.differences(keys bigint[], rewritten jsonb default null) returns jsonb[] language plpgsql stable as $$
declare
    k bigint;
    changes jsonb[] := '{}';
    change jsonb;
begin
    foreach k in array keys loop
        change := walcast.difference((k >> 32)::oid, (k & 4294967295)::oid, rewritten);
        if change is not null then
            changes := changes || change;
            if (k >> 32)::oid = 'pg_class'::regclass and change -> 'before' ? 'columns' and change -> 'after' ? 'columns' and (
                change -> 'before' -> 'identity' <> change -> 'after' -> 'identity' or change -> 'before' -> 'owner' <> change -> 'after' -> 'owner'
                or change -> 'before' -> 'persistence' is distinct from change -> 'after' -> 'persistence') then
                changes := changes || walcast.differences(array(select o from unnest(walcast.owned_sequences((k & 4294967295)::oid)) o where o <> all (keys)));
            end if;
        end if;
    end loop;
    return changes;
end
$$;

create or replace function walcast.difference(class_oid oid, object oid, rewritten jsonb) returns jsonb language plpgsql stable as $$
declare
    before jsonb;
    after jsonb;
    change jsonb;
    reason int;
    extension text;
begin
    select s.state into before from walcast.shadow s where s.class = class_oid and s.oid = object;
    after := case class_oid when 'pg_class'::regclass then walcast.describe_relation(object) else walcast.describe(class_oid, object) end;
    if rewritten is not null and class_oid = 'pg_class'::regclass then
        reason := (rewritten ->> object::text)::int;
    end if;
    if after is not distinct from before and reason is null then
        return null;
    end if;
    change := jsonb_build_object('class', class_oid::regclass::text, 'oid', object::bigint, 'before', before, 'after', after);
    if reason is not null then
        -- 2 a default was evaluated, 4 values were converted, 16 it came to be published, 1 it became logged: rows that the
        -- stream does not have
        change := change || jsonb_build_object('rewritten', reason & 22 <> 0 or reason & 1 <> 0 and not after ? 'persistence', 'rewrite_reason', reason);
    end if;
    if before is not null and not before ? 'limited' and (after is null or after ? 'limited') then
        extension := walcast.extension_of(class_oid, object);
        if extension is not null then
            change := change || jsonb_build_object('member_of', extension);
        end if;
    end if;
    return change;
end
$$;

-- As differences, after an error: each object by itself, and what cannot be described is said to have failed.
create or replace function walcast.guarded_differences(keys bigint[], rewritten jsonb) returns jsonb[] language plpgsql stable as $$
declare
    k bigint;
    changes jsonb[] := '{}';
    change jsonb;
begin
    foreach k in array keys loop
        begin
            change := walcast.difference((k >> 32)::oid, (k & 4294967295)::oid, rewritten);
        exception when others then
            change := jsonb_build_object('class', ((k >> 32)::oid)::regclass::text, 'oid', (k & 4294967295), 'failed', sqlstate || ' ' || sqlerrm);
        end;
        if change is not null then
            changes := changes || change;
        end if;
    end loop;
    return changes;
end
$$;

-- Brings the shadow up to what the changes say.
create or replace function walcast.store(changes jsonb[]) returns boolean language plpgsql as $$
declare
    change jsonb;
    class_oid oid;
    object oid;
begin
    foreach change in array changes loop
        continue when change ? 'failed';
        class_oid := (change ->> 'class')::regclass;
        object := (change ->> 'oid')::oid;
        if change -> 'after' = 'null' then
            delete from walcast.shadow s where s.class = class_oid and s.oid = object;
        elsif change -> 'before' = 'null' then
            insert into walcast.shadow (class, oid, state) values (class_oid, object, change -> 'after')
                on conflict (class, oid) do update set state = excluded.state;
        else
            update walcast.shadow s set state = change -> 'after' where s.class = class_oid and s.oid = object;
            if change -> 'before' -> 'identity' <> change -> 'after' -> 'identity' then
                perform walcast.refresh_dependents(class_oid, object);
            end if;
        end if;
        if change -> 'after' ? 'indexes' and jsonb_path_exists(change -> 'after', '$.indexes[*] ? (!exists(@.of_constraint))') then
            insert into walcast.shadow_index (index, relation)
            select (i ->> 'oid')::oid, object from jsonb_array_elements(change -> 'after' -> 'indexes') i where not i ? 'of_constraint'
                on conflict (index) do nothing;
        end if;
    end loop;
    return true;
end
$$;

-- The identities of what depends on a renamed object may have the new name in them: the shadow follows without a message,
-- since a target that renames the object has the same effect. What another session has locked is left alone.
create or replace function walcast.refresh_dependents(class_oid oid, object oid) returns void language plpgsql as $$
begin
    update walcast.shadow s set state = f.now from (
        select l.class, l.oid, l.state, walcast.describe(l.class, l.oid) as now from (
            select s.class, s.oid, s.state from walcast.shadow s join (
                with recursive d as (
                    select p.classid, p.objid from pg_depend p where p.refclassid = class_oid and p.refobjid = object
                    union
                    select p.classid, p.objid from pg_depend p join d on p.refclassid = d.classid and p.refobjid = d.objid
                ) select * from d) d on s.class = d.classid and s.oid = d.objid
            for update of s skip locked) l) f
     where s.class = f.class and s.oid = f.oid and f.now is not null and f.now <> f.state;
exception
    when serialization_failure or deadlock_detected or query_canceled then
        raise;
    when others then
        -- one of them cannot be described: the shadow is behind, which only makes states be sent again
        return;
end
$$;

-- Drops first, dependents before what they depend on; then what was altered; then what was made. Inside each, as given,
-- except that roles come before everything and go after everything. What a drop altered, it altered by CASCADE: that has
-- to go before what it depends on. What is new goes before the altered where they may need it.
create or replace function walcast.message(tag text, roles jsonb[], changes jsonb[], drops_last boolean default false) returns jsonb language plpgsql stable as $$
begin
    if cardinality(changes) <= 1 and cardinality(roles) = 0 then
        return jsonb_build_object('tag', tag, 'changes', to_jsonb(changes));
    end if;
    return jsonb_build_object('tag', tag, 'changes', coalesce((
        select jsonb_agg(c.change order by c.place, c.n) from (
            select change, n, case when change -> 'after' = 'null' then 7 when change -> 'before' = 'null' then 0 else 1 end as place
              from unnest(roles) with ordinality r (change, n)
            union all
            select change, n, case when change -> 'after' = 'null' then case when drops_last then 5 else 2 end when change -> 'before' <> 'null' then 4
                              when change ->> 'class' in ('pg_trigger', 'pg_rewrite', 'pg_policy', 'pg_statistic_ext', 'pg_default_acl')
                                or change ->> 'class' = 'pg_class' and change -> 'after' ->> 'type' <> 'sequence' then 6 else 3 end
              from unnest(changes) with ordinality o (change, n)) c), '[]'));
end
$$;

-- Value of a sequence, exactly as stored.
create or replace function walcast.sequence_value(sequence oid) returns jsonb language plpgsql as $$
declare
    at text := walcast.relation_name(sequence);
    value bigint;
    called boolean;
begin
    execute 'select last_value, is_called from ' || at into value, called;
    return jsonb_build_object('identity', at, 'last_value', value::text, 'is_called', called);
end
$$;

create or replace function walcast.unique_keys(keys bigint[]) returns bigint[] language plpgsql immutable as $$
begin
    if cardinality(keys) < 2 then
        return keys;
    end if;
    return array(select u.k from unnest(keys) with ordinality u (k, n) group by u.k order by min(u.n));
end
$$;

-- Reads and compares; what fails is caught, and reported in the message.
create or replace function walcast.compare(keys bigint[], rewritten jsonb) returns jsonb[] language plpgsql as $$
begin
    return walcast.differences(keys, rewritten);
exception when others then
    return walcast.guarded_differences(keys, rewritten);
end
$$;

create or replace function walcast.capture(tag text, touched bigint[], rewritten jsonb, dropped jsonb[], extra jsonb) returns boolean language plpgsql as $$
declare
    done boolean;
    -- a drop needs no role that was not there before
    roles jsonb[] := case when cardinality(dropped) > 0 and cardinality(touched) = 0 then '{}' else walcast.role_changes() end;
    changes jsonb[] := '{}';
begin
    if cardinality(touched) > 0 then
        rewritten := walcast.publish(tag, touched, rewritten);
        changes := walcast.compare(case when cardinality(touched) > 1 then walcast.unique_keys(touched) else touched end, rewritten);
        done := walcast.store(changes);
    end if;
    changes := dropped || changes;
    if cardinality(changes) + cardinality(roles) > 0 or extra <> '{}' then
        done := walcast.emit(walcast.message(tag, roles, changes, cardinality(dropped) > 0) || extra);
    end if;
    return true;
end
$$;
