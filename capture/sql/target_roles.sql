-- Roles on a target. Continues target.sql. What becomes of a role, by what the ledger (walcast.role) and the target have:
--
--   on the target  ledger               role is there on the source           role is gone on the source
--   -------------  -------------------  ------------------------------------  ---------------------------------------
--   no             -                    created, noted as created             nothing
--   yes            created, adopted     altered                               dropped; NOLOGIN if something needs it here
--   yes            -, and in `adopt`    noted as adopted, altered             nothing
--   yes            -, clash             noted as clash and reported           note of the clash removed
--   excluded       whatever             nothing                               nothing
--
-- What got another name on the source is renamed before any of this (walcast.rename_role).
--
-- Never replicated: SUPERUSER, REPLICATION, BYPASSRLS; CREATEROLE to servers before 16, where it lets one change the
-- login's password; memberships in roles that are not walcast's (a system's role may be adopted), but for those that only
-- read statistics and settings; settings that not everybody may make. They are reported once.
--
-- None of these functions lets its caller do anything to a role that is not in the ledger, nor give anybody what only a
-- superuser has. They return (verb, text): created, altered, dropped or skipped, and the role, or why.

create or replace function walcast.is_ours(role text) returns boolean language sql stable as $$
    select exists (select from walcast.role r join pg_roles p on p.rolname = r.name where r.name = role and r.how in ('created', 'adopted') and not p.rolsuper)
$$;

-- Whether walcast may take a role over: only a superuser can say so, at set-up or as the login.
create or replace function walcast.adopt(role text) returns boolean language plpgsql as $$
begin
    if exists (select from pg_roles r where r.rolname = role and not r.rolsuper and r.rolname not in (session_user, 'walcast_nobody'))
       and not exists (select from walcast.caller c where c.login = role) then
        insert into walcast.role (name, how) values (role, 'adopted') on conflict (name) do update set how = 'adopted' where walcast.role.how = 'clash';
        return true;
    end if;
    return false;
end
$$;

-- A setting as ALTER … SET wants it: lists are stored as one text.
create or replace function walcast.setting_value(name text, value text) returns text language sql stable as $$
    select case when name in ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries', 'unix_socket_directories')
                then (select string_agg(quote_literal(case when m[1] like '"%' then replace(substr(m[1], 2, length(m[1]) - 2), '""', '"') else m[1] end), ', ' order by n)
                        from regexp_matches(value, '\s*("(?:[^"]|"")*"|[^,"]+)\s*(?:,|$)', 'g') with ordinality x (m, n))
                else quote_literal(value) end
$$;

-- Settings of a role, or of the database: ALTER `subject` [IN DATABASE this] SET. What `before` or a role that walcast made
-- has, and `after` has not, is reset.
create or replace function walcast.apply_settings(subject text, role oid, whole boolean, before jsonb, after jsonb)
returns table (verb text, what text) language plpgsql as $$
declare
    s record;
    place text;
    now jsonb := coalesce(walcast.settings(role), '[]');
begin
    for s in
        with entries as (
            select e.side, (i ->> 'database')::boolean as here, split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value
              from (values ('now', now), ('before', before), ('after', after)) e (side, list),
                   jsonb_array_elements(case when jsonb_typeof(e.list) = 'array' then e.list else '[]' end) i, jsonb_array_elements_text(i -> 'config') c)
        select coalesce(w.here, n.here) as here, coalesce(w.name, n.name) as name, w.value as wanted, n.value as had, b.value as was
          from (select * from entries where side = 'after') w
          full join (select * from entries where side = 'now') n on n.here = w.here and n.name = w.name
          left join (select * from entries where side = 'before') b on b.here = coalesce(w.here, n.here) and b.name = coalesce(w.name, n.name)
         where w.value is distinct from n.value and (w.value is not null or b.value is not null or whole) order by 1, 2
    loop
        place := 'alter ' || subject || case when s.here and role <> 0 then ' in database ' || quote_ident(current_database()) else '' end;
        if s.wanted is null then
            execute place || ' reset ' || quote_ident(s.name);
        elsif exists (select from pg_settings p where p.name = s.name and p.context = 'user') then
            execute place || ' set ' || quote_ident(s.name) || ' = ' || walcast.setting_value(s.name, s.wanted);
        else
            continue when s.wanted is not distinct from s.was;
            return query select 'skipped', subject || ': setting ' || s.name || ' is not one that everybody may make';
            continue;
        end if;
        return query select 'altered', subject;
    end loop;
end
$$;

-- Memberships of a role. Returns the roles that are missing, as (missing, name). Before 16 a membership has no options of
-- its own: the role's INHERIT says whether it inherits; one without SET cannot be expressed and would give more.
create or replace function walcast.apply_memberships(member text, whole boolean, before jsonb, after jsonb, exclude text[])
returns table (verb text, what text) language plpgsql as $$
declare
    step record;
    modern boolean := current_setting('server_version_num')::int >= 160000;
    inherits boolean := (select r.rolinherit from pg_roles r where r.rolname = member);
    initial text := (select r.rolname from pg_roles r where r.oid = 10);
    options text;
begin
    for step in
        with wanted as (
            select distinct on (x.role, x.giver) x.* from (
                select m ->> 'role' as role, (m ->> 'admin')::boolean as admin, case when modern then coalesce((m ->> 'inherit')::boolean, inherits) else inherits end as inherit, coalesce((m ->> 'set')::boolean, true) as set,
                       case when modern and walcast.is_ours(m ->> 'grantor') and exists (
                           select from pg_auth_members g where g.roleid = to_regrole(quote_ident(m ->> 'role')) and g.member = to_regrole(quote_ident(m ->> 'grantor')) and g.admin_option)
                           then m ->> 'grantor' else initial end as giver
                  from jsonb_array_elements(case when jsonb_typeof(after) = 'array' then after else '[]' end) m) x
             order by x.role, x.giver, x.admin desc, x.set desc, x.inherit desc),
        now as (
            select pg_get_userbyid(m.roleid)::text as role, m.admin_option as admin, coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, inherits) as inherit,
                   coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) as set, case when modern then pg_get_userbyid(m.grantor)::text else initial end as giver
              from pg_auth_members m where m.member = to_regrole(quote_ident(apply_memberships.member)))
        select coalesce(w.role, n.role) as role, coalesce(w.giver, n.giver) as giver, w.role is not null as wanted, n.role is not null as there,
               w.admin, w.inherit, w.set, n.admin as had_admin,
               exists (select from jsonb_array_elements(case when jsonb_typeof(before) = 'array' then before else '[]' end) b where b ->> 'role' = coalesce(w.role, n.role)) as was
          from wanted w full join now n on n.role = w.role and n.giver = w.giver
         where (w.admin, w.inherit, w.set) is distinct from (n.admin, n.inherit, n.set) and (w.role is not null or whole
               or exists (select from jsonb_array_elements(case when jsonb_typeof(before) = 'array' then before else '[]' end) b where b ->> 'role' = n.role))
         order by 3, 1
    loop
        if not step.wanted then
            execute format('revoke %I from %I granted by %I cascade', step.role, member, step.giver);
        elsif step.role = any (exclude) or to_regrole(quote_ident(step.role)) is null then
            return query select 'missing', step.role;
            continue;
        elsif not walcast.is_ours(step.role) and step.role not in ('pg_monitor', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables') then
            continue when step.was;
            return query select 'skipped', format('ROLE %I: role %I, which it is a member of, is not walcast''s; list it under adopt', member, step.role);
            continue;
        elsif not modern and not step.set then
            continue when step.was;
            return query select 'skipped', format('ROLE %I: a membership without SET, in role %I, needs PostgreSQL 16', member, step.role);
            continue;
        elsif modern then
            execute format('grant %I to %I with admin %s, inherit %s, set %s granted by %I', step.role, member, step.admin::text, step.inherit::text, step.set::text, step.giver);
        else
            if step.had_admin and not step.admin then
                execute format('revoke admin option for %I from %I cascade', step.role, member);
            end if;
            execute format('grant %I to %I', step.role, member) || case when step.admin then ' with admin option' else '' end;
        end if;
        return query select 'altered', format('ROLE %I', member);
    end loop;
end
$$;

-- Keeps in mind which memberships are waiting for roles.
create or replace function walcast.keep_memberships(member text, whole boolean, wanted jsonb, missing text[]) returns void language plpgsql as $$
declare
    role oid := to_regrole(quote_ident(member));
begin
    delete from walcast.pending_grant p where p.class = 'pg_authid'::regclass and p.oid = role;
    if missing <> '{}' then
        insert into walcast.pending_grant (class, oid, object, missing, wanted)
            values ('pg_authid'::regclass, role, 'ROLE ' || quote_ident(member), missing, jsonb_build_object('member_of', wanted, 'whole', whole));
    end if;
end
$$;

create or replace function walcast.drop_role(role text) returns table (verb text, what text) language plpgsql as $$
declare
    number oid := to_regrole(quote_ident(role));
begin
    if not walcast.is_ours(role) then
        delete from walcast.role r where r.name = role;
        return;
    end if;
    execute 'drop materialized view if exists walcast.as_' || number;
    begin
        execute format('drop role %I', role);
        delete from walcast.role r where r.name = role;
        delete from walcast.pending_grant p where p.class = 'pg_authid'::regclass and p.oid = number;
        return query select 'dropped', format('ROLE %I', role);
    exception when dependent_objects_still_exist then
        execute format('alter role %I nologin', role);
        return query select 'skipped', format('ROLE %I: it was dropped on the source, and objects here still depend on it', role);
    end;
end
$$;

-- Another name for a role of walcast's, unless somebody has it. Whether it was renamed.
create or replace function walcast.rename_role(token text, old text, name text) returns boolean language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
begin
    if not walcast.is_ours(old) or to_regrole(quote_ident(name)) is not null then
        return false;
    end if;
    execute format('alter role %I rename to %I', old, name);
    delete from walcast.role r where r.name = rename_role.name; -- there was no such role any more
    update walcast.role r set name = rename_role.name where r.name = old;
    return true;
end
$$;

-- Renamed roles before walcast.rename_role did, and would stay beside the one that is called now.
do $$
begin
    if to_regprocedure('walcast.claim_role(text, text, text[])') is not null then
        drop function walcast.claim_role(text, text, text[]);
    end if;
end
$$;

-- The name is walcast's afterwards, or what is returned is why it is not.
create or replace function walcast.claim_role(name text, adopt text[]) returns table (verb text, what text) language plpgsql as $$
begin
    if to_regrole(quote_ident(name)) is null then
        execute format('create role %I', name);
        insert into walcast.role (name, how) values (name, 'created') on conflict on constraint role_pkey do update set how = 'created', since = now();
        return query select 'created', format('ROLE %I', name);
    elsif walcast.is_ours(name) then
        return;
    elsif name = any (adopt) and walcast.is_superuser(session_user) and walcast.adopt(name) then
        return query select 'altered', format('ROLE %I', name);
    else
        insert into walcast.role (name, how) values (name, 'clash') on conflict on constraint role_pkey do nothing;
        return query select 'skipped', format('ROLE %I: a role of this name is on the target already; list it under adopt, or rename one of them', name);
    end if;
end
$$;

create or replace function walcast.apply_role(token text, before jsonb, after jsonb, adopt text[], exclude text[])
returns table (verb text, what text) language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    subject text := coalesce(after, before) ->> 'name';
    whole boolean;
    r pg_roles;
    p walcast.pending_grant;
    sql text;
    missing text[];
begin
    if subject = any (exclude) then
        return;
    elsif after is null then
        return query select * from walcast.drop_role(subject);
        return;
    end if;
    return query select * from walcast.claim_role(subject, adopt);
    if not walcast.is_ours(subject) then
        return;
    end if;
    whole := exists (select from walcast.role l where l.name = subject and l.how = 'created');
    select * into strict r from pg_roles x where x.rolname = subject;
    sql := concat_ws(' ',
        case when r.rolinherit <> (after ->> 'inherit')::boolean then case when r.rolinherit then 'noinherit' else 'inherit' end end,
        case when r.rolcreatedb <> (after ->> 'createdb')::boolean then case when r.rolcreatedb then 'nocreatedb' else 'createdb' end end,
        case when r.rolcreaterole <> (after ->> 'createrole')::boolean and (r.rolcreaterole or current_setting('server_version_num')::int >= 160000)
             then case when r.rolcreaterole then 'nocreaterole' else 'createrole' end end,
        case when r.rolcanlogin <> (after ->> 'login')::boolean then case when r.rolcanlogin then 'nologin' else 'login' end end,
        case when r.rolconnlimit <> coalesce((after ->> 'connection_limit')::int, -1) then 'connection limit ' || coalesce(after ->> 'connection_limit', '-1') end,
        case when coalesce(r.rolvaliduntil, 'infinity') <> coalesce((after ->> 'valid_until')::timestamptz, 'infinity')
             then 'valid until ' || quote_literal(coalesce(after ->> 'valid_until', 'infinity')) end);
    if sql <> '' then
        execute format('alter role %I %s', subject, sql);
        return query select 'altered', format('ROLE %I', subject);
    end if;
    return query select 'skipped', format('ROLE %I: %s is not replicated', subject, upper(a)) from unnest('{superuser,replication,bypassrls,createrole}'::text[]) a
        where (after ->> a)::boolean and not coalesce((before ->> a)::boolean, false) and (a <> 'createrole' or current_setting('server_version_num')::int < 160000);
    return query select * from walcast.apply_password(subject, after ->> 'password');
    if shobj_description(r.oid, 'pg_authid') is distinct from after ->> 'comment' then
        execute format('comment on role %I is %L', subject, after ->> 'comment');
        return query select 'altered', format('ROLE %I', subject);
    end if;
    return query select * from walcast.apply_settings(format('ROLE %I', subject), r.oid, whole, before -> 'settings', after -> 'settings');
    return query select m.* from walcast.apply_memberships(subject, whole, before -> 'member_of', after -> 'member_of', exclude) m where m.verb <> 'missing';
    -- what is still missing is what a second look says, which by now does nothing else
    missing := array(select m.what from walcast.apply_memberships(subject, whole, before -> 'member_of', after -> 'member_of', exclude) m where m.verb = 'missing' order by 1);
    perform walcast.keep_memberships(subject, whole, after -> 'member_of', missing);
    for p in select * from walcast.pending_grant g where g.class = 'pg_authid'::regclass and subject = any (g.missing) order by g.object loop
        return query select m.* from walcast.apply_memberships(pg_get_userbyid(p.oid), (p.wanted -> 'whole')::boolean, null, p.wanted -> 'member_of', exclude) m where m.verb = 'altered';
        missing := array(select m.what from walcast.apply_memberships(pg_get_userbyid(p.oid), (p.wanted -> 'whole')::boolean, null, p.wanted -> 'member_of', exclude) m where m.verb = 'missing' order by 1);
        perform walcast.keep_memberships(pg_get_userbyid(p.oid), (p.wanted -> 'whole')::boolean, p.wanted -> 'member_of', missing);
    end loop;
end
$$;

-- A password, as the source stores it; '' is none, null says nothing. Errors must not have it in their context.
create or replace function walcast.apply_password(name text, password text) returns table (verb text, what text) language plpgsql as $$
begin
    if password is null or password = coalesce((select a.rolpassword from pg_authid a where a.rolname = name), '') then
        return;
    end if;
    begin
        execute format('alter role %I password %L', name, nullif(password, ''));
    exception when others then
        raise exception 'the password of role "%" could not be set: SQLSTATE %', name, sqlstate using errcode = sqlstate;
    end;
    return query select 'altered', format('ROLE %I', name);
end
$$;

-- The database: privileges and settings go to the one that is the target. Its owner stays.
create or replace function walcast.apply_database(token text, before jsonb, after jsonb, exclude text[])
returns table (verb text, what text) language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    d pg_database;
    g record;
    subject text := 'DATABASE ' || quote_ident(current_database());
    missing text[] := '{}';
begin
    select * into strict d from pg_database x where x.datname = current_database();
    for g in
        with wanted as (select a.grantee, a.privilege, bool_or(a.grantable) as grantable from walcast.database_acl(after, d.datdba) a group by 1, 2),
             had as (select a.grantee, a.privilege from walcast.database_acl(before, d.datdba) a),
             now as (select case x.grantee when 0 then '' else pg_get_userbyid(x.grantee)::text end as grantee, x.privilege_type as privilege, bool_or(x.is_grantable) as grantable
                       from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x group by 1, 2)
        select coalesce(w.grantee, n.grantee) as grantee, coalesce(w.privilege, n.privilege) as privilege, w.grantee is not null as wanted, w.grantable, n.grantable as had_option
          from wanted w full join now n on n.grantee = w.grantee and n.privilege = w.privilege
         where w.grantable is distinct from n.grantable and (w.grantee is not null or (n.grantee, n.privilege) in (select h.grantee, h.privilege from had h))
           and coalesce(w.grantee, n.grantee) <> pg_get_userbyid(d.datdba) order by 3, 1, 2
    loop
        if g.grantee <> '' and (g.grantee = any (exclude) or to_regrole(quote_ident(g.grantee)) is null
                or exists (select from walcast.role r where r.name = g.grantee and r.how = 'clash')) then
            missing := missing || case when g.wanted then g.grantee end;
            continue;
        elsif not g.wanted then
            execute 'revoke ' || g.privilege || ' on ' || subject || ' from ' || case g.grantee when '' then 'public' else quote_ident(g.grantee) end || ' cascade';
        elsif g.had_option and not g.grantable then
            execute 'revoke grant option for ' || g.privilege || ' on ' || subject || ' from ' || quote_ident(g.grantee) || ' cascade';
        else
            execute 'grant ' || g.privilege || ' on ' || subject || ' to ' || case g.grantee when '' then 'public' else quote_ident(g.grantee) end
                || case when g.grantable then ' with grant option' else '' end;
        end if;
        return query select 'altered', subject;
    end loop;
    delete from walcast.pending_grant p where p.class = 'pg_database'::regclass;
    if array_remove(missing, null) <> '{}' then
        insert into walcast.pending_grant (class, oid, object, missing, wanted) values ('pg_database'::regclass, d.oid, subject, array_remove(missing, null), after);
    end if;
    if before ->> 'comment' is distinct from after ->> 'comment' and shobj_description(d.oid, 'pg_database') is distinct from after ->> 'comment' then
        execute format('comment on database %I is %L', d.datname, after ->> 'comment');
        return query select 'altered', subject;
    end if;
    return query select * from walcast.apply_settings(subject, 0, false, before -> 'settings', after -> 'settings');
end
$$;

-- Privileges in a state of a database, without the owner's own.
create or replace function walcast.database_acl(state jsonb, owner oid) returns table (grantee text, privilege text, grantable boolean) language sql stable as $$
    select a ->> 'grantee', a ->> 'privilege', (a ->> 'grantable')::boolean from jsonb_array_elements(state -> 'acl') a where a ->> 'grantee' is distinct from state ->> 'owner'
    union all
    select case x.grantee when 0 then '' else pg_get_userbyid(x.grantee)::text end, x.privilege_type, x.is_grantable from aclexplode(acldefault('d', owner)) x
     where state is not null and not state ? 'acl' and x.grantee = 0
$$;
