//! Throw-away PostgreSQL clusters for the demo, the tests and the benchmarks.
//!
//! ```text
//! Installation (bin directory, version)
//!      │ Builder: settings, password, fsync
//!      ▼
//! Template (initdb, once per process and set of options) ──cp -a, own system identifier──▶ Cluster (server process)
//! ```
//!
//! A [`Cluster`] is a server process of its own on a free loopback port, with its data, its socket and its log in one
//! temporary directory. Dropping it stops the server and removes the directory. The server also stops when the process
//! that made it dies in whatever way, because the kernel tells it so; what a
//! killed process left on disk is removed by the next one that makes a cluster.
//!
//! PostgreSQL refuses to run as root: a process of root runs it as the operating system's user `postgres`.
//!
//! ```no_run
//! # fn main() -> Result<(), cluster::Error> {
//! let source = cluster::Cluster::builder().set("max_wal_senders", "4").start()?;
//! source.create_database("app")?;
//! source.sql("app", "CREATE TABLE t (id int PRIMARY KEY)")?;
//! assert_eq!(source.sql("app", "SELECT count(*) FROM t")?, "0");
//! # Ok(())
//! # }
//! ```
//!
//! Not for anything to be kept: with `fsync` off, as by default, a crash of the machine may damage the data.

mod builder;
mod client;
mod conninfo;
mod error;
mod identity;
mod installation;
mod owner;
mod ports;
mod scratch;
mod server;
mod spawner;
mod template;

pub use builder::Builder;
pub use conninfo::Conninfo;
pub use error::Error;
pub use installation::{Installation, VERSIONS_VARIABLE, installations};
pub use server::Cluster;
