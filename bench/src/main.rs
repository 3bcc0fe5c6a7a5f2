//! Measures walcast beside native logical replication, side by side in one run.
//!
//! ```text
//! drain     slot ─▶ pg_recvlogical ─▶ /dev/null        slot ─▶ walcast's durable log, no target
//! backlog   slot ─▶ subscription ─▶ target             slot ─▶ walcast ─▶ target
//! latency   writes at a steady pace + probes ─▶ subscription or walcast ─▶ when does the target show the probe?
//! copy      database ─▶ pg_dump and pg_restore, pgcopydb, or walcast bootstrap ─▶ database
//! copy-lag  writes at a steady pace + probes ─▶ two targets of walcast, while it copies a third
//! horizon   slot with twenty million changes ─▶ walcast ─▶ two targets: rate, memory and open files over time
//! ddl       commands on a source with and without walcast's event triggers; its ticker beside an idle source
//! ```
//!
//! Every contender of a round reads a copy of the same slot, so the same WAL from the same position; the order within a
//! round changes from round to round; only one contender is active at any time. What the machine does beside it hits
//! all of them alike, so the ratios of one run count, not the figures of two.
//!
//! Not measured here: the functions inside walcast, which have benchmarks of their own.

mod backlog;
mod copy;
mod copy_lag;
mod ddl;
mod drain;
mod feed;
mod goals;
mod horizon;
mod interrupt;
mod lab;
mod latency;
mod measure;
mod native;
mod options;
mod process;
mod report;
mod sql;
mod status;
mod tables;
mod walcast;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::feed::Side;
use crate::options::{Measurement, Options};
use crate::report::Report;

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    interrupt::watch()?;
    let sides = options.sides()?;
    let mut report = Report::new(options)?;
    if options.wants(Measurement::Drain) {
        drain::measure(options, &sides, &mut report)?;
    }
    if options.wants(Measurement::Backlog) {
        backlog::measure(options, &sides, &mut report)?;
    }
    if options.wants(Measurement::Latency) {
        latency::measure(options, &sides, &mut report)?;
    }
    let program = sides.iter().find_map(Side::walcast_program);
    if options.wants(Measurement::Copy) {
        copy::measure(options, program.map(PathBuf::as_path), &mut report)?;
    }
    let Some(program) = program else { return report.finish(options.strict) };
    if options.wants(Measurement::CopyLag) {
        copy_lag::measure(options, program, &mut report)?;
    }
    if options.wants(Measurement::Horizon) {
        horizon::measure(options, &Side::Walcast(program.clone()), &mut report)?;
    }
    if options.wants(Measurement::Ddl) {
        ddl::measure(options, program, &mut report)?;
    }
    report.finish(options.strict)
}
