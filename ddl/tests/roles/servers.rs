//! A source with the capture, and a target of another cluster with walcast's functions.

use capture::target::Target as Setup;
use cluster::{Cluster, Installation, installations};
use ddl::{Message, Options, Outcome, Rights, Token, Verb};
use tokio_postgres::{Client, NoTls};

use crate::session::{Refused, Target, shown, text};

/// As in `tests/it/pair.rs`.
const MESSAGES: &str = "select xid::text, convert_from(substring(data from 87), 'UTF8') \
      from pg_logical_slot_get_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', 'p', \
           'messages', 'true') with ordinality d (lsn, xid, data, n) \
     where get_byte(data, 0) = ascii('M') and length(data) > 86 order by n";

const SEQUENCES: &str = "create table if not exists walcast.sequence (schema_name text, sequence_name text, \
     last_value bigint not null, \
     is_called boolean not null, set_at timestamptz not null default now(), primary key (schema_name, sequence_name))";

/// The login of walcast that is no superuser.
pub(crate) const LOGIN: &str = "walcast";

/// Who walcast logs in as on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// With his own rights.
    Superuser,
    /// With the owners' rights all the same.
    SuperuserAsOwner,
    Least,
}

/// The two servers.
pub(crate) struct Servers {
    source_server: Cluster,
    target_server: Cluster,
    pub(crate) source: Client,
    /// A superuser's session on the target.
    pub(crate) admin: Client,
    /// walcast's.
    pub(crate) target: Client,
    pub(crate) options: Options,
    pub(crate) login: Login,
    /// Both versions write definitions alike.
    same: bool,
}

/// Runs a test on every version that is to be tested, with both kinds of logins.
pub(crate) fn everywhere(test: impl AsyncFn(&mut Servers)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for installation in installations().unwrap() {
        for login in [Login::Superuser, Login::SuperuserAsOwner, Login::Least] {
            runtime.block_on(async { test(&mut Servers::start(&installation, &installation, login).await).await });
        }
    }
}

/// Runs a test from the oldest version to the newest and back; with only one there is nothing to do.
pub(crate) fn across_versions(test: impl AsyncFn(&mut Servers)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = installations().unwrap();
    let (Some(oldest), Some(newest)) = (all.first(), all.last()) else { panic!("no server") };
    for (source, target) in [(oldest, newest), (newest, oldest)] {
        if source.major() != target.major() {
            runtime.block_on(async { test(&mut Servers::start(source, target, Login::Least).await).await });
        }
    }
}

/// The same, only with the login that is no superuser.
pub(crate) fn with_least_privilege(test: impl AsyncFn(&mut Servers)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for installation in installations().unwrap() {
        runtime.block_on(async { test(&mut Servers::start(&installation, &installation, Login::Least).await).await });
    }
}

