//! Has the source compare its catalogs once a second, on a connection of its own: roles, owners, sequences and whatever
//! else no event trigger tells come into the stream by that. Nothing waits for it but sequences and grants.

use std::time::{Duration, Instant};

use capture::Tick;
use connection::Conninfo;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connect;
use crate::failure::Failure;

const INTERVAL: Duration = Duration::from_secs(1);
/// Looking takes a small part of the time, however much there is to look at.
const REST_FACTOR: u32 = 10;
/// Transactions that are in the way are waited for; so long that a tick is never given up beside a busy source.
const PATIENCE: Duration = Duration::from_secs(30);
/// A source that does not answer is not waited for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
const REST_LONGEST: Duration = Duration::from_secs(10);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What the ticker has to say to people; nothing while all is well.
pub(crate) type Complaint = Option<String>;

/// Looks until the shutdown.
pub(crate) async fn run(conninfo: Conninfo, complaint: watch::Sender<Complaint>, shutdown: CancellationToken) {
    let ticker = Ticker { conninfo, complaint, every: true };
    tokio::select! {
        () = ticker.run() => {}
        () = shutdown.cancelled() => {}
    }
}

struct Ticker {
    conninfo: Conninfo,
    complaint: watch::Sender<Complaint>,
    /// Everything is to be compared: who knows what was not captured.
    every: bool,
}

impl Ticker {
    async fn run(mut self) {
        let mut pause = INTERVAL;
        loop {
            let began = Instant::now();
            let failure = self.tick_on_one_connection().await;
            // What worked for a while is tried again at once.
            pause = if began.elapsed() > RETRY_LONGEST { INTERVAL } else { (pause * 2).min(RETRY_LONGEST) };
            self.complain(&failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// Until something fails.
    async fn tick_on_one_connection(&mut self) -> Failure {
        let mut client = match connect::source(&self.conninfo).await {
            Ok(client) => client,
            Err(failure) => return failure,
        };
        loop {
            let began = Instant::now();
            let ticked = tokio::time::timeout(ANSWER_TIMEOUT, capture::tick(&mut client, self.every, PATIENCE));
            match ticked.await {
                Ok(Ok(Some(tick))) => self.note(&tick),
                Ok(Ok(None)) => {
                    return Failure::new("the source does not capture DDL, roles and grants")
                        .hint("run `walcast setup`");
                }
                Ok(Err(error)) => return error.into(),
                Err(_) => return Failure::new("the source does not answer"),
            }
            tokio::time::sleep((began.elapsed() * REST_FACTOR).clamp(INTERVAL, REST_LONGEST)).await;
        }
    }

    /// What was done while event triggers did not fire is only found by comparing everything.
    fn note(&mut self, tick: &Tick) {
        self.every = !tick.blind.is_empty();
        let complaint = match tick.blind.is_empty() {
            true if tick.failed > 0 => Some(format!("{} objects of the source cannot be described", tick.failed)),
            true => None,
            false => Some(format!(
                "DDL is not captured: event trigger {} (hint: run `walcast setup`; until then changes are found late)",
                tick.blind.join(", ")
            )),
        };
        self.say(complaint);
    }

    fn complain(&self, failure: &Failure) {
        let hint = failure.hint_text().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        self.say(Some(format!("roles, grants and sequences are not looked at: {failure}{hint}")));
    }

    /// Each complaint once, and its end.
    fn say(&self, complaint: Complaint) {
        self.complaint.send_if_modified(|current| {
            let modified = *current != complaint;
            match &complaint {
                Some(complaint) if modified => tracing::warn!("{complaint}"),
                None if modified => tracing::info!("DDL, roles, grants and sequences are captured"),
                _ => {}
            }
            *current = complaint;
            modified
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(blind: &[&str], failed: u64) -> Tick {
        let blind = blind.iter().map(|&text| text.to_owned()).collect();
        Tick { changes: 0, roles: 0, sequences: 0, failed, blind }
    }

    #[test]
    fn after_blindness_everything_is_compared_once() {
        let complaint = watch::Sender::new(None);
        let mut ticker = Ticker { conninfo: Conninfo::parse("host=x").unwrap(), complaint, every: true };
        ticker.note(&tick(&[], 0));
        assert!(!ticker.every && ticker.complaint.borrow().is_none());
        ticker.note(&tick(&["walcast_drop is missing"], 0));
        assert!(ticker.every);
        assert!(ticker.complaint.borrow().as_ref().is_some_and(|text| text.contains("walcast_drop is missing")));
        ticker.note(&tick(&[], 1));
        assert!(!ticker.every && ticker.complaint.borrow().is_some());
        ticker.note(&tick(&[], 0));
        assert!(ticker.complaint.borrow().is_none());
    }
}
