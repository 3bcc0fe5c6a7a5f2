//! The steps of a bootstrap, each of which can be the one at which the run before ended.

mod again;
mod level;

use std::collections::BTreeSet;
use std::sync::Arc;

use connection::Wire;
use decoder::Lsn;
use tokio_postgres::Client;

use crate::catalog::{self, Table};
use crate::error::{Error, Whom};
use crate::failpoint::{self, Failpoint};
use crate::ledger::{Ledger, Phase, State};
use crate::pace::Pace;
use crate::plan;
use crate::post_data::{self, PostData};
use crate::programs::Programs;
use crate::progress::{Progress, Stage};
use crate::schema::{self, Dump, Restore};
use crate::snapshot::Snapshot;
use crate::target::{self, Existing, Tables};
use crate::work::{Copying, Emptying, Work, truncate_sql};
use crate::{Options, Schema, finish, large_objects, readers, roles, sequences, session};

pub use again::copy_table;

/// How often a snapshot is taken anew because a table was rewritten just then.
const ATTEMPTS: u32 = 5;

const NOT_REFRESHED: &str = "materialized views are as they were: tables were copied as of different moments; \
    refresh them when the target is streaming";

/// A target that is held for copying. Only one command can hold it.
pub struct Bootstrap {
    options: Options,
    ledger: Ledger,
    /// None where the schema exists.
    programs: Option<Programs>,
    /// What an earlier run did; none if there was none.
    state: Option<State>,
    /// The checkpoint, if an earlier run ended after it was declared.
    declared: Option<Lsn>,
}

/// A target whose rows are all there, and that has a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Where the applier begins.
    pub checkpoint: Lsn,
    /// Tables are as of different positions. Once this has been applied, [`Bootstrap::level`] is to follow.
    pub level: Option<Lsn>,
}

impl Bootstrap {
    /// Looks whether the target can be copied to, and takes hold of it. Nothing is changed yet.
    ///
    /// # Errors
    /// A server cannot be reached, a program is missing, or the target is not empty, is being copied to or has been.
    pub async fn open(options: Options) -> Result<Bootstrap, Error> {
        let options = named(options);
        let ledger = Ledger::open(&options.target, &options.identity).await?;
        let state = ledger.state().await?;
        let declared = applier::checkpoint(&options.target, &options.identity).await?;
        match (&state, declared) {
            (None, Some(lsn)) => return Err(Error::Copied(lsn)),
            (Some(state), _) if state.schema != options.schema => {
                let begun = if state.schema == Schema::Exists { "with" } else { "without" };
                return Err(Error::OtherKind(begun));
            }
            _ => {}
        }
        let source = session::client(Whom::Source, &options.source).await?;
        if state.is_none() {
            check(&options, &ledger.client, &source).await?;
        }
        let programs = match options.schema {
            Schema::Copied => Some(programs(&source, &ledger.client).await?),
            Schema::Exists => None,
        };
        Ok(Bootstrap { options, ledger, programs, state, declared })
    }

