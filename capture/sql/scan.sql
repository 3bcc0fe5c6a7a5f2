-- Looking through whole catalogs for objects. See capture.sql.

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

-- Keys of all objects that have a state, in the order in which they can be made.
create or replace function walcast.objects() returns bigint[] language plpgsql stable as $$
begin
    return array(select o.k from (
        select walcast.key('pg_class'::regclass, c.oid) as k, c.oid from pg_class c where c.oid >= 16384 and c.relkind in ('r', 'p', 'f', 'v', 'm', 'S') and c.relpersistence <> 't'
        union all select walcast.key('pg_class'::regclass, c.oid), c.oid from pg_class c where c.oid < 16384 and c.relkind in ('r', 'v') and c.relacl is not null
        union all select walcast.key('pg_type'::regclass, t.oid), t.oid from pg_type t left join pg_class c on c.oid = t.typrelid
                   where t.oid >= 16384 and (t.typrelid = 0 or c.relkind = 'c') and not (t.typelem <> 0 and t.typlen = -1)
        union all select walcast.key('pg_proc'::regclass, p.oid), p.oid from pg_proc p where p.oid >= 16384 or p.proacl is not null
        union all select walcast.key('pg_namespace'::regclass, n.oid), n.oid from pg_namespace n
        union all select walcast.key('pg_trigger'::regclass, t.oid), t.oid from pg_trigger t where not t.tgisinternal and t.tgparentid = 0
        union all select walcast.key('pg_rewrite'::regclass, r.oid), r.oid from pg_rewrite r where r.oid >= 16384 and r.rulename <> '_RETURN'
        union all select walcast.key('pg_policy'::regclass, p.oid), p.oid from pg_policy p
        union all select walcast.key('pg_statistic_ext'::regclass, s.oid), s.oid from pg_statistic_ext s
        union all select walcast.key('pg_extension'::regclass, e.oid), e.oid from pg_extension e
        union all select walcast.key('pg_language'::regclass, l.oid), l.oid from pg_language l
        union all select walcast.key('pg_cast'::regclass, c.oid), c.oid from pg_cast c where c.oid >= 16384
        union all select walcast.key('pg_collation'::regclass, c.oid), c.oid from pg_collation c where c.oid >= 16384
        union all select walcast.key('pg_conversion'::regclass, c.oid), c.oid from pg_conversion c where c.oid >= 16384
        union all select walcast.key('pg_operator'::regclass, o.oid), o.oid from pg_operator o where o.oid >= 16384
        union all select walcast.key('pg_opclass'::regclass, c.oid), c.oid from pg_opclass c where c.oid >= 16384
        union all select walcast.key('pg_opfamily'::regclass, f.oid), f.oid from pg_opfamily f where f.oid >= 16384
        union all select walcast.key('pg_am'::regclass, m.oid), m.oid from pg_am m where m.oid >= 16384
        union all select walcast.key('pg_ts_parser'::regclass, p.oid), p.oid from pg_ts_parser p where p.oid >= 16384
        union all select walcast.key('pg_ts_template'::regclass, t.oid), t.oid from pg_ts_template t where t.oid >= 16384
        union all select walcast.key('pg_ts_dict'::regclass, d.oid), d.oid from pg_ts_dict d where d.oid >= 16384
        union all select walcast.key('pg_ts_config'::regclass, c.oid), c.oid from pg_ts_config c where c.oid >= 16384
        union all select walcast.key('pg_transform'::regclass, t.oid), t.oid from pg_transform t where t.oid >= 16384
        union all select walcast.key('pg_foreign_data_wrapper'::regclass, w.oid), w.oid from pg_foreign_data_wrapper w
        union all select walcast.key('pg_foreign_server'::regclass, s.oid), s.oid from pg_foreign_server s
        union all select walcast.key('pg_user_mapping'::regclass, m.oid), m.oid from pg_user_mapping m
        union all select walcast.key('pg_default_acl'::regclass, d.oid), d.oid from pg_default_acl d) o (k, oid)
        order by walcast.place(o.k), o.oid);
end
$$;

-- Before what it is needed by: among objects of one place, the older one.
create or replace function walcast.place(k bigint) returns int language sql immutable as $$
    select case (k >> 32)::oid when 'pg_namespace'::regclass then 1 when 'pg_extension'::regclass then 2
        when 'pg_trigger'::regclass then 4 when 'pg_rewrite'::regclass then 4 when 'pg_policy'::regclass then 4
        when 'pg_user_mapping'::regclass then 4 when 'pg_default_acl'::regclass then 4 else 3 end
$$;
