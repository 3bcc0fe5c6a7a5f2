//! What a service manager is told: a test holds the socket.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::service::{CATCH_UP, Mirror, until};

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(mirror: &Mirror) -> (Manager, String) {
        let path = mirror.config_file().with_file_name("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        (Manager { socket, heard: Vec::new() }, path.to_str().unwrap().to_owned())
    }

    /// Takes the next message, if there is one soon.
    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        if let Ok(length) = self.socket.recv(&mut bytes) {
            self.heard.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
    }

    /// Waits for a message, and gives where it is in what was heard.
    fn until(&mut self, from: usize, wanted: impl Fn(&str) -> bool) -> usize {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            if let Some(at) = self.heard.iter().skip(from).position(|message| wanted(message)) {
                return from + at;
            }
            assert!(Instant::now() < deadline, "not heard: {:?}", self.heard);
            self.listen();
        }
    }
}

#[test]
fn a_manager_hears_that_the_service_is_ready_alive_reloading_and_stopping() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE account (id int PRIMARY KEY)");
    mirror.set_up();
    let (mut manager, path) = Manager::new(&mirror);
    // The source is away: there is no log yet, and the service is not ready.
    mirror.source.stop_fast().unwrap();
    let service = mirror.run_with(&[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "900000")]);
    manager.until(0, |message| message.starts_with("STATUS=source: retrying ("));
    assert!(
        !manager.heard.iter().any(|message| message == "READY=1" || message == "WATCHDOG=1"),
        "{:?}",
        manager.heard
    );
    mirror.source.resume().unwrap();

    let ready = manager.until(0, |message| message == "READY=1");
    // It answers by then.
    assert_eq!(mirror.status()["targets"][0]["name"], "berlin");
    manager.until(0, |message| message == "STATUS=source: streaming; targets: 1 streaming");
    let sign = manager.until(ready, |message| message == "WATCHDOG=1");
    manager.until(sign + 1, |message| message == "WATCHDOG=1");

    let before = manager.heard.len();
    service.hang_up();
    let reloading = manager.until(before, |message| message.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    manager.until(reloading, |message| message == "READY=1");
    mirror.walcast(&["pause", "berlin"]);
    manager.until(reloading, |message| message == "STATUS=source: streaming; targets: 1 paused (berlin)");
    mirror.walcast(&["resume", "berlin"]);

    let before = manager.heard.len();
    mirror.catch_up(&service);
    service.sigterm();
    manager.until(before, |message| message == "STOPPING=1");
    mirror.undo();
}

#[test]
fn a_service_that_cannot_start_is_never_ready() {
    let mirror = Mirror::new(1);
    mirror.everywhere("CREATE TABLE account (id int PRIMARY KEY)");
    mirror.set_up();
    let service = mirror.run();
    mirror.catch_up(&service);
    service.sigterm();
    let (mut manager, path) = Manager::new(&mirror);
    mirror.at_source("SELECT pg_drop_replication_slot('walcast_it')");
    let mut service = mirror.run_with(&[("NOTIFY_SOCKET", &path)]);
    until("the service gives up", CATCH_UP, || service.ended().is_some());
    assert!(!service.ended().unwrap().success());
    manager.until(0, |message| message == "STOPPING=1");
    assert!(!manager.heard.iter().any(|message| message == "READY=1"), "{:?}", manager.heard);
    drop(service);
    mirror.walcast(&["setup"]);
    mirror.undo();
}
