//! What walcast installs on a target: the functions that describe objects there, the ledger of roles, and what a login that
//! is no superuser needs. `capture/sql/target.sql` says whose code runs with whose rights, docs/security.md what that means.
//!
//! A superuser runs [`setup_sql`] once, and again after an update of walcast: `walcast setup --target NAME --print-sql`
//! prints it, [`setup`] runs it where the login is one. [`check`] tells whether it was done.
//!
//! While it applies DDL the program proves to the target's functions who it is by a [`token`], which is derived from the key
//! of the source's messages: nothing has to be kept, and the target only knows its digest. Hand it to `ddl` as
//! `Rights::Owner`, and `Rights::Login` only if there is none. While the source cannot be asked for it, DDL has to wait.

mod check;

pub use check::check;

use tokio_postgres::Client;

use crate::{Error, Outcome, ddl, quote_identifier, quote_literal, source};

const CLEAN: &str = include_str!("../sql/target_clean.sql");

const FILES: [&str; 5] = [
    include_str!("../sql/target_ledger.sql"),
    include_str!("../sql/target.sql"),
    include_str!("../sql/target_objects.sql"),
    include_str!("../sql/target_privileges.sql"),
    include_str!("../sql/target_roles.sql"),
];

const FINISH: &str = include_str!("../sql/target_finish.sql");

/// What the login may read of the tables that only walcast's functions write.
const READ_ONLY: &str = "walcast.role, walcast.pending_grant, walcast.pending_object, walcast.renamed, walcast.caller, \
     walcast.version";

/// What an applier calls of the functions of replication origins: `pg_replication_origin_…`.
const ORIGIN_FUNCTIONS: [&str; 7] = ["create", "drop", "oid", "advance", "progress", "session_setup", "xact_setup"];

/// What a target is to be given.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The role that walcast logs in as. It has to exist.
    pub login: String,
    /// What [`digest`] says of the token. None: only a superuser may call the functions that act as others.
    pub digest: Option<String>,
    /// Whether role passwords, and secret options of foreign data objects, are replicated.
    pub passwords: bool,
    /// Names of roles that are on the target already and that walcast may alter, drop and act as.
    pub adopt: Vec<String>,
    /// SQL of the other tables that walcast keeps there (`applier`, `bootstrap`): the login may not make any in the schema.
    pub tables: String,
    /// Replicated tables (schema, name) that are on the target already: the login is granted what it needs on them.
    pub replicated: Vec<(String, String)>,
}

/// The secret that goes with a target's name, from the key of the source's messages; None: the source has no key yet.
///
/// # Errors
/// The source could not be asked, or its role may not read `walcast.secret`.
pub async fn token(source: &Client, target: &str) -> Result<Option<String>, Error> {
    const DOING: &str = "derive the token of a target";
    if !source::scalar::<bool>(source, "select pg_catalog.to_regclass('walcast.secret') is not null", DOING).await? {
        return Ok(None);
    }
    let sql = "select pg_catalog.encode(pg_catalog.sha256(k.outer_key || pg_catalog.sha256(k.inner_key \
               || pg_catalog.convert_to('target ' || $1::text, 'UTF8'))), 'hex') from walcast.secret k";
    let row = source.query_opt(sql, &[&target]).await.map_err(Error::doing(DOING))?;
    row.map(|row| row.try_get(0).map_err(Error::doing(DOING))).transpose()
}

/// What a target is told of a token. Any server can be asked.
///
/// # Errors
/// It could not be asked.
pub async fn digest(server: &Client, token: &str) -> Result<String, Error> {
    const DOING: &str = "digest the token of a target";
    let sql = "select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1::text, 'UTF8')), 'hex')";
    let row = server.query_one(sql, &[&token]).await.map_err(Error::doing(DOING))?;
    row.try_get(0).map_err(Error::doing(DOING))
}

/// SQL for a superuser of the target, to be run in one transaction, whatever part of it is there already. No secrets.
pub fn setup_sql(target: &Target) -> String {
    let files = files(target);
    let parts = [
        "set local search_path = pg_catalog, pg_temp".to_owned(),
        "create schema if not exists walcast".to_owned(),
        // the owner of a schema can drop what is in it, and what is in this one runs with a superuser's rights
        "alter schema walcast owner to current_user".to_owned(),
        CLEAN.trim_end().trim_end_matches(';').to_owned(),
        target.tables.trim_end().trim_end_matches(';').to_owned(),
        files.trim_end().trim_end_matches(';').to_owned(),
        FINISH.trim_end().trim_end_matches(';').to_owned(),
        rights(target),
        format!(
            "insert into walcast.version (files) values ({}) on conflict (one) do update set files = excluded.files",
            ddl::digest(&files)
        ),
    ];
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    format!("{};\n", parts.join(";\n"))
}

