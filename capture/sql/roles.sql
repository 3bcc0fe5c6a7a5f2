-- Roles, memberships and settings: no event trigger tells of them. See capture.sql.

-- What roles, their memberships and settings add up to, cheaply: another text means that something may have changed.
-- Commands look at the first two only, since that is all that the objects that they touch can depend on.
create or replace function walcast.names_print() returns text language plpgsql stable as $$
begin
    return (select count(*) || ':' || bit_xor(hash_record_extended(row(a.oid, a.xmin), 0)) from pg_authid a)
        || (select '/' || count(*) || ':' || coalesce(bit_xor(hash_record_extended(row(m.member, m.roleid, m.xmin), 0)), 0) from pg_auth_members m);
end
$$;

create or replace function walcast.roles_print() returns text language plpgsql stable as $$
begin
    return walcast.names_print()
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

-- Of those, the ones that were written since, or together with, their row in the shadow, or that have none. That a role is
-- gone is left for a tick to tell, which knows who owns what now.
create or replace function walcast.touched_roles() returns bigint[] language plpgsql stable as $$
begin
    return array(
        select walcast.key('pg_authid'::regclass, a.oid) from pg_authid a
          left join (select s.oid, age(s.xmin) as age from walcast.shadow s where s.class = 'pg_authid'::regclass) s on s.oid = a.oid
          left join (select m.member, min(age(m.xmin)) as age, count(*) from pg_auth_members m group by m.member) m on m.member = a.oid
         where a.oid >= 16384 and (s.oid is null or s.age >= age(a.xmin) or s.age >= m.age
               or m.count is distinct from (select nullif(jsonb_array_length(h.state -> 'member_of'), 0) from walcast.shadow h where h.class = 'pg_authid'::regclass and h.oid = a.oid))
         order by 1);
end
$$;

-- The shadow of what is called after roles that have got other names: nobody else is told of that.
--
--   T1: CREATE TABLE, finds a → c, follows                      T2
--   locks the shadow's rows of a's default privileges
--   and user mappings until it ends                             DROP USER MAPPING FOR c: waits for T1
--
-- That is meant: if T2 went on, it would commit after T1 and tell of a mapping "for a" that targets no longer have. Nobody else
-- waits, nor does this function (what is locked is followed by who locked it, or by a tick); but T1 and T2 may come to wait for
-- each other if T2 has locked what T1 goes on to alter. Then the server ends one of them with 40P01, as with any two
-- transactions that alter the same objects in different order.
create or replace function walcast.follow_names(changes jsonb[]) returns void language plpgsql as $$
declare
    change jsonb;
begin
    foreach change in array changes loop
        if change ->> 'class' = 'pg_authid' and change -> 'before' ->> 'name' <> change -> 'after' ->> 'name' then
            -- nothing but how it is called: the command that has just ended may have altered it
            update walcast.shadow s set state = s.state || (select jsonb_object_agg(k.key, k.value) from jsonb_each(f.now) k where k.key in ('identity', 'object', 'address', 'role')) from (
                select l.class, l.oid, l.state, walcast.describe(l.class, l.oid) as now from (
                    select s.class, s.oid, s.state from walcast.shadow s join pg_shdepend d on s.class = d.classid and s.oid = d.objid
                     where d.refclassid = 'pg_authid'::regclass and d.refobjid = (change ->> 'oid')::oid and d.classid in ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
                       and d.deptype = 'o' and d.dbid = (select b.oid from pg_database b where b.datname = current_database())
                       for update of s skip locked) l) f
             where s.class = f.class and s.oid = f.oid and f.now -> 'identity' <> s.state -> 'identity';
        end if;
    end loop;
end
$$;

-- Roles that are gone and whose names others have got: targets have to know which is which.
--
--   source                                      message                    target
--   ------------------------------------------  -------------------------  ------------------------------------------------
--   REASSIGN OWNED BY b TO c; DROP ROLE b       no event tells of these    b, and what it owns
--   ALTER ROLE a RENAME TO b; CREATE TABLE t    a → b, b is gone           b is moved aside; a is b; what was b still owns
--                                                                          something, and cannot be dropped
--   a tick                                      its tables are c's,        they are c's; what was b is dropped
--                                               what was b is gone
--
-- So a command, which knows of no objects but its own, does not have the last word: the shadow keeps the role, under the name
-- that targets give it. By that the next tick finds it gone, and no role of its own name makes it look as if made anew.
create or replace function walcast.replaced_roles(changes jsonb[]) returns jsonb[] language plpgsql stable as $$
begin
    return array(
        select jsonb_build_object('class', 'pg_authid', 'oid', s.oid::bigint, 'before', s.state, 'after', null)
          from unnest(changes) c (change) join walcast.shadow s on s.class = 'pg_authid'::regclass and s.state ->> 'name' = c.change -> 'after' ->> 'name' and s.oid <> (c.change ->> 'oid')::oid
         where c.change -> 'before' <> 'null' and not exists (select from pg_authid a where a.oid = s.oid));
end
$$;

-- What the shadow has of members, and of the database's privileges, names these roles as they were called. It is told together
-- with them, also where it reads the same: names may have been exchanged. Otherwise nobody could say later on who was meant.
create or replace function walcast.named_after(changes jsonb[]) returns jsonb[] language plpgsql stable as $$
declare
    names text[] := array(select c -> 'before' ->> 'name' from unnest(changes) c where c ->> 'class' = 'pg_authid' and c -> 'before' ->> 'name' is distinct from c -> 'after' ->> 'name');
