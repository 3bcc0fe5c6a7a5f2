-- What an object is, as jsonb: the same functions on the source and on the targets, so that two states can be compared.
-- README.md in this folder is the format's description.
--
-- They are PL/pgSQL because that keeps plans for the session, where SQL functions are planned at each call.
--
-- Run with search_path = pg_catalog, pg_temp: everything else is then written with its schema. They are STABLE, so that
-- inside one statement all of them see one snapshot. Catalog columns that not every supported version has are read
-- through to_jsonb(row).

create or replace function walcast.acl(items aclitem[]) returns jsonb language plpgsql stable as $$
begin
    return (
    select case when items is null then null else coalesce((
        select jsonb_agg(jsonb_build_object(
                   'grantee', case x.grantee when 0 then '' else pg_get_userbyid(x.grantee) end,
                   'grantor', pg_get_userbyid(x.grantor), 'privilege', x.privilege_type, 'grantable', x.is_grantable)
                   order by case x.grantee when 0 then '' else pg_get_userbyid(x.grantee) end collate "C",
                            pg_get_userbyid(x.grantor) collate "C", x.privilege_type collate "C")
          from aclexplode(items) x), '[]'::jsonb) end);
end
$$;

create or replace function walcast.comment_on(class oid, object oid) returns text language plpgsql stable as $$
begin
    return (
    select d.description from pg_description d where d.classoid = class and d.objoid = object and d.objsubid = 0);
end
$$;

create or replace function walcast.qualified(namespace oid, name name) returns text language plpgsql stable as $$
begin
    return (
    select quote_ident(n.nspname) || '.' || quote_ident(name) from pg_namespace n where n.oid = namespace);
end
$$;

create or replace function walcast.relation_name(relation oid) returns text language plpgsql stable as $$
begin
    return (
    select quote_ident(n.nspname) || '.' || quote_ident(c.relname)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
end
$$;

create or replace function walcast.function_name(function oid) returns text language plpgsql stable as $$
begin
    return (
    select walcast.qualified(p.pronamespace, p.proname) from pg_proc p where p.oid = function);
end
$$;

-- With its argument types, as CREATE CAST and CREATE OPERATOR CLASS want it.
create or replace function walcast.function_call(function oid) returns text language plpgsql stable as $$
begin
    return (
    select walcast.function_name(function) || '(' || coalesce((
        select string_agg(format_type(t, null), ', ' order by n) from unnest(p.proargtypes::oid[]) with ordinality a (t, n)), '') || ')'
      from pg_proc p where p.oid = function);
end
$$;

create or replace function walcast.operator_name(operator oid) returns text language plpgsql stable as $$
begin
    return (
    select quote_ident(n.nspname) || '.' || o.oprname
      from pg_operator o join pg_namespace n on n.oid = o.oprnamespace where o.oid = operator);
end
$$;

create or replace function walcast.collation_name(collation_oid oid) returns text language plpgsql stable as $$
begin
    return (
    select walcast.qualified(l.collnamespace, l.collname) from pg_collation l where l.oid = collation_oid);
end
$$;

-- Options of foreign data objects as an object. Values that are likely secrets are left out, and their names listed by
-- walcast.redacted, unless walcast.passwords() says that passwords are replicated.
create or replace function walcast.is_secret(option text) returns boolean language plpgsql stable as $$
begin
    return (
    select not walcast.passwords() and option ~* '(passw|secret|token|credential|(^|_)key|passphrase|passfile|private)');
end
$$;

create or replace function walcast.options(items text[]) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_object_agg(o.option_name, coalesce(o.option_value, ''))
      from pg_options_to_table(items) o where not walcast.is_secret(o.option_name));
end
$$;

create or replace function walcast.redacted(items text[]) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(o.option_name order by o.option_name collate "C")
      from pg_options_to_table(items) o where walcast.is_secret(o.option_name));
end
$$;

create or replace function walcast.options_clause(items text[]) returns text language plpgsql stable as $$
begin
    return (
    select ' OPTIONS (' || string_agg(quote_ident(o.option_name) || ' ' || quote_literal(coalesce(o.option_value, '')), ', ' order by o.option_name collate "C") || ')'
      from pg_options_to_table(items) o where not walcast.is_secret(o.option_name));
end
$$;

-- Long texts are only ever compared: their digest will do.
create or replace function walcast.digest(body text) returns text language sql stable as $$
    select case when length(body) <= 200 then body
                else 'sha256:' || encode(sha256(convert_to(body, current_setting('server_encoding'))), 'hex') end
$$;

-- The extension that an object belongs to.
create or replace function walcast.extension_of(class oid, object oid) returns text language plpgsql stable as $$
begin
    return (
    select e.extname from pg_depend d join pg_extension e on e.oid = d.refobjid
     where d.classid = class and d.objid = object and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass limit 1);
end
$$;

