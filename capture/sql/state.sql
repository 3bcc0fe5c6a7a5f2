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
    select not walcast.passwords() and option ~* '(passw|secret|token|credential|key$|passphrase|passfile|private)');
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

-- Extensions that it is dropped with: DEPENDS ON EXTENSION.
create or replace function walcast.depends_on(class oid, object oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(e.extname order by e.extname collate "C") from pg_depend d join pg_extension e on e.oid = d.refobjid
     where d.classid = class and d.objid = object and d.refclassid = 'pg_extension'::regclass and d.deptype = 'x');
end
$$;

-- What somebody set. Servers from 15.20 on keep a number of their own there (pg_attver), with every column, which dumps leave out.
create or replace function walcast.column_options(options text[]) returns jsonb language sql immutable as $$
    select jsonb_agg(o order by o collate "C") from unnest(options) o where o ^@ 'n_distinct'
$$;

-- What only few columns have.
create or replace function walcast.column_details(relation oid, number int2, comments jsonb) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_build_object(
               'collation', case when a.attcollation <> t.typcollation then walcast.collation_name(a.attcollation) end,
               'generated', nullif(a.attgenerated, ''), 'identity', nullif(a.attidentity, ''),
               'storage', case when a.attstorage <> t.typstorage then a.attstorage end,
               'compression', nullif(a.attcompression, ''),
               'statistics', nullif(a.attstattarget, -1), 'options', walcast.column_options(a.attoptions),
               'fdw_options', case when a.attfdwoptions is not null then walcast.options(a.attfdwoptions) end,
               'acl', case when a.attacl is not null then walcast.acl(a.attacl) end,
               'comment', comments -> a.attnum::text,
               'missing', case when a.atthasmissing then (a.attmissingval::text::text[])[1] end,
               'local', nullif(a.attislocal, true), 'inherited', nullif(a.attinhcount > 0, false))
      from pg_attribute a join pg_type t on t.oid = a.atttypid where a.attrelid = relation and a.attnum = number);
end
$$;

-- Whether a default needs what is a session's own, as after CREATE TABLE … (LIKE a temporary one INCLUDING ALL): it goes with that.
create or replace function walcast.is_temporary_default(attrdef oid) returns boolean language plpgsql stable as $$
begin
    return exists (
        select from pg_depend d left join pg_class c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid
               left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
               left join pg_type t on d.refclassid = 'pg_type'::regclass and t.oid = d.refobjid
               join pg_namespace n on n.oid = coalesce(c.relnamespace, p.pronamespace, t.typnamespace)
         where d.classid = 'pg_attrdef'::regclass and d.objid = attrdef and n.nspname ^@ 'pg_temp_');
end
$$;

-- Columns of a relation that rows can be stored in, of a view, or of a composite type. Only what generates a column names
-- others: without a table, pg_get_expr does not collect the names of all of its columns each time.
create or replace function walcast.columns(relation oid, comments jsonb) returns jsonb language plpgsql stable as $$
begin
    return (
    select coalesce(jsonb_agg(jsonb_build_object('num', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                   'not_null', nullif(a.attnotnull, false), 'default', case when a.atthasdef then (
                       select case when e !~ '::regclass|pg_temp' or not walcast.is_temporary_default(d.oid) then e end
                         from pg_attrdef d, pg_get_expr(d.adbin, case a.attgenerated when '' then 0 else d.adrelid end) e where d.adrelid = a.attrelid and d.adnum = a.attnum) end)
               || case when comments is not null or a.attcollation <> t.typcollation or a.attgenerated <> '' or a.attidentity <> ''
                    or a.attstorage <> t.typstorage or a.attcompression <> '' or a.attstattarget >= 0 or a.attoptions::text like '%n_distinct%'
                    or a.attfdwoptions is not null or a.attacl is not null or a.atthasmissing or not a.attislocal or a.attinhcount > 0
                  then walcast.column_details(relation, a.attnum, comments) else '{}' end order by a.attnum), '[]')
      from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped);
end
$$;

