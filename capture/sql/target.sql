-- What a target needs to be given DDL, roles and privileges by a login that is no superuser. A superuser runs it, once for
-- each version of walcast; `walcast.state.sql` and the files beside it come first. docs/security.md is about what it allows.
--
-- Whose code runs with whose rights
-- ---------------------------------
-- An owner's objects contain his code: defaults, CHECKs, index expressions, generated columns, domains, triggers. A
-- statement that evaluates it runs in walcast.run, as the query of a materialized view that belongs to that owner:
-- REFRESH MATERIALIZED VIEW switches to the view's owner in a *security-restricted operation*, which is what PostgreSQL
-- itself uses for code of people that one does not trust. Inside it, on all versions from 14 on,
--
--   * RESET ROLE, SET ROLE, SET SESSION AUTHORIZATION fail;
--   * a deferred trigger cannot be queued, so that nothing is left to run at COMMIT with the login's rights;
--   * PREPARE, DEALLOCATE, cursors WITH HOLD, LISTEN, temporary objects fail: nothing is left in the session that the
--     login would stumble over later;
--   * every SET is undone at its end, so that neither search_path nor DateStyle of the session can be changed.
--
-- A SECURITY DEFINER function of the owner would only give the first of these.
--
-- Who may call it
-- ---------------
-- walcast.run lets the caller act as any role of the ledger. Code that runs in the login's session has the login's rights
-- (a trigger that somebody enabled on a target's table), so these are not enough: each call carries a token, that only
-- the program knows, as a parameter. The target knows its digest. A parameter's value is seen by nothing that runs on the
-- server in that session: pg_stat_activity and pg_prepared_statements show $1, and error contexts show parameters only if
-- log_parameter_max_length_on_error says so, which callers set to 0.

do $$
begin
    if to_regrole('walcast_nobody') is null then
        create role walcast_nobody;
    end if;
exception
    -- another database of the cluster is just being set up
    when unique_violation or duplicate_object then null;
end
$$;

-- What could not be granted, or given to its owner, because roles are missing. Objects by their OID here.
create table if not exists walcast.pending_grant (
    class oid not null,
    oid oid not null,
    object text not null,
    missing text[] not null,
    wanted jsonb not null,
    since timestamptz not null default now(),
    primary key (class, oid, object)
);

-- The login, and the digest of what it has to know.
create table if not exists walcast.caller (
    login text primary key,
    digest text not null
);

create or replace function walcast.is_superuser(name text) returns boolean language sql stable as $$
    select coalesce((select r.rolsuper from pg_roles r where r.rolname = name), false)
$$;

create or replace function walcast.authorize(token text) returns boolean language plpgsql stable as $$
begin
    if not walcast.is_superuser(session_user) and not exists (
        select from walcast.caller c where c.login = session_user and c.digest = encode(sha256(convert_to(token, 'UTF8')), 'hex')) then
        raise exception 'only walcast may call this' using errcode = 'insufficient_privilege', hint = 'Run what `walcast setup --target NAME --print-sql` prints.';
    end if;
    return true;
end
$$;

-- Whether walcast may act as this role: its own roles, the stand-in, and the login itself; a superuser also as any other.
create or replace function walcast.may_act_as(name text) returns boolean language plpgsql stable as $$
begin
    return walcast.is_superuser(session_user) or not walcast.is_superuser(name) and (name in (session_user, 'walcast_nobody')
        or exists (select from walcast.role r where r.name = may_act_as.name and r.how in ('created', 'adopted')));
end
$$;

-- Who has an object on the target whose owner on the source is called so: he, if he is here and is not somebody else; the
-- login what a superuser has, if it is none itself; the stand-in everything else. The stand-in may do nothing and nobody
-- can log in as him, so that a function with SECURITY DEFINER of an owner who is not replicated gives nobody anything.
create or replace function walcast.heir(owner text) returns text language plpgsql stable as $$
begin
    return case when walcast.is_superuser(owner) and not walcast.is_superuser(session_user) then session_user
                when exists (select from pg_roles r left join walcast.role l on l.name = r.rolname where r.rolname = owner and l.how is distinct from 'clash') then owner
                else 'walcast_nobody' end;
end
$$;

-- The statement of walcast.run, or that of walcast.write with its arguments. Runs as the owner of the view whose query it
-- is. Deferred triggers of rows fire at once: later on they could not be fired as their owner.
create or replace function walcast.go() returns bigint language plpgsql as $$
declare
    arguments text[] := nullif(pg_catalog.current_setting('walcast.arguments', true), '')::pg_catalog.text[];
    n bigint;
begin
    if arguments is null then
        execute pg_catalog.current_setting('walcast.job');
    else
        set constraints all immediate;
        execute pg_catalog.current_setting('walcast.job') using arguments;
    end if;
    get diagnostics n = row_count;
    return n;
end
$$;

-- The view of a role, made when it is first needed. Without USAGE on the schema its owner can neither alter nor drop it.
create or replace function walcast.view_of(role oid) returns text language plpgsql as $$
declare
    view text := 'walcast.as_' || role;
    owner oid := (select c.relowner from pg_class c where c.oid = to_regclass('walcast.as_' || role));
begin
    if owner is distinct from role then
        if owner is not null then
            execute 'drop materialized view ' || view;
        end if;
        execute 'create materialized view ' || view || ' as select walcast.go() as n with no data';
        execute 'alter materialized view ' || view || ' owner to ' || quote_ident(pg_get_userbyid(role));
    end if;
    return view;
end
$$;

-- Objects of a role in a schema that others could take for theirs.
create or replace function walcast.planted(role oid, namespace oid) returns bigint language sql volatile as $$
    select (select count(*) from pg_class c where c.relnamespace = namespace and c.relowner = role and c.relkind in ('r', 'p', 'v', 'm', 'f'))
         + (select count(*) from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = namespace and p.proowner = role and l.lanname <> 'internal')
         + (select count(*) from pg_type t where t.typnamespace = namespace and t.typowner = role and t.typrelid = 0 and t.typelem = 0 and t.typtype <> 'm')
         + (select count(*) from pg_operator o where o.oprnamespace = namespace and o.oprowner = role and o.oprcode <> 0)
$$;

-- Lends a role what it lacks to work in a schema, or, for '', to make and rename schemas; returns what.
create or replace function walcast.lend(role oid, place text) returns text language plpgsql as $$
declare
    lent text := case when place = '' then case when not has_database_privilege(role, current_database(), 'create') then 'create' else '' end
        else concat_ws(', ', case when not has_schema_privilege(role, place, 'create') then 'create' end,
                             case when not has_schema_privilege(role, place, 'usage') then 'usage' end) end;
begin
    if lent <> '' then
        execute 'grant ' || lent || ' on ' || walcast.place_name(place) || ' to ' || quote_ident(pg_get_userbyid(role));
    end if;
    return lent;
end
$$;

create or replace function walcast.place_name(place text) returns text language sql stable as $$
    select case place when '' then 'database ' || quote_ident(current_database()) else 'schema ' || quote_ident(place) end
$$;

-- Runs a statement with the rights of `role`, and returns how many rows it is about. `place`: the schema that it works in,
-- '' for a schema itself. An owner of something need not have CREATE where it is (any more), but to alter it he would need
-- it; so it is lent to him for this statement, which may leave nothing there but what it is to make. Others never see it:
-- it is one transaction.
create or replace function walcast.run(token text, role text, statement text, place text default null) returns bigint
language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
    heir text := walcast.heir(role);
    acting oid := (select r.oid from pg_roles r where r.rolname = heir);
    view text;
    lent text := '';
    namespace oid := (select p.oid from pg_namespace p where p.nspname = place);
    before bigint;
    made int := (statement ~* '^\s*create (or replace )?((unlogged|foreign|materialized|recursive) )?(table|view|function|procedure|aggregate|type|domain|operator) (?!class|family)')::int;
    n bigint;
begin
    if acting is null or not walcast.may_act_as(heir) then
        raise exception 'role "%" is not walcast''s', heir using errcode = 'insufficient_privilege',
            hint = 'List it under adopt in [roles] and run what `walcast setup --target NAME --print-sql` prints.';
    end if;
    view := walcast.view_of(acting);
    if place = '' or namespace is not null then
        lent := walcast.lend(acting, place);
    end if;
    if lent <> '' then
        before := walcast.planted(acting, namespace);
    end if;
    perform set_config('walcast.job', statement, true);
    execute 'refresh materialized view ' || view;
    perform set_config('walcast.job', '', true);
    if lent <> '' then
        -- the statement may have renamed or dropped it
        place := case when namespace is null then place else (select p.nspname from pg_namespace p where p.oid = namespace) end;
        if place is not null then
            execute 'revoke ' || lent || ' on ' || walcast.place_name(place) || ' from ' || quote_ident(heir);
        end if;
        if walcast.planted(acting, namespace) > before + made then
            raise exception 'a statement of role "%" made something else in schema "%"', heir, place using errcode = 'insufficient_privilege';
        end if;
    end if;
    execute 'select n from ' || view into n;
    return n;
end
$$;

-- Locks of this transaction that are taken to alter a table, or a type, and types altered by it. (What others altered just
-- now may be among these.)
create or replace function walcast.altering() returns text[] language sql volatile as $$
    select array(select l.relation || l.mode from pg_locks l join pg_class c on c.oid = l.relation and c.relkind in ('r', 'p', 'c')
                  where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.database = (select d.oid from pg_database d where d.datname = current_database())
                    and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
        || array(select k.oid || 'type' from pg_constraint k where k.contypid <> 0 and age(k.xmin) <= age(pg_current_xact_id()::xid))
$$;

-- Writes rows of a table as its owner: the statement's one parameter is the array of the arguments. Code that runs in it
-- must not alter tables: the writer knows which have code in their way, and another one of the owner's might not have had.
create or replace function walcast.write(token text, role text, place text, statement text, arguments text[]) returns bigint language plpgsql as $$
declare
    before text[] := walcast.altering();
    n bigint;
begin
    perform set_config('walcast.arguments', arguments::text, true);
    n := walcast.run(token, role, statement, place);
    perform set_config('walcast.arguments', '', true);
    if not walcast.altering() <@ before and statement not like 'TRUNCATE %' then
        raise exception 'code of role "%" alters or locks tables while rows are written', role using errcode = 'insufficient_privilege',
            hint = 'See walcast.code_in_the_way.';
    end if;
    return n;
end
$$;
