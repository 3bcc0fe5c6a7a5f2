-- States of the rarer kinds of objects, roles and the database. See state.sql.

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
    if not found or cast_oid < 16384 or walcast.is_part('pg_cast'::regclass, cast_oid) then
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
    return walcast.opaque('pg_default_acl'::regclass, default_acl, 0, null, 0, d.defaclacl, 'DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(pg_get_userbyid(d.defaclrole))
            || coalesce(' IN SCHEMA ' || (select quote_ident(n.nspname) from pg_namespace n where n.oid = d.defaclnamespace), ''), null, null,
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