create or replace function walcast.index_details(index oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_build_object('valid', nullif(i.indisvalid, true), 'clustered', nullif(i.indisclustered, false),
               'statistics', (select jsonb_object_agg(a.attnum, a.attstattarget) from pg_attribute a
                               where a.attrelid = i.indexrelid and a.attstattarget >= 0),
               'parent', (select walcast.relation_name(h.inhparent) from pg_inherits h where h.inhrelid = i.indexrelid),
               'tablespace', (select s.spcname from pg_class c join pg_tablespace s on s.oid = c.reltablespace where c.oid = i.indexrelid),
               'depends', walcast.depends_on('pg_class'::regclass, i.indexrelid))
      from pg_index i where i.indexrelid = index);
end
$$;

create or replace function walcast.indexes(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(jsonb_build_object('oid', i.indexrelid::bigint, 'name', c.relname, 'def', pg_get_indexdef(i.indexrelid),
                   'of_constraint', k.conname, 'comment', d.description)
               || case when not i.indisvalid or i.indisclustered or i.indexprs is not null or c.relispartition or c.reltablespace <> 0
                    or exists (select from pg_depend x where x.classid = 'pg_class'::regclass and x.objid = i.indexrelid and x.deptype = 'x')
                  then walcast.index_details(i.indexrelid) else '{}' end order by c.relname collate "C")
      from pg_index i join pg_class c on c.oid = i.indexrelid
      left join pg_constraint k on k.conrelid = relation and k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
      left join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = i.indexrelid and d.objsubid = 0
     where i.indrelid = relation);
end
$$;

create or replace function walcast.constraints(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (
    select jsonb_agg(jsonb_build_object('oid', k.oid::bigint, 'name', k.conname, 'type', k.contype, 'def', pg_get_constraintdef(k.oid),
                   'comment', d.description, 'valid', nullif(k.convalidated, true), 'local', nullif(k.conislocal, true)) order by k.conname collate "C")
      from pg_constraint k left join pg_description d on d.classoid = 'pg_constraint'::regclass and d.objoid = k.oid
     where k.conrelid = relation and k.contype in ('p', 'u', 'c', 'f', 'x', 'n') and k.conparentid = 0);
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
--
-- Every DDL on the source waits for this. A query costs more by being started than by its few index look-ups, and the more
-- so the more it might do: so what few tables have is in a query of its own.
create or replace function walcast.describe_relation(relation oid) returns jsonb language plpgsql stable as $$
declare
    c record;
    qualified text;
    comments jsonb;
    parents jsonb;
    state jsonb;
begin
    select r.relname, n.nspname, r.relkind, r.relpersistence, r.relowner, r.relacl, r.reloptions,
           -- before 15 a partitioned table has no triggers by its foreign keys
           r.relhasindex or r.relchecks > 0 or r.relhastriggers or r.relkind = 'p' or current_setting('server_version_num')::int >= 180000 as constrained,
           r.relhasindex,
           r.relispartition or r.reloftype <> 0 or r.relrowsecurity or r.relforcerowsecurity or r.relkind <> 'r' or r.relreplident <> 'd'
               -- heap has the oid 2
               or r.relam <> 2 or t.reloptions is not null or r.reltablespace <> 0 as special,
           exists (select from pg_inherits h where h.inhrelid = r.oid) as inherits,
           exists (select from pg_description d where d.classoid = 'pg_class'::regclass and d.objoid = r.oid) as commented,
           exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.deptype = 'e') as member
      into c
      from pg_class r join pg_namespace n on n.oid = r.relnamespace left join pg_class t on t.oid = r.reltoastrelid
     where r.oid = relation;
    if not found or c.relkind not in ('r', 'p', 'f', 'v', 'm', 'S') or c.relpersistence = 't' or c.nspname = 'walcast' then
        return null;
    elsif c.member or relation < 16384 then
        return walcast.describe_limited('pg_class'::regclass, relation, c.nspname, c.relname, c.relowner, c.relacl);
    end if;
    if c.commented then
        select jsonb_object_agg(d.objsubid, d.description) into comments
          from pg_description d where d.classoid = 'pg_class'::regclass and d.objoid = relation;
    end if;
    if c.inherits then
        select jsonb_agg(walcast.relation_name(h.inhparent) order by h.inhseqno) into parents from pg_inherits h where h.inhrelid = relation;
    end if;
    qualified := quote_ident(c.nspname) || '.' || quote_ident(c.relname);
    state := jsonb_build_object(
        'type', walcast.relation_type(c.relkind), 'identity', qualified, 'object', upper(walcast.relation_type(c.relkind)) || ' ' || qualified,
        'schema', c.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner),
        'acl', case when c.relacl is not null then walcast.acl(c.relacl) end, 'comment', comments -> '0',
        'persistence', nullif(c.relpersistence, 'p'), 'options', to_jsonb(c.reloptions),
        'columns', case when c.relkind <> 'S' then walcast.columns(relation, comments) end,
        'constraints', case when c.constrained and c.relkind in ('r', 'p', 'f') then walcast.constraints(relation) end,
        'indexes', case when c.relhasindex then walcast.indexes(relation) end, 'inherits', parents);
    if c.relkind = 'S' then
        state := state || walcast.describe_sequence(relation);
    elsif c.special then
        state := state || walcast.relation_details(relation, parents);
    end if;
    return jsonb_strip_nulls(state);
