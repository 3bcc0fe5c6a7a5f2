-- Nothing is for everybody: event trigger functions run without it, and the service is granted what it needs by name.
revoke all on all functions in schema walcast from public;
revoke all on walcast.shadow, walcast.shadow_index, walcast.secret, walcast.rewritten, walcast.seen, walcast.sequence_seen, walcast.installed from public;

-- What is there at the first installation is known to whoever copies it; later on it is compared.
do $$
begin
    if not exists (select from walcast.shadow) then
        perform walcast.fill();
    end if;
end
$$;
