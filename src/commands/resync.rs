//! `walcast resync TARGET --table T`: one table copied again while everything else goes on.

use bootstrap::Progress;
use config::Config;
use decoder::Lsn;

use super::bootstrap::display::Display;
use super::{bootstrap as copying, print, target};
use crate::cli::Effort;
use crate::connect;
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result, with_causes};
use crate::service::Temporary;

/// Copies one table again. Without a service its work is done in here meanwhile.
///
/// # Errors
/// The table is not published, or anything that can go wrong with two servers; the same command goes on.
pub(crate) async fn table(config: &Config, name: &str, table: &str, effort: Effort) -> Result<()> {
    let table = published(config, table).await?;
    target(config, name)?;
    let work = async {
        let temporary = Temporary::unless_running(config, name).await?;
        let result = copy_and_catch_up(config, name, &table, effort).await;
        let stopped = match temporary {
            Some(temporary) => temporary.stop().await,
            None => Ok(()),
        };
        result.and(stopped)
    };
    copying::until_interrupted(work).await
}

/// The table's two names, whose dots may be anywhere.
async fn published(config: &Config, name: &str) -> Result<(String, String)> {
    let client = connect::source(&config.source.conninfo).await?;
    let tables = capture::published_tables(&client, &config.source.publication).await?;
    let found = tables.into_iter().find(|table| format!("{}.{}", table.schema, table.table) == name);
    found.map(|table| (table.schema, table.table)).ok_or_else(|| {
        Failure::new(format!("table \"{}\" is not published", name.escape_debug()))
            .hint("write --table schema.table as on the source; `walcast setup` publishes what [source] tables names")
    })
}

async fn copy_and_catch_up(config: &Config, name: &str, table: &(String, String), effort: Effort) -> Result<()> {
    let target = target(config, name)?;
    let (schema, table) = table.clone();
    let pinned = begin(config, name, &schema, &table).await?;
    let options = copying::options(config, target, bootstrap::Schema::Exists, effort).await?;
    let lane = options.identity.lane(&schema, &table);
    let copied = applier::checkpoint(&target.conninfo, &lane).await;
    let copied = copied.map_err(|e| Failure::new(with_causes(&e)).maybe_hint(e.hint()))?;
    // What was copied before the log was kept cannot be caught up; the service has forgotten it.
    if copied.is_none_or(|lsn| lsn < pinned) {
        let lsn = copy_shown(name, &options, (&schema, &table)).await?;
        print(&format!("table {} is copied as of {lsn}\n", capture::shown_table(&schema, &table)))?;
    }
    let request = Request::EndResync { target: name.to_owned(), schema, table };
    print(&format!("{}\n", control::command(&config.log.dir, &request).await?))
}

async fn copy_shown(name: &str, options: &bootstrap::Options, table: (&str, &str)) -> Result<Lsn> {
    let progress = Progress::default();
    let mut display = Display::new(name);
    let copied = tokio::select! {
        copied = bootstrap::copy_table(options, table, &progress) => copied.map_err(Failure::from),
        failure = display.show(None, &progress) => Err(failure),
    };
    display.finish(&progress, copied.is_ok())?;
    copied
}

async fn begin(config: &Config, name: &str, schema: &str, table: &str) -> Result<Lsn> {
    let (target, schema, table) = (name.to_owned(), schema.to_owned(), table.to_owned());
    match control::ask(&config.log.dir, &Request::BeginResync { target, schema, table }).await? {
        Some(Answer::Pinned { lsn }) => Ok(lsn),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => Err(Failure::new("the service stopped meanwhile").hint("run the same command again")),
    }
}
