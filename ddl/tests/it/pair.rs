//! A source with the capture installed, and a target with the functions that describe states.

use cluster::{Cluster, Installation, installations};
use ddl::{Done, Message, Options, Outcome, Verb};
use tokio_postgres::{Client, NoTls};

use crate::dump;
use crate::session::{Refused, Target, shown, text};

/// The transactions of the stream since the last call, in its order; messages of one are in one line. In pgoutput's
/// message the content begins at byte 23, and its JSON 64 digits later.
const MESSAGES: &str = "select xid::text, convert_from(substring(data from 87), 'UTF8') \
      from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p', \
           'messages', 'true') with ordinality d (lsn, xid, data, n) \
     where get_byte(data, 0) = ascii('M') and length(data) > 86 order by n";

/// What walcast keeps on a target, as far as this crate writes it.
const SEQUENCES: &str = "create table walcast.sequence (schema_name text, sequence_name text, last_value bigint not \
 null, \
     is_called boolean not null, set_at timestamptz not null default now(), primary key (schema_name, sequence_name)); \
     create table walcast.written ()";

/// A database of the source and one of the target.
pub(crate) struct Pair {
    pub(crate) server: Cluster,
    /// If the target is not in the same cluster.
    other: Option<Cluster>,
    pub(crate) source: Client,
    pub(crate) target: Client,
    pub(crate) options: Options,
    /// Whether each message is applied twice.
    pub(crate) twice: bool,
    /// What went wrong so far: one run shows all of it.
    problems: Vec<String>,
}

/// Runs a test on every version that is to be tested.
pub(crate) fn on_all_versions(test: impl AsyncFn(&mut Pair)) {
    for installation in installations().unwrap() {
        on(&installation, &installation, &test);
    }
}

/// Runs a test from the oldest version to the newest, and back. With one version only, there is nothing to be run.
pub(crate) fn across_versions(test: impl AsyncFn(&mut Pair)) {
    let all = installations().unwrap();
    if let [oldest, .., newest] = &all[..] {
        on(oldest, newest, &test);
        on(newest, oldest, &test);
    }
}

/// Runs a test from the newest version to each older one.
pub(crate) fn from_newest(test: impl AsyncFn(&mut Pair)) {
    let all = installations().unwrap();
    if let [older @ .., newest] = &all[..] {
        older.iter().for_each(|target| on(newest, target, &test));
    }
}

fn on(source: &Installation, target: &Installation, test: &impl AsyncFn(&mut Pair)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair::start(source, target).await;
        test(&mut pair).await;
        let problems = pair.problems.join("\n\n");
        assert!(problems.is_empty(), "{} to {}: {problems}", source.major(), target.major());
    });
}

