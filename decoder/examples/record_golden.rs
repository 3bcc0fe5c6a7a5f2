//! Records what a running PostgreSQL sends, for `tests/golden`.
//!
//! ```text
//! cargo run -p decoder --example record_golden -- "host=127.0.0.1 port=5432 user=postgres dbname=postgres" \
//!     > decoder/tests/golden/15.txt
//! ```
//!
//! It needs psql, and a throw-away cluster with `wal_level = logical` and `max_prepared_transactions` of at least 1, as
//! superuser: it makes the database `walcast_golden` and drops it at the end. The SQL functions for slots give the same
//! messages as the walsender, so that no replication connection is needed.

use std::error::Error;
use std::io::Write;
use std::process::{Command, Stdio};

use decoder::{Message, decode};

#[path = "../tests/golden/format.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod format;
#[path = "record_golden/scenarios.rs"]
mod scenarios;

use scenarios::{Options, SCENARIOS, SETUP, Scenario};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let conninfo = std::env::args().nth(1).ok_or("usage: record_golden CONNINFO")?;
    let server = Server { conninfo };
    let version: u32 = server.psql("SHOW server_version_num;")?.trim().parse()?;
    let name = server.psql("SELECT 'PostgreSQL ' || current_setting('server_version');")?;
    println!("# Recorded from {} by the example record_golden. Not edited by hand.", name.trim());
    server.psql(
        "DROP DATABASE IF EXISTS walcast_golden;\nCREATE DATABASE walcast_golden TEMPLATE template0 ENCODING 'UTF8';",
    )?;
    server.golden(SETUP)?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.since <= version / 10_000) {
        server.record(scenario, version / 10_000)?;
    }
    server.psql("DROP DATABASE walcast_golden;\nSELECT pg_replication_origin_drop('walcast_golden');")?;
    Ok(())
}

struct Server {
    conninfo: String,
}

impl Server {
    /// Runs a script and returns what it printed, unaligned and without headers.
    fn psql(&self, script: &str) -> Result<String> {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.conninfo]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("psql has no stdin")?.write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("psql: {}, after:\n{script}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same in the throw-away database.
    fn golden(&self, script: &str) -> Result<String> {
        self.psql(&format!("\\c walcast_golden\nSET client_min_messages = warning;\n{script}"))
    }

    fn record(&self, scenario: &Scenario, version: u32) -> Result<()> {
        let two_phase = scenario.sessions.iter().any(|options| options.two_phase);
        let create = format!(
            "SELECT FROM pg_create_logical_replication_slot('walcast_golden', 'pgoutput', false, {two_phase});"
        );
        self.golden(&create)?;
        self.golden(scenario.sql)?;
        for options in scenario.sessions.iter().filter(|options| options.since() <= version) {
            self.print_session(scenario, options)?;
        }
        self.golden("SELECT FROM pg_drop_replication_slot('walcast_golden');")?;
        Ok(())
    }

    fn print_session(&self, scenario: &Scenario, options: &Options) -> Result<()> {
        let title = options.title(scenario.name);
        println!("\nsession {title}");
        let mut context = format::Session::start(&title);
        for digits in self.golden(&options.peek())?.lines() {
            let bytes = format::from_hex(digits);
            let message: Message<'_> = decode(&bytes, context).map_err(|e| format!("{title}: {digits}: {e}"))?;
            println!("{digits}\n  {message:?}");
            context.advance(&message);
        }
        Ok(())
    }
}
