//! The source's schema at the snapshot, and making it on the target step by step.

use std::collections::{BTreeMap, BTreeSet};

use connection::Conninfo;
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, Row};

use crate::Options;
use crate::catalog::Table;
use crate::error::{Error, Whom};
use crate::programs::{Anonymous, PG_DUMP, PG_RESTORE, Programs, Server};
use crate::progress::Progress;
use crate::snapshot::Snapshot;
use crate::toc::{self, Entry, PG_CONSTRAINT};
use crate::{session, target};

/// `pg_dump` locks the tables as well: see [`crate::readers`].
const LOCK_WAIT: &str = "--lock-wait-timeout=10000";
const TABLES: &str = "make the target's tables";
const READ: &str = "read what is not to be copied of the schema";

/// For sessions of `pg_restore`: it gets an index built without the disk where it can.
const RESTORE_OPTIONS: &str = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c client_min_messages=warning \
    -c idle_session_timeout=0";
/// The same for a session of walcast's own.
const SCRIPT_OPTIONS: &str = "SET maintenance_work_mem = '256MB'; RESET session_replication_role;";
/// Where others are not to be slowed down, an index takes one process.
const GENTLY: &str = " -c max_parallel_maintenance_workers=0";

/// A dump, and the target that it is restored to.
pub(crate) struct Dump {
    programs: Programs,
    file: Anonymous,
    target: Server,
    conninfo: Conninfo,
    entries: Vec<Entry>,
    /// Entries that come before the data.
    pre_data: BTreeSet<u32>,
    /// Of everything that it makes, as SQL.
    pub(crate) digest: String,
}

/// Whether what is there is dropped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restore {
    /// Nothing of it is there.
    New,
    /// Some of it may be there, from a run that did not end.
    Again,
}

impl Dump {
    /// Dumps everything but walcast's own, subscriptions, and foreign keys to rows that are not copied.
    pub(crate) async fn take(
        programs: Programs,
        options: &Options,
        snapshot: Option<&Snapshot>,
        excluded: &BTreeSet<(u32, u32)>,
    ) -> Result<Dump, Error> {
        let file = Anonymous::new("schema")?;
        let (path, name) = (file.path(), snapshot.map(|snapshot| format!("--snapshot={}", snapshot.name)));
        let mut arguments = vec![
            "-Fc",
            "--schema-only",
            "--no-subscriptions",
            "--exclude-schema=walcast",
            "--no-sync",
            LOCK_WAIT,
            "-f",
            &path,
        ];
        arguments.extend(name.as_deref());
        let from = Server::new(&options.source, "-c idle_session_timeout=0")?;
        programs.run(PG_DUMP, "dump the source's schema", &arguments, Some(&from)).await?;
        let gently = if options.is_considerate() { GENTLY } else { "" };
        let target = Server::new(&options.target, &format!("{RESTORE_OPTIONS}{gently}"))?;
        let (conninfo, entries, pre_data) = (options.target.clone(), Vec::new(), BTreeSet::new());
        let dump = Dump { programs, file, target, conninfo, entries, pre_data, digest: String::new() };
        dump.read_contents(excluded).await
    }

    async fn read_contents(mut self, excluded: &BTreeSet<(u32, u32)>) -> Result<Dump, Error> {
        // Asked for details, pg_restore lists everything, whatever section it is asked for.
        let all = toc::without(toc::parse(&self.list("-v").await?), excluded);
        let pre: BTreeSet<u32> = toc::parse(&self.list("--section=pre-data").await?).iter().map(|e| e.id).collect();
        let post: BTreeSet<u32> = toc::parse(&self.list("--section=post-data").await?).iter().map(|e| e.id).collect();
        self.entries = all.into_iter().filter(|entry| pre.contains(&entry.id) || post.contains(&entry.id)).collect();
        self.pre_data = pre;
        let ids: Vec<u32> = self.entries.iter().map(|entry| entry.id).collect();
        let list = list_of(&ids)?;
        let (path, list) = (self.file.path(), list.path());
        let script = self.programs.run(PG_RESTORE, "read the dump", &["-f", "-", "-L", &list, &path], None).await?;
        self.digest = digest(&String::from_utf8_lossy(&script));
        Ok(self)
    }

    async fn list(&self, option: &str) -> Result<String, Error> {
        let path = self.file.path();
        let list = self.programs.run(PG_RESTORE, "list the dump", &["-l", option, &path], None).await?;
        Ok(String::from_utf8_lossy(&list).into_owned())
    }

