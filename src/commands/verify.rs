//! `walcast verify TARGET [--table T] [--repair] [--jobs N] [--json]`

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Config, Target};
use decoder::Lsn;
use replication::{ExportedSnapshot, ReplicationError};
use serde::Serialize;
use verify::{
    Difference, Kind, Observer, Options, Progress, Report, Snapshot, Snapshots, TableName, TableReport, Verification,
};

use super::{print, target};
use crate::connect;
use crate::control::{self, Hold, Request};
use crate::failure::{Failure, Result};
use crate::service::{Temporary, applied_offline};
use crate::status::table;

/// For how long a target is held while the source makes a slot. It doubles from the fourth attempt on, for a source that
/// is never without open transactions for longer.
const HOLD_MAX: Duration = Duration::from_secs(1);
const HOLD_DOUBLINGS_MAX: u32 = 5;
const ATTEMPTS_AT_FIRST: u32 = 3;
/// Between two lines that say what is waited for.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How long a service may take to start or to stop.
const SERVICE_WAIT: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A table that is truncated under its comparison so many times is given up.
const ROUNDS_MAX: u32 = 20;
/// So many times tables are repaired and compared again.
const REPAIRS_MAX: u32 = 100;

/// What is wished for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Only this table.
    pub table: Option<&'a str>,
    /// Repair.
    pub repair: bool,
    /// Tables or parts of tables at a time.
    pub jobs: u16,
    /// As JSON.
    pub json: bool,
}

/// Compares a target with the source, and repairs it if that is wished.
///
/// # Errors
/// They differ, or cannot be compared.
pub(crate) async fn run(config: &Config, name: &str, wish: Wish<'_>) -> Result<()> {
    let target = target(config, name)?;
    if applied_offline(config, target).await?.is_none() {
        return Err(Failure::new(format!("target \"{name}\" has no checkpoint: nothing was applied to it"))
            .hint(format!("run `walcast bootstrap {name}` first")));
    }
    let temporary = serve(config, name).await?;
    let compared = Command { config, target }.compare(wish).await;
    // The comparison's own error says more than that of a service which it made fail.
    let stopped = match temporary {
        Some(temporary) => temporary.stop().await,
        None => Ok(()),
    };
    let report = compared?;
    stopped?;
    show(name, &report, wish.json)?;
    if report.equal { Ok(()) } else { Err(differs(name, &report, wish)) }
}

/// Serves the target unless the service does. One that is starting or stopping has the log and answers nobody: it is waited
/// for.
async fn serve(config: &Config, name: &str) -> Result<Option<Temporary>> {
    let deadline = Instant::now() + SERVICE_WAIT;
    loop {
        match Temporary::unless_running(config, name).await {
            Err(failure) if failure.is_busy() && Instant::now() < deadline => tokio::time::sleep(RETRY_PAUSE).await,
            ready => return ready,
        }
    }
}

struct Command<'a> {
    config: &'a Config,
    target: &'a Target,
}

