//! The stream against a real server: what the log holds after what the source did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Cluster;
use decoder::{Change, ColumnValue, Lsn, Tuple, decode_change};
use replication::{Options, ReplicationError, Status};
use segment_log::{Identity, Log};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

/// A source with a publication and a slot, and a log that is fed from it.
struct Fixture {
    source: Cluster,
    dir: tempfile::TempDir,
}

/// The stream while it runs.
struct Running {
    log: Log,
    status: Arc<Status>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ReplicationError>>,
}

impl Fixture {
    fn new(schema: &str) -> Fixture {
        let source = Cluster::builder().set("logical_decoding_work_mem", "64kB").start().expect("a cluster");
        source.sql("postgres", schema).expect("schema");
        source.sql("postgres", "CREATE PUBLICATION walcast FOR ALL TABLES").expect("publication");
        source.sql("postgres", "SELECT pg_create_logical_replication_slot('walcast', 'pgoutput')").expect("slot");
        Fixture { source, dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn sql(&self, script: &str) -> String {
        self.source.sql("postgres", script).expect("source SQL")
    }

    fn conninfo(&self) -> connection::Conninfo {
        connection::Conninfo::parse(&self.source.conninfo("postgres").to_string()).expect("conninfo")
    }

    async fn run(&self) -> Running {
        let (found, slot) = replication::probe(&self.conninfo(), "walcast").await.expect("probe");
        let identity = Identity {
            system_id: found.system_id,
            timeline: found.timeline,
            database: found.database,
            slot: "walcast".into(),
            publication: "walcast".into(),
        };
        let options = segment_log::Options {
            dir: self.dir.path().join("log"),
            segment_size: 1 << 20,
            retain_min: 0,
            identity,
            start: slot.confirmed_flush_lsn,
            on_sync: Arc::new(|_| ()),
        };
        let (writer, log) = segment_log::open(options).expect("log opens");
        let status = Arc::new(Status::default());
        let shutdown = CancellationToken::new();
        let options = Options { conninfo: self.conninfo(), dir: self.dir.path().join("log"), binary: true };
        let task = tokio::spawn(replication::run(options, writer, log.clone(), status.clone(), shutdown.clone()));
        Running { log, status, shutdown, task }
    }

    fn current_lsn(&self) -> Lsn {
        self.sql("SELECT pg_current_wal_lsn()").parse().expect("position")
    }
}

impl Running {
    /// Waits until the log has durably everything that the source has committed so far.
    async fn catch_up(&self, fixture: &Fixture) {
        let goal = fixture.current_lsn();
        let mut positions = self.log.watch();
        let reached = positions.wait_for(|positions| positions.durable.lsn() >= goal);
        let reached = tokio::time::timeout(DEADLINE, reached).await;
        reached
            .unwrap_or_else(|_| panic!("not at {goal}: {:?}, {:?}", self.log.positions(), self.status))
            .expect("open");
    }

    async fn stop(self) -> Log {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("a clean stop");
        self.log
    }
}

/// Each transaction of the log as its changes in text.
fn transactions(log: &Log) -> Vec<Vec<String>> {
    let mut cursor = log.cursor(log.positions().first_lsn).expect("cursor");
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut last_end = Lsn::ZERO;
    while let Some(frame) = cursor.next_frame().expect("readable") {
        for piece in frame.pieces() {
            if piece.is_first() {
                assert!(piece.info().end_lsn > last_end, "commit order");
                last_end = piece.info().end_lsn;
                all.push(Vec::new());
            }
            let changes = all.last_mut().expect("a first piece came before");
            changes.extend(piece.records().filter_map(|record| show(record.payload)));
        }
    }
    all
}

fn show(payload: &[u8]) -> Option<String> {
    match decode_change(payload).expect("decodable") {
        Change::Insert { new, .. } => Some(format!("I {}", row(&new))),
        Change::Update { new, .. } => Some(format!("U {}", row(&new))),
        Change::Delete { .. } => Some("D".to_owned()),
        Change::Truncate { relations, .. } => Some(format!("T {}", relations.len())),
        Change::Message { prefix, .. } => Some(format!("M {prefix}")),
        Change::Relation(_) | Change::Type { .. } => None,
    }
}

fn row(tuple: &Tuple<'_>) -> String {
    let value = |value| match value {
        ColumnValue::Null => "NULL".to_owned(),
        ColumnValue::UnchangedToast => "unchanged".to_owned(),
        ColumnValue::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ColumnValue::Binary(bytes) => match <[u8; 4]>::try_from(bytes) {
            Ok(number) => i32::from_be_bytes(number).to_string(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        },
    };
    tuple.columns().map(value).collect::<Vec<_>>().join(",")
}

/// Inserts seen, in order.
fn inserted(log: &Log) -> Vec<String> {
    transactions(log).concat()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_arrive_whole_in_commit_order_and_only_once_after_a_restart() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, b int)");
    let running = fixture.run().await;
    fixture.sql("INSERT INTO t VALUES (1, 10), (2, NULL)");
    fixture.sql("UPDATE t SET b = 11 WHERE a = 1");
    fixture.sql("BEGIN; DELETE FROM t WHERE a = 2; TRUNCATE t; COMMIT");
    fixture.sql("BEGIN; INSERT INTO t VALUES (9, 9); ROLLBACK");
    running.catch_up(&fixture).await;
    let expected = vec![vec!["I 1,10", "I 2,NULL"], vec!["U 1,11"], vec!["D", "T 1"]];
    assert_eq!(transactions(&running.log), expected);
    drop(running.stop().await);

    let again = fixture.run().await;
    fixture.sql("INSERT INTO t VALUES (3, 30)");
    again.catch_up(&fixture).await;
    let log = again.stop().await;
    assert_eq!(transactions(&log).len(), 4);
    assert_eq!(transactions(&log)[3], ["I 3,30"]);
    assert_eq!(fixture.sql("SELECT active FROM pg_replication_slots"), "f");
}

/// go-pq-cdc lost 500 of 505 rows when a subtransaction of a streamed transaction rolled back (F24).
#[tokio::test(flavor = "multi_thread")]
async fn rolled_back_savepoints_of_a_streamed_transaction_leave_the_other_rows() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text)");
    let running = fixture.run().await;
    let filler = "repeat('x', 500)";
    fixture.sql(&format!(
        "BEGIN; INSERT INTO t SELECT n, {filler} FROM generate_series(1, 500) n;
         SAVEPOINT s; INSERT INTO t SELECT n, {filler} FROM generate_series(1001, 1500) n; ROLLBACK TO s;
         INSERT INTO t SELECT n, {filler} FROM generate_series(501, 505) n;
         SAVEPOINT u; SAVEPOINT v; INSERT INTO t SELECT n, {filler} FROM generate_series(2001, 2300) n;
         RELEASE v; ROLLBACK TO u; COMMIT"
    ));
    running.catch_up(&fixture).await;
    let log = running.stop().await;
    let keys: Vec<i32> = inserted(&log)
        .iter()
        .map(|row| row.trim_start_matches("I ").split(',').next().expect("key").parse().expect("number"))
        .collect();
    assert_eq!(keys, (1..=505).collect::<Vec<_>>());
    // The server's statistics come late.
    until("the transaction is known to have been streamed", || {
        fixture.sql("SELECT stream_txns > 0 FROM pg_stat_replication_slots") == "t"
    });
}

