//! Writes Grafana's dashboard of walcast to standard output: `cargo run -p grafana > grafana/walcast.json`.
//!
//! What is shown is in `rows.rs`, how Grafana wants it in `panel.rs` and `dashboard.rs`. The numbers of panels are written
//! out, because alerts and people's links name them.

mod dashboard;
mod panel;
mod rows;

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(dashboard::text().as_bytes())
}