end
$$;

create or replace function walcast.relation_details(relation oid, parents jsonb) returns jsonb language plpgsql stable as $$
begin
    return (select jsonb_build_object(
        'bound', case when c.relispartition then pg_get_expr(c.relpartbound, relation) end,
        'parent', case when c.relispartition then parents -> 0 end,
        -- clones of the parent's triggers are no objects of their own, but whether they fire is told of each; before 15 all of them are internal
        'triggers', case when c.relispartition then (
            select jsonb_object_agg(t.tgname, t.tgenabled) from pg_trigger t where t.tgrelid = relation and t.tgparentid <> 0 and t.tgenabled <> 'O'
               and (not t.tgisinternal or current_setting('server_version_num')::int < 150000)) end,
        'inherits', case when not c.relispartition then parents end,
        'partition_key', case when c.relkind = 'p' then pg_get_partkeydef(relation) end,
        'of', case when c.reloftype <> 0 then format_type(c.reloftype, null) end,
        'toast_options', (select to_jsonb(t.reloptions) from pg_class t where t.oid = c.reltoastrelid),
        'access_method', (select m.amname from pg_am m where m.oid = c.relam and m.oid <> 2),
        'replica_identity', case when c.relkind in ('r', 'p') then nullif(c.relreplident, 'd') end,
        'identity_index', case when c.relreplident = 'i' then (
            select x.relname from pg_index i join pg_class x on x.oid = i.indexrelid where i.indrelid = relation and i.indisreplident) end,
        'query', case when c.relkind in ('v', 'm') then pg_get_viewdef(relation) end,
        'populated', case when c.relkind = 'm' then c.relispopulated end,
        'tablespace', (select s.spcname from pg_tablespace s where s.oid = c.reltablespace),
        'depends', case when c.relkind = 'm' then walcast.depends_on('pg_class'::regclass, relation) end,
        'rls', case when c.relrowsecurity or c.relforcerowsecurity then
            jsonb_build_object('enabled', c.relrowsecurity, 'forced', c.relforcerowsecurity) end)
        || case when c.relkind = 'f' then walcast.foreign_table(relation) else '{}' end
      from pg_class c where c.oid = relation);
end
$$;

create or replace function walcast.foreign_table(relation oid) returns jsonb language plpgsql stable as $$
begin
    return (select jsonb_build_object('server', s.srvname, 'fdw_options', walcast.options(f.ftoptions), 'redacted', walcast.redacted(f.ftoptions))
              from pg_foreign_table f join pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = relation);
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
        'comment', walcast.comment_on(class, object_oid),
        'depends', case when class in ('pg_proc'::regclass, 'pg_trigger'::regclass) then walcast.depends_on(class, object_oid) end, 'create', to_jsonb(creates), 'body', walcast.digest(body)) || coalesce(extra, '{}'));
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
    elsif class = 'pg_operator'::regclass then
        -- pg_get_object_address does not take its own words for an operator with one argument
        return to_regoperator(state ->> 'identity');
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
