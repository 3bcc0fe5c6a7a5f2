-- States of types, routines, schemas, and of what belongs to tables. See state.sql.

-- Made together with another object: constructors of a range type, casts to its multirange.
create or replace function walcast.is_part(class oid, object oid) returns boolean language plpgsql stable as $$
begin
    return exists (select from pg_depend d where d.classid = class and d.objid = object and d.deptype = 'i');
end
$$;

create or replace function walcast.columns_clause(relation oid) returns text language plpgsql stable as $$
begin
    return (
    select string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
               || case when a.attcollation <> t.typcollation then ' COLLATE ' || walcast.collation_name(a.attcollation) else '' end,
               ', ' order by a.attnum)
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
end
$$;

-- Domains, enums, composite types, ranges and base types; null for row types, array types and multiranges.
create or replace function walcast.describe_type(type oid) returns jsonb language plpgsql stable as $$
declare
    t pg_type;
    qualified text;
    sql text := 'TYPE ';
    body text;
    added text[] := '{}';
    extra jsonb := '{}';
begin
    select * into t from pg_type where oid = type;
    if not found or t.typtype in ('p', 'm') and t.typisdefined or exists (select from pg_type e where e.typarray = type)
       or t.typrelid <> 0 and (select r.relkind <> 'c' from pg_class r where r.oid = t.typrelid) then
        return null;
    end if;
    qualified := walcast.qualified(t.typnamespace, t.typname);
    case
    when not t.typisdefined then
        body := '';
        extra := '{"shell": true}';
    when t.typtype = 'e' then
        select jsonb_build_object('kind', 'enum', 'values', coalesce(jsonb_agg(jsonb_build_object('oid', e.oid::bigint, 'label', e.enumlabel) order by e.enumsortorder), '[]')),
               ' AS ENUM (' || coalesce(string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder), '') || ')'
          into extra, body from pg_enum e where e.enumtypid = type;
    when t.typtype = 'd' then
        sql := 'DOMAIN ';
        body := ' AS ' || format_type(t.typbasetype, t.typtypmod)
            || case when t.typcollation <> (select b.typcollation from pg_type b where b.oid = t.typbasetype) then ' COLLATE ' || walcast.collation_name(t.typcollation) else '' end
            || coalesce(' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0), ' DEFAULT ' || quote_literal(t.typdefault), '')
            || case when t.typnotnull then ' NOT NULL' else '' end
            || coalesce((select string_agg(' CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), '' order by k.conname collate "C")
                           from pg_constraint k where k.contypid = type and k.contype = 'c' and k.convalidated), '');
        -- not valid can only be what is added later
        select coalesce(array_agg('ALTER DOMAIN ' || qualified || ' ADD CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid) order by k.conname collate "C"), '{}')
          into added from pg_constraint k where k.contypid = type and k.contype = 'c' and not k.convalidated;
        extra := jsonb_build_object('kind', 'domain', 'base', format_type(t.typbasetype, t.typtypmod),
            'collation', (select walcast.collation_name(t.typcollation) from pg_type b where b.oid = t.typbasetype and b.typcollation <> t.typcollation),
            'default', coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)), 'not_null', nullif(t.typnotnull, false),
            'constraints', (select jsonb_agg(jsonb_build_object('oid', k.oid::bigint, 'name', k.conname, 'def', pg_get_constraintdef(k.oid),
                    'valid', nullif(k.convalidated, true), 'comment', walcast.comment_on('pg_constraint'::regclass, k.oid)) order by k.conname collate "C")
                from pg_constraint k where k.contypid = type and k.contype = 'c'));
    when t.typtype = 'c' then
        body := ' AS (' || coalesce(walcast.columns_clause(t.typrelid), '') || ')';
        extra := jsonb_build_object('kind', 'composite', 'columns', walcast.columns(t.typrelid, (
            select jsonb_object_agg(d.objsubid, d.description) from pg_description d where d.classoid = 'pg_class'::regclass and d.objoid = t.typrelid)));
    when t.typtype = 'r' then
        extra := '{"kind": "range"}';
        select ' AS RANGE (SUBTYPE = ' || format_type(r.rngsubtype, null)
               || ', SUBTYPE_OPCLASS = ' || (select walcast.qualified(c.opcnamespace, c.opcname) from pg_opclass c where c.oid = r.rngsubopc)
               || coalesce(', COLLATION = ' || walcast.collation_name(nullif(r.rngcollation, 0)), '')
               || coalesce(', CANONICAL = ' || walcast.function_name(nullif(r.rngcanonical::oid, 0)), '')
               || coalesce(', SUBTYPE_DIFF = ' || walcast.function_name(nullif(r.rngsubdiff::oid, 0)), '')
               || ', MULTIRANGE_TYPE_NAME = ' || (select walcast.qualified(m.typnamespace, m.typname) from pg_type m where m.oid = r.rngmultitypid) || ')'
          into body from pg_range r where r.rngtypid = type;
    else
        extra := '{"kind": "base"}';
        body := ' (INPUT = ' || walcast.function_name(t.typinput) || ', OUTPUT = ' || walcast.function_name(t.typoutput)
            || coalesce(', RECEIVE = ' || walcast.function_name(nullif(t.typreceive::oid, 0)), '')
            || coalesce(', SEND = ' || walcast.function_name(nullif(t.typsend::oid, 0)), '')
            || coalesce(', TYPMOD_IN = ' || walcast.function_name(nullif(t.typmodin::oid, 0)), '')
            || coalesce(', TYPMOD_OUT = ' || walcast.function_name(nullif(t.typmodout::oid, 0)), '')
            || coalesce(', ANALYZE = ' || walcast.function_name(nullif(t.typanalyze::oid, 0)), '')
            || coalesce(', SUBSCRIPT = ' || walcast.function_name(nullif(t.typsubscript::oid, 0)), '')
            || ', INTERNALLENGTH = ' || case t.typlen when -1 then 'VARIABLE' else t.typlen::text end
            || case when t.typbyval then ', PASSEDBYVALUE' else '' end
            || ', ALIGNMENT = ' || case t.typalign when 'c' then 'char' when 's' then 'int2' when 'i' then 'int4' else 'double' end
            || ', STORAGE = ' || case t.typstorage when 'p' then 'plain' when 'e' then 'external' when 'x' then 'extended' else 'main' end
            || ', CATEGORY = ' || quote_literal(t.typcategory::text) || case when t.typispreferred then ', PREFERRED = true' else '' end
            || coalesce(', DEFAULT = ' || quote_literal(t.typdefault), '')
            || coalesce(', ELEMENT = ' || format_type(nullif(t.typelem, 0), null), '')
            || ', DELIMITER = ' || quote_literal(t.typdelim::text) || case when t.typcollation <> 0 then ', COLLATABLE = true' else '' end || ')';
    end case;
    return walcast.opaque('pg_type'::regclass, type, t.typnamespace, t.typname, t.typowner, t.typacl,
        sql || qualified, array['CREATE ' || sql || qualified || body] || added,
        sql || body || replace(array_to_string(added, ''), qualified, ''), extra);
end
$$;

-- Functions, procedures, aggregates.
create or replace function walcast.describe_function(function oid) returns jsonb language plpgsql stable as $$
declare
    p pg_proc;
    g pg_aggregate;
    qualified text;
    def text;
    body text;
    kind text;
begin
    select * into p from pg_proc where oid = function;
    if not found or walcast.is_part('pg_proc'::regclass, function) then
        return null;
    end if;
    qualified := walcast.qualified(p.pronamespace, p.proname);
    if p.prokind = 'a' then
        select * into g from pg_aggregate where aggfnoid = function;
        kind := 'AGGREGATE ';
        body := ' (SFUNC = ' || walcast.function_name(g.aggtransfn) || ', STYPE = ' || format_type(g.aggtranstype, null)
            || case when g.aggtransspace > 0 then ', SSPACE = ' || g.aggtransspace else '' end
            || coalesce(', FINALFUNC = ' || walcast.function_name(nullif(g.aggfinalfn::oid, 0)), '')
            || case when g.aggfinalextra then ', FINALFUNC_EXTRA' else '' end
            || case when g.aggfinalfn <> 0 then ', FINALFUNC_MODIFY = ' || case g.aggfinalmodify when 'r' then 'READ_ONLY' when 's' then 'SHAREABLE' else 'READ_WRITE' end else '' end
            || coalesce(', COMBINEFUNC = ' || walcast.function_name(nullif(g.aggcombinefn::oid, 0)), '')
            || coalesce(', SERIALFUNC = ' || walcast.function_name(nullif(g.aggserialfn::oid, 0)), '')
            || coalesce(', DESERIALFUNC = ' || walcast.function_name(nullif(g.aggdeserialfn::oid, 0)), '')
            || coalesce(', INITCOND = ' || quote_literal(g.agginitval), '')
            || case when g.aggmtransfn <> 0 then ', MSFUNC = ' || walcast.function_name(g.aggmtransfn) || ', MINVFUNC = ' || walcast.function_name(g.aggminvtransfn)
                || ', MSTYPE = ' || format_type(g.aggmtranstype, null) || case when g.aggmtransspace > 0 then ', MSSPACE = ' || g.aggmtransspace else '' end
                || coalesce(', MFINALFUNC = ' || walcast.function_name(nullif(g.aggmfinalfn::oid, 0)), '') || case when g.aggmfinalextra then ', MFINALFUNC_EXTRA' else '' end
                || coalesce(', MINITCOND = ' || quote_literal(g.aggminitval), '') else '' end
            || coalesce(', SORTOP = OPERATOR(' || walcast.operator_name(nullif(g.aggsortop, 0)) || ')', '')
            || case when g.aggkind = 'h' then ', HYPOTHETICAL' else '' end
            || case p.proparallel when 's' then ', PARALLEL = SAFE' when 'r' then ', PARALLEL = RESTRICTED' else '' end || ')';
        body := '(' || coalesce(nullif(pg_get_function_arguments(function), ''), '*') || ')' || body;
        def := 'CREATE AGGREGATE ' || qualified || body;
    else
        kind := case p.prokind when 'p' then 'PROCEDURE ' else 'FUNCTION ' end;
        def := rtrim(pg_get_functiondef(function), e'\n');
        body := substr(def, length('CREATE OR REPLACE ' || kind || qualified) + 1);
    end if;
    return walcast.opaque('pg_proc'::regclass, function, p.pronamespace, p.proname, p.proowner, p.proacl,
        kind || qualified || '(' || coalesce(nullif(pg_get_function_identity_arguments(function), ''), case p.prokind when 'a' then '*' else '' end) || ')',
        array[def], kind || body, jsonb_build_object('arguments', pg_get_function_arguments(function), 'result', pg_get_function_result(function)));
end
$$;

create or replace function walcast.describe_schema(namespace oid) returns jsonb language plpgsql stable as $$
declare
    n pg_namespace;
begin
    select * into n from pg_namespace where oid = namespace;
    if not found or n.nspname in ('walcast', 'information_schema') or n.nspname ~ '^pg_' and n.nspname <> 'pg_catalog' then
        return null;
    end if;
    -- public is the one schema of the system that is everybody's own
    if namespace < 16384 and n.nspname <> 'public' then
        return walcast.describe_limited('pg_namespace'::regclass, namespace, null, n.nspname, n.nspowner, n.nspacl);
    end if;
    return walcast.opaque('pg_namespace'::regclass, namespace, 0, n.nspname, n.nspowner, n.nspacl,
        'SCHEMA ' || quote_ident(n.nspname), array['CREATE SCHEMA ' || quote_ident(n.nspname)], 'SCHEMA', null);
end
$$;

-- What belongs to a table: triggers, rules, policies; extended statistics. Clones of a parent's triggers are the parent's.
create or replace function walcast.describe_trigger(trigger_oid oid) returns jsonb language plpgsql stable as $$
declare
    t pg_trigger;
    at text;
    def text;
    head text;
    on_table text;
begin
    select * into t from pg_trigger where oid = trigger_oid;
    if not found or t.tgisinternal or t.tgparentid <> 0 or walcast.is_local_relation(t.tgrelid) then
        return null;
    end if;
    at := walcast.relation_name(t.tgrelid);
    def := pg_get_triggerdef(trigger_oid);
    head := 'CREATE ' || case when t.tgconstraint <> 0 then 'CONSTRAINT ' else '' end || 'TRIGGER ' || quote_ident(t.tgname);
    on_table := ' ON ' || at || ' ';
    return walcast.opaque('pg_trigger'::regclass, trigger_oid, 0, t.tgname, 0, null, 'TRIGGER ' || quote_ident(t.tgname) || ' ON ' || at,
        array[def], regexp_replace(substr(def, length(head) + 1), '^(.*?)' || regexp_replace(on_table, '([^[:alnum:]_ ])', '\\\1', 'g'), '\1 ON '),
        jsonb_build_object('table', at, 'enabled', nullif(t.tgenabled, 'O')));
end
$$;

create or replace function walcast.is_local_relation(relation oid) returns boolean language plpgsql stable as $$
begin
    return not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                        where c.oid = relation and c.relpersistence <> 't' and n.nspname <> 'walcast');
end
$$;

create or replace function walcast.describe_rule(rule oid) returns jsonb language plpgsql stable as $$
declare
    r pg_rewrite;
    at text;
    def text;
    head text;
begin
    select * into r from pg_rewrite where oid = rule;
    if not found or r.rulename = '_RETURN' or walcast.is_local_relation(r.ev_class) then
        return null;
    end if;
    at := walcast.relation_name(r.ev_class);
    def := rtrim(pg_get_ruledef(rule), ';');
    head := 'CREATE RULE ' || quote_ident(r.rulename);
    return walcast.opaque('pg_rewrite'::regclass, rule, 0, r.rulename, 0, null, 'RULE ' || quote_ident(r.rulename) || ' ON ' || at,
        array[def], substr(def, length(head) + 1), jsonb_build_object('table', at, 'enabled', nullif(r.ev_enabled, 'O')));
end
$$;

create or replace function walcast.describe_policy(policy oid) returns jsonb language plpgsql stable as $$
declare
    p pg_policy;
    at text;
    roles text[];
    body text;
begin
    select * into p from pg_policy where oid = policy;
    if not found or walcast.is_local_relation(p.polrelid) then
        return null;
    end if;
    at := walcast.relation_name(p.polrelid);
    select array_agg(case r when 0 then '' else pg_get_userbyid(r) end order by case r when 0 then '' else pg_get_userbyid(r) end collate "C")
      into roles from unnest(p.polroles) r;
    body := ' AS ' || case when p.polpermissive then 'PERMISSIVE' else 'RESTRICTIVE' end
        || ' FOR ' || case p.polcmd when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE' when 'd' then 'DELETE' else 'ALL' end
        || ' TO ' || (select string_agg(case r when '' then 'PUBLIC' else quote_ident(r) end, ', ') from unnest(roles) r)
        || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
        || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '');
    return walcast.opaque('pg_policy'::regclass, policy, 0, p.polname, 0, null, 'POLICY ' || quote_ident(p.polname) || ' ON ' || at,
        array['CREATE POLICY ' || quote_ident(p.polname) || ' ON ' || at || body], body,
        jsonb_build_object('table', at, 'permissive', p.polpermissive, 'command', p.polcmd, 'roles', to_jsonb(roles),
            'using', pg_get_expr(p.polqual, p.polrelid), 'check', pg_get_expr(p.polwithcheck, p.polrelid)));
end
$$;

create or replace function walcast.describe_statistics(statistics oid) returns jsonb language plpgsql stable as $$
declare
    s pg_statistic_ext;
    target int;
    def text;
    qualified text;
begin
    select * into s from pg_statistic_ext where oid = statistics;
    if not found or walcast.is_local_relation(s.stxrelid) then
        return null;
    end if;
    qualified := walcast.qualified(s.stxnamespace, s.stxname);
    def := pg_get_statisticsobjdef(statistics);
    target := (to_jsonb(s) ->> 'stxstattarget')::int;
    return walcast.opaque('pg_statistic_ext'::regclass, statistics, s.stxnamespace, s.stxname, s.stxowner, null, 'STATISTICS ' || qualified,
        array[def], substr(def, length('CREATE STATISTICS ' || qualified) + 1),
        jsonb_build_object('table', walcast.relation_name(s.stxrelid), 'statistics', nullif(target, -1)));
end
$$;
