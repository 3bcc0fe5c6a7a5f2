//! The service manager (systemd) is told that the service is ready, what it does, and that it is alive.
//!
//! Alive is more than a timer that fires: a status is asked for through the control socket, as `walcast status` does, and
//! answered. That takes the runtime, the socket's task, and every lock that a status needs. A source that is away, a full disk
//! or a target that is stopped are none of it: to be started anew would help none of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Service;
use crate::control::{self, Answer, Request};
use crate::status::Status;

/// How often is looked before the service is ready, and afterwards.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// So many signs of life in the time that the manager waits for one.
const SIGNS: u32 = 3;

/// Tells until the shutdown; nothing to do without a manager.
pub(super) async fn run(service: Arc<Service>, shutdown: CancellationToken) {
    if !service.notifier.is_there() {
        return;
    }
    tokio::select! {
        () = tell(&service) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn tell(service: &Service) {
    let notifier = &service.notifier;
    let patience = notifier.watchdog();
    let (mut told, mut sign) = (String::new(), None::<Instant>);
    loop {
        let now = words(&service.status());
        if now != told {
            notifier.status(&now);
            told = now;
        }
        if !notifier.is_ready() && service.has_heard_of_source() && answers(service, INTERVALS[1]).await {
            notifier.ready();
        }
        if let Some(patience) = patience.filter(|_| notifier.is_ready())
            && sign.is_none_or(|at| at.elapsed() >= patience / SIGNS)
            && answers(service, patience).await
        {
            notifier.alive();
            sign = Some(Instant::now());
        }
        let interval = INTERVALS[usize::from(notifier.is_ready())];
        tokio::time::sleep(patience.map_or(interval, |patience| interval.min(patience / SIGNS))).await;
    }
}

/// Whether a status is answered through the socket.
async fn answers(service: &Service, within: Duration) -> bool {
    let dir = service.config().log.dir.clone();
    let asked = tokio::time::timeout(within, control::ask(&dir, &Request::Status)).await;
    match asked {
        Ok(Ok(Some(Answer::Status(_)))) => true,
        // Before the log is open nobody listens.
        Ok(Ok(None)) => false,
        Ok(Ok(Some(_)) | Err(_)) | Err(_) => {
            tracing::warn!("the service does not answer on its control socket");
            false
        }
    }
}

impl Service {
    /// The stream is there, or the source is away and will be tried again: what a person got wrong ends the service instead.
    fn has_heard_of_source(&self) -> bool {
        use replication::State::{Retrying, Streaming};
        self.log().is_some() && matches!(*self.stream.state().borrow(), Streaming | Retrying { .. })
    }
}

/// The line that `systemctl status` shows.
fn words(status: &Status) -> String {
    let mut states = BTreeMap::<&str, Vec<&str>>::new();
    for target in &status.targets {
        states.entry(&target.state).or_default().push(&target.name);
    }
    let shown = |(state, names): (&&str, &Vec<&str>)| match matches!(*state, "streaming" | "catching_up") {
        true => format!("{} {state}", names.len()),
        false => format!("{} {state} ({})", names.len(), names.join(", ")),
    };
    let targets = match status.targets.is_empty() {
        true => "none".to_owned(),
        false => states.iter().map(shown).collect::<Vec<_>>().join(", "),
    };
    let error = status.source.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    format!("source: {}{error}; targets: {targets}", status.source.state)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::notify::Notifier;
    use crate::status::{Source, Target};

    #[test]
    fn the_status_is_a_line_that_names_who_needs_somebody() {
        let target = |name: &str, state: &str| Target { name: name.into(), state: state.into(), ..Default::default() };
        let mut status = Status {
            source: Source { state: "streaming".into(), ..Default::default() },
            log: None,
            targets: vec![target("berlin", "streaming"), target("lima", "stopped"), target("tokyo", "streaming")],
        };
        assert_eq!(words(&status), "source: streaming; targets: 1 stopped (lima), 2 streaming");
        status.source = Source { state: "retrying".into(), last_error: Some("no route".into()), ..Default::default() };
        status.targets.clear();
        assert_eq!(words(&status), "source: retrying (no route); targets: none");
    }

    /// A service with an open socket that the test holds.
    fn service(directory: &std::path::Path) -> (Arc<Service>, UnixDatagram) {
        let path = directory.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let text = "[source]\nconninfo = 'host=localhost'\n[log]\ndir = 'log'\n";
        let config = config::Config::parse(&directory.join("walcast.toml"), text).unwrap();
        std::fs::create_dir(&config.log.dir).unwrap();
        let mut service = Service::new(config, CancellationToken::new());
        service.notifier = Notifier::to(path.as_os_str(), Some(Duration::from_millis(30)));
        service.notifier.ready();
        (Arc::new(service), manager)
    }

    async fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        loop {
            match manager.recv(&mut bytes) {
                Ok(length) => return String::from_utf8(bytes[..length].to_vec()).unwrap(),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_service_that_does_not_answer_is_not_alive_and_one_that_answers_is() {
        let directory = tempfile::tempdir().unwrap();
        let (service, manager) = service(directory.path());
        let shutdown = service.shutdown.clone();
        // Somebody has the socket and answers nothing.
        let socket = control::path(&service.config().log.dir);
        let mute = tokio::net::UnixListener::bind(&socket).unwrap();
        let telling = tokio::spawn(run(Arc::clone(&service), shutdown.clone()));
        assert_eq!(heard(&manager).await, "READY=1");
        assert!(heard(&manager).await.starts_with("STATUS=source: connecting"));
        let (asked, _) = mute.accept().await.unwrap();
        let (again, _) = mute.accept().await.unwrap();
        assert_eq!(manager.recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "no sign of life");
        drop((mute, asked, again));
        let listener = control::listen(&service.config().log.dir).unwrap();
        let serving = tokio::spawn(control::serve(listener, Arc::clone(&service), shutdown.clone()));
        for _ in 0..3 {
            assert_eq!(heard(&manager).await, "WATCHDOG=1");
        }
        shutdown.cancel();
        telling.await.unwrap();
        serving.await.unwrap();
    }
}
