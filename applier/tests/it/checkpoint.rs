//! Exactly once: where the checkpoint is kept, who may move it, and what a lost reply means.

use applier::{Error, State};
use decoder::Lsn;

use crate::messages::{INT4, TEXT, Table, t};
use crate::rig::{Rig, START, answers};
use crate::source::Source;

const SCHEMA: &str = "CREATE TABLE items (id int PRIMARY KEY, v text)";

fn items() -> Table {
    Table::new(100, "items", &[(true, "id", INT4), (false, "v", TEXT)])
}

/// A role that may not use origins.
pub(crate) async fn plain_role(schema: &str) -> Rig {
    let mut rig = Rig::new(schema).await;
    let options = rig.options();
    applier::forget(&options.conninfo, &options.identity).await.expect("forgotten");
    let role = format!("plain_{}", rig.database);
    rig.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON items TO {role}; GRANT CREATE ON DATABASE {} TO {role}; \
        DROP SCHEMA walcast CASCADE; ALTER ROLE {role} SET session_replication_role = replica",
        rig.database
    ));
    rig.user = role;
    rig.declare(START).await.expect("declared");
    rig
}

/// In both places.
async fn rigs() -> [Rig; 2] {
    [Rig::new(SCHEMA).await, plain_role(SCHEMA).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_moves_with_the_changes_and_is_reported_once_flushed() {
    for mut rig in rigs().await {
        let items = items();
        let first = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
        let mut running = rig.start();
        running.applied(first).await;
        let second = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
        running.until(|status| status.checkpoint_lsn == Some(second)).await;
        running.stop().await;
        assert_eq!(rig.checkpoint().await, Some(second));
        let in_table = rig.user != "postgres" || rig.cluster.version() >= 16;
        assert_eq!(rig.sql("SELECT count(*) FROM walcast.checkpoint"), if in_table { "1" } else { "0" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_again_from_an_old_cursor_doubles_nothing() {
    for mut rig in rigs().await {
        let items = items();
        let mut end = START;
        for n in 0..20 {
            end = rig.transaction(&[&items], &[items.insert(&[t(n.to_string()), t("a")])]);
            rig.apply(end).await;
        }
        assert_eq!(rig.sql("SELECT count(*) FROM items"), "20");
        assert_eq!(rig.checkpoint().await, Some(end));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_is_fenced_and_takes_over() {
    for mut rig in rigs().await {
        let items = items();
        let first = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
        let mut one = rig.start();
        one.applied(first).await;
        let mut two = rig.start();
        let fenced = two.until(|status| status.last_error.is_some()).await;
        assert_eq!(fenced.last_error.expect("an error").message, "another session applies to this target");
        let options = rig.options();
        let forget = applier::forget(&options.conninfo, &options.identity).await;
        assert!(matches!(forget, Err(Error::Fenced)), "{forget:?}");
        one.stop().await;
        let second = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
        two.applied(second).await;
        two.stop().await;
        assert_eq!(rig.sql("SELECT count(*) FROM items"), "2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_a_commit_whose_reply_is_lost_is_settled_by_the_checkpoint() {
    for mut rig in rigs().await {
        let items = items();
        let mut proxy = Proxy::start(rig.cluster.port()).await;
        let mut options = rig.options();
        let conninfo = rig.cluster.conninfo(&rig.database).with("user", &rig.user).with("port", proxy.port.to_string());
        let conninfo = conninfo.with("host", "127.0.0.1").with("sslmode", "disable").to_string();
        options.conninfo = connection::Conninfo::parse(&conninfo).expect("a connection string");
        let mut running = rig.start_with(options);
        let first = rig.transaction(&[&items], &[items.insert(&[t("1"), t("a")])]);
        running.applied(first).await;
        running.state(State::Streaming).await;
        proxy.swallow_replies();
        let second = rig.transaction(&[], &[items.insert(&[t("2"), t("b")])]);
        answers(&rig, "SELECT count(*) FROM items", "2").await;
        assert_eq!(running.status.borrow().applied_lsn, Some(first));
        proxy.cut();
        running.applied(second).await;
        running.stop().await;
        assert_eq!(rig.sql("SELECT count(*), count(DISTINCT id) FROM items"), "2|2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declaring_twice_is_idempotent_and_elsewhere_refused() {
    for rig in rigs().await {
        rig.declare(START).await.expect("the same again");
        let elsewhere = rig.declare(Lsn::from_u64(0x9999)).await;
        assert!(matches!(elsewhere, Err(Error::CheckpointExists { existing: START, .. })), "{elsewhere:?}");
        assert_eq!(rig.checkpoint().await, Some(START));
        let options = rig.options();
        applier::forget(&options.conninfo, &options.identity).await.expect("forgotten");
        assert_eq!(rig.checkpoint().await, None);
        let own = "roname LIKE '%_' || (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(rig.sql(&format!("SELECT count(*) FROM pg_replication_origin WHERE {own}")), "0");
        let mut running = rig.start();
        running.state(State::New).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_before_the_log_is_desync_and_one_after_its_end_is_waited_for() {
    let mut rig = Rig::new(SCHEMA).await;
    let options = rig.options();
    applier::forget(&options.conninfo, &options.identity).await.expect("forgotten");
    rig.declare(Lsn::from_u64(0x10)).await.expect("declared");
    let mut running = rig.start();
    running.state(State::Desync).await;
    running.stop().await;
    applier::forget(&options.conninfo, &options.identity).await.expect("forgotten");
    rig.declare(Lsn::from_u64(0x2130)).await.expect("declared");
    let items = items();
    rig.transaction(&[&items], &[items.insert(&[t("1"), t("already there")])]);
    rig.transaction(&[], &[items.insert(&[t("2"), t("already there")])]);
    let end = rig.transaction(&[], &[items.insert(&[t("3"), t("new")])]);
    rig.apply(end).await;
    assert_eq!(rig.sql("SELECT id FROM items"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_moves_over_what_changes_nothing_when_the_task_ends() {
    for mut rig in rigs().await {
        let items = items();
        rig.transaction(&[&items], &[]);
        let progress = rig.append_progress();
        rig.apply(progress).await;
        assert_eq!(rig.checkpoint().await, Some(progress));
    }
}

/// What waits for tables is tried again between two tries of a batch: the failed one set a table aside, and does not any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_moves_the_checkpoint_with_no_later_transaction_of_the_session() {
    let schema = format!("{SCHEMA}; CREATE TABLE t (id int PRIMARY KEY)");
    let mut rig = Rig::new(&schema).await;
    let mut source = Source::new(&rig, &schema);
    rig.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$; \
         CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse(); \
         ALTER TABLE items ENABLE ALWAYS TRIGGER refuse",
    );
    source.sql(&rig, "BEGIN; INSERT INTO items VALUES (1, 'a'); ALTER TABLE t ADD r float8 DEFAULT random(); COMMIT");
    let end = source.stream(&mut rig);
    let mut running = rig.start();
    let why = running.state(State::Stopped).await.last_error.expect("an error");
    assert_eq!((why.sqlstate.as_deref(), why.lsn), (Some("P0001"), Some(end)));
    assert_eq!(rig.checkpoint().await, Some(START));
    rig.sql("DROP TRIGGER refuse ON items");
    running.desired.send_replace(applier::Desired::Run);
    running.applied(end).await;
    running.stop().await;
    assert_eq!(rig.sql("SELECT v FROM items"), "a");
    assert_eq!(rig.checkpoint().await, Some(end));
}

/// Passes bytes on between the applier and the server.
struct Proxy {
    port: u16,
    swallow: tokio::sync::watch::Sender<bool>,
    cut: tokio::sync::watch::Sender<u32>,
}

impl Proxy {
    async fn start(server: u16) -> Proxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (swallow, swallowing) = tokio::sync::watch::channel(false);
        let (cut, cutting) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
                let mut cutting = cutting.clone();
                cutting.mark_unchanged();
                tokio::spawn(pass(client, server, swallowing.clone(), cutting));
            }
        });
        Proxy { port, swallow, cut }
    }

    /// From now on the applier hears nothing.
    fn swallow_replies(&mut self) {
        self.swallow.send_replace(true);
    }

    /// Ends the sessions; new ones work.
    fn cut(&mut self) {
        self.swallow.send_replace(false);
        self.cut.send_modify(|n| *n += 1);
    }
}

async fn pass(
    client: tokio::net::TcpStream,
    server: tokio::net::TcpStream,
    swallowing: tokio::sync::watch::Receiver<bool>,
    mut cut: tokio::sync::watch::Receiver<u32>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut buffer = vec![0; 65536];
        let mut swallowed = false;
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            swallowed |= *swallowing.borrow();
            if !swallowed && to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
        _ = cut.changed() => {}
    }
}