/// The Relation message of a table whose first row stood in a rolled-back savepoint is not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_relation_first_described_in_a_rolled_back_savepoint_stays_known() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text); CREATE TABLE other (a int, f text)");
    let running = fixture.run().await;
    fixture.sql(
        "BEGIN; INSERT INTO other SELECT n, repeat('y', 500) FROM generate_series(1, 300) n;
         SAVEPOINT s; INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 500) n; ROLLBACK TO s;
         INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(501, 1000) n; COMMIT",
    );
    running.catch_up(&fixture).await;
    assert_eq!(inserted(&running.stop().await).len(), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_inside_a_streamed_transaction_and_its_rollback_keep_rows_readable() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text)");
    let running = fixture.run().await;
    fixture.sql(
        "BEGIN; INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 300) n;
         ALTER TABLE t ADD COLUMN c int; INSERT INTO t SELECT n, repeat('x', 500), n FROM generate_series(301, 600) n;
         SAVEPOINT s; ALTER TABLE t DROP COLUMN filler; INSERT INTO t SELECT n, n FROM generate_series(601, 4000) n;
         ROLLBACK TO s; INSERT INTO t SELECT n, repeat('z', 500), n FROM generate_series(601, 900) n; COMMIT;
         INSERT INTO t VALUES (901, 'small', 901)",
    );
    running.catch_up(&fixture).await;
    let rows = inserted(&running.stop().await);
    assert_eq!(rows.len(), 901);
    let widths: Vec<usize> = rows.iter().map(|row| row.split(',').count()).collect();
    assert_eq!((widths[0], widths[300], widths[600], widths[900]), (2, 3, 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn interleaved_streams_come_in_commit_order_and_an_aborted_one_not_at_all() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text)");
    let running = fixture.run().await;
    let sessions: Vec<_> = [1, 2, 3].map(|n| (n, Session::open(&fixture))).into_iter().collect();
    for step in 0..4 {
        for (n, session) in &sessions {
            let from = n * 10_000 + step * 200;
            let begin = if step == 0 { "BEGIN;" } else { "" };
            session.sql(&format!(
                "{begin} INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series({from}, {}) n",
                from + 199
            ));
        }
    }
    fixture.sql("INSERT INTO t VALUES (1, 'meanwhile')");
    sessions[2].1.sql("COMMIT");
    sessions[0].1.sql("ROLLBACK");
    sessions[1].1.sql("COMMIT");
    running.catch_up(&fixture).await;
    let transactions = transactions(&running.stop().await);
    let shape: Vec<_> = transactions.iter().map(|rows| (rows.len(), rows[0][2..3].to_owned())).collect();
    assert_eq!(shape, [(1, "1".into()), (800, "3".into()), (800, "2".into())]);
    assert_eq!(std::fs::read_dir(fixture.dir.path().join("log/spool")).expect("spool").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_arrives_whole_at_commit_prepared() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY)");
    let running = fixture.run().await;
    fixture.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'one'");
    fixture.sql("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'two'");
    fixture.sql("INSERT INTO t VALUES (3)");
    running.catch_up(&fixture).await;
    assert_eq!(inserted(&running.log), ["I 3"]);
    fixture.sql("COMMIT PREPARED 'one'");
    fixture.sql("ROLLBACK PREPARED 'two'");
    running.catch_up(&fixture).await;
    assert_eq!(inserted(&running.stop().await), ["I 3", "I 1"]);
}