begin
    if array_remove(names, null) = '{}' then
        return '{}';
    end if;
    return array(
        select jsonb_build_object('class', n.class::regclass::text, 'oid', n.oid::bigint, 'before', n.state, 'after', n.now) from (
            select f.class, f.oid, f.state, walcast.describe(f.class, f.oid) as now from (
                select s.class, s.oid, s.state from walcast.shadow s
                 where s.class in ('pg_authid'::regclass, 'pg_database'::regclass) and s.oid <> all (array(select (c ->> 'oid')::oid from unnest(changes) c))
                   and exists (select from jsonb_array_elements(coalesce(s.state -> 'member_of', s.state -> 'acl')) m where m ->> 'role' = any (names) or m ->> 'grantee' = any (names))
                offset 0) f
            offset 0) n
         where n.now is not null order by n.class, n.oid);
end
$$;

create or replace function walcast.keep_replaced(replaced jsonb[]) returns void language plpgsql as $$
begin
    update walcast.shadow s set state = s.state || jsonb_build_object('name', n.name, 'identity', n.name, 'object', 'ROLE ' || n.name)
      from unnest(replaced) r (change), lateral (select 'walcast_moved_' || (r.change ->> 'oid') as name) n
     where s.class = 'pg_authid'::regclass and s.oid = (r.change ->> 'oid')::oid;
end
$$;

create or replace function walcast.note_told(changes jsonb[]) returns boolean language plpgsql as $$
begin
    insert into walcast.told (oid, state)
        select (c ->> 'oid')::oid, c -> 'after' from unnest(changes) c
         where c ->> 'class' = 'pg_authid' and c -> 'after' <> 'null';
    return found;
end
$$;

-- Changes of roles. One transaction at a time keeps them in the shadow, so that no command waits for another
-- one's transaction to end; the others only send them. Nothing but a tick can send what another repeats for ever.
create or replace function walcast.role_changes() returns jsonb[] language plpgsql as $$
declare
    print text := walcast.names_print();
    keeps boolean;
    done boolean;
    changes jsonb[];
    replaced jsonb[];
begin
    if exists (select from walcast.seen s where s.name = 'role names' and s.value = print) then
        return '{}';
    end if;
    changes := walcast.differences(walcast.touched_roles());
    replaced := walcast.replaced_roles(changes);
    changes := changes || walcast.named_after(changes || replaced);
    keeps := current_setting('transaction_isolation') = 'read committed' and pg_try_advisory_xact_lock(1463897164, 1);
    if keeps then
        done := walcast.store(changes);
        perform walcast.keep_replaced(replaced);
        insert into walcast.seen (name, value) values ('role names', print) on conflict (name) do update set value = excluded.value;
    else
        done := walcast.note_told(changes);
    end if;
    perform walcast.follow_names(changes);
    return changes || replaced;
end
$$;

-- Roles that changed. Kept in the shadow unless a command in progress is just keeping them: then they are sent all the
-- same, once, because that command may be long in committing.
create or replace function walcast.tick_roles() returns jsonb[] language plpgsql as $$
declare
    done boolean;
    print text := walcast.roles_print();
    sent boolean := exists (select from walcast.seen s where s.name = 'roles of tick' and s.value = print);
    changes jsonb[];
    late jsonb[] := '{}';
begin
    if exists (select from walcast.seen s where s.name = 'roles' and s.value = print) and not exists (select from walcast.told) then
        return '{}';
    end if;
    changes := walcast.differences(walcast.role_keys());
    changes := changes || walcast.named_after(changes);
    -- Only one of the two is kept: roles that are dropped again bring back the print of before them.
    if pg_try_advisory_xact_lock(1463897164, 1) then
        -- What others told, who could not keep it, may have come after what was kept: the last word is this one.
        late := array(
            select distinct on (t.oid) jsonb_build_object('class', 'pg_authid', 'oid', t.oid::bigint, 'before', t.state, 'after', r.now)
              from walcast.told t, lateral (select walcast.describe('pg_authid'::regclass, t.oid) as now) r
             where case when r.now is null then not exists (select from walcast.shadow s where s.class = 'pg_authid'::regclass and s.oid = t.oid) else r.now <> t.state end
               and t.oid <> all (array(select (c ->> 'oid')::oid from unnest(changes) c)) order by t.oid, t.id desc);
        -- what was sent once came before what was kept meanwhile
        sent := false;
        done := walcast.store(changes);
        delete from walcast.told;
        delete from walcast.seen where name = 'roles of tick';
        insert into walcast.seen (name, value) values ('roles', print) on conflict (name) do update set value = excluded.value;
    elsif not sent then
        delete from walcast.seen where name = 'roles';
        insert into walcast.seen (name, value) values ('roles of tick', print) on conflict (name) do update set value = excluded.value;
        done := walcast.note_told(changes);
    end if;
    perform walcast.follow_names(changes);
    changes := case when sent then '{}' else changes end || late;
    -- a role that was dropped and made again is, to targets, one that was altered
    return array(select c.change from unnest(changes) with ordinality c (change, n)
                  where c.change -> 'after' <> 'null' or not exists (select from pg_authid a where a.rolname = c.change -> 'before' ->> 'name')
                     or exists (select from unnest(changes) o (other) where o.other -> 'after' ->> 'name' = c.change -> 'before' ->> 'name' and o.other -> 'before' <> 'null') order by c.n);
end
$$;
