//! What the service manager is told, over the datagram socket that it names in `NOTIFY_SOCKET` (`sd_notify(3)`): that the
//! service is ready, what it does, that it reads its configuration again, that it stops, and that it is alive.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the environment says; children are not to speak for the service.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The way to the service manager, if there is one.
#[derive(Default)]
pub(crate) struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    is_ready: AtomicBool,
}

impl Notifier {
    /// As the environment says. A service manager that cannot be told is a warning, not a reason not to run.
    pub(crate) fn from_env() -> Notifier {
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Notifier::default() };
        match connect(&name) {
            Ok(manager) => Notifier { manager: Some(manager), watchdog, is_ready: AtomicBool::new(false) },
            Err(error) => {
                tracing::warn!(%error, "cannot tell the service manager anything");
                Notifier::default()
            }
        }
    }

    /// Whether somebody is told.
    pub(crate) fn is_there(&self) -> bool {
        self.manager.is_some()
    }

    /// Within which the manager wants to hear that the service is alive.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Whether [`Self::ready`] was said.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Relaxed)
    }

    /// The service does what it is there for.
    pub(crate) fn ready(&self) {
        self.is_ready.store(true, Relaxed);
        self.send("READY=1");
    }

    /// What it does, in words.
    pub(crate) fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", crate::failure::one_line(text)));
    }

    /// It is alive.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// It reads its configuration again. Before it was ready that is nothing to tell.
    pub(crate) fn reloading(&self) {
        if self.is_ready() {
            let now = clock_gettime(ClockId::Monotonic);
            let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
        }
    }

    /// It has done so.
    pub(crate) fn reloaded(&self) {
        if self.is_ready() {
            self.send("READY=1");
        }
    }

    /// It ends.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A name that begins with @ is one without a file.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read is not waited for.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// The manager's patience; none where it is not meant for this process.
fn watchdog(microseconds: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds = microseconds?.parse().ok().filter(|us| is_ours && *us > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Notifier {
        /// One that tells a socket of a test.
        pub(crate) fn to(name: &OsStr, watchdog: Option<Duration>) -> Notifier {
            Notifier { manager: Some(connect(name).unwrap()), watchdog, is_ready: AtomicBool::new(false) }
        }
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(watchdog(text("1500000"), None, 7), Some(Duration::from_millis(1500)));
        assert_eq!(watchdog(text("1500000"), text("7"), 7), Some(Duration::from_millis(1500)));
        assert_eq!(watchdog(text("1500000"), text("8"), 7), None);
        for strange in ["", "0", "-1", "x"] {
            assert_eq!(watchdog(text(strange), None, 7), None, "{strange}");
        }
        assert_eq!(watchdog(None, text("7"), 7), None);
    }

    #[test]
    fn the_manager_is_told_in_its_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let abstract_name = format!("walcast-test-{}", std::process::id());
        let of_name = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        for (manager, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&of_name).unwrap(), format!("@{abstract_name}").into()),
        ] {
            let notifier = Notifier::to(&name, None);
            let heard = || {
                let mut bytes = [0; 256];
                let length = manager.recv(&mut bytes).unwrap();
                String::from_utf8(bytes[..length].to_vec()).unwrap()
            };
            notifier.reloading();
            notifier.status("waits\nfor the source");
            assert_eq!(heard(), "STATUS=waits for the source", "a reload before it is ready is not told");
            notifier.ready();
            notifier.reloading();
            notifier.reloaded();
            notifier.stopping();
            assert_eq!(heard(), "READY=1");
            let reloading = heard();
            let microseconds = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(microseconds.parse::<u64>().unwrap() > 0);
            assert_eq!((heard(), heard()), ("READY=1".to_owned(), "STOPPING=1".to_owned()));
        }
    }

    #[test]
    fn nobody_is_told_where_nobody_asks() {
        let notifier = Notifier::default();
        notifier.ready();
        assert!(!notifier.is_there() && notifier.is_ready());
    }
}
