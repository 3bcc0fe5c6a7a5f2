//! What the tests share.

use std::error::Error;

use cluster::Cluster;
use connection::{Conninfo, Wire};

/// What the cluster says of itself, as this crate reads it.
pub(crate) fn info(of: &cluster::Conninfo) -> Conninfo {
    Conninfo::parse(&of.to_string()).unwrap()
}

pub(crate) fn tcp(cluster: &Cluster) -> Conninfo {
    info(&cluster.conninfo("postgres"))
}

pub(crate) fn unix(cluster: &Cluster) -> Conninfo {
    info(&cluster.conninfo_unix("postgres"))
}

pub(crate) async fn wire(info: &Conninfo) -> Wire {
    Wire::connect(info, connection::PINNED_SETTINGS).await.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

pub(crate) async fn one(wire: &mut Wire, sql: &str) -> String {
    let rows = wire.simple_query(sql).await.unwrap();
    rows[0][0].clone().unwrap()
}

/// An error and its causes in one line, as a caller prints it.
pub(crate) fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