impl Command<'_> {
    async fn compare(&self, wish: Wish<'_>) -> Result<Report> {
        let options = Options {
            publication: self.config.source.publication.clone(),
            table: wish.table.map(str::to_owned),
            jobs: usize::from(wish.jobs),
            repair: wish.repair,
        };
        let mut verification = Verification::new(options, observer());
        self.rounds(&mut verification).await?;
        let mut repairs = 0;
        while wish.repair && repairs < REPAIRS_MAX {
            let Some(repair) = verification.repair(&self.target.conninfo).await? else { break };
            self.repair(&mut verification, repair).await?;
            self.rounds(&mut verification).await?;
            repairs += 1;
        }
        Ok(verification.into_report())
    }

    /// Compares until every table has been.
    async fn rounds(&self, verification: &mut Verification) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let moved: Vec<TableName> = verification.pending().cloned().collect();
            let Some(snapshots) = self.snapshots(&moved).await? else { continue };
            verification.round(snapshots).await?;
            let Some(moved) = verification.pending().next() else { return Ok(()) };
            tracing::info!(table = %moved, "was truncated or altered meanwhile: compared again");
        }
        let moved = verification.pending().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Failure::new(format!("truncated or altered each time they were compared: {moved}"))
            .hint("try again when they rest"))
    }

    async fn repair(&self, verification: &mut Verification, mut repair: verify::Repair) -> Result<()> {
        while !repair.is_done() {
            let mut hold = self.hold().await?;
            let source = hold.exported.take(&self.config.source.conninfo).await?;
            self.level(&mut hold.hold, source.lsn).await?;
            // The hold goes after the portion was committed.
            repair.portion(&source.snapshot, source.lsn).await?;
            tell(&format!("repaired {}", repair.repaired()));
        }
        verification.after(repair);
        Ok(())
    }

    /// Both at one position; the target goes on by now. `locked` tables are kept from being truncated under their
    /// snapshots; `None` when that was not to be had.
    async fn snapshots(&self, locked: &[TableName]) -> Result<Option<Snapshots>> {
        let Held { mut hold, exported } = self.hold().await?;
        let SourceAt { snapshot: mut source, lsn } = exported.take(&self.config.source.conninfo).await?;
        if !source.lock(locked).await? {
            return Ok(None);
        }
        self.level(&mut hold, lsn).await?;
        let mut target = Snapshot::of_target(&self.target.conninfo).await?;
        Ok(target.lock(locked).await?.then_some(Snapshots { source, target, lsn }))
    }

    /// Has the target apply everything before `lsn`, and nothing else. A message of our own makes sure that the log comes
    /// to hold something after it.
    async fn level(&self, hold: &mut Hold, lsn: Lsn) -> Result<()> {
        capture::passable_lsn(&connect::source(&self.config.source.conninfo).await?).await?;
        hold.run_to(lsn).await
    }

    /// Holds the target and makes a snapshot of the source. As long as the target is held, nothing that it has applied can
    /// be after the snapshot. It is let go when the source takes long, and then tried again.
    async fn hold(&self) -> Result<Held> {
        for attempt in 1_u32.. {
            self.catch_up().await?;
            let hold = Hold::open(&self.config.log.dir, &self.target.name).await?.ok_or_else(|| {
                Failure::new("the service stopped meanwhile").hint("try again; the command runs with and without it")
            })?;
            let mut making = pin!(ExportedSnapshot::make(&self.config.source.conninfo, "verify"));
            let doublings = attempt.saturating_sub(ATTEMPTS_AT_FIRST).min(HOLD_DOUBLINGS_MAX);
            if let Ok(made) = tokio::time::timeout(HOLD_MAX * (1 << doublings), &mut making).await {
                return Ok(Held { hold, exported: Exported(made?) });
            }
            drop(hold);
            self.wait_unheld(making).await?.close().await;
        }
        unreachable!("attempts are not counted to their end")
    }

    /// Waits until the target is about level: the source would hold its snapshot for as long as that takes.
    async fn catch_up(&self) -> Result<()> {
        let lsn = capture::passable_lsn(&connect::source(&self.config.source.conninfo).await?).await?;
        let request = Request::Wait { target: self.target.name.clone(), lsn, timeout_ms: None };
        let mut waiting = pin!(control::ask(&self.config.log.dir, &request));
        loop {
            match tokio::time::timeout(TOLD_EVERY, waiting.as_mut()).await {
                // Without a service it is the hold that fails.
                Ok(answered) => return answered.map(|_| ()),
                Err(_) => tell(&format!("waiting for target \"{}\" to apply {lsn}", self.target.name)),
            }
        }
    }

    /// Waits for a slot that came too late to be used: then no old transaction is in the way of the next.
    async fn wait_unheld(
        &self,
        mut making: std::pin::Pin<&mut impl Future<Output = Result<ExportedSnapshot, ReplicationError>>>,
    ) -> Result<ExportedSnapshot> {
        loop {
            let oldest = capture::oldest_writer(&connect::source(&self.config.source.conninfo).await?).await?;
            let oldest = oldest.map(|oldest| format!("; {oldest}")).unwrap_or_default();
            tell(&format!("waiting for transactions that are open on the source{oldest}"));
            if let Ok(made) = tokio::time::timeout(TOLD_EVERY, &mut making).await {
                return Ok(made?);
            }
        }
    }
}

/// A target that is held, and a snapshot of the source from since then.
struct Held {
    hold: Hold,
    exported: Exported,
}

