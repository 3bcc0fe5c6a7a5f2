-- Owners and privileges on a target. Continues target.sql.

-- Privileges of an object: {object: as GRANT calls it, owner, acl, default, initial, columns}. Absent privileges are
-- given as the default ones that they stand for. `initial` is of the system's and extensions' objects.
create or replace function walcast.grants(class oid, object oid) returns jsonb language plpgsql stable as $$
declare
    owner oid;
    items aclitem[];
    kind "char";
    name text := (pg_identify_object(class, object, 0)).identity;
    columns jsonb;
    initial aclitem[];
begin
    case class
    when 'pg_class'::regclass then
        select c.relowner, c.relacl, case c.relkind when 'S' then 's' else 'r' end into owner, items, kind from pg_class c where c.oid = object;
        name := case kind when 's' then 'SEQUENCE ' else 'TABLE ' end || name;
        select jsonb_object_agg(a.attname, walcast.acl(a.attacl)) into columns
          from pg_attribute a where a.attrelid = object and a.attacl is not null and not a.attisdropped;
    when 'pg_proc'::regclass then
        select p.proowner, p.proacl, 'f', 'ROUTINE ' || name into owner, items, kind, name from pg_proc p where p.oid = object;
    when 'pg_type'::regclass then
        select t.typowner, t.typacl, 'T', 'TYPE ' || name into owner, items, kind, name from pg_type t where t.oid = object;
    when 'pg_namespace'::regclass then
        select n.nspowner, n.nspacl, 'n', 'SCHEMA ' || name into owner, items, kind, name from pg_namespace n where n.oid = object;
    when 'pg_language'::regclass then
        select l.lanowner, l.lanacl, 'l', 'LANGUAGE ' || name into owner, items, kind, name from pg_language l where l.oid = object;
    when 'pg_foreign_data_wrapper'::regclass then
        select f.fdwowner, f.fdwacl, 'F', 'FOREIGN DATA WRAPPER ' || name into owner, items, kind, name from pg_foreign_data_wrapper f where f.oid = object;
    when 'pg_foreign_server'::regclass then
        select s.srvowner, s.srvacl, 'S', 'FOREIGN SERVER ' || name into owner, items, kind, name from pg_foreign_server s where s.oid = object;
    else
        return null;
    end case;
    if owner is null then
        return null;
    end if;
    select p.initprivs into initial from pg_init_privs p where p.classoid = class and p.objoid = object and p.objsubid = 0;
    return jsonb_strip_nulls(jsonb_build_object('object', name, 'owner', pg_get_userbyid(owner), 'schema', (pg_identify_object(class, object, 0)).schema,
        'acl', walcast.acl(coalesce(items, acldefault(kind, owner))), 'default', walcast.acl(acldefault(kind, owner)),
        'initial', walcast.acl(coalesce(initial, acldefault(kind, owner))), 'columns', coalesce(columns, '{}')));
end
$$;

-- What the target says of the names of roles: [{name, ours, system}], without those that are missing or somebody else's.
create or replace function walcast.roles_known(names jsonb) returns jsonb language plpgsql stable as $$
begin
    return (select coalesce(jsonb_agg(jsonb_build_object('name', r.rolname, 'ours', coalesce(l.how in ('created', 'adopted'), false),
                   'acting', walcast.may_act_as(r.rolname))), '[]')
              from pg_roles r left join walcast.role l on l.name = r.rolname
             where r.rolname in (select jsonb_array_elements_text(names)) and l.how is distinct from 'clash');
end
$$;

-- Gives an object its owner, or the stand-in if there is no such role yet. Returns who owns it now. Nobody's code runs.
create or replace function walcast.own(token text, class oid, object oid, owner text) returns text language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    heir text := walcast.heir(owner);
    state jsonb := walcast.describe(class, object);
begin
    -- a sequence that a column owns goes with its table
    if state is null or state ->> 'owner' = heir or state ? 'limited' or not state ? 'owner' or state ? 'owned_by' then
        return state ->> 'owner';
    elsif not walcast.may_act_as(state ->> 'owner') then
        raise exception '% belongs to role "%", which is not walcast''s', state ->> 'object', state ->> 'owner' using errcode = 'insufficient_privilege',
            hint = 'List the role under adopt in [roles] and run what `walcast setup --target NAME --print-sql` prints.';
    end if;
    execute 'alter ' || (state ->> 'object') || ' owner to ' || quote_ident(heir);
    return heir;
end
$$;

-- Default privileges of a role for a kind of objects, as walcast.grants.
create or replace function walcast.default_grants(role text, objects text, in_schema text) returns jsonb language plpgsql stable as $$
declare
    owner oid := to_regrole(quote_ident(role));
    kind "char" := case objects when 'TABLES' then 'r' when 'SEQUENCES' then 'S' when 'FUNCTIONS' then 'f' when 'TYPES' then 'T' when 'SCHEMAS' then 'n' else 'L' end;
    place oid := case when in_schema is null then 0 else to_regnamespace(quote_ident(in_schema)) end;
    built_in aclitem[] := case when in_schema is null then acldefault(case kind when 'S' then 's' else kind end, owner) end;