/// F27: only other databases and unpublished tables write; T020: foreign and non-transactional messages.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_lets_the_slot_advance() {
    let fixture = Fixture::new("CREATE UNLOGGED TABLE u (a int)");
    fixture.source.create_database("noise").expect("database");
    let running = fixture.run().await;
    fixture.source.sql("noise", "CREATE TABLE n AS SELECT generate_series(1, 10000)").expect("noise");
    fixture.sql("SELECT pg_logical_emit_message(false, 'walcast', 'x'), pg_logical_emit_message(true, 'other', 'y')");
    let goal = fixture.current_lsn();
    running.catch_up(&fixture).await;
    until("the slot follows", || {
        fixture.sql(&format!("SELECT confirmed_flush_lsn >= '{goal}' FROM pg_replication_slots")) == "t"
    });
    let log = running.stop().await;
    assert_eq!(inserted(&log), [""; 0]);
}

/// F30: whoever waits for the service may drop the slot or start another service at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_is_free_when_the_stream_has_stopped() {
    let fixture = Fixture::new("CREATE TABLE t (a int)");
    // It is connected before: a new session would take longer than the walsender needs to end.
    let session = Session::open(&fixture);
    for _ in 0..5 {
        let running = fixture.run().await;
        running.catch_up(&fixture).await;
        running.stop().await;
        assert_eq!(session.sql("SELECT active FROM pg_replication_slots"), "f");
    }
}

/// F30: the walsender is there before the stream is.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_is_free_when_a_start_was_stopped() {
    let fixture = Fixture::new("CREATE TABLE t (a int)");
    let session = Session::open(&fixture);
    for _ in 0..10 {
        let running = fixture.run().await;
        until("a walsender has the slot", || session.sql("SELECT active FROM pg_replication_slots") == "t");
        running.stop().await;
        assert_eq!(session.sql("SELECT active FROM pg_replication_slots"), "f");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_walsender_loses_and_doubles_nothing() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text)");
    let running = fixture.run().await;
    for round in 0..5 {
        let from = round * 1000;
        fixture.sql(&format!(
            "INSERT INTO t SELECT n, repeat('x', 300) FROM generate_series({from}, {}) n;
             INSERT INTO t VALUES ({}, 'small');
             SELECT pg_terminate_backend(pid) FROM pg_stat_replication",
            from + 500,
            from + 501
        ));
    }
    running.catch_up(&fixture).await;
    let log = running.stop().await;
    assert_eq!(transactions(&log).len(), 10);
    assert_eq!(inserted(&log).len(), 5 * 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_source_comes_back_without_loss_or_doubles() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY)");
    let running = fixture.run().await;
    for n in 0..3 {
        fixture.sql(&format!("INSERT INTO t VALUES ({n})"));
        fixture.source.kill9().expect("killed");
        fixture.source.resume().expect("started again");
    }
    let rows = fixture.sql("SELECT count(*) FROM t").parse::<usize>().expect("number");
    running.catch_up(&fixture).await;
    assert_eq!(inserted(&running.stop().await).len(), rows);
}

