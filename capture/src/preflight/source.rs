//! Requirements on the source.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::{Finding, Found, finding, shown_tables, some_of, version};
use crate::setup::{Publication, selected_tables, slot_is_ours, wanted_capture};
use crate::source::{published_tables, scalar, server_version, slot};
use crate::{Installation, Slot, ddl, shown_table};

const RUN_SETUP: &str = "run `walcast setup`";

/// Looks at everything the source needs, in the order in which one would put it right.
pub async fn check_source(client: &Client, installed: &Installation) -> Vec<Finding> {
    let existing = match slot(client, &installed.slot).await {
        Ok(existing) => existing,
        Err(e) => return vec![Finding::unknown(&e)],
    };
    let mut findings = vec![
        finding(version(client).await),
        finding(minor_release(client).await),
        finding(primary(client).await),
        finding(wal_level(client).await),
        finding(replication_attribute(client).await),
        finding(wal_senders(client, existing.as_ref()).await),
        finding(slot_state(client, installed, existing.as_ref()).await),
        finding(publication(client, installed).await),
        finding(replica_identity(client, installed).await),
        finding(unlogged(client, installed).await),
        finding(large_objects(client).await),
    ];
    match wanted_capture(client, installed).await {
        Ok(capture) => findings.extend(ddl::check(client, &capture).await),
        Err(e) => findings.push(Finding::unknown(&e)),
    }
    findings
}

/// The first minor release of each major version with the fixes of logical decoding that lost or repeated changes.
const SOUND_SINCE: [(i32, i32); 5] = [(14, 21), (15, 16), (16, 12), (17, 8), (18, 2)];

async fn minor_release(client: &Client) -> Found {
    let number = server_version(client).await?;
    let (major, minor) = (number / 10_000, number % 10_000);
    let sound = SOUND_SINCE.iter().find(|(of, _)| *of == major).map_or(0, |(_, since)| *since);
    Ok(Finding::when(minor >= sound, "the minor release has the known fixes of logical decoding", || {
        let text = format!("server is {major}.{minor}, older than {major}.{sound}, which fixed logical decoding");
        Finding::warn(text, "update the server's minor release")
    }))
}

async fn primary(client: &Client) -> Found {
    let standby: bool = scalar(client, "select pg_catalog.pg_is_in_recovery()", "ask whether it is a standby").await?;
    Ok(Finding::when(!standby, "the server is a primary", || {
        Finding::fail("the server is a standby", "name the primary in [source] conninfo")
    }))
}

async fn wal_level(client: &Client) -> Found {
    let level: String = scalar(client, "select current_setting('wal_level')", "read wal_level").await?;
    Ok(Finding::when(level == "logical", "wal_level is logical", || {
        let hint = "ALTER SYSTEM SET wal_level = logical, then restart the source";
        Finding::fail(format!("wal_level is {level}, not logical"), hint)
    }))
}

/// Amazon's servers have a role of their own in place of the attribute, which only a superuser can give.
async fn replication_attribute(client: &Client) -> Found {
    let sql = "select rolreplication or rolsuper or exists (select from pg_catalog.pg_roles g \
               where g.rolname = 'rds_replication' and pg_catalog.pg_has_role(r.oid, g.oid, 'member')) \
               from pg_catalog.pg_roles r where rolname = current_user";
    let may: bool = scalar(client, sql, "look at the role's attributes").await?;
    Ok(Finding::when(may, "the role may replicate", || {
        Finding::fail("the role lacks REPLICATION", "ALTER ROLE … REPLICATION, as a superuser")
    }))
}

async fn wal_senders(client: &Client, slot: Option<&Slot>) -> Found {
    let most: i64 = scalar(client, "select current_setting('max_wal_senders')::int8", "read max_wal_senders").await?;
    let sql = "select count(*) from pg_catalog.pg_stat_replication";
    let used: i64 = scalar(client, sql, "count the WAL senders").await?;
    let ours = slot.is_some_and(|s| s.active_pid.is_some());
    let text = format!("{used} of max_wal_senders = {most} are in use");
    Ok(Finding::when(ours || used < most, &text, || {
        Finding::fail(format!("no WAL sender is free: {text}"), "raise max_wal_senders and restart the source")
    }))
}

