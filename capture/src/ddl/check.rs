//! Whether the capture is in place and what was installed.

use tokio_postgres::Client;

use super::{Capture, FUNCTIONS, digest, files};
use crate::preflight::Finding;
use crate::{Error, source};

const HINT: &str = "run `walcast setup` as a superuser";

/// Looks at the capture on a source: that it is there, its event triggers fire always, and its functions are unchanged.
pub async fn check(client: &Client, capture: &Capture) -> Vec<Finding> {
    match findings(client, capture).await {
        Ok(findings) => findings,
        Err(e) => vec![Finding::fail(e.to_string(), e.hint().unwrap_or(HINT))],
    }
}

async fn findings(client: &Client, capture: &Capture) -> Result<Vec<Finding>, Error> {
    if !is_there(client).await? {
        return Ok(vec![Finding::fail("DDL is not captured: nothing is installed", HINT)]);
    }
    let blind = blind_spots(client).await?;
    let triggers = match blind.is_empty() {
        true => Finding::pass("the event triggers that capture DDL fire always"),
        false => Finding::fail(format!("DDL is not captured: event trigger {}", blind.join(", ")), HINT),
    };
    let unchanged = match (as_installed(client).await?, of_this_version(client, capture).await?) {
        (true, true) => Finding::pass("the functions that capture DDL are as installed"),
        (false, _) => Finding::fail("somebody changed the functions that capture DDL", HINT),
        (true, false) => {
            Finding::warn("the functions that capture DDL are of another version or configuration of walcast", HINT)
        }
    };
    Ok(vec![triggers, unchanged])
}

/// Whether anything of it is there.
pub(super) async fn is_there(client: &Client) -> Result<bool, Error> {
    let sql = "select exists (select from pg_catalog.pg_class c \
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'walcast' where c.relname = 'shadow') \
               or exists (select from pg_catalog.pg_event_trigger where evtname like 'walcast\\_%')";
    source::scalar(client, sql, "look for the capture of DDL").await
}

/// Whether all of it is there, unchanged and of this version. What this role may not look at might as well not be there.
pub(crate) async fn is_current(client: &Client, capture: &Capture) -> Result<bool, Error> {
    let sql = "select exists (select from pg_catalog.pg_class c \
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'walcast' \
                   where c.relname = 'installed' and pg_catalog.has_schema_privilege(n.oid, 'usage') \
                         and pg_catalog.has_table_privilege(c.oid, 'select'))";
    if !source::scalar(client, sql, "look for the capture of DDL").await? {
        return Ok(false);
    }
    Ok(blind_spots(client).await?.is_empty()
        && as_installed(client).await?
        && of_this_version(client, capture).await?
        && granted(client, capture).await?
        && has_key(client).await?)
}

/// What is wrong with the event triggers. Not asked of the installed functions: they may be what is wrong.
async fn blind_spots(client: &Client) -> Result<Vec<String>, Error> {
    const DOING: &str = "look at the event triggers";
    let sql = "select pg_catalog.concat(w.name, case when t.oid is null then ' is missing' \
                      when t.evtenabled <> 'A' then ' is not enabled always' else ' does something else' end) \
               from (values ('walcast_ddl_end', 'ddl_command_end', 'on_ddl_end'), ('walcast_drop', 'sql_drop', 'on_drop'), \
                            ('walcast_rewrite', 'table_rewrite', 'on_rewrite')) w (name, event, function) \
               left join pg_catalog.pg_event_trigger t on t.evtname = w.name \
               left join pg_catalog.pg_proc p on p.oid = t.evtfoid and p.proname = w.function \
                    and p.pronamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = 'walcast') \
               where t.oid is null or t.evtenabled <> 'A' or t.evtevent <> w.event or t.evttags is not null or p.oid is null \
               order by w.name";
    let rows = client.query(sql, &[]).await.map_err(Error::doing(DOING))?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(Error::doing(DOING))
}

async fn as_installed(client: &Client) -> Result<bool, Error> {
    let sql = format!("select coalesce((select i.functions = {FUNCTIONS} from walcast.installed i), false)");
    source::scalar(client, &sql, "look at the capture's functions").await
}

async fn of_this_version(client: &Client, capture: &Capture) -> Result<bool, Error> {
    let digest = digest(&files(capture));
    let sql = format!("select coalesce((select i.files = {digest} from walcast.installed i), false)");
    source::scalar(client, &sql, "look at the capture's version").await
}

/// Without one every DDL on the source fails.
async fn has_key(client: &Client) -> Result<bool, Error> {
    const MAY_LOOK: &str = "select coalesce((select pg_catalog.has_table_privilege(c.oid, 'select') \
         from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass('walcast.secret')), false)";
    const DOING: &str = "look for the key";
    let may_look = source::scalar::<bool>(client, MAY_LOOK, DOING).await?;
    Ok(may_look && source::scalar::<bool>(client, "select exists (select from walcast.secret)", DOING).await?)
}

async fn granted(client: &Client, capture: &Capture) -> Result<bool, Error> {
    let Some(role) = &capture.service_role else { return Ok(true) };
    let literal = crate::quote_literal(role);
    let sql = format!(
        "select pg_catalog.has_schema_privilege({literal}, 'walcast', 'usage') \
         and pg_catalog.has_function_privilege({literal}, 'walcast.tick(boolean)', 'execute') \
         and pg_catalog.has_table_privilege({literal}, 'walcast.secret', 'select')"
    );
    source::scalar(client, &sql, "look at the privileges of the service's role").await
}
