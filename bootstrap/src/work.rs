//! The workers: each has a session on the snapshot and one on the target, and does what is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connection::{Conninfo, Wire};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::catalog::Table;
use crate::copy::{Format, Relay};
use crate::error::{Error, Whom};
use crate::failpoint::{self, Failpoint};
use crate::ledger::Mark;
use crate::pace::Pace;
use crate::plan::Part;
use crate::post_data::TableIndexes;
use crate::progress::Meter;
use crate::queue::{Job, Queue};
use crate::schema::Dump;
use crate::session;

/// Indexes of tables below this are made with others' in one start of `pg_restore`.
const SMALL_BYTES: u64 = 8 << 20;
const INDEXES: &str = "make the indexes";

/// How a table of the target is emptied before rows are copied into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptying {
    /// In the transaction that fills it, so that its rows can be written as frozen.
    TruncateAndFreeze,
    /// In the transaction that fills it.
    Truncate,
    /// It has been emptied.
    Done,
}

/// One table.
pub(crate) struct Work {
    pub(crate) table: Table,
    pub(crate) parts: Vec<Part>,
    pub(crate) format: Format,
    pub(crate) emptying: Emptying,
    pub(crate) indexes: TableIndexes,
    pub(crate) meter: Arc<Meter>,
    parts_left: AtomicUsize,
    indexes_left: AtomicUsize,
}

impl Work {
    /// `parts` may be none: then the table is whole, and only indexes are missing.
    pub(crate) fn new(
        table: Table,
        parts: Vec<Part>,
        (format, emptying): (Format, Emptying),
        indexes: TableIndexes,
        meter: Arc<Meter>,
    ) -> Work {
        let (parts_left, indexes_left) = (parts.len().into(), indexes.indexes.len().into());
        Work { table, parts, format, emptying, indexes, meter, parts_left, indexes_left }
    }

    fn is_small(&self) -> bool {
        self.table.bytes() < SMALL_BYTES
    }

    /// The statement that gives a part's rows.
    fn giving_sql(&self, part: Part, encoding: &str) -> Result<String, Error> {
        let store = self.table.stores.get(part.store).ok_or_else(|| Whom::Source.strange("copy a part"))?;
        let (name, columns, options) = (store.quoted(), self.table.column_list(), self.options(encoding));
        if columns.is_empty() {
            return Ok(format!("COPY {name} TO STDOUT ({options})"));
        }
        let mut conditions = Vec::new();
        if let Some(blocks) = part.blocks {
            conditions.push(format!("ctid >= '({},0)'::pg_catalog.tid", blocks.from));
            conditions.extend(blocks.to.map(|to| format!("ctid < '({to},0)'::pg_catalog.tid")));
        }
        conditions.extend(self.table.filter.as_ref().map(|filter| format!("({filter})")));
        if conditions.is_empty() && !store.foreign {
            return Ok(format!("COPY {name} ({columns}) TO STDOUT ({options})"));
        }
        let only = if store.foreign { "" } else { "ONLY " };
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        Ok(format!("COPY (SELECT {columns} FROM {only}{name} WHERE {conditions}) TO STDOUT ({options})"))
    }

    /// The statement that takes them.
    fn taking_sql(&self, encoding: &str) -> String {
        let columns = self.table.column_list();
        let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
        let freeze = if self.emptying == Emptying::TruncateAndFreeze { ", FREEZE" } else { "" };
        format!("COPY {}{columns} FROM STDIN ({}{freeze})", self.table.quoted(), self.options(encoding))
    }

    /// Text is passed on as the source's server has it, whatever the sessions' encoding.
    fn options(&self, encoding: &str) -> String {
        match &self.format {
            Format::Binary(_) => "FORMAT binary".to_owned(),
            Format::Text => format!("FORMAT text, ENCODING {}", capture::quote_literal(encoding)),
        }
    }

    pub(crate) fn truncate_sql(&self) -> String {
        truncate_sql(&self.table)
    }
}

/// A partitioned table cannot be emptied without its partitions; any other shall not be emptied with its children.
pub(crate) fn truncate_sql(table: &Table) -> String {
    format!("TRUNCATE {}{}", if table.partitioned { "" } else { "ONLY " }, table.quoted())
}

/// What all workers share.
pub(crate) struct Copying {
    pub(crate) target: Conninfo,
    /// The source server's encoding.
    pub(crate) encoding: String,
    pub(crate) mark: Mark,
    pub(crate) pace: Pace,
    pub(crate) works: Vec<Work>,
    /// What makes indexes, and how many at a time may do that.
    dump: Option<(Arc<Dump>, Semaphore)>,
    queue: Queue,
}