begin
    if owner is null or place is null then
        return null;
    end if;
    return jsonb_build_object('object', objects, 'owner', role, 'default', coalesce(walcast.acl(built_in), '[]'), 'initial', coalesce(walcast.acl(built_in), '[]'), 'columns', '{}'::jsonb,
        'acl', coalesce(walcast.acl(coalesce((select d.defaclacl from pg_default_acl d where d.defaclrole = owner and d.defaclnamespace = place and d.defaclobjtype = kind), built_in)), '[]'));
end
$$;

-- Privileges on schema public, which is nobody's of walcast's roles and is used by all.
create or replace function walcast.grant_on_public(token text, verb text, privilege text, grantee text, option boolean) returns void language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    what text := case privilege when 'CREATE' then 'create' else 'usage' end || ' on schema public';
    whom text := case grantee when '' then 'public' else quote_ident(grantee) end;
begin
    if grantee <> '' and not walcast.is_ours(grantee) then
        raise exception 'role "%" is not walcast''s', grantee using errcode = 'insufficient_privilege';
    end if;
    execute case verb when 'GRANT' then 'grant ' || what || ' to ' || whom || case when option then ' with grant option' else '' end
                      when 'REVOKE GRANT OPTION' then 'revoke grant option for ' || what || ' from ' || whom || ' cascade'
                      else 'revoke ' || what || ' from ' || whom || ' cascade' end;
end
$$;

-- Keeps in mind what could not be granted because roles are missing. Whoever could write this could have anything granted.
create or replace function walcast.keep_pending(token text, class oid, object oid, name text, missing jsonb, wanted jsonb) returns void language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
begin
    delete from walcast.pending_grant p where p.class = keep_pending.class and p.oid = keep_pending.object and (keep_pending.object <> 0 or p.object = name);
    if missing <> '[]' then
        insert into walcast.pending_grant (class, oid, object, missing, wanted)
            values (keep_pending.class, keep_pending.object, name, array(select jsonb_array_elements_text(keep_pending.missing)), keep_pending.wanted);
    end if;
end
$$;

-- The functions that an expression calls. Nothing depends on those of the system, but some of them run what a text says
-- (query_to_xml, ts_stat) or change the session (set_config).
create or replace function walcast.functions_in(expression pg_node_tree) returns setof oid language sql stable as $$
    select distinct m[1]::oid from regexp_matches(expression::text, ':(?:op)?funcid (\d+)', 'g') m
$$;

-- Whether a function is code of somebody's who is no superuser, or, of the system, does more than to compute a value. Where
-- an expression has to be immutable there are none of the latter.
create or replace function walcast.is_code(function oid) returns boolean language sql stable as $$
    select exists (select from pg_proc f where f.oid = function and (f.oid >= 16384 and not walcast.is_superuser(pg_get_userbyid(f.proowner))
                       or f.provolatile = 'v' and f.prorettype <> 'trigger'::regtype or f.proname ~ '_to_xml'))
$$;