-- Columns of a relation that rows can be stored in, of a view, or of a composite type.
create or replace function walcast.columns(relation oid, comments jsonb) returns jsonb language plpgsql stable as $$
begin
    return (
    select coalesce(jsonb_agg(jsonb_build_object(
               'num', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
               'collation', case when a.attcollation <> t.typcollation then walcast.collation_name(a.attcollation) end,
               'not_null', nullif(a.attnotnull, false),
               'default', case when a.atthasdef then (select pg_get_expr(d.adbin, d.adrelid)
                             from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum) end,
               'generated', nullif(a.attgenerated, ''), 'identity', nullif(a.attidentity, ''),
               'storage', case when a.attstorage <> t.typstorage then a.attstorage end,
               'compression', nullif(a.attcompression, ''),
               'statistics', nullif(a.attstattarget, -1), 'options', to_jsonb(a.attoptions),
               'fdw_options', case when a.attfdwoptions is not null then walcast.options(a.attfdwoptions) end,
               'acl', case when a.attacl is not null then walcast.acl(a.attacl) end,
               'comment', comments -> a.attnum::text,
               'missing', case when a.atthasmissing then (a.attmissingval::text::text[])[1] end,
               'local', nullif(a.attislocal, true), 'inherited', nullif(a.attinhcount > 0, false)) order by a.attnum), '[]')
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
end
$$;

create or replace function walcast.constraints(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(jsonb_build_object(
               'oid', k.oid::bigint, 'name', k.conname, 'type', k.contype, 'def', pg_get_constraintdef(k.oid),
               'comment', (select d.description from pg_description d where d.classoid = 'pg_constraint'::regclass and d.objoid = k.oid),
               'valid', nullif(k.convalidated, true), 'local', nullif(k.conislocal, true)) order by k.conname collate "C")
      from pg_constraint k
     where k.conrelid = relation and k.contype in ('p', 'u', 'c', 'f', 'x', 'n') and k.conparentid = 0);
end
$$;

create or replace function walcast.indexes(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(jsonb_build_object(
               'oid', i.indexrelid::bigint, 'name', c.relname, 'def', pg_get_indexdef(i.indexrelid),
               'valid', nullif(i.indisvalid, true), 'clustered', nullif(i.indisclustered, false),
               'of_constraint', case when i.indisunique or i.indisexclusion then (
                   select k.conname from pg_constraint k where k.conrelid = i.indrelid and k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) end,
               'comment', (select d.description from pg_description d where d.classoid = 'pg_class'::regclass and d.objoid = i.indexrelid and d.objsubid = 0),
               'statistics', case when i.indexprs is not null then (
                   select jsonb_object_agg(a.attnum, a.attstattarget) from pg_attribute a
                    where a.attrelid = i.indexrelid and a.attstattarget >= 0) end,
               'parent', case when c.relispartition then (
                   select walcast.relation_name(h.inhparent) from pg_inherits h where h.inhrelid = i.indexrelid) end) order by c.relname collate "C")
      from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = relation);
end
$$;

-- Type and identity as pg_identify_object names them.
create or replace function walcast.relation_type(relkind "char") returns text language sql immutable as $$
    select case relkind when 'r' then 'table' when 'p' then 'table' when 'f' then 'foreign table' when 'v' then 'view'
                        when 'm' then 'materialized view' when 'S' then 'sequence' end
$$;

create or replace function walcast.describe_sequence(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_build_object(
               'options', jsonb_build_object('type', format_type(s.seqtypid, null), 'start', s.seqstart::text,
                   'increment', s.seqincrement::text, 'min', s.seqmin::text, 'max', s.seqmax::text,
                   'cache', s.seqcache::text, 'cycle', s.seqcycle),
               'owned_by', (select jsonb_build_object('table', walcast.relation_name(d.refobjid), 'column', a.attname, 'identity', d.deptype = 'i')
                              from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                             where d.classid = 'pg_class'::regclass and d.objid = relation and d.objsubid = 0
                               and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i') limit 1))
      from pg_sequence s where s.seqrelid = relation);
end
$$;

-- null for what is not there, is temporary, or is nobody's own object: an index, a TOAST table, a row type.
create or replace function walcast.describe_relation(relation oid) returns jsonb language plpgsql stable as $$
declare
    c record;
    comments jsonb;
    state jsonb;
    qualified text;
begin
    select r.relname, n.nspname, r.relkind, r.relpersistence, r.relowner, r.relacl, r.relam, r.reloptions, r.reloftype,
           r.relrowsecurity, r.relforcerowsecurity, r.relreplident, r.relhasindex, r.relchecks, r.relhastriggers,
           r.relispartition, r.relispopulated, case when r.relispartition then pg_get_expr(r.relpartbound, r.oid) end as bound,
           (select jsonb_agg(walcast.relation_name(h.inhparent) order by h.inhseqno) from pg_inherits h where h.inhrelid = r.oid) as parents,
           case when r.reltoastrelid <> 0 then (select t.reloptions from pg_class t where t.oid = r.reltoastrelid) end as toast_options,
           exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.deptype = 'e') as member
      into c
      from pg_class r join pg_namespace n on n.oid = r.relnamespace where r.oid = relation;
    if not found or c.relkind not in ('r', 'p', 'f', 'v', 'm', 'S') or c.relpersistence = 't' or c.nspname = 'walcast' then
        return null;
    end if;
    if c.member or relation < 16384 then
        return walcast.describe_limited('pg_class'::regclass, relation, c.nspname, c.relname, c.relowner, c.relacl);
    end if;
    select jsonb_object_agg(d.objsubid, d.description) into comments
      from pg_description d where d.classoid = 'pg_class'::regclass and d.objoid = relation;
    qualified := quote_ident(c.nspname) || '.' || quote_ident(c.relname);
    state := jsonb_build_object(
        'type', walcast.relation_type(c.relkind), 'identity', qualified,
        'object', upper(walcast.relation_type(c.relkind)) || ' ' || qualified,
        'schema', c.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner),
        'acl', case when c.relacl is not null then walcast.acl(c.relacl) end, 'comment', comments -> '0',
        'persistence', nullif(c.relpersistence, 'p'));
    if c.relkind = 'S' then
        return jsonb_strip_nulls(state || walcast.describe_sequence(relation));
    end if;
    state := state || jsonb_build_object('options', to_jsonb(c.reloptions), 'columns', walcast.columns(relation, comments));
    if c.relhasindex then
        state := state || jsonb_build_object('indexes', walcast.indexes(relation));
    end if;
    if c.relkind in ('v', 'm') then
        state := state || jsonb_build_object('query', pg_get_viewdef(relation), 'populated',
            case when c.relkind = 'm' then c.relispopulated end);
    else
        if c.relhasindex or c.relchecks > 0 or c.relhastriggers or current_setting('server_version_num')::int >= 180000 then
            state := state || jsonb_build_object('constraints', walcast.constraints(relation));
        end if;
        state := state || jsonb_build_object(
            'bound', c.bound, 'parent', case when c.relispartition then c.parents -> 0 end,
            'inherits', case when not c.relispartition then c.parents end,
            'of', case when c.reloftype <> 0 then format_type(c.reloftype, null) end,
            'toast_options', to_jsonb(c.toast_options),
            'replica_identity', nullif(c.relreplident, 'd'),
            'identity_index', case when c.relreplident = 'i' then (
                select x.relname from pg_index i join pg_class x on x.oid = i.indexrelid where i.indrelid = relation and i.indisreplident) end,
            'rls', case when c.relrowsecurity or c.relforcerowsecurity then
                jsonb_build_object('enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity) end);
        if c.relkind = 'p' then
            state := state || jsonb_build_object('partition_key', pg_get_partkeydef(relation));
        elsif c.relkind = 'f' then
            state := state || (select jsonb_build_object('server', s.srvname, 'fdw_options', walcast.options(f.ftoptions), 'redacted', walcast.redacted(f.ftoptions))
                                 from pg_foreign_table f join pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = relation);
        end if;
    end if;
    -- heap has the oid 2
    if c.relam not in (0, 2) then
        state := state || jsonb_build_object('access_method', (select m.amname from pg_am m where m.oid = c.relam));
    end if;
    return jsonb_strip_nulls(state);
end
$$;

-- Objects of the system and of extensions: only their privileges are anybody's own, and only where they were changed.
create or replace function walcast.describe_limited(class oid, object oid, schema_name name, name name, owner oid, items aclitem[])
returns jsonb language plpgsql stable as $$
declare
    extension text;
    initial aclitem[];
    i record;
    a record;
begin
    if schema_name = 'information_schema' or name = 'information_schema' and class = 'pg_namespace'::regclass then
        return null;
    end if;
    select p.initprivs into initial from pg_init_privs p where p.classoid = class and p.objoid = object and p.objsubid = 0;
    if items is not distinct from initial then
        return null;
    end if;
    extension := walcast.extension_of(class, object);
    i := pg_identify_object(class, object, 0);
    a := pg_identify_object_as_address(class, object, 0);
    return jsonb_strip_nulls(jsonb_build_object(
        'type', i.type, 'identity', i.identity, 'address', jsonb_build_array(a.object_names, a.object_args),
        'object', upper(i.type) || ' ' || i.identity, 'limited', coalesce('extension ' || extension, 'system'),
        'schema', schema_name, 'name', name, 'owner', pg_get_userbyid(owner), 'acl', walcast.acl(items)));
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
                           from pg_constraint k where k.contypid = type and k.contype = 'c'), '');
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
            || ', CATEGORY = ' || quote_literal(t.typcategory) || case when t.typispreferred then ', PREFERRED = true' else '' end
            || coalesce(', DEFAULT = ' || quote_literal(t.typdefault), '')
            || coalesce(', ELEMENT = ' || format_type(nullif(t.typelem, 0), null), '')
            || ', DELIMITER = ' || quote_literal(t.typdelim) || case when t.typcollation <> 0 then ', COLLATABLE = true' else '' end || ')';
    end case;
    return walcast.opaque('pg_type'::regclass, type, t.typnamespace, t.typname, t.typowner, t.typacl,
        sql || qualified, array['CREATE ' || sql || qualified || body], sql || body, extra);
end
$$;

-- The state of an opaque object from its parts. `object` is what stands after DROP, ALTER and COMMENT ON.
create or replace function walcast.opaque(class oid, object_oid oid, namespace oid, name name, owner oid, items aclitem[],
    object text, creates text[], body text, extra jsonb) returns jsonb language plpgsql stable as $$
declare
    i record;
    a record;
    schema_name name;
begin
    if namespace <> 0 then
        select n.nspname into schema_name from pg_namespace n where n.oid = namespace;
    end if;
    if schema_name = 'walcast' or schema_name ~ '^pg_temp' then
        return null;
    end if;
    if object_oid < 16384 and class <> 'pg_namespace'::regclass or walcast.extension_of(class, object_oid) is not null then
        return walcast.describe_limited(class, object_oid, schema_name, name, owner, items);
    end if;
    i := pg_identify_object(class, object_oid, 0);
    a := pg_identify_object_as_address(class, object_oid, 0);
    return jsonb_strip_nulls(jsonb_build_object(
        'type', i.type, 'identity', i.identity, 'address', jsonb_build_array(to_jsonb(a.object_names), to_jsonb(a.object_args)),
        'object', object, 'schema', schema_name, 'name', name,
        'owner', case when owner <> 0 then pg_get_userbyid(owner) end, 'acl', walcast.acl(items),
        'comment', walcast.comment_on(class, object_oid), 'create', to_jsonb(creates), 'body', walcast.digest(body)) || coalesce(extra, '{}'));
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
    if not found then
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

create or replace function walcast.describe_extension(extension oid) returns jsonb language plpgsql stable as $$
declare
    e pg_extension;
    schema_name name;
begin
    select * into e from pg_extension where oid = extension;
    if not found or extension < 16384 then
        return null;
    end if;
    select n.nspname into schema_name from pg_namespace n where n.oid = e.extnamespace;
    return walcast.opaque('pg_extension'::regclass, extension, 0, e.extname, e.extowner, null, 'EXTENSION ' || quote_ident(e.extname),
        array['CREATE EXTENSION IF NOT EXISTS ' || quote_ident(e.extname) || ' WITH SCHEMA ' || quote_ident(schema_name) || ' VERSION ' || quote_literal(e.extversion)],
        'EXTENSION WITH SCHEMA ' || quote_ident(schema_name) || ' VERSION ' || quote_literal(e.extversion),
        jsonb_build_object('version', e.extversion, 'extension_schema', schema_name));
end
$$;

create or replace function walcast.describe_language(language oid) returns jsonb language plpgsql stable as $$
declare
    l pg_language;
    body text;
begin
    select * into l from pg_language where oid = language;
    if not found then
        return null;
    end if;
    body := case when l.lanpltrusted then 'TRUSTED ' else '' end || 'LANGUAGE ' || quote_ident(l.lanname)
        || coalesce(' HANDLER ' || walcast.function_name(nullif(l.lanplcallfoid, 0)), '')
        || coalesce(' INLINE ' || walcast.function_name(nullif(l.laninline, 0)), '')
        || coalesce(' VALIDATOR ' || walcast.function_name(nullif(l.lanvalidator, 0)), '');
    return walcast.opaque('pg_language'::regclass, language, 0, l.lanname, l.lanowner, l.lanacl, 'LANGUAGE ' || quote_ident(l.lanname),
        array['CREATE ' || body], replace(body, 'LANGUAGE ' || quote_ident(l.lanname), 'LANGUAGE'), null);
end
$$;

create or replace function walcast.describe_cast(cast_oid oid) returns jsonb language plpgsql stable as $$
declare
    c pg_cast;
    object text;
    body text;
begin
    select * into c from pg_cast where oid = cast_oid;
    if not found or cast_oid < 16384 then
        return null;
    end if;
    object := 'CAST (' || format_type(c.castsource, null) || ' AS ' || format_type(c.casttarget, null) || ')';
    body := case c.castmethod when 'b' then ' WITHOUT FUNCTION' when 'i' then ' WITH INOUT' else ' WITH FUNCTION ' || walcast.function_call(c.castfunc) end
        || case c.castcontext when 'a' then ' AS ASSIGNMENT' when 'i' then ' AS IMPLICIT' else '' end;
    return walcast.opaque('pg_cast'::regclass, cast_oid, 0, null, 0, null, object, array['CREATE ' || object || body], object || body, null);
end
$$;

create or replace function walcast.describe_collation(collation_oid oid) returns jsonb language plpgsql stable as $$
declare
    c pg_collation;
    j jsonb;
    qualified text;
    body text;
begin
    select * into c from pg_collation where oid = collation_oid;
    if not found or collation_oid < 16384 then
        return null;
    end if;
    j := to_jsonb(c);
    qualified := walcast.qualified(c.collnamespace, c.collname);
    body := ' (PROVIDER = ' || case c.collprovider when 'c' then 'libc' when 'i' then 'icu' when 'b' then 'builtin' else 'default' end
        || case when c.collisdeterministic then '' else ', DETERMINISTIC = false' end
        || coalesce(', LOCALE = ' || quote_literal(coalesce(j ->> 'colllocale', j ->> 'colliculocale')), case
               when j ->> 'collcollate' = j ->> 'collctype' then ', LOCALE = ' || quote_literal(j ->> 'collcollate')
               else ', LC_COLLATE = ' || quote_literal(j ->> 'collcollate') || ', LC_CTYPE = ' || quote_literal(j ->> 'collctype') end, '')
        || coalesce(', RULES = ' || quote_literal(j ->> 'collicurules'), '') || ')';
    return walcast.opaque('pg_collation'::regclass, collation_oid, c.collnamespace, c.collname, c.collowner, null, 'COLLATION ' || qualified,
        array['CREATE COLLATION ' || qualified || body], 'COLLATION' || body, null);
end
$$;

create or replace function walcast.describe_conversion(conversion oid) returns jsonb language plpgsql stable as $$
declare
    c pg_conversion;
    qualified text;
    head text;
    body text;
begin
    select * into c from pg_conversion where oid = conversion;
    if not found or conversion < 16384 then
        return null;
    end if;
    qualified := walcast.qualified(c.connamespace, c.conname);
    head := case when c.condefault then 'DEFAULT CONVERSION' else 'CONVERSION' end;
    body := ' FOR ' || quote_literal(pg_encoding_to_char(c.conforencoding)) || ' TO ' || quote_literal(pg_encoding_to_char(c.contoencoding))
        || ' FROM ' || walcast.function_name(c.conproc);
    return walcast.opaque('pg_conversion'::regclass, conversion, c.connamespace, c.conname, c.conowner, null, 'CONVERSION ' || qualified,
        array['CREATE ' || head || ' ' || qualified || body], head || body, null);
end
$$;

create or replace function walcast.describe_operator(operator oid) returns jsonb language plpgsql stable as $$
declare
    o pg_operator;
    body text;
begin
    select * into o from pg_operator where oid = operator;
    -- without a function it is the shell that a commutator's declaration left
    if not found or operator < 16384 or o.oprcode = 0 then
        return null;
    end if;
    body := ' (FUNCTION = ' || walcast.function_name(o.oprcode)
        || coalesce(', LEFTARG = ' || format_type(nullif(o.oprleft, 0), null), '') || coalesce(', RIGHTARG = ' || format_type(nullif(o.oprright, 0), null), '')
        || coalesce(', COMMUTATOR = OPERATOR(' || walcast.operator_name(nullif(o.oprcom, 0)) || ')', '')
        || coalesce(', NEGATOR = OPERATOR(' || walcast.operator_name(nullif(o.oprnegate, 0)) || ')', '')
        || coalesce(', RESTRICT = ' || walcast.function_name(nullif(o.oprrest::oid, 0)), '') || coalesce(', JOIN = ' || walcast.function_name(nullif(o.oprjoin::oid, 0)), '')
        || case when o.oprcanhash then ', HASHES' else '' end || case when o.oprcanmerge then ', MERGES' else '' end || ')';
    return walcast.opaque('pg_operator'::regclass, operator, o.oprnamespace, o.oprname, o.oprowner, null,
        'OPERATOR ' || walcast.operator_name(operator) || '(' || coalesce(format_type(nullif(o.oprleft, 0), null), 'NONE') || ', '
            || coalesce(format_type(nullif(o.oprright, 0), null), 'NONE') || ')',
        array['CREATE OPERATOR ' || walcast.operator_name(operator) || body], 'OPERATOR' || body, null);
end
$$;

-- Operators and functions of a family; those of one of its classes, or the loose ones that belong to none (class null).
create or replace function walcast.family_members(family oid, class oid) returns text[] language plpgsql stable as $$
begin
    return (
        select array_agg(m.member order by m.kind, m.number, m.member collate "C") from (
            select 1 as kind, o.amopstrategy as number, 'OPERATOR ' || o.amopstrategy || ' ' || walcast.operator_name(o.amopopr) || '('
                   || coalesce(format_type(nullif(p.oprleft, 0), null), 'NONE') || ', ' || coalesce(format_type(nullif(p.oprright, 0), null), 'NONE') || ')'
                   || case o.amoppurpose when 'o' then ' FOR ORDER BY ' || (select walcast.qualified(f.opfnamespace, f.opfname) from pg_opfamily f where f.oid = o.amopsortfamily) else '' end as member,
                   (select d.refobjid from pg_depend d where d.classid = 'pg_amop'::regclass and d.objid = o.oid and d.refclassid = 'pg_opclass'::regclass and d.deptype = 'i' limit 1) as of
              from pg_amop o join pg_operator p on p.oid = o.amopopr where o.amopfamily = family
            union all
            select 2, f.amprocnum, 'FUNCTION ' || f.amprocnum || ' (' || format_type(f.amproclefttype, null) || ', ' || format_type(f.amprocrighttype, null) || ') ' || walcast.function_call(f.amproc),
                   (select d.refobjid from pg_depend d where d.classid = 'pg_amproc'::regclass and d.objid = f.oid and d.refclassid = 'pg_opclass'::regclass and d.deptype = 'i' limit 1)
              from pg_amproc f where f.amprocfamily = family) m
         where m.of is not distinct from class);
end
$$;

create or replace function walcast.describe_opfamily(family oid) returns jsonb language plpgsql stable as $$
declare
    f pg_opfamily;
    at text;
    method text;
    members text[];
begin
    select * into f from pg_opfamily where oid = family;
    if not found or family < 16384 then
        return null;
    end if;
    select ' USING ' || quote_ident(m.amname) into method from pg_am m where m.oid = f.opfmethod;
    at := 'OPERATOR FAMILY ' || walcast.qualified(f.opfnamespace, f.opfname) || method;
    members := walcast.family_members(family, null);
    return walcast.opaque('pg_opfamily'::regclass, family, f.opfnamespace, f.opfname, f.opfowner, null, at,
        array['CREATE ' || at] || case when members is null then '{}'::text[] else array['ALTER ' || at || ' ADD ' || array_to_string(members, ', ')] end,
        'OPERATOR FAMILY' || method || coalesce(' ' || array_to_string(members, ', '), ''), jsonb_build_object('members', to_jsonb(members)));
end
$$;

create or replace function walcast.describe_opclass(operator_class oid) returns jsonb language plpgsql stable as $$
declare
    c pg_opclass;
    qualified text;
    method text;
    body text;
begin
    select * into c from pg_opclass where oid = operator_class;
    if not found or operator_class < 16384 then
        return null;
    end if;
    qualified := walcast.qualified(c.opcnamespace, c.opcname);
    select ' USING ' || quote_ident(m.amname) into method from pg_am m where m.oid = c.opcmethod;
    body := case when c.opcdefault then ' DEFAULT' else '' end || ' FOR TYPE ' || format_type(c.opcintype, null) || method
        || (select ' FAMILY ' || walcast.qualified(f.opfnamespace, f.opfname) from pg_opfamily f where f.oid = c.opcfamily) || ' AS '
        || 'STORAGE ' || format_type(case c.opckeytype when 0 then c.opcintype else c.opckeytype end, null)
        || coalesce(', ' || array_to_string(walcast.family_members(c.opcfamily, operator_class), ', '), '');
    return walcast.opaque('pg_opclass'::regclass, operator_class, c.opcnamespace, c.opcname, c.opcowner, null, 'OPERATOR CLASS ' || qualified || method,
        array['CREATE OPERATOR CLASS ' || qualified || body], 'OPERATOR CLASS' || body, null);
end
$$;

create or replace function walcast.describe_access_method(method oid) returns jsonb language plpgsql stable as $$
declare
    m pg_am;
    body text;
begin
    select * into m from pg_am where oid = method;
    if not found or method < 16384 then
        return null;
    end if;
    body := ' TYPE ' || case m.amtype when 'i' then 'INDEX' else 'TABLE' end || ' HANDLER ' || walcast.function_name(m.amhandler);
    return walcast.opaque('pg_am'::regclass, method, 0, m.amname, 0, null, 'ACCESS METHOD ' || quote_ident(m.amname),
        array['CREATE ACCESS METHOD ' || quote_ident(m.amname) || body], 'ACCESS METHOD' || body, null);
end
$$;

create or replace function walcast.describe_text_search(class oid, object oid) returns jsonb language plpgsql stable as $$
declare
    namespace oid;
    name name;
    owner oid;
    kind text;
    body text;
    qualified text;
    mappings text[];
begin
    case class
    when 'pg_ts_parser'::regclass then
        select p.prsnamespace, p.prsname, 0, 'PARSER', ' (START = ' || walcast.function_name(p.prsstart) || ', GETTOKEN = ' || walcast.function_name(p.prstoken)
               || ', END = ' || walcast.function_name(p.prsend) || coalesce(', HEADLINE = ' || walcast.function_name(nullif(p.prsheadline::oid, 0)), '')
               || ', LEXTYPES = ' || walcast.function_name(p.prslextype) || ')'
          into namespace, name, owner, kind, body from pg_ts_parser p where p.oid = object;
    when 'pg_ts_template'::regclass then
        select t.tmplnamespace, t.tmplname, 0, 'TEMPLATE', ' (' || coalesce('INIT = ' || walcast.function_name(nullif(t.tmplinit::oid, 0)) || ', ', '')
               || 'LEXIZE = ' || walcast.function_name(t.tmpllexize) || ')'
          into namespace, name, owner, kind, body from pg_ts_template t where t.oid = object;
    when 'pg_ts_dict'::regclass then
        select d.dictnamespace, d.dictname, d.dictowner, 'DICTIONARY',
               ' (TEMPLATE = ' || (select walcast.qualified(t.tmplnamespace, t.tmplname) from pg_ts_template t where t.oid = d.dicttemplate) || coalesce(', ' || d.dictinitoption, '') || ')'
          into namespace, name, owner, kind, body from pg_ts_dict d where d.oid = object;
    else
        select c.cfgnamespace, c.cfgname, c.cfgowner, 'CONFIGURATION',
               ' (PARSER = ' || (select walcast.qualified(p.prsnamespace, p.prsname) from pg_ts_parser p where p.oid = c.cfgparser) || ')',
               (select array_agg('ADD MAPPING FOR ' || quote_ident(g.alias) || ' WITH ' || g.dictionaries order by g.alias collate "C") from (
                   select t.alias, string_agg(walcast.qualified(d.dictnamespace, d.dictname), ', ' order by m.mapseqno) as dictionaries
                     from pg_ts_config_map m join ts_token_type(c.cfgparser) t on t.tokid = m.maptokentype join pg_ts_dict d on d.oid = m.mapdict
                    where m.mapcfg = c.oid group by t.alias) g)
          into namespace, name, owner, kind, body, mappings from pg_ts_config c where c.oid = object;
    end case;
    if name is null or object < 16384 then
        return null;
    end if;
    kind := 'TEXT SEARCH ' || kind;
    qualified := walcast.qualified(namespace, name);
    return walcast.opaque(class, object, namespace, name, owner, null, kind || ' ' || qualified,
        array['CREATE ' || kind || ' ' || qualified || body] || coalesce((select array_agg('ALTER ' || kind || ' ' || qualified || ' ' || m) from unnest(mappings) m), '{}'),
        kind || body || coalesce(' ' || array_to_string(mappings, ' '), ''), jsonb_build_object('mappings', to_jsonb(mappings)));
end
$$;

create or replace function walcast.describe_transform(transform oid) returns jsonb language plpgsql stable as $$
declare
    t pg_transform;
    object text;
    body text;
begin
    select * into t from pg_transform where oid = transform;
    if not found or transform < 16384 then
        return null;
    end if;
    object := 'TRANSFORM FOR ' || format_type(t.trftype, null) || ' LANGUAGE ' || (select quote_ident(l.lanname) from pg_language l where l.oid = t.trflang);
    body := ' (' || concat_ws(', ', 'FROM SQL WITH FUNCTION ' || walcast.function_call(nullif(t.trffromsql::oid, 0)), 'TO SQL WITH FUNCTION ' || walcast.function_call(nullif(t.trftosql::oid, 0))) || ')';
    return walcast.opaque('pg_transform'::regclass, transform, 0, null, 0, null, object, array['CREATE ' || object || body], object || body, null);
end
$$;

create or replace function walcast.describe_wrapper(wrapper oid) returns jsonb language plpgsql stable as $$
declare
    w pg_foreign_data_wrapper;
    body text;
begin
    select * into w from pg_foreign_data_wrapper where oid = wrapper;
    if not found then
        return null;
    end if;
    body := coalesce(' HANDLER ' || walcast.function_name(nullif(w.fdwhandler, 0)), '') || coalesce(' VALIDATOR ' || walcast.function_name(nullif(w.fdwvalidator, 0)), '');
    return walcast.opaque('pg_foreign_data_wrapper'::regclass, wrapper, 0, w.fdwname, w.fdwowner, w.fdwacl, 'FOREIGN DATA WRAPPER ' || quote_ident(w.fdwname),
        array['CREATE FOREIGN DATA WRAPPER ' || quote_ident(w.fdwname) || body || coalesce(walcast.options_clause(w.fdwoptions), '')],
        'FOREIGN DATA WRAPPER' || body || coalesce(walcast.options_clause(w.fdwoptions), ''),
        jsonb_build_object('handler', walcast.function_name(nullif(w.fdwhandler, 0)), 'validator', walcast.function_name(nullif(w.fdwvalidator, 0)),
            'fdw_options', walcast.options(w.fdwoptions), 'redacted', walcast.redacted(w.fdwoptions)));
end
$$;

create or replace function walcast.describe_server(server oid) returns jsonb language plpgsql stable as $$
declare
    s pg_foreign_server;
    body text;
begin
    select * into s from pg_foreign_server where oid = server;
    if not found then
        return null;
    end if;
    body := coalesce(' TYPE ' || quote_literal(s.srvtype), '') || coalesce(' VERSION ' || quote_literal(s.srvversion), '')
        || ' FOREIGN DATA WRAPPER ' || (select quote_ident(w.fdwname) from pg_foreign_data_wrapper w where w.oid = s.srvfdw) || coalesce(walcast.options_clause(s.srvoptions), '');
    return walcast.opaque('pg_foreign_server'::regclass, server, 0, s.srvname, s.srvowner, s.srvacl, 'SERVER ' || quote_ident(s.srvname),
        array['CREATE SERVER ' || quote_ident(s.srvname) || body], 'SERVER' || body,
        jsonb_build_object('server_type', s.srvtype, 'version', s.srvversion, 'fdw_options', walcast.options(s.srvoptions), 'redacted', walcast.redacted(s.srvoptions)));
end
$$;

create or replace function walcast.describe_user_mapping(mapping oid) returns jsonb language plpgsql stable as $$
declare
    m pg_user_mapping;
    role text;
    server text;
    object text;
begin
    select * into m from pg_user_mapping where oid = mapping;
    if not found then
        return null;
    end if;
    role := case m.umuser when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(m.umuser)) end;
    select quote_ident(s.srvname) into server from pg_foreign_server s where s.oid = m.umserver;
    object := 'USER MAPPING FOR ' || role || ' SERVER ' || server;
    return walcast.opaque('pg_user_mapping'::regclass, mapping, 0, null, 0, null, object,
        array['CREATE ' || object || coalesce(walcast.options_clause(m.umoptions), '')], 'USER MAPPING' || coalesce(walcast.options_clause(m.umoptions), ''),
        jsonb_build_object('role', case m.umuser when 0 then '' else pg_get_userbyid(m.umuser) end,
            'fdw_options', walcast.options(m.umoptions), 'redacted', walcast.redacted(m.umoptions)));
