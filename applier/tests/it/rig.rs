//! A target database, a log to fill by hand, and the task that applies it.

use std::future::Future;
use std::path::Path;
use std::process::Command as Process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use applier::{
    BatchReport, Command, DdlOptions, DdlReport, Desired, Error, Identity, Observer, State, Status, TargetOptions, Tier,
};
use cluster::Cluster;
use decoder::{Lsn, PgTimestamp, Xid};
use segment_log::{FrameBuilder, Log, Options, Record, TransactionInfo, Writer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::messages::Table;

pub(crate) const START: Lsn = Lsn::from_u64(0x1000);
const PATIENCE: Duration = Duration::from_secs(30);
const SYSTEM_ID: u64 = 7_000_000_000_000_000_001;

/// One server for all tests that run at the same time.
pub(crate) fn shared_cluster() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Cluster::builder().set("max_replication_slots", "200").set("wal_level", "logical");
        let cluster = Arc::new(cluster.start().expect("a server"));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// The same token for every session.
pub(crate) fn token(text: &'static str) -> Arc<applier::AskToken> {
    Arc::new(move || Box::pin(async move { Some(::ddl::Token::new(text)) }))
}

/// The target, the log, and what was reported.
pub(crate) struct Rig {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) batch_max_rows: u32,
    pub(crate) workers: u32,
    pub(crate) log: Log,
    pub(crate) seen: Arc<Seen>,
    writer: Writer,
    builder: FrameBuilder,
    next: u64,
    dir: tempfile::TempDir,
}

/// What the observer was told.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) batches: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) single: AtomicU64,
    pub(crate) net: AtomicU64,
    pub(crate) parallel: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) fallbacks: AtomicU64,
    pub(crate) done: Mutex<Vec<String>>,
    pub(crate) tables: Mutex<std::collections::BTreeMap<String, u64>>,
}

impl Observer for Seen {
    fn batch(&self, report: &BatchReport<'_>) {
        self.batches.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(report.changes.total(), Ordering::SeqCst);
        self.transactions.fetch_add(report.transactions, Ordering::SeqCst);
        self.single.fetch_add(u64::from(report.tier == Tier::Single), Ordering::SeqCst);
        self.net.fetch_add(u64::from(report.tier == Tier::Net), Ordering::SeqCst);
        self.parallel.fetch_add(u64::from(report.tier == Tier::Parallel), Ordering::SeqCst);
        let mut tables = self.tables.lock().expect("no test panics in here");
        report.tables.iter().for_each(|(table, rows)| *tables.entry((*table).to_owned()).or_default() += rows);
    }

    fn ddl(&self, report: &DdlReport) {
        let line = |done: &ddl::Done| format!("{:?} {}", done.verb, done.object);
        self.done.lock().expect("no test panics in here").extend(report.done.iter().map(line));
    }

    fn retry(&self) {
        self.retries.fetch_add(1, Ordering::SeqCst);
    }

    fn error(&self, _sqlstate: Option<&str>) {}

    fn fallback(&self, _tier: Tier) {
        self.fallbacks.fetch_add(1, Ordering::SeqCst);
    }
}

impl Rig {
    /// A fresh database with the schema given, declared at [`START`].
    pub(crate) async fn new(schema: &str) -> Rig {
        let rig = Rig::undeclared(shared_cluster(), schema);
        rig.declare(START).await.expect("declared");
        rig
    }

    /// The same without a checkpoint.
    pub(crate) fn undeclared(cluster: Arc<Cluster>, schema: &str) -> Rig {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let database = format!("target{}", DATABASES.fetch_add(1, Ordering::SeqCst));
        cluster.create_database(&database).expect("a database");
        cluster.sql(&database, schema).expect("the schema");
        let dir = tempfile::tempdir().expect("a directory");
        let (writer, log) = segment_log::open(log_options(dir.path())).expect("a log");
        let (builder, seen) = (FrameBuilder::new(), Arc::default());
        let user = "postgres".into();
        Rig { cluster, database, user, batch_max_rows: 1000, workers: 1, log, seen, writer, builder, next: 0x2000, dir }
    }

    fn conninfo(&self) -> String {
        self.cluster.conninfo(&self.database).with("user", &self.user).to_string()
    }

    pub(crate) fn options(&self) -> TargetOptions {
        TargetOptions { batch_max_rows: self.batch_max_rows, workers: self.workers, ..target_options(&self.conninfo()) }
    }

