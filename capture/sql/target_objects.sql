-- What a target keeps in mind of the source's objects. Only walcast may write it: whoever could would have objects taken for others.

-- Objects that were renamed, by what they are on the source and here: once names were exchanged, they tell nothing.
create table if not exists walcast.renamed (
    origin text not null,
    class oid not null,
    source oid not null,
    oid oid not null,
    primary key (origin, class, source)
);

-- Objects that need what is not here, because not all tables are replicated.
create table if not exists walcast.pending_object (
    origin text not null,
    class oid not null,
    source oid not null,
    object text not null,
    why text not null,
    wanted jsonb not null,
    since timestamptz not null default now(),
    primary key (origin, class, source)
);

-- The object here that is one of the source's, which is called so there: as noted, or by its name if that is not noted for another.
create or replace function walcast.object_of(origin text, class oid, source oid, state jsonb) returns oid language plpgsql stable as $$
declare
    found_oid oid := (select r.oid from walcast.renamed r where r.origin = object_of.origin and r.class = object_of.class and r.source = object_of.source);
begin
    if found_oid is not null and (pg_identify_object(class, found_oid, 0)).identity is not null then
        return found_oid;
    end if;
    found_oid := walcast.locate(class, state);
    return case when not exists (select from walcast.renamed r where r.origin = object_of.origin and r.class = object_of.class and r.oid = found_oid) then found_oid end;
end
$$;

-- Without an object: it is gone.
create or replace function walcast.keep_renamed(token text, origin text, class oid, source oid, object oid) returns void language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
begin
    delete from walcast.renamed r where r.origin = keep_renamed.origin and r.class = keep_renamed.class and (r.source = keep_renamed.source or r.oid = keep_renamed.object);
    if object is not null then
        insert into walcast.renamed values (keep_renamed.origin, keep_renamed.class, keep_renamed.source, keep_renamed.object);
    end if;
end
$$;

-- Without a reason: it waits for nothing (any more).
create or replace function walcast.keep_object(token text, origin text, class oid, source oid, object text, why text, wanted jsonb) returns void language plpgsql security definer as $$
declare
    done boolean := walcast.authorize(token);
begin
    if why is null then
        delete from walcast.pending_object p where p.origin = keep_object.origin and p.class = keep_object.class and p.source = keep_object.source;
    else
        insert into walcast.pending_object values (keep_object.origin, keep_object.class, keep_object.source, keep_object.object, keep_object.why, keep_object.wanted)
            on conflict on constraint pending_object_pkey do update set object = excluded.object, why = excluded.why, wanted = excluded.wanted;
    end if;
end
$$;
