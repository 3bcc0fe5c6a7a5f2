//! Roles: those that own something or are granted something have to be on the target before what they own; the others, so
//! that what they are granted later does not wait for them.
//!
//! A login that is a superuser makes them by `walcast.apply_role`, as those that come in the stream: the same is left out
//! (SUPERUSER, REPLICATION, BYPASSRLS, memberships in roles that are not walcast's), and the ledger has them. Another login
//! makes what it cannot do without, with no more than that.

use std::collections::BTreeSet;

use capture::{quote_identifier, quote_literal};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::RolePolicy;
use crate::error::{Error, Whom};
use crate::progress::Progress;

const READ: &str = "read roles";
const MAKE: &str = "make roles";

/// Those that this database depends on, and the others but walcast's own. Of the bootstrap superuser no dependency is kept,
/// so it is looked for. The state is as the capture describes it.
const ROLES: &str = "\
WITH needed AS (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND (r.oid IN (SELECT d.refobjid
        FROM pg_catalog.pg_shdepend d WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
         AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c
                 ON c.relnamespace = n.oid AND d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
             LEFT JOIN pg_catalog.pg_proc p
                 ON p.pronamespace = n.oid AND d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
             WHERE n.nspname = 'walcast' AND (c.oid IS NOT NULL OR p.oid IS NOT NULL
                 OR d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid)))
     OR r.oid = 10 AND (EXISTS (SELECT FROM pg_catalog.pg_class WHERE relowner = 10 AND oid >= 16384)
         OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proowner = 10 AND oid >= 16384)
         OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typowner = 10 AND oid >= 16384)
         OR EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspowner = 10 AND oid >= 16384))))
SELECT r.rolname::text, n.oid IS NOT NULL, jsonb_strip_nulls(jsonb_build_object('name', r.rolname,
        'comment', pg_catalog.shobj_description(r.oid, 'pg_authid'), 'superuser', r.rolsuper, 'inherit', r.rolinherit,
        'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'login', r.rolcanlogin, 'replication', r.rolreplication,
        'bypassrls', r.rolbypassrls, 'connection_limit', nullif(r.rolconnlimit, -1), 'valid_until', r.rolvaliduntil::text,
        'settings', (SELECT jsonb_agg(jsonb_build_object('database', s.setdatabase <> 0, 'config', to_jsonb(s.setconfig)))
            FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase IN (0,
                (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))),
        'member_of', (SELECT jsonb_agg(jsonb_build_object('role', pg_get_userbyid(m.roleid), 'grantor',
                pg_get_userbyid(m.grantor), 'admin', m.admin_option, 'inherit', (to_jsonb(m) ->> 'inherit_option')::boolean,
                'set', (to_jsonb(m) ->> 'set_option')::boolean)) FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)))
        ::text,
    CASE WHEN r.rolinherit THEN '' ELSE ' NOINHERIT' END || CASE WHEN r.rolcanlogin THEN ' LOGIN' ELSE '' END
        || CASE WHEN r.rolconnlimit >= 0 THEN ' CONNECTION LIMIT ' || r.rolconnlimit ELSE '' END
        || coalesce(' VALID UNTIL ' || quote_literal(r.rolvaliduntil), '')
  FROM pg_catalog.pg_roles r LEFT JOIN needed n ON n.oid = r.oid
 WHERE n.oid IS NOT NULL OR r.oid >= 16384 AND r.rolname NOT IN (session_user, 'walcast_nobody') ORDER BY 1";

/// $1: states, $2 and $3: names and their verifiers, $4: adopted, $5: excluded. Roles that the target has by itself are used
/// as they are.
const APPLY: &str = "\
SELECT a.verb, a.what FROM unnest($1::text[]) s (state), LATERAL (SELECT state::jsonb || coalesce(
        (SELECT jsonb_build_object('password', p.password) FROM unnest($2::text[], $3::text[]) p (name, password)
          WHERE p.name = s.state::jsonb ->> 'name'), '{}') AS state) w,
    walcast.apply_role(NULL, NULL, w.state, $4::text[], $5::text[]) a
 WHERE to_regrole(quote_ident(w.state ->> 'name')) IS NULL OR w.state ->> 'name' = ANY ($4::text[])
    OR EXISTS (SELECT FROM walcast.role l WHERE l.name = w.state ->> 'name' AND l.how <> 'clash')";

struct Role {
    name: String,
    needed: bool,
    state: String,
    attributes: String,
}

/// Makes what the target lacks, as one transaction.
pub(crate) async fn make(
    source: &Client,
    target: &Client,
    policy: &RolePolicy,
    progress: &Progress,
) -> Result<(), Error> {
    let roles = read(source).await?;
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let existing = existing(target, &names).await?;
    let missing: Vec<&Role> = roles.iter().filter(|role| role.needed && !existing.contains(&role.name)).collect();
    let is_refused = |role: &&&Role| !policy.create || policy.exclude.contains(&role.name);
    let refused: Vec<String> = missing.iter().filter(is_refused).map(|role| shown(&role.name)).collect();
    if !refused.is_empty() {
        return Err(Error::MissingRoles(refused.join(", ")));
    }
    let passwords = if policy.passwords { passwords(source).await? } else { Vec::new() };
    let superuser =
        target.query_one("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", &[]).await;
    match superuser.and_then(|row| row.try_get(0)).map_err(Whom::Target.doing(READ))? {
        true if policy.create => apply(target, &roles, policy, &passwords, progress).await,
        _ if missing.is_empty() => Ok(()),
        _ => create(source, target, &missing, &passwords, progress).await,
    }
}