end
$$;

create or replace function walcast.describe_default_acl(default_acl oid) returns jsonb language plpgsql stable as $$
declare
    d pg_default_acl;
begin
    select * into d from pg_default_acl where oid = default_acl;
    if not found then
        return null;
    end if;
    return walcast.opaque('pg_default_acl'::regclass, default_acl, 0, null, 0, d.defaclacl, null, null, null,
        jsonb_build_object('role', pg_get_userbyid(d.defaclrole), 'objects', case d.defaclobjtype when 'r' then 'TABLES' when 'S' then 'SEQUENCES'
                when 'f' then 'FUNCTIONS' when 'T' then 'TYPES' when 'n' then 'SCHEMAS' else 'LARGE OBJECTS' end,
            'in_schema', (select n.nspname from pg_namespace n where n.oid = d.defaclnamespace)));
end
$$;

-- Settings of a role, or of the database itself (role 0): for this database, and for every one.
create or replace function walcast.settings(role oid) returns jsonb language plpgsql stable as $$
begin
    return (select jsonb_agg(jsonb_build_object('database', s.setdatabase <> 0, 'config', to_jsonb(s.setconfig)) order by s.setdatabase <> 0)
              from pg_db_role_setting s
             where s.setrole = role and (s.setdatabase = 0 or s.setdatabase = (select d.oid from pg_database d where d.datname = current_database())));
