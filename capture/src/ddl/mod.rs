//! The capture of DDL, roles and grants: SQL in schema `walcast` that writes catalog state into the stream.
//!
//! ```text
//! client's DDL ─▶ event triggers ─▶ touched objects ─▶ state now, beside the shadow ─▶ transactional message
//! service, 1 s ─▶ walcast.tick   ─▶ what no event tells: roles, owners, sequences   ─┘
//! ```
//!
//! The files in `capture/sql` are what runs; `capture/sql/README.md` describes the messages. [`install`] puts them into a
//! source, [`state_sql`] is the part that a target needs too, so that both describe an object in the same words.
//!
mod check;

pub use check::check;
pub(crate) use check::is_current;

use config::Selection;
use tokio_postgres::Client;

use crate::{Error, Outcome, quote_identifier, quote_literal};

/// How the capture is to be installed.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    /// The role of the service, if it is not the one that installs: it is granted what it needs while running.
    pub service_role: Option<String>,
    /// Whether role passwords, and secret options of foreign data objects, are part of the states.
    pub passwords: bool,
    /// Which tables are to be published, where the publication is one of some tables that walcast made.
    pub selected: Option<Selected>,
}

/// Tables for a publication.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The publication's name.
    pub publication: String,
    /// Which tables.
    pub selection: Selection,
}

/// Functions that describe objects; they write nothing.
const STATE: [&str; 3] = [
    include_str!("../../sql/state.sql"),
    include_str!("../../sql/objects.sql"),
    include_str!("../../sql/rare_objects.sql"),
];

/// What captures, in the order of installation.
const CAPTURE: [&str; 10] = [
    include_str!("../../sql/schema.sql"),
    include_str!("../../sql/scan.sql"),
    include_str!("../../sql/capture.sql"),
    include_str!("../../sql/roles.sql"),
    include_str!("../../sql/events.sql"),
    include_str!("../../sql/publish.sql"),
    include_str!("../../sql/uncaptured.sql"),
    include_str!("../../sql/tick.sql"),
    include_str!("../../sql/pins.sql"),
    include_str!("../../sql/secret.sql"),
];

const FINISH: &str = include_str!("../../sql/finish.sql");
const TRIGGERS: &str = include_str!("../../sql/triggers.sql");
const REMOVE: &str = include_str!("../../sql/remove.sql");

/// A digest of the functions as the server has them, whatever the search path.
const FUNCTIONS: &str = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to((\
     select pg_catalog.string_agg(pg_catalog.concat_ws('|', p.proname, p.proargtypes, p.prolang, p.prosrc, p.prosecdef, \
                p.proconfig, p.provolatile), ';' order by p.proname, p.proargtypes::pg_catalog.text collate \"C\") \
     from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
     where n.nspname = 'walcast'), 'UTF8')), 'hex')";

/// SQL that makes the functions of [`STATE`] in schema `walcast`, which has to exist.
pub fn state_sql(passwords: bool) -> String {
    let passwords = format!(
        "create or replace function walcast.passwords() returns boolean language sql immutable as 'select {passwords}'"
    );
    format!("{passwords};\n{}", STATE.join("\n"))
}

/// SQL that installs the capture whatever part of it is there already; to be run in one transaction by a superuser.
pub fn install_sql(capture: &Capture) -> String {
    let files = files(capture);
    let grants = capture.service_role.as_deref().map_or_else(String::new, grants);
    let note = format!(
        "insert into walcast.installed (files, functions) values ({}, {FUNCTIONS}) \
         on conflict (one) do update set files = excluded.files, functions = excluded.functions",
        digest(&files)
    );
    // The functions' names are all qualified or PostgreSQL's own, whatever the session's path.
    format!("set local search_path = pg_catalog, pg_temp;\n{files}\n{FINISH}\n{grants}\n{TRIGGERS}\n{note}")
}

/// What makes the functions and tables.
fn files(capture: &Capture) -> String {
    let selected = selected_sql(capture.selected.as_ref());
    format!("{}\n{}\n{selected}", state_sql(capture.passwords), CAPTURE.join("\n"))
}

/// What is to be published, for `publish.sql`.
fn selected_sql(selected: Option<&Selected>) -> String {
    let mut sql = "delete from walcast.published;\ndelete from walcast.selected;".to_owned();
    let Some(Selected { publication, selection }) = selected else { return sql };
    sql += &format!("\ninsert into walcast.published (publication) values ({});", quote_literal(publication));
    for pattern in selection.patterns_for_like() {
        let (schema, table) = (quote_literal(&pattern.schema), quote_literal(&pattern.table));
        sql += &format!(
            "\ninsert into walcast.selected values ({}, {schema}, {table}) on conflict do nothing;",
            pattern.excluded
        );
    }
    sql
}

/// An SQL expression for the digest of a text.
pub(crate) fn digest(text: &str) -> String {
    let literal = quote_literal(text);
    format!("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({literal}, 'UTF8')), 'hex')")
}

fn grants(role: &str) -> String {
    let role = quote_identifier(role);
    format!(
        "grant usage on schema walcast to {role};\ngrant execute on function walcast.tick(boolean) to {role};\n\
         grant select on walcast.secret, walcast.installed to {role};"
    )
}

/// Installs the capture, or leaves it as it is if nothing about it differs.
///
/// # Errors
/// Schema `walcast` is missing, or the role is not a superuser: only one may make event triggers.
pub async fn install(client: &mut Client, capture: &Capture) -> Result<Outcome, Error> {
    if check::is_current(client, capture).await? {
        return Ok(Outcome::Unchanged);
    }
    const DOING: &str = "install the capture of DDL";
    let transaction = client.transaction().await.map_err(Error::doing(DOING))?;
    transaction.batch_execute(&install_sql(capture)).await.map_err(Error::doing(DOING))?;
    transaction.commit().await.map_err(Error::doing(DOING))?;
    Ok(Outcome::Done)
}

/// Removes the capture; what is not there is passed over.
///
/// # Errors
/// A privilege is missing.
pub async fn remove(client: &mut Client) -> Result<Outcome, Error> {
    const DOING: &str = "remove the capture of DDL";
    if !check::is_there(client).await? {
        return Ok(Outcome::Unchanged);
    }
    let transaction = client.transaction().await.map_err(Error::doing(DOING))?;
    transaction.batch_execute(REMOVE).await.map_err(Error::doing(DOING))?;
    transaction.commit().await.map_err(Error::doing(DOING))?;
    Ok(Outcome::Done)
}