    /// Whether an earlier run is gone on with.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.state.is_some()
    }

    /// What an earlier run has copied, if it copied everything; then there may be something left to be done after it.
    ///
    /// # Errors
    /// The target is lost.
    pub async fn copied(&self) -> Result<Option<Copied>, Error> {
        let Some(checkpoint) = self.declared else { return Ok(None) };
        let phase = self.state.as_ref().map(|state| state.phase);
        let starts = self.ledger.starts().await?.filter(|_| phase == Some(Phase::Leveling));
        if starts.is_none() {
            self.ledger.finish().await?;
        }
        Ok(Some(Copied { checkpoint, level: starts.map(|(_, last)| last) }))
    }

    /// Copies everything that is not copied yet, and declares the checkpoint. The log is kept from `pinned` on, which is
    /// not after anything that is committed now.
    ///
    /// # Errors
    /// Anything that can go wrong with two servers. What was done is on record; [`open`](Bootstrap::open) goes on with it.
    pub async fn copy(&self, pinned: Lsn, progress: &Progress) -> Result<Copied, Error> {
        progress.govern(self.options.governor.clone());
        progress.enter(Stage::Snapshot);
        let state = match &self.state {
            Some(state) => state.clone(),
            None => {
                applier::install(&self.options.target).await?;
                self.ledger.begin(self.options.schema).await?
            }
        };
        let (snapshot, readers, tables) = self.snapshot(progress).await?;
        progress.enter(Stage::Schema);
        let dump = self.schema(&state, &snapshot, &tables, progress).await?;
        let rest = self.rows((&snapshot, readers), tables, (pinned, state.phase), dump.as_ref(), progress).await?;
        progress.enter(Stage::Rest);
        let (first, last) = self.ledger.starts().await?.unwrap_or((snapshot.lsn, snapshot.lsn));
        // Foreign keys need not hold between tables as of different positions.
        let level = (first != last && dump.is_some()).then_some(last);
        self.rest(&state, &snapshot, (dump.as_deref(), level), rest, progress).await?;
        match first == last {
            true => finish::refresh(&snapshot.keeper, &self.ledger.client).await?,
            false if level.is_none() => progress.note(NOT_REFRESHED.to_owned()),
            false => {}
        }
        failpoint::reach(Failpoint::BeforeDeclare);
        self.ledger.flush().await?;
        applier::declare(&self.options.target, &self.options.identity, first).await?;
        match level {
            Some(_) => self.ledger.reach(Phase::Leveling).await?,
            None => self.ledger.finish().await?,
        }
        Ok(Copied { checkpoint: first, level })
    }

    /// A snapshot, sessions on it, and the tables in it, locked as the snapshot shows them.
    async fn snapshot(&self, progress: &Progress) -> Result<(Snapshot, Vec<Wire>, Vec<Table>), Error> {
        let mut attempts = 0;
        loop {
            let snapshot = Snapshot::take(&self.options.source, progress).await?;
            let tables = catalog::published(&snapshot.keeper, &self.options.publication).await?;
            let mut readers = readers::open(&self.options.source, &snapshot.name, self.options.jobs).await?;
            attempts += 1;
            match catalog::lock(&snapshot.keeper, &tables).await? {
                None if readers::lock(&mut readers, &tables).await? => return Ok((snapshot, readers, tables)),
                Some(table) if attempts == ATTEMPTS => return Err(Error::Rewritten { table, attempts }),
                None if attempts == ATTEMPTS => return Err(Error::Contended { attempts }),
                _ => {}
            }
        }
    }

    /// Makes what tables need, and tables. The dump, unless the schema exists.
    async fn schema(
        &self,
        state: &State,
        snapshot: &Snapshot,
        tables: &[Table],
        progress: &Progress,
    ) -> Result<Option<Arc<Dump>>, Error> {
        let Some(programs) = self.programs.clone() else { return Ok(None) };
        let mut excluded = schema::own_objects(&snapshot.keeper, &self.options.publication).await?;
        excluded.extend(schema::unmet_foreign_keys(&snapshot.keeper, tables, progress).await?);
        let dump = Dump::take(programs, &self.options, Some(snapshot), &excluded).await?;
        match &state.digest {
            Some(digest) if *digest != dump.digest => return Err(Error::SchemaChanged),
            Some(_) => {}
            None => self.ledger.set_digest(&dump.digest).await?,
        }
        if state.phase < Phase::PreData {
            roles::make(&snapshot.keeper, &self.ledger.client, &self.options.roles, progress).await?;
            // What is in the way was made by a run that ended in here: before it, there was nothing.
            let how = if state.digest.is_some() { Restore::Again } else { Restore::New };
            dump.restore_pre_data(&self.ledger.client, how).await?;
            failpoint::reach(Failpoint::AfterPreData);
            self.ledger.reach(Phase::PreData).await?;
        }
        Ok(Some(Arc::new(dump)))
    }

    /// Copies rows, and makes the indexes of tables that are whole. What is left to be made after that.
    async fn rows(
        &self,
        (snapshot, readers): (&Snapshot, Vec<Wire>),
        tables: Vec<Table>,
        (pinned, phase): (Lsn, Phase),
        dump: Option<&Arc<Dump>>,
        progress: &Progress,
    ) -> Result<Vec<u32>, Error> {
        let client = &self.ledger.client;
        let copied = self.ledger.copied(pinned).await?;
        let mut post = match dump {
            Some(dump) => post_data::sort(&snapshot.keeper, dump, &tables, &Existing::read(client).await?).await?,
            None => PostData::default(),
        };
        post.tables.resize_with(tables.len(), Default::default);
        let encoding = encoding(&snapshot.keeper, Whom::Source).await?;
        let ascii = "SQL_ASCII";
        let bytes_only = encoding == ascii || encoding_of_target(client).await? == ascii;
        let works = self.plan(&snapshot.keeper, tables, post.tables, (&copied, bytes_only), progress).await?;
        let target = self.options.target.clone();
        let mark = self.ledger.mark(snapshot.lsn);
        let pace = Pace::new(&self.options);
        let dump = dump.map(|dump| (Arc::clone(dump), self.options.builders()));
        let copying = Copying::new(target, encoding, mark, pace, works, dump);
        progress.enter(Stage::Data);
        Arc::new(copying).run(readers).await?;
        if phase < Phase::Rest {
            let servers = large_objects::Servers {
                source: self.options.source.clone(),
                target: self.options.target.clone(),
                snapshot: snapshot.name.clone(),
            };
            large_objects::copy(&snapshot.keeper, Arc::new(servers), self.options.jobs, progress).await?;
        }
        Ok(post.rest)
    }

    /// How each table is copied, if it still is to be.
    async fn plan(
        &self,
        source: &Client,
        tables: Vec<Table>,
        indexes: Vec<post_data::TableIndexes>,
        (copied, bytes_only): (&BTreeSet<(String, String)>, bool),
        progress: &Progress,
    ) -> Result<Vec<Work>, Error> {
        progress.clear();
        let client = &self.ledger.client;
        let found = target::find(client, &tables).await?;
        let is_copied = |table: &Table| copied.contains(&(table.schema.clone(), table.name.clone()));
        let total = tables.iter().filter(|table| !is_copied(table)).map(Table::bytes).sum();
        let part_bytes = plan::part_bytes((source, client), total, self.options.jobs).await?;
        let mut works = Vec::new();
        for (table, indexes) in tables.into_iter().zip(indexes) {
            let format = target::format(&table, &found, bytes_only)?;
            let (parts, emptying) = match is_copied(&table) {
                true => (Vec::new(), Emptying::Done),
                false => {
                    let parts = plan::parts(&table, part_bytes);
                    let emptying = empty(client, &table, &found, parts.len() > 1).await?;
                    (parts, emptying)
                }
            };
            let meter = progress.table(table.shown(), if parts.is_empty() { 0 } else { table.bytes() });
            works.push(Work::new(table, parts, (format, emptying), indexes, meter));
        }
        Ok(works)
    }

    /// What needs all rows.
    async fn rest(
        &self,
        state: &State,
        snapshot: &Snapshot,
        (dump, level): (Option<&Dump>, Option<Lsn>),
        mut rest: Vec<u32>,
        progress: &Progress,
    ) -> Result<(), Error> {
        let client = &self.ledger.client;
        if let Some(dump) = dump {
            if level.is_some() {
                let later: BTreeSet<u32> = dump.post_data().filter(|e| e.is_foreign_key()).map(|e| e.id).collect();
                rest.retain(|id| !later.contains(id));
            }
            self.ledger.reach(Phase::Rest).await?;
            let how = if state.phase == Phase::Rest { Restore::Again } else { Restore::New };
            let builders = self.options.builders();
            match dump.restore_parallel(&rest, builders, how).await {
                Err(error) if builders > 1 => {
                    tracing::debug!(%error, "made one by one");
                    // What is there is dropped first, which an index that a parent's was attached to cannot be.
                    let existing = Existing::read(client).await?;
                    let rest = post_data::missing(&snapshot.keeper, dump, rest, &existing).await?;
                    dump.restore_parallel(&rest, 1, Restore::Again).await?;
                }
                made => made?,
            }
        }
        sequences::copy(&snapshot.keeper, client, progress).await?;
        finish::analyze_partitioned(client).await
    }
}

