//! Comparing the rows of many tables: several at a time, large ones in parts, both sides at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connection::TextRow;
use tokio::task::JoinSet;

use crate::drill::{DifferentKey, Drilled, drill};
use crate::error::{Error, Side};
use crate::scan::{Hash, Part, Scan, parts};
use crate::session::{Session, number, text};
use crate::snapshot::{Gate, Snapshots, end};
use crate::sums::{Buckets, Sum};
use crate::table::Pair;

/// How far a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Parts of tables that were read on both sides; a part is 128 MiB or a smaller table.
    pub parts_done: u64,
    /// All parts.
    pub parts: u64,
}

/// Is told how far a comparison is, from several tasks.
pub type Observer = Arc<dyn Fn(Progress) + Send + Sync>;

/// What became of a table.
pub(crate) enum Outcome {
    Compared(Compared),
    /// It was truncated or altered after the snapshots: it has to be compared at new ones.
    Moved,
}

/// A table's rows.
pub(crate) struct Compared {
    pub(crate) rows: [u64; 2],
    pub(crate) drilled: Drilled,
}

impl Compared {
    pub(crate) fn keys(&self) -> &[DifferentKey] {
        &self.drilled.keys
    }
}

/// How to go about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    pub(crate) listed_max: usize,
}

/// Compares tables; gives their outcomes in their order. Locked ones are read by the sessions that hold the locks: any
/// other would have to queue behind whoever waits for these.
pub(crate) async fn compare(
    snapshots: Snapshots,
    pairs: &[Arc<Pair>],
    hash: Hash,
    limits: Limits,
    observer: Observer,
) -> Result<Vec<Outcome>, Error> {
    let shared = Arc::new(Shared::new(pairs, hash, limits, observer));
    match snapshots.source.locked || snapshots.target.locked {
        true => work(Arc::clone(&shared), Readers::keepers(snapshots)).await?,
        false => work_beside_each_other(&shared, &snapshots).await?,
    }
    let state = &mut *shared.state();
    Ok((0..pairs.len()).map(|at| state.outcomes.remove(&at).unwrap_or(Outcome::Moved)).collect())
}

async fn work_beside_each_other(shared: &Arc<Shared>, snapshots: &Snapshots) -> Result<(), Error> {
    let mut workers = JoinSet::new();
    for _ in 0..shared.limits.jobs.min(shared.parts()).max(1) {
        let (shared, gates) = (Arc::clone(shared), [snapshots.source.gate.clone(), snapshots.target.gate.clone()]);
        workers.spawn(async move { work(shared, Readers::open(gates).await?).await });
    }
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(())
}

struct Shared {
    pairs: Vec<Arc<Pair>>,
    hash: Hash,
    limits: Limits,
    observer: Observer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(usize, Part)>,
    progress: Progress,
    /// Tables of which some parts were read.
    begun: HashMap<usize, Begun>,
    outcomes: HashMap<usize, Outcome>,
}

struct Begun {
    parts_left: u64,
    buckets: Buckets,
    moved: bool,
}

