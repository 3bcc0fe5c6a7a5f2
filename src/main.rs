//! walcast: feeds many PostgreSQL databases from one logical replication slot.
//!
//! This crate is the command line and the wiring; what happens to data is in the crates beside it (ARCHITECTURE.md).

use std::process::ExitCode;

mod cli;
mod commands;
mod connect;
mod control;
#[cfg(test)]
mod documents;
mod exposition;
mod failure;
mod http;
mod logging;
mod metrics;
mod notify;
mod process;
mod service;
mod status;

use cli::{Cli, Command, LogCommand};
use failure::{Failure, Result};

fn main() -> ExitCode {
    let result = cli::parse().and_then(|cli| {
        let logging = logging::start(cli.log_level(), cli.log_format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(worker_threads())
            .enable_all()
            .build()
            .map_err(|e| Failure::because("could not start the runtime", &e))?;
        let result = runtime.block_on(dispatch(&cli, logging));
        // What still runs is cancelled or detached by now; a name lookup that hangs must not hold up the exit.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("walcast: {failure}");
            if let Some(hint) = failure.hint_text() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.exit_status())
        }
    }
}

/// One per core, and one more: reading the source's stream into the log may wait for the disk.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1)
}

async fn dispatch(cli: &Cli, logging: logging::Logging) -> Result<()> {
    match &cli.command {
        Command::Demo { seconds } => return commands::demo::run(*seconds).await,
        Command::Completions { shell } => return commands::manual::completions(*shell),
        Command::Man { directory } => return commands::manual::pages(directory),
        _ => {}
    }
    let config = config::Config::load(&cli.config)?;
    match &cli.command {
        Command::Check { config_only: true } => commands::check::configuration(&config),
        Command::Check { config_only: false } => commands::check::run(&config).await,
        Command::Setup { target: None, print_sql: false } => commands::setup::run(&config).await,
        Command::Setup { target: None, print_sql: true } => commands::setup::print_sql(&config).await,
        Command::Setup { target: Some(name), print_sql } => commands::setup::target(&config, name, *print_sql).await,
        Command::Bootstrap { targets, all, no_copy: true, .. } => {
            commands::bootstrap::declare(&config, targets, *all).await
        }
        Command::Bootstrap { targets, all, effort, schema_exists, no_copy: false } => {
            let wish = commands::bootstrap::Wish { effort: *effort, schema_exists: *schema_exists };
            commands::bootstrap::run(&config, targets, *all, wish).await
        }
        Command::Run => commands::run::run(config, logging, cli.log_level.is_some()).await,
        Command::Status { json, watch } => commands::status::run(&config, *json, *watch).await,
        Command::Verify { target, table, repair, jobs, json } => {
            let wish = commands::verify::Wish { table: table.as_deref(), repair: *repair, jobs: *jobs, json: *json };
            commands::verify::run(&config, target, wish).await
        }
        Command::Pause { target } => commands::targets::pause(&config, target).await,
        Command::Resume { target } => commands::targets::resume(&config, target).await,
        Command::Wait { target, lsn, timeout } => commands::wait::run(&config, target, *lsn, *timeout).await,
        Command::Skip { target, lsn, reason } => commands::targets::skip(&config, target, *lsn, reason).await,
        Command::Resync { target, table: Some(table), effort } => {
            commands::resync::table(&config, target, table, *effort).await
        }
        Command::Resync { target, table: None, effort } => commands::bootstrap::resync(&config, target, *effort).await,
        Command::Remove { target } => commands::targets::remove(&config, target).await,
        Command::Log { command: LogCommand::Ls } => commands::log::ls(&config),
        Command::Log { command: LogCommand::Check } => commands::log::check(&config),
        Command::Log { command: LogCommand::Dump { from, to, table, json } } => {
            let range = commands::log::Range { after: *from, to: *to, table: table.as_deref() };
            commands::log::dump(&config, range, *json)
        }
        Command::Demo { .. } | Command::Completions { .. } | Command::Man { .. } => {
            unreachable!("it was run above, without a configuration")
        }
        Command::Teardown => commands::teardown::run(&config).await,
    }
}
