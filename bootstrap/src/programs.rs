//! PostgreSQL's own programs: `pg_dump` knows what a schema is, `pg_restore` in which order it is made.
//!
//! What they read and write is kept in anonymous files in memory, which end with this process whatever happens to it.
//! Passwords reach them by such a file, never by arguments or variables.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use connection::Conninfo;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::Command;

use crate::error::Error;

pub(crate) const PG_DUMP: &str = "pg_dump";
pub(crate) const PG_RESTORE: &str = "pg_restore";

/// Where packages put the programs of one version each.
const ROOTS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Both programs, of one version.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    dir: PathBuf,
    /// `pg_restore` begins with a setting that the target does not know.
    pub(crate) too_new: bool,
}

/// From here on `pg_restore` sets `transaction_timeout`, whatever server it speaks to, and servers know it.
const TRANSACTION_TIMEOUT_MAJOR: u32 = 17;

impl Programs {
    /// Finds those that fit: not older than the source, and the oldest of those that are not older than the target, or
    /// else the newest.
    ///
    /// `pg_dump` refuses a newer server; `pg_restore` may say to an older one what that does not understand.
    pub(crate) async fn find(source_major: u32, target_major: u32) -> Result<Programs, Error> {
        let mut found = BTreeMap::new();
        for dir in candidates().await {
            if let Some(major) = version(&dir).await {
                // Where Debian's wrapper on the PATH and the program itself say the same, the program itself is taken.
                found.insert(major, dir);
            }
        }
        let fitting = found.range(source_major.max(target_major)..).next();
        let newest = || found.range(source_major..).next_back();
        let is_new = |major: u32| major >= TRANSACTION_TIMEOUT_MAJOR;
        let programs = |(major, dir): (&u32, &PathBuf)| Programs {
            dir: dir.clone(),
            too_new: is_new(*major) && !is_new(target_major),
        };
        let chosen = fitting.or_else(newest).map(programs);
        chosen.ok_or_else(|| Error::NoProgram {
            program: PG_DUMP,
            wanted: source_major,
            found: found.keys().next_back().map_or_else(|| "none".to_owned(), u32::to_string),
        })
    }

    /// Runs one to its end and gives what it printed.
    pub(crate) async fn run(
        &self,
        program: &'static str,
        doing: &'static str,
        arguments: &[&str],
        server: Option<&Server>,
    ) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(program);
        let mut command = Command::new(&path);
        command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        if let Some(server) = server {
            server.apply(&mut command);
        }
        end_with_parent(&mut command);
        let output = command.output().await;
        let output = output.map_err(|source| Error::File { doing: "run", path, source })?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(Error::Program { program, doing, message: complaint(&output.stderr, output.status) }),
        }
    }
}

/// Directories that may hold the programs, those of the PATH first.
async fn candidates() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().await {
        dirs.push(String::from_utf8_lossy(&output.stdout).trim_end().into());
    }
    for (root, prefix) in ROOTS {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let versions = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        dirs.extend(versions.map(|entry| entry.path().join("bin")));
    }
    dirs.retain(|dir| dir.join(PG_DUMP).is_file() && dir.join(PG_RESTORE).is_file());
    dirs
}

async fn version(dir: &Path) -> Option<u32> {
    let output = Command::new(dir.join(PG_DUMP)).arg("--version").stderr(Stdio::null()).output().await.ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// The major version in `pg_dump (PostgreSQL) 15.20 (Debian …)`.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

/// The first thing a program complained of, in one line. The statement that it shows after it may hold secrets.
fn complaint(stderr: &[u8], status: std::process::ExitStatus) -> String {
    let text = String::from_utf8_lossy(stderr);
    let errors = text.lines().filter_map(|line| line.split_once("error: ").map(|(_, said)| said));
    let entry = text.lines().find_map(|line| line.split_once("from TOC entry ").map(|(_, entry)| entry));
    let said = errors.into_iter().next().or_else(|| text.lines().next());
    let said = said.map_or_else(|| format!("it ended with {status}"), str::to_owned);
    let at = entry.map(|entry| format!(" (entry {entry})")).unwrap_or_default();
    said.trim_start_matches("could not execute query: ").to_owned() + &at
}

/// The program ends when this process does, however that ends.
fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let ask_kernel = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        match getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotConnected.into()),
        }
    };
    // SAFETY: the closure runs between fork and exec and makes two system calls, without allocation or locks.
    unsafe { command.pre_exec(ask_kernel) };
}