/// F18: the slot went on without the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_advanced_by_hand_is_refused_as_a_gap() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY)");
    drop(fixture.run().await.stop().await);
    fixture.sql("INSERT INTO t VALUES (1)");
    fixture.sql("SELECT pg_replication_slot_advance('walcast', pg_current_wal_lsn())");
    let running = fixture.run().await;
    let error = running.task.await.expect("no panic").expect_err("a gap");
    assert!(matches!(error, ReplicationError::Gap { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_cannot_travel_in_binary_turns_the_stream_to_text() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY)");
    let running = fixture.run().await;
    fixture.sql("INSERT INTO t VALUES (1)");
    running.catch_up(&fixture).await;
    fixture.sql("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE e (m mood, n int)");
    fixture.sql("INSERT INTO e VALUES ('happy', 2)");
    fixture.sql("INSERT INTO t VALUES (3)");
    running.catch_up(&fixture).await;
    assert_eq!(inserted(&running.stop().await), ["I 1", "I happy,2", "I 3"]);
}

/// Installs the capture of DDL on the source.
fn install_capture(fixture: &Fixture) {
    let sql = capture::ddl::install_sql(&capture::ddl::Capture::default());
    fixture.sql(&format!("CREATE SCHEMA IF NOT EXISTS walcast; BEGIN; {sql}; COMMIT"));
}

/// Contents of the messages in the log, and whether any record has these bytes in it.
fn messages(log: &Log, secret: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut cursor = log.cursor(log.positions().first_lsn).expect("cursor");
    let (mut contents, mut leaked) = (Vec::new(), false);
    while let Some(frame) = cursor.next_frame().expect("readable") {
        for record in frame.pieces().flat_map(|piece| piece.records()) {
            leaked |= record.payload.windows(secret.len()).any(|bytes| bytes == secret);
            if let Change::Message { content, .. } = decode_change(record.payload).expect("decodable") {
                contents.push(content.to_vec());
            }
        }
    }
    (contents, leaked)
}

fn counted(running: &Running) -> (u64, u64) {
    (running.status.verified_messages(), running.status.dropped_messages())
}

/// X08, X12: the capture's messages reach the log, whoever else writes some; a streamed transaction's too, and one whose
/// savepoint is rolled back does not. Of walcast's own tables, which the publication has, nothing does.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_captures_own_messages_reach_the_log() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY, filler text)");
    install_capture(&fixture);
    let running = fixture.run().await;
    fixture.sql("ALTER TABLE t ADD b int");
    fixture.sql(
        "BEGIN; INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 500) n; SAVEPOINT s; ALTER TABLE t ADD c int; \
         INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(501, 1000) n; SAVEPOINT u; ALTER TABLE t ADD d int; \
         ROLLBACK TO u; COMMIT",
    );
    running.catch_up(&fixture).await;
    assert_eq!(counted(&running), (2, 0));
    let secret = fixture.sql("SELECT encode(inner_key, 'hex') FROM walcast.secret");
    let (genuine, _) = messages(&running.log, b"no secret");
    assert_eq!(genuine.len(), 2);
    // Forged, and replayed: what the capture signed in one transaction, written in another.
    let replayed = String::from_utf8(genuine[0].clone()).expect("text").replace('\'', "''");
    fixture.sql(&format!(
        "CREATE ROLE intruder; SET ROLE intruder; \
         SELECT pg_logical_emit_message(true, 'walcast', \
             repeat('0', 64) || '{{\"v\": 1, \"xid\": \"' || pg_current_xact_id() || '\"}}'); \
         SELECT pg_logical_emit_message(true, 'walcast', '{replayed}'); \
         SELECT pg_logical_emit_message(true, 'walcast', 'x'); SELECT pg_logical_emit_message(true, 'walcast', '')"
    ));
    fixture.sql("UPDATE walcast.secret SET one = true; TRUNCATE walcast.shadow_index, t; DROP ROLE intruder");
    running.catch_up(&fixture).await;
    // A transaction of its own for each message; that DDL is compared with roles before.
    assert_eq!(counted(&running), (2, 3));
    let unescaped = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
    };
    for form in [secret.as_bytes().to_vec(), unescaped(&secret)] {
        let (contents, leaked) = messages(&running.log, &form);
        assert!(!leaked);
        assert_eq!(contents, [genuine.clone(), vec![Vec::new()]].concat(), "the last one is a marker");
    }
    let rows = transactions(&running.stop().await).concat();
    assert_eq!(rows.iter().filter(|row| row.starts_with("I ")).count(), 1000);
    assert_eq!(rows.last().map(String::as_str), Some("T 1"));
}

