//! Installing on the source: the schema, the publication, the capture of DDL, the slot. Run again, it changes only what is
//! different.

use std::collections::BTreeSet;
use std::time::Duration;

use config::{OWN_SCHEMA, Selection};
use tokio_postgres::{Client, Row};

use crate::ddl::{self, Capture, Selected};
use crate::{Error, Installation, Outcome, Slot, Step, quote_identifier, quote_literal, source, tick};

/// Stands in the comments of what walcast made, so that `teardown` removes nothing else.
pub(crate) const MARK: &str = "made by walcast setup";

/// How long transactions may be in the way of publishing tables.
const PATIENCE: Duration = Duration::from_secs(30);

const PUBLISH: &str = "insert, update, delete, truncate";

/// A statement that is still to be run, and what it is about.
struct Statement {
    object: String,
    /// In the infinitive, for errors.
    doing: &'static str,
    sql: Vec<String>,
}

/// Installs what is missing; what is there already is left as it is.
///
/// # Errors
/// A privilege is missing, or a publication or slot of this name is of another kind.
pub async fn setup(client: &mut Client, wanted: &Installation) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let statements = [schema(client).await?, publication(client, wanted).await?, capture(client, wanted).await?];
    let transaction = client.transaction().await.map_err(Error::doing("begin a transaction"))?;
    for statement in statements {
        for sql in &statement.sql {
            transaction.batch_execute(sql).await.map_err(Error::doing(statement.doing))?;
        }
        steps.push(step(statement));
    }
    transaction.commit().await.map_err(Error::doing("install schema, publication and capture"))?;
    if !wanted.selection.is_everything() {
        tick(client, true, PATIENCE).await?;
    }
    // Last and by itself: a slot cannot be made in a transaction that has written, and what is done to the schema from its
    // beginning on is to be captured.
    let statement = slot(client, wanted).await?;
    for sql in &statement.sql {
        client.batch_execute(sql).await.map_err(Error::doing(statement.doing))?;
    }
    steps.push(step(statement));
    Ok(steps)
}

/// The statements that [`setup`] would run now, for somebody with more privileges to run.
///
/// # Errors
/// As for [`setup`].
pub async fn pending_sql(client: &Client, wanted: &Installation) -> Result<Vec<String>, Error> {
    let mut capture = capture(client, wanted).await?;
    if !capture.sql.is_empty() {
        capture.sql.insert(0, "begin".to_owned());
        capture.sql.push("commit".to_owned());
    }
    let statements = [schema(client).await?, publication(client, wanted).await?, capture, slot(client, wanted).await?];
    Ok(statements.into_iter().flat_map(|s| s.sql).collect())
}

fn step(statement: Statement) -> Step {
    let outcome = if statement.sql.is_empty() { Outcome::Unchanged } else { Outcome::Done };
    Step { object: statement.object, outcome }
}

async fn schema(client: &Client) -> Result<Statement, Error> {
    let sql = "select exists (select from pg_catalog.pg_namespace where nspname = 'walcast')";
    let exists: bool = source::scalar(client, sql, "look at the schema").await?;
    let comment = format!("walcast replicates this database to others; {MARK}");
    let create = || {
        vec![
            format!("create schema {}", quote_identifier(OWN_SCHEMA)),
            format!("comment on schema {} is {}", quote_identifier(OWN_SCHEMA), quote_literal(&comment)),
        ]
    };
    let sql = if exists { Vec::new() } else { create() };
    Ok(Statement { object: "schema walcast".to_owned(), doing: "make schema walcast", sql })
}

/// What captures DDL. The SQL has to be run in one transaction.
async fn capture(client: &Client, wanted: &Installation) -> Result<Statement, Error> {
    let capture = wanted_capture(client, wanted).await?;
    let sql = match ddl::is_current(client, &capture).await? {
        true => Vec::new(),
        false => vec![ddl::install_sql(&capture)],
    };
    Ok(Statement { object: "capture of DDL".to_owned(), doing: "install the capture of DDL", sql })
}

/// The session's role is the service's: one that is not a superuser is granted what it needs by whoever runs the SQL.
pub(crate) async fn wanted_capture(client: &Client, wanted: &Installation) -> Result<Capture, Error> {
    const DOING: &str = "ask for the role";
    let sql = "select rolname::text from pg_catalog.pg_roles where rolname = current_user and not rolsuper";
    let row = client.query_opt(sql, &[]).await.map_err(Error::doing(DOING))?;
    let service_role = row.map(|row| row.try_get(0)).transpose().map_err(Error::doing(DOING))?;
    let is_ours = |found: &Publication| found.ours && !found.all_tables;
    let ours = Publication::find(client, &wanted.publication).await?.as_ref().is_none_or(is_ours);
    let (publication, selection) = (wanted.publication.clone(), wanted.selection.clone());
    let selected = (ours && !wanted.selection.is_everything()).then_some(Selected { publication, selection });
    Ok(Capture { service_role, passwords: wanted.passwords, selected })
}

async fn publication(client: &Client, wanted: &Installation) -> Result<Statement, Error> {
    let object = format!("publication {}", quote_identifier(&wanted.publication));
    let sql = match Publication::find(client, &wanted.publication).await? {
        None => create_publication(client, wanted).await?,
        Some(found) => alter_publication(wanted, &found)?,
    };
    Ok(Statement { object, doing: "make the publication", sql })
}

