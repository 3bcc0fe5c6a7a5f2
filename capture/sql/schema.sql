-- Tables of the capture on the source. Those that are unlogged may be lost in a crash: the next tick fills them again.

-- Every object as it was captured last. `version` counts nothing: what is compared is `state`.
create table if not exists walcast.shadow (
    class oid not null,
    oid oid not null,
    state jsonb not null,
    primary key (class, oid)
);

-- Roles as they were told by somebody who could not keep them in the shadow. The key is not the role's: nobody
-- waits for anybody.
create table if not exists walcast.told (
    id bigint generated always as identity primary key,
    oid oid not null,
    state jsonb not null
);

-- To which table an index belongs that no constraint owns: DROP INDEX does not tell.
create table if not exists walcast.shadow_index (
    index oid primary key,
    relation oid not null
);
create index if not exists shadow_index_relation on walcast.shadow_index (relation);

-- The key of the messages, padded for HMAC-SHA256: 64 bytes each, xor 0x36 and xor 0x5c.
create table if not exists walcast.secret (
    one boolean primary key default true check (one),
    inner_key bytea not null,
    outer_key bytea not null
);

-- Tables rewritten by the command that is running.
create unlogged table if not exists walcast.rewritten (
    xid xid8 not null,
    relation oid not null,
    reason int not null,
    primary key (xid, relation)
);

-- What the last look at the catalogs found.
create unlogged table if not exists walcast.seen (
    name text primary key,
    value text not null
);

create unlogged table if not exists walcast.sequence_seen (
    oid oid primary key,
    last_value bigint not null,
    is_called boolean not null
);

-- What was installed: digests of the files, and of the functions as the server had them then.
create table if not exists walcast.installed (
    one boolean primary key default true check (one),
    files text not null,
    functions text not null
);
