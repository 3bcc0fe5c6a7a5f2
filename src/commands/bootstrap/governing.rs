//! Slows a copy down by what the service says of the other targets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::{Governor, Lateness, TICK, WINDOW};
use config::Config;

use crate::control::{self, Answer, Request};

/// What is usual is judged by so much time before the copy.
const BEFORE: Duration = Duration::from_secs(10);

/// A governor that is told of the targets for as long as somebody else has it. Without a service there are no other targets.
pub(super) async fn start(config: &Config) -> Arc<Governor> {
    let (log_dir, governor) = (config.log.dir.clone(), Arc::new(Governor::default()));
    governor.notice(&ask(&log_dir, BEFORE).await);
    let told = Arc::downgrade(&governor);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TICK).await;
            let others = ask(&log_dir, WINDOW).await;
            match told.upgrade() {
                Some(governor) => governor.notice(&others),
                None => return,
            }
        }
    });
    governor
}

/// A service that dies, or is of another version, takes nothing from the copy.
async fn ask(log_dir: &Path, window: Duration) -> Vec<Lateness> {
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    match control::ask(log_dir, &Request::Lateness { window_ms }).await {
        Ok(Some(Answer::Lateness(targets))) => targets.into_iter().map(Lateness::from).collect(),
        _ => Vec::new(),
    }
}