async fn connect(server: &Cluster, database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.conninfo(database).to_string(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Pair {
    async fn start(installation: &Installation, other: &Installation) -> Pair {
        let start = |installation: &Installation, database: &str| {
            let builder = Cluster::builder().installation(installation.clone());
            let server = builder.set("wal_level", "logical").start().unwrap();
            server.create_database(database).unwrap();
            server
        };
        let server = start(installation, "src");
        let other = (installation.major() != other.major()).then(|| start(other, "dst"));
        if other.is_none() {
            server.create_database("dst").unwrap();
        }
        let mut source = connect(&server, "src").await;
        let target = connect(other.as_ref().unwrap_or(&server), "dst").await;
        source.batch_execute("create schema walcast; create publication p").await.unwrap();
        capture::ddl::install(&mut source, &capture::ddl::Capture::default()).await.unwrap();
        source.batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')").await.unwrap();
        let login = text(&target, "select session_user").await;
        let functions = capture::target::Target { login, tables: SEQUENCES.to_owned(), ..Default::default() };
        target.batch_execute(&capture::target::setup_sql(&functions)).await.unwrap();
        let options = Options::everything(version_number(&target).await);
        Pair { server, other, source, target, options, twice: true, problems: Vec::new() }
    }

    /// Runs statements on the source, each as a query of its own, and applies what they leave in the stream.
    pub(crate) async fn replicate(&mut self, statements: &[&str]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for statement in statements {
            if let Err(error) = self.source.batch_execute(statement).await {
                self.problem(format!("`{statement}` on the source: {}", shown(&error)));
                self.source.batch_execute("rollback").await.unwrap();
            }
            outcomes.extend(self.apply().await);
        }
        outcomes
    }

    /// Runs a command that the source may refuse, and applies what it leaves.
    pub(crate) async fn attempt(&mut self, command: &str) -> bool {
        let accepted = self.source.batch_execute(command).await.is_ok();
        if accepted {
            let known = self.problems.len();
            self.apply().await;
            if self.problems.len() > known {
                self.problem(format!("that was `{command}`"));
            }
        }
        accepted
    }

    /// Whether anything went wrong so far.
    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Applies what is in the stream, each of the source's transactions as one of the target's; and each message twice:
    /// the second time there is nothing to do.
    pub(crate) async fn apply(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut xid = None;
        for (of, json) in self.messages().await {
            if xid.as_ref() != Some(&of) {
                self.target.batch_execute(if xid.is_some() { "commit; begin" } else { "begin" }).await.unwrap();
                xid = Some(of);
            }
            match self.apply_twice(&json).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(problem) => self.problem(problem),
            }
        }
        if xid.is_some() {
            self.target.batch_execute("commit").await.unwrap();
        }
        outcomes
    }

    /// Applies messages once more, as one transaction: nothing is to be done.
    pub(crate) async fn repeat(&mut self, messages: &[(String, String)]) {
        self.target.batch_execute("begin").await.unwrap();
        for (_, json) in messages {
            let message = Message::parse(json.as_bytes()).unwrap();
            if let Err(problem) = self.apply_one(&message).await {
                self.problem(format!("once more: {message}: {problem}"));
            }
        }
        self.target.batch_execute("commit").await.unwrap();
    }

    /// What the target does not take of a message, which is then undone.
    pub(crate) async fn refusal(&mut self, json: &str) -> Option<String> {
        self.attempt_one(json).await.err()
    }

    /// Applies a message as a transaction of its own, which is undone if it is refused.
    pub(crate) async fn attempt_one(&mut self, json: &str) -> Result<Outcome, String> {
        let message = Message::parse(json.as_bytes()).unwrap();
        self.target.batch_execute("begin").await.unwrap();
        let applied = self.apply_one(&message).await;
        self.target.batch_execute(if applied.is_err() { "rollback" } else { "commit" }).await.unwrap();
        applied
    }

    /// The source's major version.
    pub(crate) fn source_major(&self) -> u32 {
        self.server.version()
    }

    /// Has the source look through everything, and applies what it finds.
    pub(crate) async fn tick(&mut self) -> Vec<Outcome> {
        const TICK: &str = "begin isolation level repeatable read; select walcast.tick(true); commit";
        self.source.batch_execute(TICK).await.unwrap();
        self.apply().await
    }

    fn problem(&mut self, problem: String) {
        eprintln!("{problem}");
        self.problems.push(problem);
    }

    async fn apply_twice(&mut self, json: &str) -> Result<Outcome, String> {
        let message = Message::parse(json.as_bytes()).unwrap();
        // Catalog changes of the command before are to be over when the savepoint begins: without a write, they may not be.
        self.target.batch_execute("insert into walcast.written default values; savepoint message").await.unwrap();
        let first = self.apply_one(&message).await;
        let again = if self.twice { self.apply_one(&message).await } else { Ok(Outcome::default()) };
        if first.is_err() || again.is_err() {
            self.target.batch_execute("rollback to savepoint message").await.unwrap();
        }
        let again: Vec<Done> = again.as_ref().map_or_else(|_| Vec::new(), |outcome| outcome.done.clone());
        let again: Vec<_> = again.iter().filter(|done| done.verb != Verb::Refreshed).collect();
        match again.is_empty() {
            true => first.map_err(|problem| format!("{message}: {problem}\n{json:.3000}")),
            false => Err(format!("{message}, a second time: {again:?}\n{json:.3000}")),
        }
    }

    async fn apply_one(&mut self, message: &Message) -> Result<Outcome, String> {
        let outcome = ddl::apply(&mut Target(&self.target), message, &self.options).await;
        outcome.map_err(|failure| {
            let cause = failure.cause().map(|Refused(error)| shown(error)).unwrap_or_default();
            format!("{failure}: {cause}")
        })
    }

    /// Transaction and JSON of each message of the stream.
    pub(crate) async fn messages(&self) -> Vec<(String, String)> {
        let rows = self.source.query(MESSAGES, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The older one's major version.
    pub(crate) fn major(&self) -> u32 {
        self.server.version().min(self.other.as_ref().unwrap_or(&self.server).version())
    }

    /// Both databases are to have the same schema.
    pub(crate) fn compare(&mut self, name: &str) {
        let (source, target) =
            (dump::entries(&self.server, "src"), dump::entries(self.other.as_ref().unwrap_or(&self.server), "dst"));
        let known = |problem: &String| self.problems.iter().any(|known| known.ends_with(problem.as_str()));
        let problems: Vec<_> = dump::differences(&source, &target).into_iter().filter(|p| !known(p)).collect();
        self.problems.extend(problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }

    /// What a query says, as text, on the source and on the target.
    pub(crate) async fn both(&self, sql: &str) -> (String, String) {
        (text(&self.source, sql).await, text(&self.target, sql).await)
    }
}

async fn version_number(client: &Client) -> u32 {
    text(client, "show server_version_num").await.parse().unwrap()
}
