//! The table of lag: rewritten in place on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::commands::print;
use crate::failure::Result;
use crate::status::{Status, bytes, table};

/// Between two lines when the output is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// The table on the screen.
pub(crate) struct Live {
    terminal: bool,
    /// Lines of the table that is there already.
    lines: usize,
    last_line: Option<Instant>,
}

impl Live {
    /// Nothing shown yet.
    pub(crate) fn new() -> Live {
        Live { terminal: io::stdout().is_terminal(), lines: 0, last_line: None }
    }

    /// Shows how things are now.
    ///
    /// # Errors
    /// The output is closed.
    pub(crate) fn show(&mut self, elapsed: Duration, committed: u64, status: &Status) -> Result<()> {
        if self.terminal {
            let text = block(elapsed, committed, status);
            let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) };
            self.lines = text.lines().count();
            return print(&format!("{up}{text}"));
        }
        if self.last_line.is_some_and(|last| last.elapsed() < LINE_INTERVAL) {
            return Ok(());
        }
        self.last_line = Some(Instant::now());
        print(&line(elapsed, committed, status))
    }

    /// Shows a text, to stay, and the table below it from then on.
    ///
    /// # Errors
    /// The output is closed.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) };
        self.lines = 0;
        print(&format!("{up}{text}"))
    }

    /// Shows how things ended, to stay.
    ///
    /// # Errors
    /// The output is closed.
    pub(crate) fn finish(&mut self, elapsed: Duration, committed: u64, status: &Status) -> Result<()> {
        self.lines = 0;
        print(&block(elapsed, committed, status))
    }
}

fn block(elapsed: Duration, committed: u64, status: &Status) -> String {
    let log = status.log.as_ref().map_or(0, |log| log.bytes);
    let head = format!("{:>4} s  {committed} transactions  log {}\n", elapsed.as_secs(), bytes(log));
    let row = |target: &crate::status::Target| {
        [
            target.name.clone(),
            target.state.clone(),
            target.applied_lsn.clone().unwrap_or_default(),
            target.lag_bytes.map(bytes).unwrap_or_default(),
            target.lag_seconds.map(|s| format!("{:.0} ms", s * 1000.0)).unwrap_or_default(),
        ]
    };
    let rows: Vec<[String; 5]> = status.targets.iter().map(row).collect();
    head + &table(["target", "state", "applied", "lag", "behind by"], &rows)
}

fn line(elapsed: Duration, committed: u64, status: &Status) -> String {
    let lag = |target: &crate::status::Target| {
        let lag = target.lag_bytes.map_or("-".to_owned(), bytes);
        format!("{} {} {lag}", target.name, target.state)
    };
    let targets: Vec<String> = status.targets.iter().map(lag).collect();
    format!("{:>4} s  {committed} transactions  {}\n", elapsed.as_secs(), targets.join("  "))
}
