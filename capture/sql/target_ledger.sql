-- The ledger of a target's roles. Whoever copies a target makes it as well. See target.sql.

-- Roles that walcast may alter, drop, and act as; and roles whose names somebody else had first.
create table if not exists walcast.role (
    name text primary key,
    how text not null check (how in ('created', 'adopted', 'clash')),
    since timestamptz not null default now()
);