impl Shared {
    fn new(pairs: &[Arc<Pair>], hash: Hash, limits: Limits, observer: Observer) -> Shared {
        let parts_of = |(at, pair): (usize, &Arc<Pair>)| {
            let of = parts(pair);
            (0..of).map(move |number| (at, Part { number, of }))
        };
        let waiting: VecDeque<_> = pairs.iter().enumerate().flat_map(parts_of).collect();
        let progress = Progress { parts_done: 0, parts: waiting.len() as u64 };
        let state = Mutex::new(State { waiting, progress, ..State::default() });
        Shared { pairs: pairs.to_vec(), hash, limits, observer, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> usize {
        self.state().waiting.len()
    }

    fn take_part(&self) -> Option<(usize, Part)> {
        self.state().waiting.pop_front()
    }

    /// Adds a part; gives the table once all of its parts are there.
    fn add(&self, at: usize, part: Part, read: Option<[Vec<(usize, Sum)>; 2]>) -> Option<Begun> {
        let mut state = self.state();
        state.progress.parts_done += 1;
        let begin = || Begun { parts_left: part.of, buckets: Buckets::new(), moved: false };
        let begun = state.begun.entry(at).or_insert_with(begin);
        begun.parts_left -= 1;
        match read {
            None => begun.moved = true,
            Some([ours, theirs]) => {
                ours.into_iter().for_each(|(bucket, sum)| begun.buckets.add(bucket, Side::Source, sum));
                theirs.into_iter().for_each(|(bucket, sum)| begun.buckets.add(bucket, Side::Target, sum));
            }
        }
        let whole = begun.parts_left == 0;
        let progress = state.progress;
        let table = if whole { state.begun.remove(&at) } else { None };
        drop(state);
        (self.observer)(progress);
        table
    }
}

async fn work(shared: Arc<Shared>, mut readers: Readers) -> Result<(), Error> {
    while let Some((at, part)) = shared.take_part() {
        let pair = Arc::clone(&shared.pairs[at]);
        let in_table = |source| Error::Table { table: pair.name.to_string(), source: Box::new(source) };
        let scans = [Side::Source, Side::Target].map(|side| Scan::new(&pair, side, shared.hash));
        let read = sums(&mut readers, &scans, part).await.map_err(in_table)?;
        if let Some(table) = shared.add(at, part, read) {
            let outcome = conclude(&mut readers, &scans, table, shared.limits).await.map_err(in_table)?;
            shared.state().outcomes.insert(at, outcome);
        }
    }
    readers.close().await;
    Ok(())
}

/// Reads one part on both sides. `None`: the table moved.
async fn sums(
    readers: &mut Readers,
    scans: &[Scan<'_>; 2],
    part: Part,
) -> Result<Option<[Vec<(usize, Sum)>; 2]>, Error> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let read = |row: &TextRow, side| Ok((number(row, 0, side)?, Sum::read(row, 1, side)?));
    let mut take_ours = |row: TextRow| read(&row, Side::Source).map(|sum| ours.push(sum));
    let mut take_theirs = |row: TextRow| read(&row, Side::Target).map(|sum| theirs.push(sum));
    let sql = scans.each_ref().map(|scan| scan.sums(part));
    let unmoved = read_both(readers, scans, &sql, [None; 2], [&mut take_ours, &mut take_theirs]).await?;
    Ok(unmoved.then_some([ours, theirs]))
}

/// Everything about a table was read.
async fn conclude(
    readers: &mut Readers,
    scans: &[Scan<'_>; 2],
    table: Begun,
    limits: Limits,
) -> Result<Outcome, Error> {
    if table.moved {
        return Ok(Outcome::Moved);
    }
    let rows = [Side::Source, Side::Target].map(|side| table.buckets.rows(side));
    let different = table.buckets.different();
    drop(table);
    let drilled = drill(readers, scans, &different, limits.listed_max).await?;
    Ok(drilled.map_or(Outcome::Moved, |drilled| Outcome::Compared(Compared { rows, drilled })))
}

/// A session on each side, and what it looks through.
pub(crate) struct Readers {
    /// `None`: the sessions are in their snapshots' transactions already, and stay in them.
    gates: Option<[Gate; 2]>,
    sessions: [Session; 2],
}

impl Readers {
    async fn open(gates: [Gate; 2]) -> Result<Readers, Error> {
        let (source, target) = tokio::join!(gates[0].session(), gates[1].session());
        let sessions = [source?, target?];
        Ok(Readers { gates: Some(gates), sessions })
    }

    fn keepers(snapshots: Snapshots) -> Readers {
        Readers { gates: None, sessions: [snapshots.source.keeper, snapshots.target.keeper] }
    }

    async fn close(self) {
        let [source, target] = self.sessions;
        tokio::join!(source.close(), target.close());
    }
}

type Take<'a> = &'a mut (dyn FnMut(TextRow) -> Result<(), Error> + Send);

/// Runs a statement on both sides at once. False: the table moved, and what was read means nothing.
pub(crate) async fn read_both(
    readers: &mut Readers,
    scans: &[Scan<'_>; 2],
    sql: &[String; 2],
    parameters: [Option<&str>; 2],
    take: [Take<'_>; 2],
) -> Result<bool, Error> {
    let [source, target] = &mut readers.sessions;
    let gate = |at: usize| readers.gates.as_ref().map(|gates| &gates[at]);
    let [take_ours, take_theirs] = take;
    let (ours, theirs) = tokio::join!(
        read(gate(0), source, &scans[0], &sql[0], parameters[0], take_ours),
        read(gate(1), target, &scans[1], &sql[1], parameters[1], take_theirs),
    );
    Ok(ours? && theirs?)
}

async fn read(
    gate: Option<&Gate>,
    session: &mut Session,
    scan: &Scan<'_>,
    sql: &str,
    parameter: Option<&str>,
    take: Take<'_>,
) -> Result<bool, Error> {
    if let Some(gate) = gate {
        gate.begin(session).await?;
    }
    let parameters: Vec<_> = parameter.into_iter().map(Some).collect();
    let unmoved = match session.each(sql, &parameters, take).await {
        Ok(()) => is_true(&session.simple(&scan.unmoved()).await?, session.side())?,
        Err(error) if error.is_of_moved_table() => false,
        Err(error) => return Err(error),
    };
    if gate.is_some() {
        end(session).await?;
    }
    Ok(unmoved)
}

/// The single boolean that a query gave.
pub(crate) fn is_true(rows: &[TextRow], side: Side) -> Result<bool, Error> {
    let row = rows.first().ok_or(Error::Answer { side, what: "no row" })?;
    Ok(text(row, 0, side)? == "t")
}
