//! `walcast status [--json] [--watch]`

use std::io::{self, IsTerminal};
use std::time::Duration;

use config::Config;

use super::{paint, print};
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service::status_offline;
use crate::status::Status;

const INTERVAL: Duration = Duration::from_secs(1);

/// Shows where everything stands, from the service or, when it is down, from the log and the targets.
///
/// # Errors
/// The service went away while it was asked, or the log cannot be read.
pub(crate) async fn run(config: &Config, json: bool, watch: bool) -> Result<()> {
    if watch && !json && io::stdout().is_terminal() {
        return super::watch::run(config).await;
    }
    loop {
        let status = current(config).await?;
        let text = match (json, watch) {
            (false, _) if paint::is_wanted() => paint::status(&status),
            (false, _) => status.to_text(),
            // One object per line can be read by another program while more of them come.
            (true, true) => encode(serde_json::to_string(&status))?,
            (true, false) => encode(serde_json::to_string_pretty(&status))?,
        };
        print(&text)?;
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Where everything stands now.
pub(super) async fn current(config: &Config) -> Result<Status> {
    match control::ask(&config.log.dir, &Request::Status).await? {
        Some(Answer::Status(status)) => Ok(*status),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => status_offline(config).await,
    }
}

fn encode(text: serde_json::Result<String>) -> Result<String> {
    text.map(|text| text + "\n").map_err(|e| Failure::because("could not write the status as JSON", &e))
}
