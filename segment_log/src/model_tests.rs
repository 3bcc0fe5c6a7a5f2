//! The log against a model: whatever happens, it holds exactly the transactions that the model says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use decoder::{Lsn, PgTimestamp, RelationId, Xid};
use proptest::prelude::*;

use crate::builder::FrameBuilder;
use crate::error::{AppendError, OpenError};
use crate::frame::{Frame, Record, TransactionInfo};
use crate::fs::Fs;
use crate::fs_memory::{Fault, MemoryFs, Rng};
use crate::log::{Identity, Log, Options, open_on};
use crate::reader::Cursor;
use crate::syncer::sync_now;
use crate::writer::Writer;

pub(crate) const START: u64 = 0x1000;

pub(crate) fn options() -> Options {
    let (database, slot, publication) = ("app".to_owned(), "walcast".to_owned(), "walcast".to_owned());
    Options {
        dir: PathBuf::from("log"),
        segment_size: 8192,
        retain_min: 0,
        identity: Identity { system_id: 7, timeline: 1, database, slot, publication },
        start: Lsn::from_u64(START),
        on_sync: Arc::new(|_| {}),
    }
}

/// The rows of a transaction as length and checksum; `None` is a progress mark.
pub(crate) type Entry = Option<Vec<(usize, u32)>>;

fn digest(row: &[u8]) -> (usize, u32) {
    (row.len(), crc32c::crc32c(row))
}

/// The open log, and what it must hold.
pub(crate) struct Bench {
    pub(crate) fs: MemoryFs,
    pub(crate) writer: Writer,
    pub(crate) log: Log,
    tailing: Tailing,
    pub(crate) model: BTreeMap<u64, Entry>,
    pub(crate) last: u64,
    /// Version of each relation that this connection has described.
    versions: BTreeMap<u32, u8>,
    pub(crate) builder: FrameBuilder,
    small_rows: bool,
}

/// A reader that keeps what a target would.
pub(crate) struct Tailing {
    cursor: Cursor,
    after: Lsn,
    relations: BTreeMap<u32, u8>,
    rows: Vec<(usize, u32)>,
}

impl Tailing {
    pub(crate) fn new(log: &Log, after: Lsn) -> Tailing {
        let cursor = log.cursor(after).unwrap();
        Tailing { cursor, after, relations: BTreeMap::new(), rows: Vec::new() }
    }

    /// Everything new.
    pub(crate) fn read(&mut self) -> Result<Vec<(u64, Entry)>, crate::error::ReadError> {
        let mut seen = Vec::new();
        while let Some(frame) = self.cursor.next_frame()? {
            self.take(&frame, &mut seen);
        }
        Ok(seen)
    }

    fn take(&mut self, frame: &Frame, seen: &mut Vec<(u64, Entry)>) {
        self.relations.extend(frame.descriptors().map(|(relation, message)| (relation.0, message[2])));
        for piece in frame.pieces() {
            let end_lsn = piece.info().end_lsn;
            assert!(!piece.is_first() || self.rows.is_empty());
            piece.records().for_each(|record| self.take_record(&record));
            if piece.is_last() {
                let rows = std::mem::take(&mut self.rows);
                seen.extend((end_lsn > self.after).then_some((end_lsn.as_u64(), Some(rows))));
            }
        }
        let progress = frame.progress().filter(|lsn| *lsn > self.after);
        seen.extend(progress.map(|lsn| (lsn.as_u64(), None)));
    }

    fn take_record(&mut self, record: &Record<'_>) {
        if record.payload[0] == b'R' {
            self.relations.insert(record.relation.unwrap().0, record.payload[2]);
        } else {
            // Whatever segment the reader began in, it knows the relation as it was when the row was written.
            assert_eq!(self.relations.get(&u32::from(record.payload[1])), Some(&record.payload[2]));
            self.rows.push(digest(record.payload));
        }
    }
}