async fn connect(server: &Cluster, database: &str, user: Option<&str>) -> Client {
    let conninfo = server.conninfo(database);
    let conninfo = user.map_or(conninfo.to_string(), |user| server.conninfo(database).with("user", user).to_string());
    let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Servers {
    async fn start(source: &Installation, target: &Installation, login: Login) -> Servers {
        let start = |on: &Installation| {
            Cluster::builder().installation(on.clone()).set("wal_level", "logical").start().unwrap()
        };
        let same = source.major() == target.major();
        let (source_server, target_server) = (start(source), start(target));
        source_server.create_database("src").unwrap();
        target_server.create_database("dst").unwrap();
        let mut source = connect(&source_server, "src", None).await;
        let capture = capture::ddl::Capture { passwords: true, ..Default::default() };
        source.batch_execute("create schema walcast; create publication p").await.unwrap();
        capture::ddl::install(&mut source, &capture).await.unwrap();
        source.batch_execute("select pg_create_logical_replication_slot('s', 'pgoutput')").await.unwrap();
        let admin = connect(&target_server, "dst", None).await;
        let server_version = text(&admin, "show server_version_num").await.parse().unwrap();
        let mut options = Options::everything(server_version);
        options.roles.passwords = true;
        let name = match login {
            Login::Superuser | Login::SuperuserAsOwner => text(&admin, "select session_user").await,
            Login::Least => LOGIN.to_owned(),
        };
        let token = capture::target::token(&source, "dst").await.unwrap().unwrap();
        if login == Login::Least {
            admin.batch_execute("create role walcast login").await.unwrap();
        }
        if login != Login::Superuser {
            options.rights = Rights::Owner(Token::new(token.clone()));
        }
        let digest = Some(capture::target::digest(&admin, &token).await.unwrap());
        let setup =
            Setup { login: name.clone(), digest, passwords: true, tables: SEQUENCES.to_owned(), ..Setup::default() };
        admin.batch_execute(&capture::target::setup_sql(&setup)).await.unwrap();
        let target = connect(&target_server, "dst", Some(&name)).await;
        if login != Login::Least {
            target.batch_execute("set session_replication_role = replica").await.unwrap();
        }
        Servers { source_server, target_server, source, admin, target, options, login, same }
    }

    /// Another session on the source.
    pub(crate) async fn at_source(&self) -> Client {
        connect(&self.source_server, "src", None).await
    }

    /// Another session on the target.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        connect(&self.target_server, "dst", Some(user)).await
    }

    /// Runs statements on the source, each as a query of its own; then a tick; and applies what that leaves.
    pub(crate) async fn replicate(&mut self, statements: &[&str]) -> Vec<Outcome> {
        for statement in statements {
            let done = self.source.batch_execute(statement).await;
            done.unwrap_or_else(|error| panic!("`{statement}` on the source: {}", shown(&error)));
        }
        self.tick().await;
        self.apply().await
    }

    async fn tick(&mut self) {
        let tick = "begin isolation level repeatable read; select walcast.tick(true); commit";
        self.source.batch_execute(tick).await.unwrap();
    }

    /// Applies what is in the stream. Each message twice: the second time there is nothing to do.
    async fn apply(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for json in self.messages().await {
            self.target.batch_execute("begin").await.unwrap();
            let outcome = self.try_apply(&json).await.unwrap_or_else(|failure| panic!("{failure}\n{json}"));
            let again = self.try_apply(&json).await.unwrap_or_else(|failure| panic!("again: {failure}\n{json}"));
            self.target.batch_execute("commit").await.unwrap();
            let differs = |kind: &str| !self.same && kind == "view";
            let counts = |done: &&ddl::Done| done.verb != Verb::Refreshed && !differs(&done.kind);
            let again: Vec<_> = again.done.iter().filter(counts).collect();
            assert!(again.is_empty(), "a second time: {again:?}\n{json}");
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Applies one message in the transaction that is open; the server's words if it fails.
    pub(crate) async fn try_apply(&self, json: &str) -> Result<Outcome, String> {
        let message = Message::parse(json.as_bytes()).unwrap();
        let applied = ddl::apply(&mut Target(&self.target), &message, &self.options).await;
        applied.map_err(|failure| format!("{failure}: {}", failure.cause().map(Refused::to_string).unwrap_or_default()))
    }

    pub(crate) async fn messages(&self) -> Vec<String> {
        let rows = self.source.query(MESSAGES, &[]).await.unwrap();
        rows.iter().map(|row| row.get(1)).collect()
    }

    /// Asserts that a query says the same of both.
    pub(crate) async fn assert_same(&self, name: &str, sql: &str) {
        self.assert_same_but(name, sql, |_| false).await;
    }

    /// The same, without the lines that versions make different.
    pub(crate) async fn assert_same_but(&self, name: &str, sql: &str, differs: impl Fn(&str) -> bool) {
        let without = |text: String| text.lines().filter(|line| !differs(line)).collect::<Vec<_>>().join("\n");
        let (source, target) = (without(text(&self.source, sql).await), without(text(&self.admin, sql).await));
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let (s, t) = (lines(&source), lines(&target));
        let only = |a: &std::collections::BTreeSet<String>, b| a.difference(b).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            source == target,
            "{name} ({:?}):\n=== only on the source\n{}\n=== only on the target\n{}",
            self.login,
            only(&s, &t),
            only(&t, &s)
        );
    }

    /// What waits for roles: `object: roles`.
    pub(crate) async fn waiting(&self) -> Vec<String> {
        let waiting = ddl::waiting(&mut Target(&self.target)).await.unwrap();
        waiting.into_iter().map(|one| format!("{}: {}", one.object, one.missing)).collect()
    }
}
