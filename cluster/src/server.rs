//! A cluster and its server process.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::builder::Builder;
use crate::client::{one_line, psql};
use crate::conninfo::Conninfo;
use crate::error::Error;
use crate::installation::Installation;
use crate::owner::Owner;
use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::spawner;
use crate::template::{InitOptions, SUPERUSER, Template};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// How many ports are tried when somebody else takes the chosen one first.
const PORT_ATTEMPTS: usize = 10;
const PORT_TAKEN: &str = "could not create any TCP/IP sockets";
/// Processes of a killed server may hold its shared memory for a moment.
const MEMORY_IN_USE: &str = "is still in use";

/// A throw-away PostgreSQL cluster. Dropping it stops the server and removes everything.
///
/// All methods take `&self`, so that a cluster can be shared by threads.
pub struct Cluster {
    installation: Installation,
    owner: Owner,
    port: u16,
    password: Option<String>,
    process: Mutex<Option<Child>>,
    directory: Scratch,
    _template: Arc<Template>,
}

impl Cluster {
    /// Choices for a cluster, to be ended by [`Builder::start`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A cluster of the newest installation, with the default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start() -> Result<Cluster, Error> {
        Cluster::builder().start()
    }

    pub(crate) fn create(builder: Builder) -> Result<Cluster, Error> {
        let owner = Owner::find()?;
        let options = InitOptions {
            installation: builder.chosen_installation()?,
            password: builder.password.clone(),
            arguments: builder.initdb_arguments.clone(),
        };
        let template = Template::obtain(&options, owner)?;
        let directory = match &builder.directory {
            Some(parent) => Scratch::new_in(owner, parent)?,
            None => Scratch::new(owner)?,
        };
        template.copy_to(&directory.path().join("data"), owner)?;
        let mut cluster = Cluster {
            installation: options.installation,
            owner,
            port: 0,
            password: builder.password.clone(),
            process: Mutex::new(None),
            directory,
            _template: template,
        };
        append(&cluster.data_dir().join("postgresql.conf"), &builder.configuration())?;
        cluster.start_on_free_port()?;
        Ok(cluster)
    }

    fn start_on_free_port(&mut self) -> Result<(), Error> {
        let mut attempts = PORT_ATTEMPTS;
        loop {
            self.port = free_port().map_err(Error::file("listen on", "127.0.0.1"))?;
            attempts -= 1;
            match self.resume() {
                Err(Error::NotStarted { log, .. }) if attempts > 0 && log.contains(PORT_TAKEN) => continue,
                result => return result,
            }
        }
    }

    /// The TCP port on 127.0.0.1. It stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The installation whose programs it runs.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The major version, for example 15.
    pub fn version(&self) -> u32 {
        self.installation.major()
    }

    /// How the superuser connects to `database` by TCP.
    pub fn conninfo(&self, database: &str) -> Conninfo {
        self.conninfo_at("127.0.0.1", database)
    }

    /// How the superuser connects to `database` by the unix socket.
    pub fn conninfo_unix(&self, database: &str) -> Conninfo {
        self.conninfo_at(&self.socket_dir().to_string_lossy(), database)
    }

    fn conninfo_at(&self, host: &str, database: &str) -> Conninfo {
        let conninfo = Conninfo::default().with("host", host).with("port", self.port.to_string());
        let conninfo = conninfo.with("user", SUPERUSER).with("dbname", database);
        self.password.iter().fold(conninfo, |conninfo, password| conninfo.with("password", password))
    }

    /// Runs a script by `psql` as superuser and gives the rows: one per line, columns parted by `|`.
    ///
    /// Each statement is a transaction of its own, and the commands of `psql` can be used. The first error ends it.
    ///
    /// # Errors
    ///
    /// With the server's message when a statement fails.
    pub fn sql(&self, database: &str, script: &str) -> Result<String, Error> {
        let host = self.socket_dir().to_string_lossy();
        let conninfo = self.conninfo_at(&host, database).without("password");
        psql(&self.installation, &conninfo.to_string(), self.password.as_deref(), script)
    }

    /// Creates a database, whatever its name.
    ///
    /// # Errors
    ///
    /// When there is one already.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        self.sql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).map(drop)
    }

    /// The process id of the server while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// Starts the server again after a stop or a kill.
    ///
    /// # Errors
    ///
    /// When it runs already, or does not get ready within a minute.
    pub fn resume(&self) -> Result<(), Error> {
        let mut process = self.process();
        if process.is_some() {
            return Err(Error::Running { port: self.port });
        }
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let mut child = self.spawn()?;
            match self.wait_until_ready(&mut child, deadline) {
                Ok(()) => break *process = Some(child),
                Err(Error::NotStarted { log, .. }) if log.contains(MEMORY_IN_USE) && Instant::now() < deadline => {
                    thread::sleep(POLL_PAUSE);
                }
                Err(error) => return end(child).and(Err(error)),
            }
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Child, Error> {
        let program = self.installation.program("postgres");
        let log = open_log(&self.log_file())?;
        let errors = log.try_clone().map_err(Error::file("open", self.log_file()))?;
        let mut command = Command::new(&program);
        command.arg("-D").arg(self.data_dir()).arg("-k").arg(self.socket_dir());
        command.args(["-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.owner.apply(&mut command, self.directory.path());
        spawner::spawn(command).map_err(|source| Error::Spawn { program, source })
    }

    fn wait_until_ready(&self, child: &mut Child, deadline: Instant) -> Result<(), Error> {
        while !self.says_ready(child.id()) {
            if child.try_wait().map_err(Error::file("wait for", "postgres"))?.is_some() {
                return Err(Error::NotStarted { port: self.port, log: self.log_line() });
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out("ready", START_TIMEOUT));
            }
            thread::sleep(POLL_PAUSE);
        }
        Ok(())
    }

    /// Whether the server says in `postmaster.pid` that it takes connections: its first line is the process, its
    /// eighth the state.
    fn says_ready(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(self.data_dir().join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    /// Stops the server as `pg_ctl stop -m fast`: sessions are ended, walsenders get everything, a checkpoint is made.
    ///
    /// # Errors
    ///
    /// When it is not running, or takes longer than a minute.
    pub fn stop_fast(&self) -> Result<(), Error> {
        self.stop(Signal::INT)
    }

    /// Stops the server as `pg_ctl stop -m immediate`: the next start recovers from the WAL.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop_fast`].
    pub fn stop_immediate(&self) -> Result<(), Error> {
        self.stop(Signal::QUIT)
    }

    /// Kills the server and all its sessions by SIGKILL.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop_fast`].
    pub fn kill9(&self) -> Result<(), Error> {
        let sessions = self.pid().map(children_of).unwrap_or_default();
        self.stop(Signal::KILL)?;
        // A session that saw the server die may have gone by itself.
        sessions.into_iter().for_each(|pid| drop(signal(pid, Signal::KILL)));
        Ok(())
    }

    /// Stops fast and starts again.
    ///
    /// # Errors
    ///
    /// As [`Cluster::stop_fast`] and [`Cluster::resume`].
    pub fn restart(&self) -> Result<(), Error> {
        self.stop_fast()?;
        self.resume()
    }

    fn stop(&self, how: Signal) -> Result<(), Error> {
        let mut process = self.process();
        let child = process.as_mut().ok_or(Error::NotRunning { port: self.port })?;
        signal(child.id(), how)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while child.try_wait().map_err(Error::file("wait for", "postgres"))?.is_none() {
            if Instant::now() >= deadline {
                return Err(self.timed_out("stopped", STOP_TIMEOUT));
            }
            thread::sleep(POLL_PAUSE);
        }
        *process = None;
        Ok(())
    }

    /// Makes the server read its configuration and `pg_hba.conf` again.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn reload(&self) -> Result<(), Error> {
        signal(self.pid().ok_or(Error::NotRunning { port: self.port })?, Signal::HUP)
    }

    /// Replaces `pg_hba.conf`. The server reads it at the next [`Cluster::reload`] or start.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn write_hba(&self, lines: &str) -> Result<(), Error> {
        self.write_file("pg_hba.conf", lines.as_bytes()).map(drop)
    }

    /// Appends to `postgresql.conf`. The server reads it at the next [`Cluster::reload`] or start.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn append_configuration(&self, lines: &str) -> Result<(), Error> {
        append(&self.data_dir().join("postgresql.conf"), &format!("{lines}\n"))
    }

    /// Writes a file of the server's user, mode 0600, into the data directory, for example a certificate's key.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub fn write_file(&self, name: &str, contents: &[u8]) -> Result<PathBuf, Error> {
        let path = self.data_dir().join(name);
        write_private(&path, contents)?;
        self.owner.take(&path)?;
        Ok(path)
    }

    /// The last `lines` lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        // The log is shown beside an error that matters more than a log that can't be read.
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The file that the server writes its log to.
    pub fn log_file(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    fn log_line(&self) -> String {
        one_line(&self.log_tail(5))
    }

    fn timed_out(&self, state: &'static str, after: Duration) -> Error {
        Error::Timeout { port: self.port, state, seconds: after.as_secs(), log: self.log_line() }
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.pid().is_some() && self.stop_immediate().is_err() {
            // Nothing can be reported from here; SIGKILL is what is left to do.
            drop(self.kill9());
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.path();
        f.debug_struct("Cluster")
            .field("version", &self.version())
            .field("port", &self.port)
            .field("directory", &directory)
            .finish()
    }
}

/// Ends a server that did not get ready.
fn end(mut child: Child) -> Result<(), Error> {
    if child.try_wait().map_err(Error::file("wait for", "postgres"))?.is_none() {
        signal(child.id(), Signal::KILL)?;
        child.wait().map_err(Error::file("wait for", "postgres"))?;
    }
    Ok(())
}

fn signal(pid: u32, signal: Signal) -> Result<(), Error> {
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = target.map_or(Err(rustix::io::Errno::SRCH), |target| kill_process(target, signal));
    sent.map_err(|errno| Error::Signal { pid, source: errno.into() })
}

/// The processes whose parent is `parent`: in `/proc/PID/stat` it is the second field behind the name in parentheses.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(contents)).map_err(Error::file("write", path))
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::file("write", path))
}

fn open_log(path: &Path) -> Result<fs::File, Error> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(Error::file("open", path))
}
