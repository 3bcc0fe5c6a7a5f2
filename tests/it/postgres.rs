//! The clusters that a test mirrors: one source, any number of targets.

use std::path::PathBuf;

use cluster::{Cluster, Installation, installations};

/// The database in every cluster.
pub(crate) const DATABASE: &str = "app";

/// A cluster with the database in it, ready for either role. `settings` are parameters of the server.
pub(crate) fn start(installation: &Installation, settings: &[(&str, &str)]) -> Cluster {
    let builder = Cluster::builder().installation(installation.clone());
    let builder = settings.iter().fold(builder, |builder, (name, value)| builder.set(name, *value));
    let cluster = builder.start().unwrap_or_else(|error| panic!("{error}; hint: {}", error.hint().unwrap_or_default()));
    cluster.create_database(DATABASE).unwrap();
    cluster
}

/// What the source and `targets` targets run: the newest installation is the source's, targets take turns through all,
/// so that `WALCAST_TEST_PG=14:18` mirrors 18 to 14 and 18; with `WALCAST_TEST_SOURCE=oldest` 14 to 18 and 14.
pub(crate) fn versions(targets: usize) -> (Installation, Vec<Installation>) {
    let mut all = installations().unwrap();
    if std::env::var("WALCAST_TEST_SOURCE").is_ok_and(|which| which == "oldest") {
        all.reverse();
    }
    let source = all.last().expect("no PostgreSQL server found; hint: run scripts/setup.sh").clone();
    (source, all.iter().cycle().take(targets).cloned().collect())
}

/// Whether the servers are of several versions.
pub(crate) fn is_mixed() -> bool {
    installations().unwrap().len() > 1
}

/// The newest version's `pg_dump`, which says of all the others what they have in the same words.
pub(crate) fn pg_dump() -> PathBuf {
    installations().unwrap().last().and_then(|newest| newest.client("pg_dump")).expect("no pg_dump found")
}

/// Runs a script in the cluster's database.
pub(crate) fn sql(cluster: &Cluster, script: &str) -> String {
    cluster.sql(DATABASE, script).unwrap_or_else(|error| panic!("{error}\nserver log:\n{}", cluster.log_tail(10)))
}

/// `name` as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