    /// What comes before the data, in the order in which it is made.
    pub(crate) fn pre_data(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| self.pre_data.contains(&entry.id))
    }

    /// What comes after the data, in the order in which it is made.
    pub(crate) fn post_data(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !self.pre_data.contains(&entry.id))
    }

    /// Makes types, functions, tables and whatever else the data needs.
    ///
    /// As one transaction it is there or not. That needs a lock for each object; where there are too many of them, what
    /// a run that did not end has made is dropped and made anew.
    pub(crate) async fn restore_pre_data(&self, client: &Client, how: Restore) -> Result<(), Error> {
        let ids: Vec<u32> = self.pre_data().map(|entry| entry.id).collect();
        let sql = "SELECT current_setting('max_locks_per_transaction')::int8 * \
                   (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)";
        let row = client.query_one(sql, &[]).await.map_err(Whom::Target.doing("ask for max_locks_per_transaction"))?;
        let locks: i64 = row.try_get(0).map_err(Whom::Target.doing("ask for max_locks_per_transaction"))?;
        let at_once = ids.len() as u64 * 4 < locks.unsigned_abs();
        match (at_once, how) {
            (true, Restore::Again) if !target::is_empty(client).await? => Ok(()),
            (true, _) => self.restore(TABLES, &ids, &["--single-transaction"], Restore::New).await,
            (false, how) => self.restore(TABLES, &ids, &["--exit-on-error"], how).await,
        }
    }

    /// Makes these entries one after the other.
    pub(crate) async fn restore_some(&self, doing: &'static str, ids: &[u32]) -> Result<(), Error> {
        self.restore(doing, ids, &["--exit-on-error"], Restore::New).await
    }

    /// Makes these entries, `jobs` at a time, in an order that fits their dependencies.
    ///
    /// pg_restore learns from the rows in a dump which entries lock the same tables, and there are none in this one: two
    /// may meet in a deadlock.
    pub(crate) async fn restore_parallel(&self, ids: &[u32], jobs: usize, how: Restore) -> Result<(), Error> {
        let at_once = format!("--jobs={jobs}");
        self.restore("make the rest of the schema", ids, &["--exit-on-error", &at_once], how).await
    }

    async fn restore(&self, doing: &'static str, ids: &[u32], more: &[&str], how: Restore) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let list = list_of(ids)?;
        let (path, list) = (self.file.path(), list.path());
        let mut arguments = vec!["-L", &list, &path];
        arguments.extend(more);
        if how == Restore::Again {
            arguments.extend(["--clean", "--if-exists"]);
        }
        if self.programs.too_new {
            arguments.retain(|argument| !argument.starts_with("--jobs") && *argument != "--exit-on-error");
            return self.run_script(doing, &arguments).await;
        }
        self.programs.run(PG_RESTORE, doing, &arguments, Some(&self.target)).await.map(drop)
    }

    /// What `pg_restore` would say to the target, but for what that does not know.
    async fn run_script(&self, doing: &'static str, arguments: &[&str]) -> Result<(), Error> {
        let arguments = [&["-f", "-"], arguments].concat();
        let script = self.programs.run(PG_RESTORE, doing, &arguments, None).await?;
        let client = session::client(Whom::Target, &self.conninfo).await?;
        let script = format!("{SCRIPT_OPTIONS}{}", for_older(&String::from_utf8_lossy(&script)));
        client.batch_execute(&script).await.map_err(Whom::Target.doing(doing))
    }
}

/// A script without what comes before and after all objects and is for psql, or for servers of version 17 and later.
fn for_older(script: &str) -> String {
    let mut script = script.replacen("\nSET transaction_timeout = 0;\n", "\n", 1);
    let restrict = script.find("\n\\restrict ").map(|at| at + 1);
    if let Some(at) = restrict.filter(|at| script[..*at].lines().all(|line| line.is_empty() || line.starts_with("--")))
    {
        let line = script[at..].lines().next().unwrap_or_default().to_owned();
        script = script.replacen(&line, "", 1);
        if let Some(end) = script.rfind(&line.replacen("restrict", "unrestrict", 1)) {
            script.truncate(end);
        }
    }
    script
}

fn list_of(ids: &[u32]) -> Result<Anonymous, Error> {
    let text: String = ids.iter().map(|id| format!("{id};\n")).collect();
    Anonymous::with("list", text.as_bytes())
}

/// Foreign keys by their OID: schema, table and name.
pub(crate) async fn foreign_keys(
    client: &Client,
    whom: Whom,
) -> Result<BTreeMap<u32, (String, String, String)>, Error> {
    const DOING: &str = "read foreign keys";
    let sql = "SELECT k.oid, n.nspname::text, t.relname::text, k.conname::text FROM pg_catalog.pg_constraint k \
               JOIN pg_catalog.pg_class t ON t.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
               WHERE k.contype = 'f'";
    let rows = client.query(sql, &[]).await.map_err(whom.doing(DOING))?;
    let key = |row: &Row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
    rows.iter().map(key).collect::<Result<_, _>>().map_err(whom.doing(DOING))
}

