//! Roles that own something or are granted something: they have to be on the target before what they own.

use std::collections::{BTreeMap, BTreeSet};

use capture::{quote_identifier, quote_literal};
use tokio_postgres::{Client, Row};

use crate::RolePolicy;
use crate::error::{Error, Whom};
use crate::progress::Progress;

const READ: &str = "read roles";
const MAKE: &str = "make roles";

struct Role {
    name: String,
    attributes: String,
}

/// Makes what the target lacks, as one transaction.
pub(crate) async fn make(
    source: &Client,
    target: &Client,
    policy: &RolePolicy,
    progress: &Progress,
) -> Result<(), Error> {
    let wanted = wanted(source).await?;
    let names: Vec<&str> = wanted.iter().map(|role| role.name.as_str()).collect();
    let existing = existing(target, &names).await?;
    let missing: Vec<&Role> = wanted.iter().filter(|role| !existing.contains(&role.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (refused, made): (Vec<&Role>, Vec<&Role>) =
        missing.into_iter().partition(|role| !policy.create || policy.exclude.contains(&role.name));
    if !refused.is_empty() {
        let names = refused.iter().map(|role| quote_identifier(&role.name.escape_debug().to_string()));
        return Err(Error::MissingRoles(names.collect::<Vec<_>>().join(", ")));
    }
    let passwords = if policy.passwords { passwords(source).await? } else { BTreeMap::new() };
    let create = |role: &&Role| {
        let password = passwords.get(&role.name).map(|verifier| format!(" PASSWORD {}", quote_literal(verifier)));
        format!("CREATE ROLE {}{}{};", quote_identifier(&role.name), role.attributes, password.unwrap_or_default())
    };
    let mut sql: String = made.iter().map(create).collect();
    sql += &memberships(source, target, &names, &made).await?;
    sql += &entries(target, &made).await?;
    // A verifier may be in the statement: it is kept from the log by what is said of an error alone.
    target.batch_execute(&format!("BEGIN; {sql} COMMIT")).await.map_err(Whom::Target.doing(MAKE))?;
    let names = made.iter().map(|role| quote_identifier(&role.name.escape_debug().to_string())).collect::<Vec<_>>();
    progress.note(format!("made roles on the target: {}", names.join(", ")));
    Ok(())
}

/// What notes that these roles are walcast's, so that what becomes of them on the source becomes of them there. A login that
/// is no superuser may not write that.
async fn entries(target: &Client, made: &[&Role]) -> Result<String, Error> {
    let sql = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let superuser =
        target.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(Whom::Target.doing(READ))?;
    let entry = |role: &&Role| format!("({}, 'created')", quote_literal(&role.name));
    let entries = made.iter().map(entry).collect::<Vec<_>>().join(", ");
    let insert = format!(
        "INSERT INTO walcast.role (name, how) VALUES {entries} ON CONFLICT (name) DO UPDATE SET how = 'created';"
    );
    Ok(if superuser { format!("{}{insert}", capture::target::ledger_sql()) } else { String::new() })
}

/// Those that the database depends on. Of the bootstrap superuser no dependency is kept, so it is looked for.
async fn wanted(source: &Client) -> Result<Vec<Role>, Error> {
    let sql = "SELECT r.rolname::text, \
                   CASE WHEN r.rolsuper THEN ' SUPERUSER' ELSE '' END || CASE WHEN r.rolinherit THEN '' ELSE ' NOINHERIT' END \
                   || CASE WHEN r.rolcreaterole THEN ' CREATEROLE' ELSE '' END \
                   || CASE WHEN r.rolcreatedb THEN ' CREATEDB' ELSE '' END \
                   || CASE WHEN r.rolcanlogin THEN ' LOGIN' ELSE '' END \
                   || CASE WHEN r.rolreplication THEN ' REPLICATION' ELSE '' END \
                   || CASE WHEN r.rolbypassrls THEN ' BYPASSRLS' ELSE '' END \
                   || CASE WHEN r.rolconnlimit >= 0 THEN ' CONNECTION LIMIT ' || r.rolconnlimit ELSE '' END \
                   || coalesce(' VALID UNTIL ' || quote_literal(r.rolvaliduntil), '') \
               FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND (r.oid IN (SELECT d.refobjid \
                   FROM pg_catalog.pg_shdepend d WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass \
                   AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c \
                           ON c.relnamespace = n.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid \
                       LEFT JOIN pg_catalog.pg_proc p \
                           ON p.pronamespace = n.oid AND d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid \
                       WHERE n.nspname = 'walcast' AND (c.oid IS NOT NULL OR p.oid IS NOT NULL \
                           OR d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid))) \
               OR r.oid = 10 AND (EXISTS (SELECT FROM pg_catalog.pg_class WHERE relowner = 10 AND oid >= 16384) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proowner = 10 AND oid >= 16384) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typowner = 10 AND oid >= 16384) \
                   OR EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspowner = 10 AND oid >= 16384))) ORDER BY 1";
    let rows = source.query(sql, &[]).await.map_err(Whom::Source.doing(READ))?;
    let role = |row: &Row| Ok(Role { name: row.try_get(0)?, attributes: row.try_get(1)? });
    rows.iter().map(role).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))
}

async fn existing(target: &Client, names: &[&str]) -> Result<BTreeSet<String>, Error> {
    let sql = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)";
    let rows = target.query(sql, &[&names]).await.map_err(Whom::Target.doing(READ))?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(Whom::Target.doing(READ))
}

async fn passwords(source: &Client) -> Result<BTreeMap<String, String>, Error> {
    let sql = "SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolpassword IS NOT NULL";
    let rows = source.query(sql, &[]).await.map_err(Whom::Source.doing("read password verifiers"))?;
    let pairs = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect::<Result<_, _>>().map_err(Whom::Source.doing("read password verifiers"))
}

/// GRANT statements for memberships in which a new role is one side, and both sides are on the target.
async fn memberships(source: &Client, target: &Client, names: &[&str], made: &[&Role]) -> Result<String, Error> {
    let sql = "SELECT g.rolname::text, m.rolname::text, bool_or(a.admin_option) FROM pg_catalog.pg_auth_members a \
               JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member \
               WHERE m.rolname = ANY ($1) AND (g.rolname = ANY ($1) OR g.rolname ~ '^pg_') GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = source.query(sql, &[&names]).await.map_err(Whom::Source.doing(READ))?;
    let mut found: Vec<(String, String, bool)> = Vec::new();
    for row in &rows {
        let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        found.push(read().map_err(Whom::Source.doing(READ))?);
    }
    // A predefined role of a newer source may be missing.
    let granted: Vec<&str> = found.iter().map(|(granted, _, _)| granted.as_str()).collect();
    let mut there = existing(target, &granted).await?;
    let new: BTreeSet<&str> = made.iter().map(|role| role.name.as_str()).collect();
    there.extend(new.iter().map(|name| (*name).to_owned()));
    let wanted = found.iter().filter(|(granted, member, _)| {
        there.contains(granted) && (new.contains(granted.as_str()) || new.contains(member.as_str()))
    });
    let grant = |(granted, member, admin): &(String, String, bool)| {
        let option = if *admin { " WITH ADMIN OPTION" } else { "" };
        format!("GRANT {} TO {}{option};", quote_identifier(granted), quote_identifier(member))
    };
    Ok(wanted.map(grant).collect())
}
