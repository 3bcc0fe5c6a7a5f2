-- What event triggers capture. README.md in this folder describes the messages.
--
-- A command is captured in three steps: which objects it touched (a list of keys, that is class and oid in one bigint),
-- how their state differs from the shadow (only reading, so that an error can be caught without using a transaction id),
-- and then the writing of shadow and message, whose errors are the command's errors.
--
-- The shadow is always read before the catalogs. A concurrent commit between the two then makes a change appear twice,
-- which is harmless, and never makes an older state appear after a newer one.

create or replace function walcast.key(class oid, object oid) returns bigint language sql immutable as $$
    select class::bigint << 32 | object::bigint
$$;

create or replace function walcast.emit(message jsonb) returns void language plpgsql as $$
declare
    content bytea;
    k walcast.secret;
begin
    select * into strict k from walcast.secret;
    content := convert_to((message || jsonb_build_object('v', 1, 'xid', pg_current_xact_id()::xid::text))::text, 'UTF8');
    perform pg_logical_emit_message(true, 'walcast',
        convert_to(encode(sha256(k.outer_key || sha256(k.inner_key || content)), 'hex'), 'UTF8') || content);
end
$$;

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
        keys := keys || array(select walcast.key('pg_class'::regclass, d.objid) from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S'
                               where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i'));
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

-- Tables of a composite type.
create or replace function walcast.beside_type(type oid) returns bigint[] language plpgsql stable as $$
begin
    return array(select walcast.key('pg_class'::regclass, c.oid) from pg_depend d join pg_class c on c.oid = d.objid and c.reloftype = type
                  where d.refclassid = 'pg_type'::regclass and d.refobjid = type and d.classid = 'pg_class'::regclass and d.objsubid = 0);
end
$$;

-- Keys of the objects whose catalog rows have an age of at most `oldest`: with 0, what this transaction wrote, and
-- perhaps others that began later. With `unseen`, only rows that are newer than the object's row in the shadow.
create or replace function walcast.touched(oldest int, unseen boolean, of_kind text default '') returns bigint[] language plpgsql stable as $$
begin
    return array(select distinct t.k from (
        select walcast.key('pg_class'::regclass, c.oid) as k, age(c.xmin) as a from pg_class c where of_kind in ('', 'TABLE') and age(c.xmin) <= oldest and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S') and c.relpersistence <> 't'
        union all select walcast.key('pg_type'::regclass, c.reltype), age(c.xmin) from pg_class c where of_kind = '' and age(c.xmin) <= oldest and c.relkind = 'c'
        union all select walcast.key(case c.relkind when 'c' then 'pg_type'::regclass else 'pg_class'::regclass end, case c.relkind when 'c' then c.reltype else c.oid end), age(t.xmin)
                    from pg_attribute t join pg_class c on c.oid = t.attrelid where of_kind in ('', 'TABLE') and age(t.xmin) <= oldest and t.attnum > 0 and c.relkind in ('r', 'p', 'f', 'v', 'm', 'c') and c.relpersistence <> 't'
        union all select walcast.key('pg_proc'::regclass, p.oid), age(p.xmin) from pg_proc p where of_kind in ('', 'FUNCTION') and age(p.xmin) <= oldest
        union all select walcast.key('pg_namespace'::regclass, n.oid), age(n.xmin) from pg_namespace n where of_kind in ('', 'SCHEMA') and age(n.xmin) <= oldest
        union all select walcast.key('pg_type'::regclass, t.oid), age(t.xmin) from pg_type t where of_kind in ('', 'TYPE') and age(t.xmin) <= oldest and t.typrelid = 0 and t.typtype in ('b', 'd', 'e', 'r', 'p') and not (t.typelem <> 0 and t.typlen = -1)
        union all select walcast.key('pg_language'::regclass, l.oid), age(l.xmin) from pg_language l where of_kind in ('', 'LANGUAGE') and age(l.xmin) <= oldest
        union all select walcast.key('pg_foreign_data_wrapper'::regclass, w.oid), age(w.xmin) from pg_foreign_data_wrapper w where of_kind in ('', 'FOREIGN DATA WRAPPER') and age(w.xmin) <= oldest
        union all select walcast.key('pg_foreign_server'::regclass, s.oid), age(s.xmin) from pg_foreign_server s where of_kind in ('', 'FOREIGN SERVER') and age(s.xmin) <= oldest
        union all select walcast.key('pg_default_acl'::regclass, d.oid), age(d.xmin) from pg_default_acl d where of_kind in ('', 'DEFAULT') and age(d.xmin) <= oldest
        union all select walcast.top_key('pg_constraint'::regclass, k.oid), age(k.xmin) from pg_constraint k where of_kind = '' and age(k.xmin) <= oldest and (k.contypid <> 0 or k.contype <> 't')
        union all select walcast.key('pg_class'::regclass, d.adrelid), age(d.xmin) from pg_attrdef d where of_kind = '' and age(d.xmin) <= oldest
        union all select walcast.key('pg_class'::regclass, i.indrelid), age(i.xmin) from pg_index i where of_kind = '' and age(i.xmin) <= oldest and i.indrelid >= 16384
        union all select walcast.key('pg_class'::regclass, i.indrelid), age(c.xmin) from pg_class c join pg_index i on i.indexrelid = c.oid where of_kind = '' and age(c.xmin) <= oldest and i.indrelid >= 16384
        union all select walcast.key('pg_class'::regclass, h.inhrelid), age(h.xmin) from pg_inherits h where of_kind = '' and age(h.xmin) <= oldest
        union all select walcast.key('pg_class'::regclass, s.seqrelid), age(s.xmin) from pg_sequence s where of_kind = '' and age(s.xmin) <= oldest
        union all select walcast.top_key('pg_rewrite'::regclass, r.oid), age(r.xmin) from pg_rewrite r where of_kind = '' and age(r.xmin) <= oldest
        union all select walcast.key('pg_trigger'::regclass, t.oid), age(t.xmin) from pg_trigger t where of_kind = '' and age(t.xmin) <= oldest and not t.tgisinternal and t.tgparentid = 0
        union all select walcast.key('pg_policy'::regclass, p.oid), age(p.xmin) from pg_policy p where of_kind = '' and age(p.xmin) <= oldest
        union all select walcast.key('pg_statistic_ext'::regclass, s.oid), age(s.xmin) from pg_statistic_ext s where of_kind = '' and age(s.xmin) <= oldest
        union all select walcast.key('pg_type'::regclass, e.enumtypid), age(e.xmin) from pg_enum e where of_kind = '' and age(e.xmin) <= oldest
        union all select walcast.key('pg_extension'::regclass, e.oid), age(e.xmin) from pg_extension e where of_kind = '' and age(e.xmin) <= oldest
        union all select walcast.key('pg_cast'::regclass, c.oid), age(c.xmin) from pg_cast c where of_kind = '' and age(c.xmin) <= oldest
        union all select walcast.key('pg_collation'::regclass, c.oid), age(c.xmin) from pg_collation c where of_kind = '' and age(c.xmin) <= oldest and c.oid >= 16384
        union all select walcast.key('pg_conversion'::regclass, c.oid), age(c.xmin) from pg_conversion c where of_kind = '' and age(c.xmin) <= oldest
        union all select walcast.key('pg_operator'::regclass, o.oid), age(o.xmin) from pg_operator o where of_kind = '' and age(o.xmin) <= oldest
        union all select walcast.key('pg_opclass'::regclass, c.oid), age(c.xmin) from pg_opclass c where of_kind = '' and age(c.xmin) <= oldest
        union all select walcast.key('pg_opfamily'::regclass, f.oid), age(f.xmin) from pg_opfamily f where of_kind = '' and age(f.xmin) <= oldest
        union all select walcast.key('pg_opfamily'::regclass, o.amopfamily), age(o.xmin) from pg_amop o where of_kind = '' and age(o.xmin) <= oldest
        union all select walcast.key('pg_opfamily'::regclass, p.amprocfamily), age(p.xmin) from pg_amproc p where of_kind = '' and age(p.xmin) <= oldest
        union all select walcast.key('pg_am'::regclass, m.oid), age(m.xmin) from pg_am m where of_kind = '' and age(m.xmin) <= oldest
        union all select walcast.key('pg_ts_parser'::regclass, p.oid), age(p.xmin) from pg_ts_parser p where of_kind = '' and age(p.xmin) <= oldest
        union all select walcast.key('pg_ts_template'::regclass, t.oid), age(t.xmin) from pg_ts_template t where of_kind = '' and age(t.xmin) <= oldest
        union all select walcast.key('pg_ts_dict'::regclass, d.oid), age(d.xmin) from pg_ts_dict d where of_kind = '' and age(d.xmin) <= oldest
        union all select walcast.key('pg_ts_config'::regclass, c.oid), age(c.xmin) from pg_ts_config c where of_kind = '' and age(c.xmin) <= oldest
        union all select walcast.key('pg_ts_config'::regclass, m.mapcfg), age(m.xmin) from pg_ts_config_map m where of_kind = '' and age(m.xmin) <= oldest
        union all select walcast.key('pg_transform'::regclass, t.oid), age(t.xmin) from pg_transform t where of_kind = '' and age(t.xmin) <= oldest
        union all select walcast.key('pg_class'::regclass, t.ftrelid), age(t.xmin) from pg_foreign_table t where of_kind = '' and age(t.xmin) <= oldest
        union all select walcast.key('pg_user_mapping'::regclass, m.oid), age(m.xmin) from pg_user_mapping m where of_kind = '' and age(m.xmin) <= oldest
        union all select walcast.top_key(d.classoid, d.objoid), age(d.xmin) from pg_description d where of_kind = '' and age(d.xmin) <= oldest
        ) t
        where t.k <> 0 and (not unseen or not exists (
            select from walcast.shadow s where s.class = (t.k >> 32)::oid and s.oid = (t.k & 4294967295)::oid and age(s.xmin) <= t.a))
        order by t.k);
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
    after := walcast.describe(class_oid, object);
    if rewritten is not null and class_oid = 'pg_class'::regclass then
        reason := (rewritten ->> object::text)::int;
    end if;
    if after is not distinct from before and reason is null then
        return null;
    end if;
    change := jsonb_build_object('class', class_oid::regclass::text, 'oid', object::bigint, 'before', before, 'after', after);
    if reason is not null then
        -- 2 a default was evaluated, 4 values were converted, 1 the table became logged: rows that the stream does not have
        change := change || jsonb_build_object('rewritten', reason & 6 <> 0 or reason & 1 <> 0 and not after ? 'persistence', 'rewrite_reason', reason);
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
create or replace function walcast.store(changes jsonb[]) returns void language plpgsql as $$
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
        if change -> 'after' ? 'indexes' and change -> 'after' -> 'indexes' is distinct from change -> 'before' -> 'indexes' then
            insert into walcast.shadow_index (index, relation)
            select (i ->> 'oid')::oid, object from jsonb_array_elements(change -> 'after' -> 'indexes') i where not i ? 'of_constraint'
                on conflict (index) do nothing;
        end if;
    end loop;
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
end
$$;

-- What roles, their memberships and settings add up to, cheaply: another text means that something may have changed.
create or replace function walcast.roles_print() returns text language plpgsql stable as $$
begin
    return (select count(*) || ':' || coalesce(sum(a.xmin::text::bigint * (a.oid::bigint % 1009 + 1)), 0) from pg_authid a)
        || (select '/' || count(*) || ':' || coalesce(sum(m.xmin::text::bigint * (m.member::bigint % 1009 + 1)), 0) from pg_auth_members m)
        || (select '/' || count(*) || ':' || coalesce(sum(s.xmin::text::bigint * (s.setrole::bigint % 1009 + 1)), 0) from pg_db_role_setting s)
        || (select '/' || count(*) || ':' || coalesce(sum(d.xmin::text::bigint * (d.objoid::bigint % 1009 + 1)), 0) from pg_shdescription d)
        || (select '/' || d.xmin from pg_database d where d.datname = current_database());
end
$$;

create or replace function walcast.role_keys() returns bigint[] language plpgsql stable as $$
begin
    return array(
        select walcast.key('pg_database'::regclass, d.oid) from pg_database d where d.datname = current_database()
        union all (select walcast.key('pg_authid'::regclass, a.oid) from pg_authid a where a.oid >= 16384
                   union select walcast.key(s.class, s.oid) from walcast.shadow s where s.class = 'pg_authid'::regclass order by 1));
end
$$;

-- Changes of roles, drops last. One transaction at a time keeps them in the shadow, so that no command waits for another
-- one's transaction to end; the others only send them. Nothing but a tick can send what another repeats for ever.
create or replace function walcast.role_changes() returns jsonb[] language plpgsql as $$
declare
    print text := walcast.roles_print();
    keeps boolean;
    changes jsonb[];
begin
    if exists (select from walcast.seen s where s.name = 'roles' and s.value = print) then
        return '{}';
    end if;
    changes := walcast.differences(walcast.role_keys());
    keeps := current_setting('transaction_isolation') = 'read committed' and pg_try_advisory_xact_lock(1463897164, 1);
    if keeps then
        perform walcast.store(changes);
        insert into walcast.seen (name, value) values ('roles', print) on conflict (name) do update set value = excluded.value;
    end if;
    return changes;
end
$$;

-- Drops first, dependents before what they depend on; then what was altered; then what was made. Inside each, as given,
-- except that roles come before everything and go after everything. What a drop altered, it altered by CASCADE: that has
-- to go before what it depends on.
create or replace function walcast.message(tag text, roles jsonb[], changes jsonb[], drops_last boolean default false) returns jsonb language plpgsql stable as $$
begin
    return jsonb_build_object('tag', tag, 'changes', coalesce((
        select jsonb_agg(c.change order by c.place, c.n) from (
            select change, n, case when change -> 'after' = 'null' then 5 when change -> 'before' = 'null' then 0 else 1 end as place
              from unnest(roles) with ordinality r (change, n)
            union all
            select change, n, case when change -> 'after' = 'null' then case when drops_last then 4 else 2 end when change -> 'before' = 'null' then 4 else 3 end
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
        k := walcast.top_key(cmd.classid, cmd.objid);
        continue when k = 0;
        if k <> all (keys) then
            keys := keys || k;
        end if;
        if (k >> 32)::oid = 'pg_class'::regclass then
            if cmd.command_tag = 'REFRESH MATERIALIZED VIEW' then
                refreshed := coalesce(refreshed, '[]') || to_jsonb(cmd.object_identity);
            elsif cmd.command_tag = 'ALTER SEQUENCE' then
                if tag = 'ALTER SEQUENCE' then
                    sequences := sequences || cmd.objid;
                end if;
            elsif cmd.command_tag <> 'CREATE TABLE' and cmd.command_tag <> 'CREATE SEQUENCE' then
                keys := keys || walcast.beside_relation((k & 4294967295)::oid, cmd.command_tag);
            end if;
        elsif cmd.command_tag = 'ALTER TYPE' then
            keys := keys || walcast.beside_type((k & 4294967295)::oid);
        end if;
    end loop;
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

create or replace function walcast.capture(tag text, touched bigint[], rewritten jsonb, dropped jsonb[], extra jsonb) returns void language plpgsql as $$
declare
    roles jsonb[];
    changes jsonb[];
begin
    roles := walcast.role_changes();
    changes := walcast.compare(walcast.unique_keys(touched), rewritten);
    if cardinality(changes) > 0 then
        perform walcast.store(changes);
    end if;
    changes := dropped || changes;
    if cardinality(changes) + cardinality(roles) > 0 or extra <> '{}' then
        perform walcast.emit(walcast.message(tag, roles, changes, cardinality(dropped) > 0) || extra);
    end if;
end
$$;

create or replace function walcast.on_ddl_end() returns event_trigger language plpgsql security definer as $$
declare
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
        with gone as (delete from walcast.rewritten r where r.xid = pg_current_xact_id() returning r.relation, r.reason)
        select jsonb_object_agg(g.relation, g.reason) into rewrites from gone g;
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
    perform walcast.capture(tg_tag, touched, rewrites, '{}', extra);
end
$$;

create or replace function walcast.on_drop() returns event_trigger language plpgsql security definer as $$
declare
    d record;
    keys bigint[] := '{}';
    auto boolean[] := '{}';
    touched bigint[] := '{}';
    indexes oid[] := '{}';
    changes jsonb[];
begin
    if tg_tag ~ '(PUBLICATION|SUBSCRIPTION|EVENT TRIGGER)$' then
        return;
    end if;
    for d in select o.classid, o.objid, o.objsubid, o.object_type, o.original or o.normal as asked, o.address_names from pg_event_trigger_dropped_objects() o where not o.is_temporary loop
        if d.objsubid <> 0 then
            if d.classid = 'pg_class'::regclass then
                touched := touched || walcast.top_key(d.classid, d.objid);
            end if;
        elsif d.object_type = 'index' then
            indexes := indexes || d.objid;
        elsif d.object_type in ('table constraint', 'default value') then
            if d.asked then
                touched := touched || coalesce((select walcast.key('pg_class'::regclass, c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                                                 where n.nspname = d.address_names[1] and c.relname = d.address_names[2]), 0);
            end if;
        elsif d.object_type = 'domain constraint' then
            touched := touched || coalesce(walcast.key('pg_type'::regclass, to_regtype(d.address_names[1])), 0);
        elsif d.object_type not in ('type', 'toast table') or d.asked then
            keys := keys || walcast.key(d.classid, d.objid);
            auto := auto || not d.asked;
        end if;
    end loop;
    if cardinality(keys) > 0 then
        with gone as (
            delete from walcast.shadow s using unnest(keys, auto) with ordinality k (key, auto, n)
             where s.class = (k.key >> 32)::oid and s.oid = (k.key & 4294967295)::oid returning s.class, s.oid, s.state, k.auto, k.n)
        select array_agg(jsonb_build_object('class', g.class::regclass::text, 'oid', g.oid::bigint, 'before', g.state, 'after', null)
                         || case when g.auto then '{"auto": true}' else '{}' end::jsonb order by g.n desc) into changes
          from gone g where not g.state ? 'limited';
    end if;
    if cardinality(indexes) > 0 then
        with gone as (delete from walcast.shadow_index i where i.index = any (indexes) returning i.relation)
        select touched || coalesce(array_agg(walcast.top_key('pg_class'::regclass, g.relation)), '{}') into touched from gone g;
    end if;
    perform walcast.capture(tg_tag, array_remove(touched, 0::bigint), null, coalesce(changes, '{}'), '{}');
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
