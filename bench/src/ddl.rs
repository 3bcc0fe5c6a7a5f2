//! What the capture costs who runs DDL on the source, and what its ticker takes of the source while nothing happens.
//!
//! The same commands, each a transaction of its own in one session, with the event triggers enabled and without them, in
//! turns; nobody reads the slot meanwhile. The ticker is that of a service without targets.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::interrupt;
use crate::lab::{Lab, Transport};
use crate::measure::{Spread, cpu_of};
use crate::options::Options;
use crate::report::Report;
use crate::walcast::{self, Service};
use crate::workload::Workload;

/// Of each kind of command; about 10,000 together.
const TABLES: u32 = 3_334;
/// Of tables, roles and sequences beside the ticker.
const OBJECTS: u32 = 1_000;
const TICKER_SECONDS: f64 = 40.0;
const TICKER_POLL: Duration = Duration::from_millis(20);
/// The first look compares everything, and takes long enough to be seen.
const TICKER: &str = "SELECT max(pid) FROM pg_stat_activity WHERE query LIKE 'select walcast.tick(%'";
/// In the order in which they are run; `$1` is the table's number.
const COMMANDS: [(&str, &str); 3] = [
    ("CREATE TABLE with a primary key", "CREATE TABLE ddl_$1 (id bigint PRIMARY KEY, v text NOT NULL)"),
    ("ALTER TABLE ADD COLUMN", "ALTER TABLE ddl_$1 ADD COLUMN w int DEFAULT 1"),
    ("DROP TABLE", "DROP TABLE ddl_$1"),
];
const TRIGGERS: [&str; 3] = ["walcast_ddl_end", "walcast_drop", "walcast_rewrite"];

/// Seconds that each kind of command took, in the order of [`COMMANDS`].
type Round = [f64; COMMANDS.len()];

/// Whether the event triggers fire.
#[derive(Clone, Copy, Debug)]
enum Capture {
    Off,
    On,
}

pub(crate) fn measure(options: &Options, program: &Path, report: &mut Report) -> anyhow::Result<()> {
    let lab = Lab::start(Workload::Insert)?;
    walcast::set_up(program, &lab)?;
    let tables = options.scaled(TABLES);
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..options.rounds() {
        let mut turns = [(Capture::Off, &mut off), (Capture::On, &mut on)];
        turns.rotate_left(round % 2);
        for (capture, rounds) in turns {
            let took = commands(&lab, capture, tables)?;
            eprintln!("DDL, round {}: capture {capture:?} {:.3} s", round + 1, took.iter().sum::<f64>());
            rounds.push(took);
        }
    }
    report.add(&table(tables, &off, &on)?)?;
    report.add(&ticker(options, program, &lab)?)
}

fn commands(lab: &Lab, capture: Capture, tables: u32) -> anyhow::Result<Round> {
    let verb = match capture {
        Capture::Off => "DISABLE",
        Capture::On => "ENABLE ALWAYS",
    };
    TRIGGERS.iter().try_for_each(|trigger| lab.on_source.run(&format!("ALTER EVENT TRIGGER {trigger} {verb}")))?;
    lab.checkpoint()?;
    let mut round = Round::default();
    for (seconds, (_, command)) in round.iter_mut().zip(COMMANDS) {
        let began = Instant::now();
        for number in 0..tables {
            interrupt::check()?;
            lab.on_source.run(&command.replace("$1", &number.to_string()))?;
        }
        *seconds = began.elapsed().as_secs_f64();
    }
    Ok(round)
}

fn table(tables: u32, off: &[Round], on: &[Round]) -> anyhow::Result<String> {
    let mut text = format!(
        "## Cost of capturing DDL\n\n{tables} of each command, a transaction each, in one session.\n\n\
         | | ms each without capture | with capture | times |\n| --- | --- | --- | --- |\n"
    );
    for (at, (name, _)) in COMMANDS.iter().enumerate() {
        text += &line(name, tables, off.iter().map(|round| round[at]), on.iter().map(|round| round[at]))?;
    }
    let all = tables * COMMANDS.len() as u32;
    text += &line("all", all, off.iter().map(|round| round.iter().sum()), on.iter().map(|round| round.iter().sum()))?;
    Ok(text)
}

fn line(
    name: &str,
    number: u32,
    off: impl Iterator<Item = f64>,
    on: impl Iterator<Item = f64>,
) -> anyhow::Result<String> {
    let each = |seconds: f64| seconds * 1000.0 / f64::from(number);
    let (off, on) = (Spread::of(off.map(each))?, Spread::of(on.map(each))?);
    let shown = |spread: &Spread| format!("{:.3} ({:.3}-{:.3})", spread.median, spread.min, spread.max);
    Ok(format!("| {name} | {} | {} | {:.2} |\n", shown(&off), shown(&on), on.median / off.median))
}

fn ticker(options: &Options, program: &Path, lab: &Lab) -> anyhow::Result<String> {
    let objects = options.scaled(OBJECTS);
    lab.on_source.run(&format!(
        "DO $do$BEGIN FOR i IN 1..{objects} LOOP
            EXECUTE format('CREATE ROLE role_%s', i);
            EXECUTE format('CREATE TABLE ticked_%s (id serial PRIMARY KEY, v text)', i);
            EXECUTE format('GRANT SELECT ON ticked_%s TO role_%s', i, i);
            COMMIT;
        END LOOP; END$do$"
    ))?;
    let mut service = Service::without_target(program, lab, walcast::SETUP_SLOT, Transport::Unix)?;
    service.run()?;
    let pid = ticker_pid(lab)?;
    let (before, seconds) = (cpu_of(pid)?, options.seconds(TICKER_SECONDS));
    interrupt::pause(Duration::from_secs_f64(seconds))?;
    let used = cpu_of(pid)?.saturating_sub(before).as_secs_f64();
    service.stop()?;
    Ok(format!(
        "## Ticker beside an idle source\n\n{objects} each of tables, sequences and roles: its backend on the source used \
         {used:.2} s of CPU in {seconds:.0} s, {:.1} % of a core.\n",
        used / seconds * 100.0
    ))
}

/// The ticker's backend, once it has looked for the first time.
fn ticker_pid(lab: &Lab) -> anyhow::Result<u32> {
    let mut seen = None;
    loop {
        match (lab.on_source.value::<Option<i32>>(TICKER)?, seen) {
            (Some(pid), _) => seen = Some(pid),
            (None, Some(pid)) => return u32::try_from(pid).context("a negative process id"),
            (None, None) => {}
        }
        interrupt::pause(TICKER_POLL)?;
    }
}