    pub(crate) async fn declare(&self, lsn: Lsn) -> Result<(), Error> {
        let options = self.options();
        applier::declare(&options.conninfo, &options.identity, lsn).await
    }

    pub(crate) async fn checkpoint(&self) -> Option<Lsn> {
        let options = self.options();
        applier::checkpoint(&options.conninfo, &options.identity).await.expect("a checkpoint that can be read")
    }

    /// One transaction of these messages, in the log.
    pub(crate) fn transaction(&mut self, tables: &[&Table], messages: &[Vec<u8>]) -> Lsn {
        let info = self.begin();
        tables.iter().for_each(|table| self.builder.describe(table.relation(), &table.describe()));
        messages.iter().for_each(|message| self.push(message));
        self.commit();
        self.append();
        info.end_lsn
    }

    /// A transaction that shares its frame with others; [`Rig::append`] writes the last frame.
    pub(crate) fn begin_and_commit(&mut self, messages: &[Vec<u8>], end: &mut Lsn) {
        let info = self.begin();
        messages.iter().for_each(|message| self.push(message));
        self.commit();
        *end = info.end_lsn;
    }

    pub(crate) fn begin(&mut self) -> TransactionInfo {
        let at = self.next;
        self.next += 0x100;
        let info = TransactionInfo {
            xid: Xid(u32::try_from(at >> 8).unwrap_or(0)),
            commit_lsn: Lsn::from_u64(at),
            end_lsn: Lsn::from_u64(at + 0x30),
            commit_time: PgTimestamp(700_000_000_000_000),
        };
        self.builder.begin(&info);
        info
    }

    /// A change of the open transaction; what fills a frame is appended.
    pub(crate) fn push(&mut self, message: &[u8]) {
        let relation =
            |at: usize| message.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        match message.first() {
            Some(b'T') => {
                let count = relation(1).expect("a count") as usize;
                let ids: Vec<_> =
                    (0..count).map(|n| decoder::RelationId(relation(6 + 4 * n).expect("an id"))).collect();
                self.builder.push_truncate(&ids, message);
            }
            Some(b'R') => self.builder.describe(decoder::RelationId(relation(1).expect("an id")), message),
            Some(b'M') => self.builder.push_message(message),
            _ => {
                let relation = relation(1).map(decoder::RelationId);
                self.builder.push(Record { relation, payload: message });
            }
        }
        if self.builder.is_full() {
            self.append();
        }
    }

    /// A logical message as a log has it that was written before messages were verified.
    pub(crate) fn push_unverified(&mut self, message: &[u8]) {
        self.builder.push(Record { relation: None, payload: message });
    }

    pub(crate) fn commit(&mut self) {
        self.builder.commit();
    }

    pub(crate) fn append(&mut self) {
        self.writer.append(&mut self.builder).expect("appended");
    }

    pub(crate) fn append_progress(&mut self) -> Lsn {
        let lsn = Lsn::from_u64(self.next);
        self.next += 0x100;
        self.writer.append_progress(lsn).expect("appended");
        lsn
    }

    /// The target's answer.
    pub(crate) fn sql(&self, script: &str) -> String {
        self.cluster.sql(&self.database, script).expect("SQL that works")
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(self.options())
    }

    pub(crate) fn start_with(&self, options: TargetOptions) -> Running {
        start(options, self.log.clone(), self.seen.clone())
    }

    /// Applies everything up to `lsn`, then stops.
    pub(crate) async fn apply(&self, lsn: Lsn) {
        let mut running = self.start();
        running.applied(lsn).await;
        running.stop().await;
    }

    /// Applies everything up to `lsn` in a process of its own, which dies where the failpoint says. Whether it came to its
    /// end.
    pub(crate) fn apply_in_child(&self, lsn: Lsn, failpoint: &str) -> bool {
        let dir = tempfile::tempdir().expect("a directory");
        let copied = Process::new("cp").arg("-r").arg(self.dir.path().join("log")).arg(dir.path()).status();
        assert!(copied.expect("cp").success());
        let child = Process::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "ddl::in_a_process_of_its_own", "--ignored"])
            .env(CHILD, self.task_of_a_child(dir.path(), lsn))
            .env(applier::FAILPOINTS_VARIABLE, failpoint)
            .output();
        child.expect("a process").status.success()
    }

    fn task_of_a_child(&self, dir: &Path, lsn: Lsn) -> String {
        let dir = dir.to_str().expect("a name in UTF-8");
        [dir, &self.conninfo(), &lsn.to_string(), &self.workers.to_string()].join("\n")
    }

    /// Applies until the target stops, and says why.
    pub(crate) async fn stopped(&self) -> applier::StoppedBy {
        let mut running = self.start();
        let why = running.state(State::Stopped).await.last_error.expect("an error");
        running.stop().await;
        why
    }
}

