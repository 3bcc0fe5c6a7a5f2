-- Nothing is for everybody: event trigger functions run without it, and the service is granted what it needs by name.
revoke all on all functions in schema walcast from public;
revoke all on walcast.shadow, walcast.told, walcast.shadow_index, walcast.secret, walcast.rewritten, walcast.seen, walcast.sequence_seen, walcast.installed,
    walcast.published, walcast.selected from public;

-- What is there at the first installation is known to whoever copies it. After another one the next tick compares
-- everything: objects may be described in other words.
do $$
begin
    if not exists (select from walcast.shadow) then
        perform walcast.fill();
    else
        delete from walcast.seen where name in ('snapshot', 'roles', 'roles of tick');
    end if;
end
$$;