/// How a program connects.
#[derive(Debug)]
pub(crate) struct Server {
    conninfo: String,
    passfile: Option<Anonymous>,
    /// A password that a password file cannot hold.
    password: Option<String>,
}

impl Server {
    /// The same server and user; `options` are further settings of its sessions.
    pub(crate) fn new(conninfo: &Conninfo, options: &str) -> Result<Server, Error> {
        let given = conninfo.get("options").map(str::to_owned).or_else(|| env::var("PGOPTIONS").ok());
        let options = format!("{} {options}", given.unwrap_or_default());
        let password = conninfo.get("password").filter(|password| !password.is_empty()).map(str::to_owned);
        let set = conninfo.without_secrets().with("options", options);
        let conninfo = set.map_err(|error| Error::Connect {
            whom: crate::Whom::Target,
            source: connection::ConnectError::Conninfo(error),
        })?;
        // A line of the file ends where the password has a line's end.
        let (in_file, in_variable) = match password {
            Some(password) if password.contains('\n') => (None, Some(password)),
            other => (other, None),
        };
        let line = |password: String| format!("*:*:*:*:{}\n", password.replace('\\', r"\\").replace(':', r"\:"));
        let passfile = in_file.map(|password| Anonymous::with("passfile", line(password).as_bytes())).transpose()?;
        Ok(Server { conninfo: conninfo.to_string(), passfile, password: in_variable })
    }

    fn apply(&self, command: &mut Command) {
        command.arg("-d").arg(&self.conninfo).arg("-w");
        if let Some(passfile) = &self.passfile {
            command.env_remove("PGPASSWORD").env("PGPASSFILE", passfile.path());
        }
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password);
        }
    }
}

/// A file in memory that only this user can open, by a path, as long as this process lives.
#[derive(Debug)]
pub(crate) struct Anonymous {
    file: File,
}

impl Anonymous {
    pub(crate) fn new(name: &str) -> Result<Anonymous, Error> {
        let made = memfd_create(name, MemfdFlags::CLOEXEC)
            .and_then(|fd| fchmod(&fd, Mode::RUSR | Mode::WUSR).map(|()| fd))
            .map_err(|errno| Error::File { doing: "make", path: name.into(), source: errno.into() })?;
        Ok(Anonymous { file: made.into() })
    }

    pub(crate) fn with(name: &str, contents: &[u8]) -> Result<Anonymous, Error> {
        let mut made = Anonymous::new(name)?;
        let written = made.file.write_all(contents);
        written.map_err(|source| Error::File { doing: "write", path: name.into(), source })?;
        Ok(made)
    }

    /// Other processes of this user open it by this.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_program_prints() {
        assert_eq!(parse_major("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("pg_dump (PostgreSQL) 19devel"), Some(19));
        assert_eq!(parse_major("bash: pg_dump: not found"), None);
    }

    #[test]
    fn x12_a_password_is_in_the_file_alone() {
        let conninfo = Conninfo::parse(r"host=h user=u password='ca:na\\ry'").unwrap();
        let server = Server::new(&conninfo, "-c a=b").unwrap();
        assert!(!server.conninfo.contains("ca") && server.conninfo.contains("host=h"), "{}", server.conninfo);
        let path = server.passfile.as_ref().unwrap().path();
        assert_eq!(fs::read_to_string(&path).unwrap(), "*:*:*:*:ca\\:na\\\\ry\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_complaint_is_the_first_error_without_the_statement() {
        let stderr = b"pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 7; 0 0 ACL x y\n\
            pg_restore: error: could not execute query: ERROR:  role \"x\" does not exist\n\
            Command was: CREATE USER MAPPING canary\npg_restore: error: second";
        let text = complaint(stderr, std::process::ExitStatus::from_raw(256));
        assert_eq!(text, "ERROR:  role \"x\" does not exist (entry 7; 0 0 ACL x y)");
    }
}
