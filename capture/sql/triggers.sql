-- The event triggers. ENABLE ALWAYS: they fire under session_replication_role = replica, too.
drop event trigger if exists walcast_ddl_end;
create event trigger walcast_ddl_end on ddl_command_end execute function walcast.on_ddl_end();
alter event trigger walcast_ddl_end enable always;
drop event trigger if exists walcast_drop;
create event trigger walcast_drop on sql_drop execute function walcast.on_drop();
alter event trigger walcast_drop enable always;
drop event trigger if exists walcast_rewrite;
create event trigger walcast_rewrite on table_rewrite execute function walcast.on_rewrite();
alter event trigger walcast_rewrite enable always;