async fn slot_state(client: &Client, installed: &Installation, slot: Option<&Slot>) -> Found {
    let name = &installed.slot;
    let Some(slot) = slot else { return slot_room(client, name).await };
    let database: String = scalar(client, "select current_database()::text", "ask for the database's name").await?;
    slot_is_ours(name, slot, &database)?;
    Ok(match (slot.wal_status.as_deref(), slot.active_pid) {
        (Some("lost") | None, _) => Finding::fail(
            format!("slot \"{name}\" lost its WAL"),
            "run `walcast teardown` and `walcast setup`, then copy the targets again",
        ),
        (Some("unreserved"), _) => Finding::warn(
            format!("slot \"{name}\" is about to lose its WAL"),
            "start `walcast run` now, or raise max_slot_wal_keep_size",
        ),
        (Some(status), Some(pid)) => {
            Finding::pass(format!("slot \"{name}\" is read by process {pid}, its WAL is {status}"))
        }
        (Some(status), None) => Finding::pass(format!("slot \"{name}\" is there, its WAL is {status}")),
    })
}

/// There is no slot yet: is there room for one?
async fn slot_room(client: &Client, name: &str) -> Found {
    let most: i64 =
        scalar(client, "select current_setting('max_replication_slots')::int8", "read max_replication_slots").await?;
    let sql = "select count(*) from pg_catalog.pg_replication_slots";
    let used: i64 = scalar(client, sql, "count the replication slots").await?;
    Ok(match used < most {
        true => Finding::fail(format!("slot \"{name}\" does not exist"), RUN_SETUP),
        false => Finding::fail(
            format!("slot \"{name}\" does not exist and none is free: {used} of max_replication_slots = {most} in use"),
            "drop a slot that nobody needs, or raise max_replication_slots and restart the source",
        ),
    })
}

async fn publication(client: &Client, installed: &Installation) -> Found {
    let name = &installed.publication;
    let Some(found) = Publication::find(client, name).await? else {
        return Ok(Finding::fail(format!("publication \"{name}\" does not exist"), RUN_SETUP));
    };
    if !found.publishes_all {
        let text = format!("publication \"{name}\" leaves out some of insert, update, delete, truncate");
        return Ok(Finding::fail(text, "ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate')"));
    }
    let published: BTreeSet<(String, String)> =
        published_tables(client, name).await?.into_iter().map(|t| (t.schema, t.table)).collect();
    let selected = selected_tables(client, &installed.selection).await?;
    let missing: Vec<String> = selected.difference(&published).map(|(s, t)| shown_table(s, t)).collect();
    if !missing.is_empty() {
        let text = format!("publication \"{name}\" does not cover {}", some_of(&missing));
        return Ok(Finding::fail(text, "run `walcast setup` again"));
    }
    Ok(Finding::when(!published.is_empty(), &format!("publication \"{name}\" has {} tables", published.len()), || {
        Finding::warn(format!("publication \"{name}\" has no table"), "create tables, or look at [source] tables")
    }))
}

/// Tables on which the source itself refuses UPDATE and DELETE once they are published.
async fn replica_identity(client: &Client, installed: &Installation) -> Found {
    let sql = "select n.nspname::text, c.relname::text from pg_catalog.pg_class c \
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where c.relkind = 'r' and c.relpersistence = 'p' and c.oid >= 16384 and (c.relreplident = 'n' \
               or c.relreplident = 'd' and not exists (select from pg_catalog.pg_index i \
                   where i.indrelid = c.oid and i.indisprimary and i.indisvalid) \
               or c.relreplident = 'i' and not exists (select from pg_catalog.pg_index i \
                   where i.indrelid = c.oid and i.indisreplident and i.indisvalid)) order by 1, 2";
    let selects = |schema: &str, table: &str| installed.selection.selects(schema, table);
    let tables = shown_tables(client, sql, "look for tables without replica identity", selects).await?;
    Ok(Finding::when(tables.is_empty(), "every table has a replica identity", || {
        Finding::warn(
            format!("UPDATE and DELETE fail on the source for want of a replica identity: {}", some_of(&tables)),
            "add a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
        )
    }))
}

async fn unlogged(client: &Client, installed: &Installation) -> Found {
    let sql = "select n.nspname::text, c.relname::text from pg_catalog.pg_class c \
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where c.relkind = 'r' and c.relpersistence = 'u' order by 1, 2";
    let selects = |schema: &str, table: &str| installed.selection.selects(schema, table);
    let tables = shown_tables(client, sql, "look for unlogged tables", selects).await?;
    Ok(Finding::when(tables.is_empty(), "no selected table is unlogged", || {
        let text = format!("unlogged tables are not replicated: {}", some_of(&tables));
        Finding::warn(text, "ALTER TABLE … SET LOGGED, or exclude them")
    }))
}

async fn large_objects(client: &Client) -> Found {
    let sql = "select count(*) from pg_catalog.pg_largeobject_metadata";
    let count: i64 = scalar(client, sql, "count the large objects").await?;
    Ok(Finding::when(count == 0, "there are no large objects", || {
        Finding::warn(format!("{count} large objects are not replicated"), "keep them in a bytea column instead")
    }))
}