impl Copying {
    /// Plans everything that is to be done. With the dump comes how many at a time may make indexes.
    pub(crate) fn new(
        target: Conninfo,
        encoding: String,
        mark: Mark,
        pace: Pace,
        works: Vec<Work>,
        dump: Option<(Arc<Dump>, usize)>,
    ) -> Copying {
        let dump = dump.map(|(dump, builders)| (dump, Semaphore::new(builders)));
        let parts = works
            .iter()
            .enumerate()
            .flat_map(|(table, work)| (0..work.parts.len()).map(move |part| Job::Part { table, part }));
        let queue = Queue::new(parts.collect::<Vec<_>>());
        let copying = Copying { target, encoding, mark, pace, works, dump, queue };
        let whole = copying.works.iter().enumerate().filter(|(_, work)| work.parts.is_empty());
        for (number, work) in whole {
            work.meter.finish();
            if !work.indexes.is_empty() {
                copying.table_is_filled(number, work);
            }
        }
        copying
    }

    /// Does everything, as many things at a time as there are sessions that read. The first failure ends all.
    pub(crate) async fn run(self: Arc<Copying>, readers: Vec<Wire>) -> Result<(), Error> {
        let mut workers = JoinSet::new();
        for source in readers {
            let copying = Arc::clone(&self);
            workers.spawn(async move { Worker::start(copying, source).await?.run().await });
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(Error::Worker)??;
        }
        Ok(())
    }

    /// A table has all its rows: what comes next for it.
    fn table_is_filled(&self, number: usize, work: &Work) {
        if work.is_small() {
            self.queue.push_small(number);
        } else if !work.indexes.constraints.is_empty() {
            self.queue.push(Job::Constraints(number));
        } else {
            self.push_indexes(number, work);
        }
    }

    fn push_indexes(&self, number: usize, work: &Work) {
        for entry in &work.indexes.indexes {
            self.queue.push(Job::Index { table: number, entry: *entry });
        }
    }

    fn work(&self, number: usize) -> Result<&Work, Error> {
        self.works.get(number).ok_or_else(|| Whom::Source.strange("find a table"))
    }

    async fn restore(&self, entries: &[u32]) -> Result<(), Error> {
        match &self.dump {
            Some((dump, builders)) => {
                // Nobody closes it.
                let _building = builders.acquire().await;
                dump.restore_some(INDEXES, entries).await
            }
            None => Ok(()),
        }
    }
}

struct Worker {
    copying: Arc<Copying>,
    source: Wire,
    target: Wire,
}

impl Worker {
    async fn start(copying: Arc<Copying>, source: Wire) -> Result<Worker, Error> {
        let target = session::wire(Whom::Target, &copying.target).await?;
        Ok(Worker { copying, source, target })
    }

    async fn run(mut self) -> Result<(), Error> {
        let copying = Arc::clone(&self.copying);
        while let Some(job) = copying.queue.next().await {
            match job {
                Job::Part { table, part } => self.copy(&copying, table, part).await?,
                Job::Constraints(table) => self.constraints(&copying, table).await?,
                Job::Index { table, entry } => self.index(&copying, table, entry).await?,
                Job::Small(tables) => self.small(&copying, &tables).await?,
            }
            copying.queue.done();
        }
        self.source.close().await;
        self.target.close().await;
        Ok(())
    }

    async fn copy(&mut self, copying: &Copying, number: usize, part: usize) -> Result<(), Error> {
        let work = copying.work(number)?;
        let part = *work.parts.get(part).ok_or_else(|| Whom::Source.strange("find a part"))?;
        work.meter.begin();
        match work.parts.len() {
            1 => self.copy_whole(copying, work, part).await?,
            _ => self.relay(copying, work, part).await?,
        }
        if work.parts_left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        if work.parts.len() > 1 {
            // Each part is committed: COMMIT came before its number was taken off.
            self.target(&copying.mark.sql(&work.table, work.meter.bytes()), &work.table).await?;
        }
        work.meter.finish();
        failpoint::reach(Failpoint::AfterTable);
        copying.table_is_filled(number, work);
        let indexed_later = work.is_small() || !work.indexes.is_empty();
        if indexed_later { Ok(()) } else { self.analyze(work).await }
    }

    /// A table in one piece is emptied, filled and noted in one transaction.
    async fn copy_whole(&mut self, copying: &Copying, work: &Work, part: Part) -> Result<(), Error> {
        let begin = match work.emptying {
            Emptying::Done => "BEGIN".to_owned(),
            Emptying::Truncate | Emptying::TruncateAndFreeze => format!("BEGIN; {}", work.truncate_sql()),
        };
        self.target(&begin, &work.table).await?;
        self.relay(copying, work, part).await?;
        let end = format!("{}; COMMIT", copying.mark.sql(&work.table, work.meter.bytes()));
        self.target(&end, &work.table).await
    }

