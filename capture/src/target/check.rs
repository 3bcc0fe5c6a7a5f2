//! Whether a target has what [`setup_sql`](super::setup_sql) makes, and whether its login has no more than it needs.

use tokio_postgres::Client;

use super::{Target, files};
use crate::preflight::{Finding, some_of};
use crate::{Error, ddl, quote_identifier, quote_literal, source};

const HINT: &str = "have a superuser run what `walcast setup --target NAME --print-sql` prints";

/// Looks at a target with the login's own eyes. `target.login` and `target.replicated` are what is looked at.
pub async fn check(client: &Client, target: &Target) -> Vec<Finding> {
    match findings(client, target).await {
        Ok(findings) => findings,
        Err(e) => vec![Finding::fail(e.to_string(), e.hint().unwrap_or(HINT))],
    }
}

async fn findings(client: &Client, target: &Target) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let superuser = is_superuser(client).await?;
    let version = version(client).await?;
    findings.push(match (&version, superuser) {
        (Some(found), _) if *found == wanted_version(client, target).await? => {
            Finding::pass("walcast's functions on the target are of this version")
        }
        (Some(_), _) => {
            Finding::fail("walcast's functions on the target are of another version or configuration", HINT)
        }
        (None, true) => Finding::pass("walcast's functions are not on the target yet; the login may install them"),
        (None, false) => Finding::fail("DDL cannot be applied: walcast's functions are not on the target", HINT),
    });
    if version.is_some() {
        findings.push(code_in_the_way(client, target).await?);
    }
    if superuser {
        findings.push(Finding::warn(
            "the login is a superuser: code in the definitions of replicated tables runs with a superuser's rights",
            "use a login without SUPERUSER, and run what `walcast setup --target NAME --print-sql` prints; see \
                 docs/security.md",
        ));
        return Ok(findings);
    }
    findings.push(too_much(client).await?);
    if version.is_some() {
        findings.push(known(client, target).await?);
        findings.push(owners(client, target).await?);
    }
    Ok(findings)
}

async fn is_superuser(client: &Client) -> Result<bool, Error> {
    let sql = "select rolsuper from pg_catalog.pg_roles where rolname = session_user";
    source::scalar(client, sql, "look at the login's attributes").await
}

/// The digest of what was installed.
async fn version(client: &Client) -> Result<Option<String>, Error> {
    const DOING: &str = "look at walcast's version on the target";
    let there = "select exists (select from pg_catalog.pg_class c \
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'walcast' \
                     where c.relname = 'version' and pg_catalog.has_schema_privilege(n.oid, 'usage') \
                           and pg_catalog.has_table_privilege(c.oid, 'select'))";
    if !source::scalar::<bool>(client, there, DOING).await? {
        return Ok(None);
    }
    let row = client.query_opt("select files from walcast.version", &[]).await.map_err(Error::doing(DOING))?;
    row.map(|row| row.try_get(0).map_err(Error::doing(DOING))).transpose()
}

async fn wanted_version(client: &Client, target: &Target) -> Result<String, Error> {
    let sql = format!("select {}", ddl::digest(&files(target)));
    source::scalar(client, &sql, "compare walcast's version on the target").await
}

/// What code that runs in the login's session would gain.
async fn too_much(client: &Client) -> Result<Finding, Error> {
    let sql = "select pg_catalog.concat_ws(', ', case when r.rolcreaterole then 'CREATEROLE' end, \
                   case when r.rolreplication then 'REPLICATION' end, \
                   case when pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('walcast')::oid, 'create') \
                   then 'CREATE on schema walcast' end, \
                   (select pg_catalog.string_agg('membership in ' || pg_catalog.quote_ident(g.rolname), ', ') \
                      from pg_catalog.pg_auth_members m join pg_catalog.pg_roles g on g.oid = m.roleid where \
                      m.member = r.oid)) \
               from pg_catalog.pg_roles r where r.rolname = session_user \
                and pg_catalog.to_regnamespace('walcast') is not null";
    const DOING: &str = "look at the login's rights";
    let row = client.query_opt(sql, &[]).await.map_err(Error::doing(DOING))?;
    let much: String = row.map_or(Ok(String::new()), |row| row.try_get(0)).map_err(Error::doing(DOING))?;
    Ok(Finding::when(much.is_empty(), "the login has no rights that it does not need", || {
        let text = format!("the login has rights that it does not need: {much}");
        Finding::warn(text, "revoke them: code in the definitions of replicated tables could use them")
    }))
}

async fn known(client: &Client, target: &Target) -> Result<Finding, Error> {
    let digest = quote_literal(target.digest.as_deref().unwrap_or_default());
    let sql = format!("select exists (select from walcast.caller where login = session_user and digest = {digest})");
    let known: bool = source::scalar(client, &sql, "look whether the target knows the login").await?;
    Ok(Finding::when(known && target.digest.is_some(), "the target's functions know the login", || {
        Finding::fail("the target's functions do not know the login, or another source's", HINT)
    }))
}

/// Tables whose rows cannot be written without running code of somebody who is no superuser.
async fn code_in_the_way(client: &Client, target: &Target) -> Result<Finding, Error> {
    const DOING: &str = "look for code in the tables' definitions";
    let shown: Vec<String> = target
        .replicated
        .iter()
        .map(|(schema, table)| format!("{}.{}", quote_identifier(schema), quote_identifier(table)))
        .collect();
    let sql = "select distinct c.relation from walcast.code_in_the_way c \
                where c.relation = any (array(select walcast.relation_name(pg_catalog.to_regclass(t)) from \
                unnest($1::text[]) t)) order by 1";
    let rows = client.query(sql, &[&shown]).await.map_err(Error::doing(DOING))?;
    let tables: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let tables = tables.map_err(Error::doing(DOING))?;
    Ok(Finding::pass(match tables.is_empty() {
        true => "writing rows runs nobody's code but a superuser's".to_owned(),
        false => {
            format!("tables that run their owners' code are written as their owners, slowly: {}", some_of(&tables))
        }
    }))
}

/// Owners of replicated tables that walcast may not act as.
async fn owners(client: &Client, target: &Target) -> Result<Finding, Error> {
    const DOING: &str = "look at the owners of the tables";
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        target.replicated.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).unzip();
    let sql = "select distinct pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) \
                 from unnest($1::text[], $2::text[]) w (schema, name) join pg_catalog.pg_namespace n on n.nspname = \
                 w.schema \
                 join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name \
                where not walcast.may_act_as(pg_catalog.pg_get_userbyid(c.relowner)) order by 1";
    let rows = client.query(sql, &[&schemas, &names]).await.map_err(Error::doing(DOING))?;
    let owners: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    let owners = owners.map_err(Error::doing(DOING))?;
    Ok(Finding::when(owners.is_empty(), "walcast may act as the owners of all replicated tables", || {
        let text = format!("DDL of these roles' tables cannot be applied: {}", some_of(&owners));
        Finding::warn(text, "list them under adopt in [roles] and have the printed SQL run again")
    }))
}

/// Whether all of it is there, as a superuser would install it now.
pub(super) async fn is_current(client: &Client, target: &Target) -> Result<bool, Error> {
    let Some(found) = version(client).await? else { return Ok(false) };
    let login = quote_literal(&target.login);
    let digest = quote_literal(target.digest.as_deref().unwrap_or_default());
    let sql = format!("select exists (select from walcast.caller where login = {login} and digest = {digest})");
    let known = source::scalar(client, &sql, "look whether the target knows the login").await?;
    Ok(known && found == wanted_version(client, target).await?)
}