async fn create_publication(client: &Client, wanted: &Installation) -> Result<Vec<String>, Error> {
    let name = quote_identifier(&wanted.publication);
    let tables = match wanted.selection.is_everything() {
        true => " for all tables".to_owned(),
        false => match selected_tables(client, &wanted.selection).await? {
            tables if tables.is_empty() => String::new(),
            tables => format!(" for table {}", table_list(&tables)),
        },
    };
    Ok(vec![
        format!("create publication {name}{tables} with (publish = '{PUBLISH}')"),
        format!("comment on publication {name} is {}", quote_literal(MARK)),
    ])
}

fn alter_publication(wanted: &Installation, found: &Publication) -> Result<Vec<String>, Error> {
    let all = wanted.selection.is_everything();
    if found.all_tables != all {
        let kind = |all: bool| if all { "for all tables" } else { "for some tables" };
        let publication = wanted.publication.clone();
        return Err(Error::PublicationKind { publication, found: kind(found.all_tables), wanted: kind(all) });
    }
    // What somebody else made stays as it is; `walcast check` says whether it will do.
    if !found.ours {
        return Ok(Vec::new());
    }
    let name = quote_identifier(&wanted.publication);
    let mut sql = Vec::new();
    if !found.publishes_all {
        sql.push(format!("alter publication {name} set (publish = '{PUBLISH}')"));
    }
    // Which tables it has is the capture's affair: what comes to be published has to be copied.
    Ok(sql)
}

/// A row of `pg_publication`.
pub(crate) struct Publication {
    pub(crate) all_tables: bool,
    /// Whether inserts, updates, deletes and truncates are all published.
    pub(crate) publishes_all: bool,
    /// Whether `setup` made it.
    pub(crate) ours: bool,
}

impl Publication {
    pub(crate) async fn find(client: &Client, name: &str) -> Result<Option<Publication>, Error> {
        const DOING: &str = "look at the publication";
        let sql = "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate, \
                   coalesce(pg_catalog.obj_description(oid, 'pg_publication') = $2, false) \
                   from pg_catalog.pg_publication where pubname = $1";
        let row = client.query_opt(sql, &[&name, &MARK]).await.map_err(Error::doing(DOING))?;
        let read = |row: Row| {
            Ok(Publication { all_tables: row.try_get(0)?, publishes_all: row.try_get(1)?, ours: row.try_get(2)? })
        };
        row.map(read).transpose().map_err(Error::doing(DOING))
    }
}

/// Schema and name.
type TableName = (String, String);

fn table_name(row: &Row) -> Result<TableName, tokio_postgres::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The tables of the source that are selected. Of a partitioned table the leaves are named, so that a pattern can leave
/// some of them out.
pub(crate) async fn selected_tables(client: &Client, selection: &Selection) -> Result<BTreeSet<TableName>, Error> {
    const DOING: &str = "list the tables";
    let sql = "select n.nspname::text, c.relname::text from pg_catalog.pg_class c \
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where c.relkind = 'r' and c.relpersistence = 'p' and c.oid >= 16384";
    let rows = client.query(sql, &[]).await.map_err(Error::doing(DOING))?;
    let names: Result<Vec<TableName>, _> = rows.iter().map(table_name).collect();
    let names = names.map_err(Error::doing(DOING))?;
    Ok(names.into_iter().filter(|(schema, table)| selection.selects(schema, table)).collect())
}

fn table_list(tables: &BTreeSet<TableName>) -> String {
    let quoted = |(schema, table): &TableName| format!("{}.{}", quote_identifier(schema), quote_identifier(table));
    tables.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

async fn slot(client: &Client, wanted: &Installation) -> Result<Statement, Error> {
    let object = format!("slot {}", quote_identifier(&wanted.slot));
    let sql = match source::slot(client, &wanted.slot).await? {
        Some(found) => {
            let database: String =
                source::scalar(client, "select current_database()::text", "look at the slot").await?;
            slot_is_ours(&wanted.slot, &found, &database)?;
            Vec::new()
        }
        // The third argument is "temporary", the fourth "two-phase"; failover slots (17) need a later argument.
        None => vec![format!(
            "select pg_catalog.pg_create_logical_replication_slot({}, 'pgoutput', false, false)",
            quote_literal(&wanted.slot)
        )],
    };
    Ok(Statement { object, doing: "make the slot", sql })
}

/// Refuses a slot that walcast could not have made.
pub(crate) fn slot_is_ours(name: &str, slot: &Slot, database: &str) -> Result<(), Error> {
    let refuse = |property, found: &str, wanted: &str| {
        Err(Error::SlotKind { slot: name.to_owned(), property, found: found.to_owned(), wanted: wanted.to_owned() })
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    if slot.plugin.as_deref() != Some("pgoutput") {
        return refuse("output plugin", &text(&slot.plugin), "pgoutput");
    }
    if slot.database.as_deref() != Some(database) {
        return refuse("database", &text(&slot.database), database);
    }
    if slot.two_phase {
        return refuse("two_phase", "true", "false");
    }
    Ok(())
}