    async fn relay(&mut self, copying: &Copying, work: &Work, part: Part) -> Result<(), Error> {
        let (from, to) = (work.giving_sql(part, &copying.encoding)?, work.taking_sql(&copying.encoding));
        let (source, target) = (&mut self.source, &mut self.target);
        let table = work.table.shown();
        let (meter, pace) = (&work.meter, &copying.pace);
        Relay { source, target, meter, pace, table: &table, format: &work.format }.run(&from, &to).await
    }

    async fn constraints(&mut self, copying: &Copying, number: usize) -> Result<(), Error> {
        let work = copying.work(number)?;
        copying.restore(&work.indexes.constraints).await?;
        failpoint::reach(Failpoint::AfterIndexes);
        copying.push_indexes(number, work);
        if work.indexes.indexes.is_empty() { self.analyze(work).await } else { Ok(()) }
    }

    async fn index(&mut self, copying: &Copying, number: usize, entry: u32) -> Result<(), Error> {
        let work = copying.work(number)?;
        copying.restore(&[entry]).await?;
        failpoint::reach(Failpoint::AfterIndexes);
        match work.indexes_left.fetch_sub(1, Ordering::AcqRel) {
            1 => self.analyze(work).await,
            _ => Ok(()),
        }
    }

    async fn small(&mut self, copying: &Copying, numbers: &[usize]) -> Result<(), Error> {
        let works = numbers.iter().map(|number| copying.work(*number)).collect::<Result<Vec<_>, _>>()?;
        let mut entries: Vec<u32> = works.iter().flat_map(|work| work.indexes.all()).collect();
        entries.sort_unstable();
        copying.restore(&entries).await?;
        failpoint::reach(Failpoint::AfterIndexes);
        for work in works {
            self.analyze(work).await?;
        }
        Ok(())
    }

    async fn analyze(&mut self, work: &Work) -> Result<(), Error> {
        self.target(&format!("ANALYZE {}", work.table.quoted()), &work.table).await
    }

    async fn target(&mut self, sql: &str, table: &Table) -> Result<(), Error> {
        let done = self.target.simple_query(sql).await;
        done.map(drop).map_err(Whom::Target.wire(format!("write table {}", table.shown())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blanks::Blanks;
    use crate::catalog::{Column, Store};
    use crate::plan::Blocks;
    use crate::progress::Progress;

    fn work(columns: &[&str], filter: Option<&str>, format: Format) -> Work {
        let (schema, name) = ("s\"1".to_owned(), "t".to_owned());
        let store = Store { oid: 1, schema: schema.clone(), name: name.clone(), foreign: false, blocks: 1, bytes: 1 };
        let column = |name: &&str| Column { name: (*name).to_owned(), binary: true, type_name: "text".to_owned() };
        let table = Table {
            schema,
            name,
            columns: columns.iter().map(column).collect(),
            filter: filter.map(str::to_owned),
            whole: filter.is_none(),
            stores: vec![store],
            partitioned: false,
        };
        let meter = Progress::default().table(table.shown(), 1);
        Work::new(table, Vec::new(), (format, Emptying::TruncateAndFreeze), TableIndexes::default(), meter)
    }

    #[test]
    fn x01_names_are_quoted_and_parts_and_filters_are_conditions() {
        let part = |blocks| Part { store: 0, blocks };
        let plain = work(&["a\"b", "select"], None, Format::Binary(Blanks::new([])));
        assert_eq!(
            plain.giving_sql(part(None), "UTF8").unwrap(),
            r#"COPY "s""1"."t" ("a""b", "select") TO STDOUT (FORMAT binary)"#
        );
        assert_eq!(
            plain.taking_sql("UTF8"),
            r#"COPY "s""1"."t" ("a""b", "select") FROM STDIN (FORMAT binary, FREEZE)"#
        );
        let filtered = work(&["a"], Some("a > 1"), Format::Text);
        assert_eq!(
            filtered.giving_sql(part(Some(Blocks { from: 5, to: Some(9) })), "LATIN1").unwrap(),
            "COPY (SELECT \"a\" FROM ONLY \"s\"\"1\".\"t\" WHERE ctid >= '(5,0)'::pg_catalog.tid AND \
             ctid < '(9,0)'::pg_catalog.tid AND (a > 1)) TO STDOUT (FORMAT text, ENCODING 'LATIN1')"
        );
        assert_eq!(
            work(&[], None, Format::Text).taking_sql("UTF8"),
            r#"COPY "s""1"."t" FROM STDIN (FORMAT text, ENCODING 'UTF8', FREEZE)"#
        );
    }
}