/// Sessions of a bootstrap are known by their name.
fn named(mut options: Options) -> Options {
    let name = session::application_name(&options.identity.slot);
    for conninfo in [&mut options.source, &mut options.target] {
        // The name is a text without NUL, so it is a value that the key takes.
        if let Ok(named) = conninfo.clone().with("application_name", name.as_str()) {
            *conninfo = named;
        }
    }
    options
}

/// Refuses a target that holds anything that is not expected.
async fn check(options: &Options, target: &Client, source: &Client) -> Result<(), Error> {
    let tables = catalog::published(source, &options.publication).await?;
    match options.schema {
        Schema::Copied => target::check_empty(target).await,
        Schema::Exists => {
            let found = target::find(target, &tables).await?;
            tables.iter().try_for_each(|table| target::format(table, &found, false).map(drop))?;
            target::check_without_rows(target, &tables).await
        }
    }
}

async fn programs(source: &Client, target: &Client) -> Result<Programs, Error> {
    Programs::find(major(source, Whom::Source).await?, major(target, Whom::Target).await?).await
}

async fn major(client: &Client, whom: Whom) -> Result<u32, Error> {
    const DOING: &str = "ask for the server's version";
    let sql = "SELECT current_setting('server_version_num')::int / 10000";
    let row = client.query_one(sql, &[]).await.map_err(whom.doing(DOING))?;
    row.try_get::<_, i32>(0).map(i32::unsigned_abs).map_err(whom.doing(DOING))
}

