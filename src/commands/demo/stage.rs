//! The clusters of the demo, their databases, and the configuration.

use std::path::Path;

use cluster::Cluster;
use config::Config;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::failure::{Failure, Result};
use crate::{commands, connect};

const DATABASE: &str = "app";
const TARGETS: [&str; 2] = ["berlin", "tokyo"];

/// The tables of pgbench at scale 1, with the primary keys that `pgbench -i` adds.
const SCHEMA: &str = "
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
";

/// Their rows, in one transaction of 100,011 rows, replicated like any other.
const ROWS: &str = "
begin;
insert into public.pgbench_branches select b, 0, '' from generate_series(1, 1) b;
insert into public.pgbench_tellers select t, 1, 0, '' from generate_series(1, 10) t;
insert into public.pgbench_accounts select a, 1, 0, '' from generate_series(1, 100000) a;
commit;
";

/// A source, two targets, and a directory for configuration and log.
pub(crate) struct Stage {
    source: Server,
    targets: Vec<Server>,
    config: Config,
    directory: TempDir,
}

/// A cluster and how to reach its database.
pub(crate) struct Server {
    name: &'static str,
    cluster: Cluster,
}

impl Server {
    fn start(name: &'static str) -> Result<Server, cluster::Error> {
        let builder = Cluster::builder().set("wal_level", "logical").set("max_wal_senders", "4");
        let cluster = builder.set("max_replication_slots", "4").start()?;
        cluster.create_database(DATABASE)?;
        Ok(Server { name, cluster })
    }

    /// Its name in the configuration.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A session with its database.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let conninfo = connection::Conninfo::parse(&self.conninfo());
        connect::source(&conninfo.map_err(|e| Failure::because("the demo's connection string", &e))?).await
    }

    fn conninfo(&self) -> String {
        self.cluster.conninfo(DATABASE).to_string()
    }

    /// Runs a script.
    ///
    /// # Errors
    /// The server refuses it.
    pub(crate) async fn execute(&self, sql: &str) -> Result<()> {
        let done = self.connect().await?.batch_execute(sql).await;
        done.map_err(|e| Failure::new(format!("{}: {}", self.name, capture::one_line(&e))))
    }
}

impl Stage {
    /// Starts the clusters, side by side.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub(crate) async fn set_up() -> Result<Stage> {
        let start = |name| tokio::task::spawn_blocking(move || Server::start(name));
        let starting = ["source"].into_iter().chain(TARGETS).map(start).collect::<Vec<_>>();
        let mut servers = Vec::new();
        for server in starting {
            servers.push(server.await.map_err(|e| Failure::because("starting a server failed", &e))??);
        }
        let source = servers.remove(0);
        let directory = tempfile::Builder::new()
            .prefix("walcast-demo-")
            .tempdir()
            .map_err(|e| Failure::because("could not make a temporary directory", &e))?;
        let config = configuration(directory.path(), &source, &servers)?;
        Ok(Stage { source, targets: servers, config, directory })
    }

    /// What was started, for people.
    pub(crate) fn describe(&self) -> String {
        let of = |server: &Server| format!("{} on port {}", server.name, server.cluster.port());
        let servers: Vec<String> = self.servers().map(of).collect();
        format!("PostgreSQL {}: {}", self.source.cluster.version(), servers.join(", "))
    }

    /// `walcast setup`, `walcast bootstrap --no-copy --all`: the targets equal the source, empty.
    ///
    /// # Errors
    /// A server does not do it.
    pub(crate) async fn install(&self) -> Result<()> {
        commands::setup::run(&self.config).await?;
        commands::bootstrap::declare(&self.config, &[], true).await
    }

    /// Tables and their first rows, at the source.
    ///
    /// # Errors
    /// The source does not take them.
    pub(crate) async fn fill(&self) -> Result<()> {
        // A session's search_path is empty on purpose.
        self.source.execute(&format!("set search_path = public; {SCHEMA}")).await?;
        self.source.execute(ROWS).await
    }

    /// The source.
    pub(crate) fn source(&self) -> &Server {
        &self.source
    }

    /// The targets.
    pub(crate) fn targets(&self) -> &[Server] {
        &self.targets
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The log's directory.
    pub(crate) fn log_dir(&self) -> &Path {
        &self.config.log.dir
    }

    /// Stops the servers and removes every file. They stop too when this process dies.
    pub(crate) async fn clear_away(self) {
        let removed = tokio::task::spawn_blocking(move || drop(self)).await;
        if let Err(error) = removed {
            tracing::error!(%error, "not everything could be removed");
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.source).chain(&self.targets)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        tracing::debug!(directory = %self.directory.path().display(), "removing the demo");
    }
}

fn configuration(directory: &Path, source: &Server, targets: &[Server]) -> Result<Config> {
    let mut text = format!("[source]\nconninfo = {:?}\n[log]\nsegment_size = \"16MiB\"\n", source.conninfo());
    text.push_str("[http]\nlisten = \"\"\n");
    for target in targets {
        text.push_str(&format!("[[target]]\nname = \"{}\"\nconninfo = {:?}\n", target.name, target.conninfo()));
    }
    Ok(Config::parse(&directory.join("walcast.toml"), &text)?)
}