end
$$;

-- Neither the system's roles nor the one that initdb made: they are each cluster's own.
create or replace function walcast.describe_role(role oid) returns jsonb language plpgsql stable as $$
declare
    r pg_authid;
begin
    select * into r from pg_authid where oid = role;
    if not found or role < 16384 then
        return null;
    end if;
    return jsonb_strip_nulls(jsonb_build_object('type', 'role', 'identity', quote_ident(r.rolname), 'object', 'ROLE ' || quote_ident(r.rolname), 'name', r.rolname,
        'comment', (select d.description from pg_shdescription d where d.classoid = 'pg_authid'::regclass and d.objoid = role),
        'superuser', r.rolsuper, 'inherit', r.rolinherit, 'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'login', r.rolcanlogin,
        'replication', r.rolreplication, 'bypassrls', r.rolbypassrls, 'connection_limit', nullif(r.rolconnlimit, -1),
        'valid_until', r.rolvaliduntil::text, 'password', case when walcast.passwords() then coalesce(r.rolpassword, '') end,
        'settings', walcast.settings(role),
        'member_of', (select jsonb_agg(jsonb_build_object('role', pg_get_userbyid(m.roleid), 'grantor', pg_get_userbyid(m.grantor), 'admin', m.admin_option,
                'inherit', (to_jsonb(m) ->> 'inherit_option')::boolean, 'set', (to_jsonb(m) ->> 'set_option')::boolean)
                order by pg_get_userbyid(m.roleid) collate "C", pg_get_userbyid(m.grantor) collate "C") from pg_auth_members m where m.member = role)));