async fn encoding(client: &Client, whom: Whom) -> Result<String, Error> {
    let row = client.query_one("SHOW server_encoding", &[]).await.map_err(whom.doing("ask for the encoding"))?;
    row.try_get(0).map_err(whom.doing("ask for the encoding"))
}

async fn encoding_of_target(client: &Client) -> Result<String, Error> {
    encoding(client, Whom::Target).await
}

/// Empties a table of what a run before left, or says that it is to be emptied by whoever fills it.
async fn empty(client: &Client, table: &Table, found: &Tables, in_parts: bool) -> Result<Emptying, Error> {
    let doing = || Whom::Target.doing(format!("empty table {}", table.shown()));
    let known = found.get(&(table.schema.clone(), table.name.clone()));
    let (referenced, partitioned) = known.map_or((false, false), |known| (known.referenced, known.partitioned));
    if !referenced && !in_parts {
        return Ok(if partitioned { Emptying::Truncate } else { Emptying::TruncateAndFreeze });
    }
    if target::has_rows(client, table).await? {
        // What a foreign key names cannot be truncated; in a replica session it can be deleted.
        let only = if table.partitioned { "" } else { "ONLY " };
        let delete = format!("DELETE FROM {only}{}", table.quoted());
        let sql = if referenced { delete } else { truncate_sql(table) };
        client.batch_execute(&sql).await.map_err(doing())?;
    }
    Ok(Emptying::Done)
}

/// Empties everything that is published, so that a target with the source's schema can be copied again. Its checkpoint
/// has to be forgotten before. A copy that was begun already is left to be gone on with: that is told by `false`.
///
/// # Errors
/// A server cannot be reached; another table refers to one of these.
pub async fn truncate(options: &Options) -> Result<bool, Error> {
    let options = named(options.clone());
    let ledger = Ledger::open(&options.target, &options.identity).await?;
    if ledger.state().await?.is_some() {
        return Ok(false);
    }
    let source = session::client(Whom::Source, &options.source).await?;
    let tables = catalog::published(&source, &options.publication).await?;
    let found = target::find(&ledger.client, &tables).await?;
    tables.iter().try_for_each(|table| target::format(table, &found, false).map(drop))?;
    applier::install(&options.target).await?;
    let names = |table: &Table| format!("{}{}", if table.partitioned { "" } else { "ONLY " }, table.quoted());
    let list = tables.iter().map(names).collect::<Vec<_>>().join(", ");
    let sql = if list.is_empty() { "BEGIN".to_owned() } else { format!("BEGIN; TRUNCATE {list}") };
    ledger.client.batch_execute(&sql).await.map_err(Whom::Target.doing("empty the target's tables"))?;
    ledger.begin(Schema::Exists).await?;
    ledger.client.batch_execute("COMMIT").await.map_err(Whom::Target.doing("empty the target's tables"))?;
    Ok(true)
}