struct Exported(ExportedSnapshot);

struct SourceAt {
    snapshot: Snapshot,
    lsn: Lsn,
}

impl Exported {
    /// Takes the snapshot over into an ordinary session, so that the slot can go.
    async fn take(self, source: &connection::Conninfo) -> Result<SourceAt> {
        let snapshot = Snapshot::of_source(source, self.0.name()).await?;
        let lsn = self.0.lsn();
        self.0.close().await;
        Ok(SourceAt { snapshot, lsn })
    }
}

/// On a terminal the line is written over by the next one.
fn tell(text: &str) {
    match io::stderr().is_terminal() {
        true => eprint!("\r\x1b[K{text}"),
        false => eprintln!("{text}"),
    }
}

/// Shows progress on a terminal, and nowhere else.
fn observer() -> Observer {
    let terminal = io::stderr().is_terminal();
    Arc::new(move |Progress { parts_done, parts }| {
        if terminal {
            eprint!("\r\x1b[Kcompared {parts_done} of {parts} parts of tables");
        }
    })
}

#[derive(Serialize)]
struct Shown<'a> {
    target: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

fn show(name: &str, report: &Report, json: bool) -> Result<()> {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    if json {
        let text = serde_json::to_string(&Shown { target: name, report });
        return print(&(text.map_err(|e| Failure::because("could not write the report as JSON", &e))? + "\n"));
    }
    let rows: Vec<[String; 4]> = report.tables.iter().map(table_line).collect();
    let tables = if rows.is_empty() { String::new() } else { table(["table", "rows", "on target", "result"], &rows) };
    let line = |word: &'static str| move |difference: &Difference| format!("{word}: {}\n", described(difference));
    let differences = report.differences.iter().map(line("different"));
    let lines: String = differences.chain(report.notes.iter().map(line("note"))).collect();
    let result = if report.equal { "equals the source" } else { "differs from the source" };
    print(&format!("{tables}{lines}target \"{name}\" {result} at {}\n", report.lsn))
}

fn table_line(table: &TableReport) -> [String; 4] {
    let mut result = match (table.differences, table.further_buckets) {
        (0, 0) => "equal".to_owned(),
        (found, 0) => format!("{found} different"),
        (found, further) => format!("{found} different, and more in {further} of 16384 parts"),
    };
    if table.repaired > 0 {
        result = format!("{result}, {} repaired", table.repaired);
    }
    [table.table.clone(), table.source_rows.to_string(), table.target_rows.to_string(), result]
}

fn described(difference: &Difference) -> String {
    let Difference { table, kind, key, source, target } = difference;
    let kind = kind.as_str().replace('_', " ");
    let sides = [("source", source), ("target", target)];
    if difference.kind.is_row() {
        let copies = sides.iter().find_map(|(_, text)| text.as_ref()).map(|text| format!(" ({text})"));
        return format!("{table}: {kind} row {key}{}", copies.unwrap_or_default());
    }
    let key = if key.is_empty() { String::new() } else { format!(" {key}") };
    let shown = sides.map(|(side, text)| format!("{side}: {}", text.as_deref().unwrap_or("none")));
    format!("{table}: {kind}{key}: {}", shown.join(", "))
}

/// Why the command fails although nothing went wrong.
fn differs(name: &str, report: &Report, wish: Wish<'_>) -> Failure {
    let rows: u64 = report.tables.iter().map(|table| table.differences).sum();
    let others = report.differences.iter().filter(|d| !d.kind.is_row()).count();
    let parts = [(rows, "row"), (others as u64, "other thing")].into_iter().filter(|(count, _)| *count > 0);
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}{}", plural(count))).collect();
    let failure = Failure::new(format!("target \"{name}\" differs from the source in {}", parts.join(" and ")));
    let sequences = report.differences.iter().any(|d| d.kind == Kind::Sequence && d.key == "value");
    let hint = match (rows > 0 || sequences, wish.repair) {
        (true, false) => format!("`walcast verify {name} --repair` makes rows and sequences what the source's are"),
        (true, true) => format!("`walcast resync {name} --table T` copies a table again"),
        (false, _) => "definitions are not repaired: change the target's as shown, or copy it again".to_owned(),
    };
    failure.hint(hint)
}