/// The capture is installed, and its key made anew, while the stream runs: no message is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_made_while_the_stream_runs_is_read() {
    let fixture = Fixture::new("CREATE TABLE t (a int PRIMARY KEY)");
    let running = fixture.run().await;
    fixture.sql("SELECT pg_logical_emit_message(true, 'walcast', 'before there is a key')");
    running.catch_up(&fixture).await;
    assert_eq!(counted(&running), (0, 1));
    install_capture(&fixture);
    fixture.sql("ALTER TABLE t ADD b int");
    running.catch_up(&fixture).await;
    assert_eq!(counted(&running), (1, 1));
    fixture.sql("DELETE FROM walcast.secret");
    install_capture(&fixture);
    fixture.sql("ALTER TABLE t ADD c int; INSERT INTO t VALUES (1, 2, 3)");
    running.catch_up(&fixture).await;
    assert_eq!(counted(&running), (2, 1));
    assert_eq!(inserted(&running.stop().await), ["M walcast", "M walcast", "I 1,2,3"]);
}

/// A schema of that name that somebody made who cannot have installed the capture.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_somebody_elses_is_not_used() {
    let fixture = Fixture::new("CREATE ROLE intruder; GRANT CREATE ON DATABASE postgres TO intruder");
    fixture.sql(
        "SET ROLE intruder; CREATE SCHEMA walcast; CREATE TABLE walcast.secret (inner_key bytea, outer_key bytea); \
         INSERT INTO walcast.secret SELECT decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex')",
    );
    let running = fixture.run().await;
    fixture.sql(
        "CREATE FUNCTION pg_temp.sign(content bytea) RETURNS bytea LANGUAGE sql AS $$SELECT convert_to(encode(sha256( \
             decode(repeat('5c', 64), 'hex') || sha256(decode(repeat('36', 64), 'hex') || content)), 'hex'), 'UTF8') || content$$; \
         SELECT pg_logical_emit_message(true, 'walcast', pg_temp.sign(convert_to( \
             '{\"v\": 1, \"xid\": \"' || pg_current_xact_id() || '\"}', 'UTF8')))",
    );
    running.catch_up(&fixture).await;
    assert_eq!(counted(&running), (0, 1));
    running.stop().await;
}

/// A psql session that stays open.
struct Session {
    child: std::cell::RefCell<std::process::Child>,
    answers: std::cell::RefCell<std::io::BufReader<std::process::ChildStdout>>,
}

impl Session {
    fn open(fixture: &Fixture) -> Session {
        let psql = fixture.source.installation().client("psql").expect("psql is installed");
        let mut child = std::process::Command::new(psql)
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &fixture.source.conninfo("postgres").to_string()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("psql");
        let answers = std::io::BufReader::new(child.stdout.take().expect("piped"));
        Session { child: child.into(), answers: answers.into() }
    }

    /// Runs it and waits for its end; gives what it printed.
    fn sql(&self, text: &str) -> String {
        use std::io::{BufRead, Write};
        let mut child = self.child.borrow_mut();
        let stdin = child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{text};\n\\echo done").expect("psql reads");
        let mut printed = String::new();
        while !printed.ends_with("done\n") {
            assert_ne!(self.answers.borrow_mut().read_line(&mut printed).expect("psql answers"), 0, "{printed}");
        }
        printed.trim_end_matches("done\n").trim_end().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        drop(child.stdin.take());
        let _ = child.wait();
    }
}
