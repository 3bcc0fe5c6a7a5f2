-- Publications of some tables. A table that comes to be selected, because it is made, renamed, moved or becomes logged, is
-- published by the command that does it, in its own transaction: what is written to it from there on is in the stream. What
-- it holds already is not, so it is said to be rewritten, and targets copy it (reason 16).
--
-- Servers from 15 on lock a publication until the transaction that alters it ends. A command does not wait long for that:
-- the next tick publishes what it left.

-- The publication, unless it is one of all tables or somebody else's.
create table if not exists walcast.published (
    one boolean primary key default true check (one),
    publication name not null
);

-- Patterns for LIKE. What matches one of them, and none that is excluded, is selected.
create table if not exists walcast.selected (
    excluded boolean not null,
    schema_like text not null,
    table_like text not null,
    primary key (excluded, schema_like, table_like)
);

create or replace function walcast.is_selected(schema name, relation name) returns boolean language plpgsql stable as $$
begin
    return schema not like 'pg\_%' and schema not in ('information_schema', 'walcast')
        and exists (select from walcast.selected s where not s.excluded and schema like s.schema_like and relation like s.table_like)
        and not exists (select from walcast.selected s where s.excluded and schema like s.schema_like and relation like s.table_like);
end
$$;

-- Keys of tables that are to be published and are not, or the other way round.
create or replace function walcast.unpublished() returns bigint[] language plpgsql stable as $$
declare
    publication oid := (select p.oid from pg_publication p join walcast.published d on d.publication = p.pubname);
begin
    if publication is null then
        return '{}';
    end if;
    return array(
        select walcast.key('pg_class'::regclass, c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'r' and c.relpersistence = 'p' and c.oid >= 16384
           and walcast.is_selected(n.nspname, c.relname) <> exists (select from pg_publication_rel r where r.prpubid = publication and r.prrelid = c.oid)
         order by c.oid);
end
$$;

-- False: not now.
create or replace function walcast.alter_publication(publication name, what text, relation oid) returns boolean language plpgsql
    set lock_timeout = '300ms' as $$
begin
    execute format('alter publication %I %s table only %s', publication, what, walcast.relation_name(relation));
    return true;
exception when others then
    return false;
end
$$;

-- Publishes what is selected among the touched. Returns `rewritten`, to which the tables are added that may hold rows.
create or replace function walcast.publish(tag text, touched bigint[], rewritten jsonb) returns jsonb language plpgsql as $$
declare
    done boolean;
    target record;
    c record;
begin
    select p.oid, p.pubname into target from walcast.published d join pg_publication p on p.pubname = d.publication;
    if not found then
        return rewritten;
    end if;
    for c in
        select r.oid, walcast.is_selected(n.nspname, r.relname) as is_selected,
               exists (select from pg_publication_rel l where l.prpubid = target.oid and l.prrelid = r.oid) as is_published,
               tag in ('tick', 'CREATE TABLE AS', 'SELECT INTO')
                   or exists (select from walcast.shadow s where s.class = 'pg_class'::regclass and s.oid = r.oid) as may_hold_rows
          from unnest(walcast.unique_keys(touched)) k join pg_class r on r.oid = (k & 4294967295)::oid join pg_namespace n on n.oid = r.relnamespace
         where (k >> 32)::oid = 'pg_class'::regclass and r.relkind = 'r' and r.relpersistence = 'p'
    loop
        if c.is_published and not c.is_selected then
            done := walcast.alter_publication(target.pubname, 'drop', c.oid);
        elsif c.is_selected and not c.is_published and walcast.alter_publication(target.pubname, 'add', c.oid) and c.may_hold_rows then
            rewritten := coalesce(rewritten, '{}') || jsonb_build_object(c.oid::text, coalesce((rewritten ->> c.oid::text)::int, 0) | 16);
        end if;
    end loop;
    return rewritten;
end
$$;