-- Code that runs when rows of a table are written, or of its partitions: what contains it, and the function.
create or replace function walcast.code_of(relation oid) returns table (what text, function text) language sql stable as $$
    with recursive tables (oid) as (
        select relation union select t.relid from pg_partition_tree(relation) t),
    own (class, oid) as (
        select 'pg_constraint'::regclass::oid, k.oid from tables t join pg_constraint k on k.conrelid = t.oid where k.contype in ('c', 'x')
        union all select 'pg_class'::regclass, i.indexrelid from tables t join pg_index i on i.indrelid = t.oid
        union all select 'pg_class'::regclass, t.oid from tables t
        union all select 'pg_attrdef'::regclass, d.oid from tables t join pg_attrdef d on d.adrelid = t.oid
                    join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum and a.attgenerated <> ''
        union all select 'pg_trigger'::regclass, g.oid from tables t join pg_trigger g on g.tgrelid = t.oid where g.tgenabled in ('A', 'R')
        union all select 'pg_rewrite'::regclass, r.oid from tables t join pg_rewrite r on r.ev_class = t.oid where r.ev_enabled in ('A', 'R')),
    -- of columns, in expressions, and what these types are made of and check
    types (oid) as (
        select a.atttypid from tables t join pg_attribute a on a.attrelid = t.oid where a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384
        union select d.refobjid from own o join pg_depend d on d.classid = o.class and d.objid = o.oid and d.refclassid = 'pg_type'::regclass
        union
        select u.oid from types t join pg_type p on p.oid = t.oid, lateral (
            select p.typbasetype union all select p.typelem union all select r.rngsubtype from pg_range r where r.rngtypid = p.oid
            union all select r.rngtypid from pg_range r where to_jsonb(r) ->> 'rngmultitypid' = p.oid::text
            union all select d.refobjid from pg_constraint k join pg_depend d on d.classid = 'pg_constraint'::regclass and d.objid = k.oid
                        and d.refclassid = 'pg_type'::regclass where k.contypid = p.oid
            union all select a.atttypid from pg_attribute a where a.attrelid = p.typrelid and p.typrelid <> 0 and a.attnum > 0 and not a.attisdropped) u (oid) where u.oid >= 16384),
    parts (class, oid) as (
        select o.class, o.oid from own o
        union all select 'pg_constraint'::regclass, k.oid from types t join pg_constraint k on k.contypid = t.oid
        union all select 'pg_type'::regclass, r.rngtypid from types t join pg_range r on r.rngtypid = t.oid),
    calls (class, oid, function) as (
        select p.class, p.oid, d.refobjid from parts p join pg_depend d on d.classid = p.class and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
        union all select p.class, p.oid, o.oprcode from parts p join pg_depend d on d.classid = p.class and d.objid = p.oid and d.refclassid = 'pg_operator'::regclass
                    join pg_operator o on o.oid = d.refobjid
        union all select p.class, p.oid, f.oid from parts p join pg_constraint k on p.class = 'pg_constraint'::regclass and k.oid = p.oid, walcast.functions_in(k.conbin) f (oid)
        union all select p.class, p.oid, f.oid from parts p join pg_trigger g on p.class = 'pg_trigger'::regclass and g.oid = p.oid, walcast.functions_in(g.tgqual) f (oid))
    select distinct pg_describe_object(c.class, c.oid, 0), c.function::regprocedure::text from calls c where walcast.is_code(c.function)
    union all
    -- what a rule does is not looked into
    select pg_describe_object(p.class, p.oid, 0), null from parts p where p.class = 'pg_rewrite'::regclass
$$;

create or replace view walcast.code_in_the_way as
    select walcast.relation_name(c.oid) as relation, x.what, x.function
      from pg_class c join pg_namespace n on n.oid = c.relnamespace, lateral walcast.code_of(c.oid) x
     where c.relkind in ('r', 'p') and c.oid >= 16384 and n.nspname <> 'walcast';

-- Who has to write a table instead of the login: its owner, where writing runs code; '' where it is the login itself. Asked
-- for each table: most often nothing in the whole database refers to such a function, which is found out quickly.
create or replace function walcast.writer(relation oid) returns text language plpgsql stable as $$
declare
    owner text := (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = relation);
begin
    if owner = session_user or not exists (
           select from pg_proc f join pg_depend d on d.refclassid = 'pg_proc'::regclass and d.refobjid = f.oid
            where f.oid >= 16384 and walcast.is_code(f.oid)
              and d.classid in ('pg_constraint'::regclass, 'pg_class'::regclass, 'pg_attrdef'::regclass, 'pg_type'::regclass, 'pg_operator'::regclass))
       and not exists (select from pg_trigger g where g.tgenabled in ('A', 'R') and (not g.tgisinternal or g.tgparentid <> 0))
       and not exists (select from pg_rewrite r where r.ev_enabled in ('A', 'R'))
       and not exists (select from pg_constraint k, walcast.functions_in(k.conbin) f (oid) where k.contype = 'c' and walcast.is_code(f.oid)
                          and (k.contypid <> 0 or k.conrelid = relation or k.conrelid in (select t.relid from pg_partition_tree(relation) t))) then
        return '';
    end if;
    return case when exists (select from walcast.code_of(relation)) then owner else '' end;
end
$$;

-- Whether the login lacks what it needs to write an object's rows: SELECT too, to find them.
create or replace function walcast.is_shut_out(class oid, object oid) returns boolean language plpgsql stable as $$
declare
    kind "char" := (select c.relkind from pg_class c where class = 'pg_class'::regclass and c.oid = object);
begin
    return case when walcast.is_superuser(session_user) then false
                when class = 'pg_namespace'::regclass then not has_schema_privilege(session_user, object, 'usage')
                when kind = 'S' then not (has_sequence_privilege(session_user, object, 'select') and has_sequence_privilege(session_user, object, 'update'))
                when kind in ('r', 'p') then exists (select from unnest('{select,insert,update,delete,truncate}'::text[]) p where not has_table_privilege(session_user, object, p))
                else false end;
end
$$;

-- Grants the login what it needs, on what belongs to a role that walcast may act as.
create or replace function walcast.let_in(token text, class oid, object oid) returns void language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    grants jsonb := walcast.grants(class, object);
begin
    if walcast.is_shut_out(class, object) and walcast.may_act_as(grants ->> 'owner') then
        execute 'grant ' || case when class = 'pg_namespace'::regclass then 'usage' when grants ->> 'object' like 'SEQUENCE %' then 'select, usage, update'
                                 else 'select, insert, update, delete, truncate' end || ' on ' || (grants ->> 'object') || ' to ' || quote_ident(session_user);
    end if;
end
$$;