end
$$;

-- Of this database: what ALTER DATABASE SET and GRANT ON DATABASE change, whatever its name.
create or replace function walcast.describe_database(database oid) returns jsonb language plpgsql stable as $$
declare
    d pg_database;
begin
    select * into d from pg_database where oid = database and datname = current_database();
    if not found then
        return null;
    end if;
    return jsonb_strip_nulls(jsonb_build_object('type', 'database', 'identity', quote_ident(d.datname), 'object', 'DATABASE ' || quote_ident(d.datname),
        'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'acl', walcast.acl(d.datacl), 'settings', walcast.settings(0),
        'comment', (select c.description from pg_shdescription c where c.classoid = 'pg_database'::regclass and c.objoid = database)));
end
$$;

-- The state of any object; null for what is not there or not captured.
create or replace function walcast.describe(class oid, object oid) returns jsonb language plpgsql stable as $$
begin
    return case class
        when 'pg_class'::regclass then walcast.describe_relation(object)
        when 'pg_type'::regclass then walcast.describe_type(object)
        when 'pg_proc'::regclass then walcast.describe_function(object)
        when 'pg_trigger'::regclass then walcast.describe_trigger(object)
        when 'pg_namespace'::regclass then walcast.describe_schema(object)
        when 'pg_policy'::regclass then walcast.describe_policy(object)
        when 'pg_rewrite'::regclass then walcast.describe_rule(object)
        when 'pg_statistic_ext'::regclass then walcast.describe_statistics(object)
        when 'pg_extension'::regclass then walcast.describe_extension(object)
        when 'pg_default_acl'::regclass then walcast.describe_default_acl(object)
        when 'pg_authid'::regclass then walcast.describe_role(object)
        when 'pg_database'::regclass then walcast.describe_database(object)
        when 'pg_operator'::regclass then walcast.describe_operator(object)
        when 'pg_opclass'::regclass then walcast.describe_opclass(object)
        when 'pg_opfamily'::regclass then walcast.describe_opfamily(object)
        when 'pg_cast'::regclass then walcast.describe_cast(object)
        when 'pg_collation'::regclass then walcast.describe_collation(object)
        when 'pg_conversion'::regclass then walcast.describe_conversion(object)
        when 'pg_language'::regclass then walcast.describe_language(object)
        when 'pg_am'::regclass then walcast.describe_access_method(object)
        when 'pg_ts_parser'::regclass then walcast.describe_text_search(class, object)
        when 'pg_ts_dict'::regclass then walcast.describe_text_search(class, object)
        when 'pg_ts_template'::regclass then walcast.describe_text_search(class, object)
        when 'pg_ts_config'::regclass then walcast.describe_text_search(class, object)
        when 'pg_transform'::regclass then walcast.describe_transform(object)
        when 'pg_foreign_data_wrapper'::regclass then walcast.describe_wrapper(object)
        when 'pg_foreign_server'::regclass then walcast.describe_server(object)
        when 'pg_user_mapping'::regclass then walcast.describe_user_mapping(object)
    end;
end
$$;

-- The object of this database that a state of another one describes, by what it is called; null when there is none.
create or replace function walcast.locate(class oid, state jsonb) returns oid language plpgsql stable as $$
declare
    found_oid oid;
begin
    if class = 'pg_class'::regclass and state ? 'schema' then
        return (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = state ->> 'schema' and c.relname = state ->> 'name' and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S'));
    elsif class = 'pg_authid'::regclass then
        return (select r.oid from pg_authid r where r.rolname = state ->> 'name');
    elsif class = 'pg_database'::regclass then
        return (select d.oid from pg_database d where d.datname = current_database());
    end if;
    select a.objid into found_oid from pg_get_object_address(state ->> 'type',
        array(select jsonb_array_elements_text(state -> 'address' -> 0)), array(select jsonb_array_elements_text(state -> 'address' -> 1))) a
     where a.classid = class;
    return found_oid;
exception
    when undefined_object or undefined_table or undefined_function or invalid_schema_name or undefined_column or wrong_object_type or undefined_parameter then
        return null;
end
$$;