fn info(end: u64) -> TransactionInfo {
    let (commit_lsn, end_lsn) = (Lsn::from_u64(end - 8), Lsn::from_u64(end));
    TransactionInfo { xid: Xid(end as u32), commit_lsn, end_lsn, commit_time: PgTimestamp(end as i64) }
}

impl Bench {
    pub(crate) fn open(fs: &MemoryFs) -> Result<Bench, OpenError> {
        let (writer, log) = open_on(Arc::new(fs.clone()) as Arc<dyn Fs>, options())?;
        let positions = log.positions();
        let tailing = Tailing::new(&log, positions.first_lsn);
        let last = positions.appended_lsn.as_u64();
        let (model, versions, builder) = (BTreeMap::new(), BTreeMap::new(), FrameBuilder::new());
        Ok(Bench { fs: fs.clone(), writer, log, tailing, model, last, versions, builder, small_rows: false })
    }

    /// Gathers a transaction of `rows` changes and appends it.
    pub(crate) fn transaction(&mut self, rows: u64, rng: &mut Rng) -> Result<(), AppendError> {
        self.last += 8 + rng.below(100);
        self.builder.begin(&info(self.last));
        let mut entry = Vec::new();
        for _ in 0..rows {
            let row = self.row(rng);
            self.builder.push(Record { relation: Some(RelationId(u32::from(row[1]))), payload: &row });
            entry.push(digest(&row));
            match if self.builder.is_full() { self.append() } else { Ok(()) } {
                // The builder keeps everything.
                Ok(()) | Err(AppendError::DiskFull { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.builder.commit();
        self.model.insert(self.last, Some(entry));
        Ok(())
    }

    /// As `transaction`, with rows that fit a small segment many times.
    pub(crate) fn small_transaction(&mut self, rows: u64, rng: &mut Rng) -> Result<(), AppendError> {
        self.small_rows = true;
        self.transaction(rows, rng)
    }

    /// Appends and syncs whole frames of a transaction whose end never comes.
    pub(crate) fn unfinished_transaction(&mut self, rows: u64, rng: &mut Rng) -> Result<(), AppendError> {
        self.small_rows = true;
        self.builder.begin(&info(self.last + 100));
        for _ in 0..rows {
            let row = self.row(rng);
            self.builder.push(Record { relation: Some(RelationId(u32::from(row[1]))), payload: &row });
            if self.builder.is_full() {
                self.append()?;
                assert!(self.sync());
            }
        }
        Ok(())
    }

    pub(crate) fn read_tailing(&mut self) -> Result<Vec<(u64, Entry)>, crate::error::ReadError> {
        self.tailing.read()
    }

    fn row(&mut self, rng: &mut Rng) -> Vec<u8> {
        let relation = 1 + rng.below(4) as u8;
        if !self.versions.contains_key(&u32::from(relation)) || rng.one_in(10) {
            let version = self.versions.entry(u32::from(relation)).or_default();
            *version = version.wrapping_add(1);
            self.builder.describe(RelationId(u32::from(relation)), &[b'R', relation, *version]);
        }
        let mut row = vec![b'I', relation, self.versions[&u32::from(relation)]];
        let len = if !self.small_rows && rng.one_in(40) { rng.below(10_000) } else { rng.below(200) };
        row.extend((0..len).map(|_| rng.next() as u8));
        row
    }

    pub(crate) fn append(&mut self) -> Result<(), AppendError> {
        self.writer.append(&mut self.builder)
    }

    pub(crate) fn progress(&mut self) -> Result<(), AppendError> {
        self.append()?;
        self.writer.append_progress(Lsn::from_u64(self.last + 8))?;
        self.last += 8;
        self.model.insert(self.last, None);
        Ok(())
    }

    pub(crate) fn sync(&self) -> bool {
        sync_now(&self.log.shared)
    }

    pub(crate) fn durable(&self) -> u64 {
        self.log.positions().durable.lsn().as_u64()
    }

    /// Compares what new and old readers see with the model.
    pub(crate) fn check(&mut self, rng: &mut Rng) {
        let positions = self.log.positions();
        let (first, end) = (positions.first_lsn.as_u64(), positions.appended_lsn.as_u64());
        let unread = self.tailing.read().unwrap();
        for (lsn, entry) in unread {
            assert_eq!(self.model.get(&lsn), Some(&entry), "transaction {lsn:X}");
        }
        let after = first + rng.below(end - first + 1);
        let mut reader = Tailing::new(&self.log, Lsn::from_u64(after));
        let seen = reader.read().unwrap();
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Included(end));
        let expected: Vec<_> = self.model.range(range).map(|(lsn, entry)| (*lsn, entry.clone())).collect();
        assert_eq!(seen, expected, "after {after:X}");
    }

    /// The process ends without a chance to clean up, and perhaps the power too; then the log is opened again.
    pub(crate) fn restart(self, power: Option<&mut Rng>) -> Bench {
        let (durable, model, fs) = (self.durable(), self.model.clone(), self.fs.clone());
        drop(self);
        if let Some(rng) = power {
            fs.lose_power(rng);
        }
        fs.heal();
        let mut bench = Bench::open(&fs).unwrap();
        assert!(bench.last >= durable, "log ends at {:X}, acknowledged was {durable:X}", bench.last);
        assert!(bench.last == START || bench.last == durable || model.contains_key(&bench.last));
        bench.model = model.into_iter().filter(|(lsn, _)| *lsn <= bench.last).collect();
        let leftovers = fs.files().iter().filter(|path| !path.to_str().unwrap().ends_with(".seg")).count();
        assert_eq!(leftovers, 0);
        bench
    }
}

#[derive(Debug, Clone)]
enum Step {
    Transactions { count: u64, rows: u64 },
    LeaveUnfinished { rows: u64 },
    Progress,
    Sync,
    Trim { back: u64 },
    Reopen,
    Kill,
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..8u64, 0..6u64).prop_map(|(count, rows)| Step::Transactions { count, rows }),
        1 => (1..3u64, 30..150u64).prop_map(|(count, rows)| Step::Transactions { count, rows }),
        1 => (1..60u64).prop_map(|rows| Step::LeaveUnfinished { rows }),
        1 => Just(Step::Progress),
        3 => Just(Step::Sync),
        1 => (0..2000u64).prop_map(|back| Step::Trim { back }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        2 => Just(Step::PowerLoss),
    ]
}

fn run_step(mut bench: Bench, step: &Step, rng: &mut Rng) -> Bench {
    match step {
        Step::Transactions { count, rows } => {
            (0..*count).for_each(|_| bench.transaction(*rows, rng).unwrap());
            bench.append().unwrap();
        }
        Step::LeaveUnfinished { rows } => {
            let before = bench.model.clone();
            bench.transaction(*rows, rng).unwrap();
            bench.model = before;
            let power = rng.one_in(2);
            return bench.restart(power.then_some(rng));
        }
        Step::Progress => bench.progress().unwrap(),
        Step::Sync => assert!(bench.sync()),
        Step::Trim { back } => {
            bench.log.trim(Lsn::from_u64(bench.last.saturating_sub(*back))).unwrap();
            assert!(bench.log.positions().first_lsn.as_u64() <= bench.durable());
        }
        Step::Reopen => {
            assert!(bench.sync());
            let last = bench.last;
            bench = bench.restart(None);
            assert_eq!(bench.last, last);
        }
        Step::Kill => bench = bench.restart(None),
        Step::PowerLoss => bench = bench.restart(Some(rng)),
    }
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn the_log_holds_what_the_model_says(steps in prop::collection::vec(step(), 1..40), seed in any::<u64>()) {
        let mut rng = Rng(seed);
        let fs = MemoryFs::default();
        if rng.one_in(2) {
            fs.write_short(rng.clone());
        }
        let mut bench = Bench::open(&fs).unwrap();
        for step in &steps {
            bench = run_step(bench, step, &mut rng);
            bench.check(&mut rng);
        }
    }
}

/// A workload that comes by every operation of the file system; stops at the first error.
fn workload(bench: &mut Bench, rng: &mut Rng) -> Result<(), String> {
    let text = |error: AppendError| error.to_string();
    for round in 0..12 {
        bench.transaction(if round % 5 == 4 { 120 } else { 10 }, rng).map_err(text)?;
        bench.append().map_err(text)?;
        bench.progress().map_err(text)?;
        if round % 2 == 1 && !bench.sync() {
            return Err(bench.log.failure().unwrap().to_string());
        }
        if round % 3 == 2 {
            let below = Lsn::from_u64(bench.last.saturating_sub(1500));
            bench.log.trim(below).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn seed() -> u64 {
    let seed = std::env::var("WALCAST_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| crate::retention::unix_micros() as u64);
    println!("WALCAST_TEST_SEED={seed}");
    seed
}

#[test]
fn an_error_or_death_at_any_operation_loses_nothing_acknowledged() {
    let seed = seed();
    for fault in [Fault::Io, Fault::Death] {
        for n in 1.. {
            let fs = MemoryFs::default();
            let mut rng = Rng(seed);
            let mut bench = Bench::open(&fs).unwrap();
            bench.fs.fail_at(n, fault);
            let before = fs.operations();
            let outcome = workload(&mut bench, &mut rng);
            if fs.operations() - before < n {
                assert_eq!(outcome, Ok(()));
                break;
            }
            let failed = bench.log.failure();
            assert!(outcome.is_err(), "{fault:?} at operation {n} was swallowed");
            // A trim that fails can be tried again; everything else ends the log.
            if failed.is_some() {
                assert!(bench.log.positions().failed);
                assert!(matches!(bench.writer.append_progress(Lsn::MAX), Err(AppendError::Failed(_))));
                assert!(bench.log.cursor(Lsn::MAX).unwrap().next_frame().is_err());
            }
            let mut power = Rng(seed ^ n);
            let mut bench = bench.restart(if n % 2 == 0 { Some(&mut power) } else { None });
            bench.check(&mut rng);
            // What a failed fsync lost is lost for good only when the next start relied on it.
            let mut bench = bench.restart(Some(&mut power));
            bench.check(&mut rng);
            workload(&mut bench, &mut rng).unwrap();
            bench.check(&mut rng);
        }
    }
}

#[test]
fn power_loss_keeps_everything_acknowledged() {
    let seed = seed();
    for run in 0..200 {
        let mut rng = Rng(seed.wrapping_add(run));
        let mut bench = Bench::open(&MemoryFs::default()).unwrap();
        for _ in 0..3 {
            bench.fs.fail_at(1 + rng.below(200), Fault::Death);
            // Ends somewhere, or not.
            let _ = workload(&mut bench, &mut rng);
            bench = bench.restart(Some(&mut rng));
            bench.check(&mut rng);
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_passes() {
    let mut rng = Rng(seed());
    let mut bench = Bench::open(&MemoryFs::default()).unwrap();
    for round in 0..20 {
        bench.fs.fail_at(1, Fault::NoSpace);
        let mut files = bench.fs.files();
        // Until the current segment is full.
        let error = loop {
            bench.transaction(3, &mut rng).unwrap();
            match bench.append() {
                Ok(()) => files = bench.fs.files(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AppendError::DiskFull { bytes, .. } if bytes >= 8192), "{error}");
        assert!(bench.append().is_err());
        assert!(bench.fs.files().iter().all(|path| files.contains(path)), "a leftover");
        assert!(bench.log.failure().is_none());
        assert!(bench.sync(), "what was appended can be synced and acknowledged meanwhile");
        bench.check(&mut rng);
        bench.fs.heal();
        bench.append().unwrap();
        bench.check(&mut rng);
        if round % 3 == 0 {
            bench.log.trim(Lsn::MAX).unwrap();
        }
    }
}