/// Directory, connection string, position and number of workers for a process of [`Rig::apply_in_child`].
const CHILD: &str = "WALCAST_TEST_CHILD";

/// What a process of [`Rig::apply_in_child`] does.
pub(crate) async fn apply_as_child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let [dir, conninfo, lsn, workers] = task.split('\n').collect::<Vec<_>>()[..] else { panic!("not {task}") };
    let (_writer, log) = segment_log::open(log_options(Path::new(dir))).expect("a log");
    let workers = workers.parse().expect("a number");
    let mut running = start(TargetOptions { workers, ..target_options(conninfo) }, log, Arc::default());
    running.applied(lsn.parse().expect("a position")).await;
    running.stop().await;
}

fn log_options(dir: &Path) -> Options {
    let [database, slot, publication] = ["app", "walcast", "walcast"].map(str::to_owned);
    let identity = segment_log::Identity { system_id: SYSTEM_ID, timeline: 1, database, slot, publication };
    let on_sync = Arc::new(|_| ());
    Options { dir: dir.join("log"), segment_size: 1 << 20, retain_min: 0, identity, start: START, on_sync }
}

fn target_options(conninfo: &str) -> TargetOptions {
    TargetOptions {
        name: "test".into(),
        conninfo: connection::Conninfo::parse(conninfo).expect("a connection string"),
        identity: Identity { system_id: SYSTEM_ID, slot: "walcast".into() },
        batch_max_rows: 1000,
        workers: 1,
        ddl: DdlOptions::everything(&capture::target::functions_sql(false)),
        only: None,
        batch_max_delay: Duration::from_millis(10),
    }
}

fn start(options: TargetOptions, log: Log, seen: Arc<Seen>) -> Running {
    let (status_tx, status) = watch::channel(Status::initial());
    let (desired, desired_rx) = watch::channel(Desired::Run);
    let (commands, commands_rx) = mpsc::channel(4);
    let shutdown = CancellationToken::new();
    let task = applier::run(options, log, desired_rx, commands_rx, status_tx, seen, shutdown.clone());
    Running { status, desired, commands, shutdown, task: tokio::spawn(task) }
}

/// A running task.
pub(crate) struct Running {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) desired: watch::Sender<Desired>,
    commands: mpsc::Sender<Command>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Waits until `lsn` is applied.
    pub(crate) async fn applied(&mut self, lsn: Lsn) -> Status {
        self.until(|status| status.applied_lsn >= Some(lsn)).await
    }

    pub(crate) async fn state(&mut self, state: State) -> Status {
        self.until(|status| status.state == state).await
    }

    pub(crate) async fn until(&mut self, condition: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        match patiently(status.wait_for(|status| condition(status))).await {
            Some(Ok(status)) => status.clone(),
            _ => panic!("waited in vain; the status is {:?}", *self.status.borrow()),
        }
    }

    pub(crate) async fn skip(&self, lsn: Lsn) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Skip { lsn, reason: "a test's \\ 'reason'".into(), reply }).await.expect("a task");
        patiently(answer).await.expect("an answer in time").expect("an answer")
    }

    /// Has it read again what was copied.
    pub(crate) async fn reload(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Reload { reply }).await.expect("a task");
        patiently(answer).await.expect("an answer in time").expect("an answer")
    }

    /// Lets it run to `limit` and waits until it rests there.
    pub(crate) async fn held_at(&self, limit: Lsn) -> Status {
        self.desired.send_replace(Desired::RunTo(limit));
        let mut status = self.status.clone();
        match patiently(status.wait_for(|status| status.held == Some(limit))).await {
            Some(Ok(status)) => status.clone(),
            _ => panic!("not held at {limit}; the status is {:?}", *self.status.borrow()),
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        patiently(self.task).await.expect("an end in time").expect("no panic").expect("a log that works");
    }
}

pub(crate) async fn patiently<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(PATIENCE, future).await.ok()
}

/// Asks the server until it answers as wanted.
pub(crate) async fn answers(rig: &Rig, script: &str, wanted: &str) {
    let asked = patiently(async {
        while rig.sql(script) != wanted {
            tokio::task::yield_now().await;
        }
    });
    assert!(asked.await.is_some(), "{script} did not become {wanted}");
}
