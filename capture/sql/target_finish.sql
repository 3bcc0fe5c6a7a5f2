-- Settings and privileges of what target*.sql made.

-- What was installed: a digest of the files.
create table if not exists walcast.version (
    one boolean primary key default true check (one),
    files text not null
);

do $$
declare
    f text;
begin
    -- These act as somebody else, or see what their caller may not: objects in schemas that he may not use.
    foreach f in array array['run(text, text, text, text)', 'own(text, oid, oid, text)', 'keep_pending(text, oid, oid, text, jsonb, jsonb)', 'keep_renamed(text, text, oid, oid, oid)', 'keep_object(text, text, oid, oid, text, text, jsonb)', 'let_in(text, oid, oid)', 'grant_on_public(text, text, text, text, boolean)',
                             'apply_role(text, jsonb, jsonb, text[], text[])', 'rename_role(text, text, text)', 'apply_database(text, jsonb, jsonb, text[])',
                             'describe(oid, oid)', 'object_of(text, oid, oid, jsonb)', 'locate(oid, jsonb)', 'describe_user_mapping(oid)', 'grants(oid, oid)'] loop
        execute 'alter function walcast.' || f || ' security definer set search_path = pg_catalog, pg_temp';
    end loop;
end
$$;

revoke all on all functions in schema walcast from public;
-- what everybody may run, in the view of his own; without USAGE on the schema nobody can name it
grant execute on function walcast.go() to public;
revoke all on schema walcast from public;
revoke all on all tables in schema walcast from public;