/// What a superuser's login makes by itself: the functions and the ledger, without rights for anybody.
pub fn functions_sql(passwords: bool) -> String {
    format!("{}\n{FINISH}", files(&Target { passwords, ..Target::default() }))
}

/// What makes the functions and the ledger.
fn files(target: &Target) -> String {
    format!("{}\n{}", ddl::state_sql(target.passwords), FILES.join("\n"))
}

/// What the login is given, and who it is. Statements without the last semicolon.
fn rights(target: &Target) -> String {
    let (name, literal) = (quote_identifier(&target.login), quote_literal(&target.login));
    let digest = target.digest.as_deref().map_or("''".to_owned(), quote_literal);
    let mut sql = vec![format!(
        "insert into walcast.caller (login, digest) values ({literal}, {digest}) \
         on conflict (login) do update set digest = excluded.digest"
    )];
    sql.extend(target.adopt.iter().map(|role| format!("select walcast.adopt({})", quote_literal(role))));
    sql.push(format!(
        "do $$ declare t text; begin\n\
         if walcast.is_superuser({literal}) then return; end if;\n\
         execute 'grant connect on database ' || quote_ident(current_database()) || {grantee};\n\
         execute {alter} || ' in database ' || quote_ident(current_database()) || ' set session_replication_role = \
         replica';\n\
         execute {alter} || ' bypassrls';\n\
         for t in select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace\n\
                   where n.nspname = 'walcast' and c.relkind = 'r' loop\n\
             execute 'grant select, insert, update, delete, truncate on ' || t || {grantee};\n\
         end loop;\n\
         -- a position that was declared by a superuser before 16 is in a replication origin\n\
         if current_setting('server_version_num')::int < 160000\n\
            and exists (select from pg_replication_origin o where o.roname ^@ 'walcast_') then\n\
             for t in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace\n\
                       and p.proname in ({origin}) loop\n\
                 execute 'grant execute on function ' || t || {grantee};\n\
             end loop;\n\
         end if;\n\
         end $$",
        grantee = quote_literal(&format!(" to {name}")),
        alter = quote_literal(&format!("alter role {name}")),
        origin = ORIGIN_FUNCTIONS.map(|f| format!("'pg_replication_origin_{f}'")).join(", "),
    ));
    sql.push(format!("revoke insert, update, delete, truncate on {READ_ONLY} from {name}"));
    sql.push(format!("grant select on walcast.code_in_the_way to {name}"));
    sql.push(format!("grant usage on schema walcast to {name}"));
    sql.push(format!("grant execute on all functions in schema walcast to {name}"));
    sql.extend(target.replicated.iter().map(|(schema, table)| on_table(schema, table, &name)));
    sql.join(";\n")
}

/// What the login needs on a table, its schema and the sequences there; nothing if the table is not there.
fn on_table(schema: &str, table: &str, grantee: &str) -> String {
    let qualified = format!("{}.{}", quote_identifier(schema), quote_identifier(table));
    let schema = quote_identifier(schema);
    let grants = format!(
        "grant usage on schema {schema} to {grantee}; \
         grant select, insert, update, delete, truncate on table {qualified} to {grantee}; \
         grant select, usage, update on all sequences in schema {schema} to {grantee}"
    );
    format!(
        "do $$ begin if to_regclass({}) is not null then execute {}; end if; end $$",
        quote_literal(&qualified),
        quote_literal(&grants)
    )
}

/// Runs [`setup_sql`] if something of it is missing or different: for a login that is a superuser.
///
/// # Errors
/// The login is none.
pub async fn setup(client: &mut Client, target: &Target) -> Result<Outcome, Error> {
    const DOING: &str = "install walcast's functions on the target";
    if check::is_current(client, target).await? {
        return Ok(Outcome::Unchanged);
    }
    let transaction = client.transaction().await.map_err(Error::doing(DOING))?;
    transaction.batch_execute(&setup_sql(target)).await.map_err(Error::doing(DOING))?;
    transaction.commit().await.map_err(Error::doing(DOING))?;
    Ok(Outcome::Done)
}