/// As the stream would.
async fn apply(
    target: &Client,
    roles: &[Role],
    policy: &RolePolicy,
    passwords: &[(String, String)],
    progress: &Progress,
) -> Result<(), Error> {
    let functions = capture::target::functions_sql(policy.passwords);
    let begin = format!("BEGIN; {functions}; SET LOCAL search_path = pg_catalog, pg_temp");
    target.batch_execute(&begin).await.map_err(Whom::Target.doing(MAKE))?;
    let states: Vec<&str> = roles.iter().map(|role| role.state.as_str()).collect();
    let (names, verifiers): (Vec<&str>, Vec<&str>) = passwords.iter().map(|(n, v)| (n.as_str(), v.as_str())).unzip();
    let parameters: [&(dyn ToSql + Sync); 5] = [&states, &names, &verifiers, &policy.adopt, &policy.exclude];
    let rows = target.query(APPLY, &parameters).await.map_err(Whom::Target.doing(MAKE))?;
    target.batch_execute("COMMIT").await.map_err(Whom::Target.doing(MAKE))?;
    let rows = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>();
    let rows: Vec<(String, String)> = rows.map_err(Whom::Target.doing(MAKE))?;
    let what = |wanted: &str| -> Vec<String> {
        rows.iter().filter(|(verb, _)| verb == wanted).map(|(_, what)| in_one_line(what)).collect()
    };
    let made: Vec<String> = what("created").iter().map(|role| role.trim_start_matches("ROLE ").to_owned()).collect();
    note_made(progress, &made);
    what("skipped").into_iter().for_each(|why| progress.note(why));
    Ok(())
}

/// What is needed, by a login that is no superuser.
async fn create(
    source: &Client,
    target: &Client,
    missing: &[&Role],
    passwords: &[(String, String)],
    progress: &Progress,
) -> Result<(), Error> {
    let create = |role: &&Role| {
        let password = passwords.iter().find(|(name, _)| *name == role.name);
        let password = password.map(|(_, verifier)| format!(" PASSWORD {}", quote_literal(verifier)));
        format!("CREATE ROLE {}{}{};", quote_identifier(&role.name), role.attributes, password.unwrap_or_default())
    };
    let mut sql: String = missing.iter().map(create).collect();
    sql += &memberships(source, missing).await?;
    // A verifier may be in the statement: it is kept from the log by what is said of an error alone.
    target.batch_execute(&format!("BEGIN; {sql} COMMIT")).await.map_err(Whom::Target.doing(MAKE))?;
    note_made(progress, &missing.iter().map(|role| shown(&role.name)).collect::<Vec<_>>());
    Ok(())
}

fn shown(name: &str) -> String {
    quote_identifier(&in_one_line(name))
}

fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn note_made(progress: &Progress, made: &[String]) {
    if !made.is_empty() {
        progress.note(format!("made roles on the target: {}", made.join(", ")));
    }
}

async fn read(source: &Client) -> Result<Vec<Role>, Error> {
    let rows = source.query(ROLES, &[]).await.map_err(Whom::Source.doing(READ))?;
    let role = |row: &Row| {
        let (name, needed) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Role { name, needed, state: row.try_get(2)?, attributes: row.try_get(3)? })
    };
    rows.iter().map(role).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))
}

async fn existing(target: &Client, names: &[&str]) -> Result<BTreeSet<String>, Error> {
    let sql = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY ($1)";
    let rows = target.query(sql, &[&names]).await.map_err(Whom::Target.doing(READ))?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(Whom::Target.doing(READ))
}

async fn passwords(source: &Client) -> Result<Vec<(String, String)>, Error> {
    let sql = "SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolpassword IS NOT NULL";
    let rows = source.query(sql, &[]).await.map_err(Whom::Source.doing("read password verifiers"))?;
    let pairs = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    pairs.collect::<Result<_, _>>().map_err(Whom::Source.doing("read password verifiers"))
}

/// GRANT statements for memberships of new roles in one another.
async fn memberships(source: &Client, made: &[&Role]) -> Result<String, Error> {
    let sql = "SELECT format('GRANT %I TO %I%s;', g.rolname, m.rolname, \
                   CASE WHEN bool_or(a.admin_option) THEN ' WITH ADMIN OPTION' ELSE '' END) \
               FROM pg_catalog.pg_auth_members a \
               JOIN pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member \
               WHERE m.rolname = ANY ($1) AND g.rolname = ANY ($1) GROUP BY g.rolname, m.rolname ORDER BY 1";
    let names: Vec<&str> = made.iter().map(|role| role.name.as_str()).collect();
    let rows = source.query(sql, &[&names]).await.map_err(Whom::Source.doing(READ))?;
    let grants = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<String, _>>();
    grants.map_err(Whom::Source.doing(READ))
}