/// A digest of the statements: without comments, which hold times, and without the key of `\restrict`, which is random.
fn digest(script: &str) -> String {
    let meant = |line: &&str| !line.starts_with("--") && !line.starts_with('\\');
    let mut hash = Sha256::new();
    for line in script.lines().filter(meant) {
        hash.update(line);
        hash.update("\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// walcast's publication and event triggers.
pub(crate) async fn own_objects(client: &Client, publication: &str) -> Result<BTreeSet<(u32, u32)>, Error> {
    let sql = "SELECT to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL";
    let schemas = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(Whom::Source.doing(READ))?;
    let schemas = match schemas {
        true => {
            "UNION ALL SELECT 'pg_catalog.pg_publication_namespace'::regclass::oid, n.oid \
                 FROM p JOIN pg_catalog.pg_publication_namespace n ON n.pnpubid = p.oid"
        }
        false => "",
    };
    let sql = format!(
        "WITH p AS (SELECT oid FROM pg_catalog.pg_publication WHERE pubname = $1) \
         SELECT 'pg_catalog.pg_publication'::regclass::oid, oid FROM p \
         UNION ALL SELECT 'pg_catalog.pg_publication_rel'::regclass::oid, r.oid \
             FROM p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid {schemas} \
         UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass::oid, e.oid FROM pg_catalog.pg_event_trigger e \
             JOIN pg_catalog.pg_proc f ON f.oid = e.evtfoid JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace \
             WHERE n.nspname = 'walcast'"
    );
    let rows = client.query(&sql, &[&publication]).await.map_err(Whom::Source.doing(READ))?;
    let objects = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    objects.collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))
}

/// Foreign keys of copied tables to tables of which not every row is copied; they could not be made.
pub(crate) async fn unmet_foreign_keys(
    client: &Client,
    tables: &[Table],
    progress: &Progress,
) -> Result<BTreeSet<(u32, u32)>, Error> {
    let copied: Vec<u32> = tables.iter().flat_map(|table| &table.stores).map(|store| store.oid).collect();
    let whole = tables.iter().filter(|table| table.whole);
    let whole: Vec<u32> = whole.flat_map(|table| &table.stores).map(|store| store.oid).collect();
    let leaves = |column: &str| {
        format!(
            "(SELECT k.{column} UNION SELECT relid::oid FROM pg_catalog.pg_partition_tree(k.{column}) WHERE isleaf)"
        )
    };
    let sql = format!(
        "SELECT k.oid, k.conname::text, n.nspname::text, t.relname::text, rn.nspname::text, r.relname::text \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class t ON t.oid = k.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace JOIN pg_catalog.pg_class r ON r.oid = k.confrelid \
         JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
         WHERE k.contype = 'f' AND k.conparentid = 0 \
         AND EXISTS (SELECT FROM {} l (oid) WHERE l.oid = ANY ($1)) \
         AND EXISTS (SELECT FROM {} l (oid) JOIN pg_catalog.pg_class c ON c.oid = l.oid \
             WHERE c.relkind <> 'p' AND l.oid <> ALL ($2))",
        leaves("conrelid"),
        leaves("confrelid")
    );
    let rows = client.query(&sql, &[&copied, &whole]).await.map_err(Whom::Source.doing(READ))?;
    let told = |row: &Row| {
        let text = |at: usize| row.try_get::<_, &str>(at);
        let (table, referenced) = (capture::shown_table(text(2)?, text(3)?), capture::shown_table(text(4)?, text(5)?));
        let name = capture::quote_identifier(&text(1)?.escape_debug().to_string());
        let why = format!("not every row of {referenced} is copied");
        progress.note(format!("foreign key {name} of table {table} is not made: {why}"));
        Ok((PG_CONSTRAINT, row.try_get(0)?))
    };
    rows.iter().map(told).collect::<Result<_, _>>().map_err(Whom::Source.doing(READ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_for_an_older_server_keeps_what_objects_hold() {
        let script = "--\n-- PostgreSQL database dump\n--\n\n\\restrict k\n\nSET lock_timeout = 0;\n\
            SET transaction_timeout = 0;\nCREATE FUNCTION f() AS '\n\\restrict k\n\\unrestrict k\n\
            SET transaction_timeout = 0;\n';\n\n\\unrestrict k\n\n";
        let kept = "--\n-- PostgreSQL database dump\n--\n\n\n\nSET lock_timeout = 0;\nCREATE FUNCTION f() AS '\n\
            \\restrict k\n\\unrestrict k\nSET transaction_timeout = 0;\n';\n\n";
        assert_eq!(for_older(script), kept);
        let plain = "--\n\nSET lock_timeout = 0;\nCREATE FUNCTION f() AS '\n\\restrict k\n';\n";
        assert_eq!(for_older(plain), plain);
    }

    #[test]
    fn the_digest_is_of_statements_alone() {
        let one = digest("-- Dumped at noon\n\\restrict abc\nCREATE TABLE t ();\n");
        assert_eq!(one, digest("-- Dumped at night\n\\restrict xyz\nCREATE TABLE t ();\n"));
        assert_ne!(one, digest("CREATE TABLE u ();\n"));
    }
}
