//! A blocking session with a server.

use anyhow::Context;
use cluster::Conninfo;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::{FromSql, FromSqlOwned};
use tokio_postgres::{Client, NoTls, Row, Statement};

/// What sessions of the benchmark call themselves, to be told apart from those that are measured.
pub(crate) const APPLICATION: &str = "walcast-bench";

/// A session whose connection makes progress only inside its methods: no thread, no task beside the caller's.
pub(crate) struct Session {
    client: Client,
    runtime: Runtime,
}

impl Session {
    pub(crate) fn connect(conninfo: Conninfo) -> anyhow::Result<Session> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime for a session")?;
        let conninfo = conninfo.with("application_name", APPLICATION).to_string();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&conninfo, NoTls))?;
        // When the connection breaks, the client's next call says so.
        drop(runtime.spawn(connection));
        Ok(Session { client, runtime })
    }

    /// Runs statements without a result.
    pub(crate) fn run(&self, statements: &str) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.client.batch_execute(statements))
            .with_context(|| format!("in: {}", head(statements)))
    }

    pub(crate) fn prepare(&self, query: &str) -> anyhow::Result<Statement> {
        self.runtime.block_on(self.client.prepare(query)).with_context(|| format!("in: {}", head(query)))
    }

    /// Runs a prepared statement without parameters for its effect.
    pub(crate) fn execute(&self, statement: &Statement) -> anyhow::Result<()> {
        self.runtime.block_on(self.client.execute(statement, &[])).map(drop).context("a prepared statement failed")
    }

    /// Runs `statement` with the parameter `number`.
    pub(crate) fn execute_with(&self, statement: &Statement, number: i64) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.client.execute(statement, &[&number]))
            .map(drop)
            .context("a prepared statement failed")
    }

    /// The number that a prepared query gives.
    pub(crate) fn number(&self, statement: &Statement) -> anyhow::Result<i64> {
        let row = self.runtime.block_on(self.client.query_one(statement, &[]))?;
        Ok(row.try_get(0)?)
    }

    pub(crate) fn rows(&self, query: &str) -> anyhow::Result<Vec<Row>> {
        self.runtime.block_on(self.client.query(query, &[])).with_context(|| format!("in: {}", head(query)))
    }

    /// The first column of all rows.
    pub(crate) fn column<T: FromSqlOwned>(&self, query: &str) -> anyhow::Result<Vec<T>> {
        self.rows(query)?.iter().map(|row| first(row)).collect()
    }

    /// The first column of the only row.
    pub(crate) fn value<T: FromSqlOwned>(&self, query: &str) -> anyhow::Result<T> {
        let row = self.runtime.block_on(self.client.query_one(query, &[]));
        first(&row.with_context(|| format!("in: {}", head(query)))?)
    }
}

fn first<'a, T: FromSql<'a>>(row: &'a Row) -> anyhow::Result<T> {
    Ok(row.try_get(0)?)
}

/// The beginning of a statement in one line.
fn head(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(120).collect()
}
