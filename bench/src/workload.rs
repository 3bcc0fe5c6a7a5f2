//! What is written on the source.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cluster::Cluster;

use crate::sql::Session;

/// The kinds of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Transactions of one insert into a table of ten columns.
    Insert,
    /// pgbench's TPC-B: three updates and an insert.
    Pgbench,
    /// Transactions of 8 scattered updates, a delete and an insert on a table of ten columns.
    Scattered,
    /// Three transactions on a table of ten columns: a million inserts, half as many updates, a quarter as many deletes.
    Huge,
}

const PGBENCH_SCALE: u32 = 10;
const SCATTERED_ROWS: u32 = 200_000;

/// About 150 bytes a row as text.
const ORDERS: &str = "CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer int NOT NULL,
    product bigint NOT NULL,
    amount numeric(12,2) NOT NULL,
    placed timestamptz NOT NULL,
    shipped timestamptz,
    paid boolean NOT NULL,
    weight double precision NOT NULL,
    reference text NOT NULL,
    note text
)";

/// The values of row `i`, the same wherever they are made.
const ORDER: &str = "i, i % 9973, 7000000000 + i * 31, (i % 100000) / 100.0, timestamptz '2026-01-01 00:00+00' + i * interval '1 ms',
    timestamptz '2026-01-02 00:00+00' + i * interval '7 ms', i % 3 = 0, i / 8.0, md5(i::text), 'order no. ' || i || ' by mail'";

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Insert => "insert",
            Workload::Pgbench => "pgbench",
            Workload::Scattered => "scattered",
            Workload::Huge => "huge",
        }
    }

    /// The full size of the backlog: transactions, or the inserts of the huge one.
    pub(crate) fn full_size(self) -> u32 {
        match self {
            Workload::Insert => 300_000,
            Workload::Pgbench => 60_000,
            Workload::Scattered => 30_000,
            Workload::Huge => 1_000_000,
        }
    }

    pub(crate) fn transactions(self, size: u32) -> u32 {
        if self == Workload::Huge { 3 } else { size }
    }

    pub(crate) fn changes(self, size: u32) -> u32 {
        match self {
            Workload::Insert => size,
            Workload::Pgbench => size * 4,
            Workload::Scattered => size * 10,
            Workload::Huge => size + size / 2 + size / 4,
        }
    }

    pub(crate) fn tables(self) -> &'static [&'static str] {
        match self {
            Workload::Insert | Workload::Scattered | Workload::Huge => &["orders"],
            Workload::Pgbench => &["pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers"],
        }
    }

    /// Makes the tables and what is in them before the load; the same content wherever it is made.
    pub(crate) fn prepare(self, cluster: &Cluster, database: &str) -> anyhow::Result<()> {
        match self {
            Workload::Insert | Workload::Huge => Session::connect(cluster.conninfo_unix(database))?.run(ORDERS),
            Workload::Pgbench => pgbench(cluster, database, &["-i", "-q", "-s", &PGBENCH_SCALE.to_string()]),
            Workload::Scattered => {
                let fill = format!("INSERT INTO orders SELECT {ORDER} FROM generate_series(1, {SCATTERED_ROWS}) i");
                Session::connect(cluster.conninfo_unix(database))?.run(&format!("{ORDERS}; {fill}; ANALYZE orders"))
            }
        }
    }

    /// Writes it, without waiting for the disk at each transaction.
    pub(crate) fn run(self, cluster: &Cluster, database: &str, size: u32) -> anyhow::Result<()> {
        match self {
            Workload::Insert => commit_each(cluster, database, size, &insert("n")),
            Workload::Scattered => commit_each(cluster, database, size, &scattered(size)?),
            Workload::Huge => huge(cluster, database, size),
            Workload::Pgbench => {
                const CLIENTS: u32 = 4;
                let each = size.div_ceil(CLIENTS).to_string();
                pgbench(cluster, database, &["-n", "-c", &CLIENTS.to_string(), "-M", "prepared", "-t", &each])
            }
        }
    }
}

/// The statement that inserts the row whose number is the SQL expression `number`.
fn insert(number: &str) -> String {
    format!("INSERT INTO orders SELECT {ORDER} FROM (SELECT {number} AS i) numbered")
}

/// The statements of transaction `n`. The deletes take the lowest ids one by one; the updates stay above them.
fn scattered(transactions: u32) -> anyhow::Result<String> {
    if transactions > SCATTERED_ROWS / 2 {
        bail!("the scattered workload has at most {} transactions, not {transactions}", SCATTERED_ROWS / 2);
    }
    let untouched = SCATTERED_ROWS - transactions;
    let update = format!(
        "UPDATE orders SET paid = NOT paid, amount = amount + 1, note = 'changed by ' || n WHERE id = ANY (ARRAY(
             SELECT {transactions} + 1 + (n::bigint * 104729 + k * 7919) % {untouched} FROM generate_series(1, 8) k))"
    );
    Ok(format!("{update}; DELETE FROM orders WHERE id = n; {}", insert(&format!("n + {SCATTERED_ROWS}"))))
}

/// Ids begin at 1, so that half of them, rounded down, are even.
fn huge(cluster: &Cluster, database: &str, size: u32) -> anyhow::Result<()> {
    let session = Session::connect(cluster.conninfo_unix(database))?;
    session.run(&format!("INSERT INTO orders SELECT {ORDER} FROM generate_series(1, {size}) i"))?;
    session.run("UPDATE orders SET paid = NOT paid, amount = amount + 1 WHERE id % 2 = 0")?;
    session.run(&format!("DELETE FROM orders WHERE id <= {}", size / 4))
}

/// Runs `statements` of the variable `n` and a COMMIT, `transactions` times.
fn commit_each(cluster: &Cluster, database: &str, transactions: u32, statements: &str) -> anyhow::Result<()> {
    let session = Session::connect(cluster.conninfo_unix(database))?;
    session.run("SET synchronous_commit = off")?;
    session.run(&format!("DO $$ BEGIN FOR n IN 1..{transactions} LOOP {statements}; COMMIT; END LOOP; END $$"))
}

fn pgbench(cluster: &Cluster, database: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let program = cluster.installation().client("pgbench");
    let program = program.context("no pgbench found (hint: \"apt-get install postgresql-contrib\")")?;
    let conninfo = cluster.conninfo_unix(database).with("options", "-c synchronous_commit=off").to_string();
    let output = Command::new(program).args(arguments).arg(conninfo).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("pgbench failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
