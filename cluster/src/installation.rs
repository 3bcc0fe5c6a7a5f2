//! Where PostgreSQL's programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// The environment variable that names the installations to use, separated by colons.
///
/// Each entry is a bin directory, a directory with a `bin` in it, or a major version of Debian's packages (`17`).
pub const VERSIONS_VARIABLE: &str = "WALCAST_TEST_PG";

const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// One set of PostgreSQL's programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Installation {
    bin_dir: PathBuf,
    major: u32,
}

impl Installation {
    /// The installation in `bin_dir`, or in its `bin`.
    ///
    /// # Errors
    ///
    /// When there is no `postgres` or no `initdb`, or `postgres --version` is not understood.
    pub fn at(bin_dir: impl AsRef<Path>) -> Result<Installation, Error> {
        let bin_dir = server_dir(bin_dir.as_ref())
            .ok_or_else(|| Error::NotInstalled { searched: bin_dir.as_ref().display().to_string() })?;
        let major = ask_version(&bin_dir.join("postgres"))?;
        Ok(Installation { bin_dir, major })
    }

    /// The newest one that the environment offers: [`VERSIONS_VARIABLE`], else `pg_config --bindir`, else Debian's.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn newest() -> Result<Installation, Error> {
        let newest = installations()?.pop();
        newest.ok_or_else(|| Error::NotInstalled { searched: searched_places() })
    }

    /// Where the programs are.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The major version, for example 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A client program, for example `psql`: beside the server, else Debian's newest, else on the `PATH`.
    pub fn client(&self, name: &str) -> Option<PathBuf> {
        let beside = Some(self.program(name)).filter(|path| path.is_file());
        beside.or_else(|| debian_program(name)).or_else(|| on_path(name))
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// All installations that the environment offers, oldest first.
///
/// [`VERSIONS_VARIABLE`] alone decides when it is set; without it `pg_config --bindir` comes before Debian's directories.
///
/// # Errors
///
/// When an entry of the variable has no server in it.
pub fn installations() -> Result<Vec<Installation>, Error> {
    let mut found = match env::var(VERSIONS_VARIABLE) {
        Ok(list) if !list.is_empty() => list.split(':').map(named).collect::<Result<Vec<_>, _>>()?,
        _ => discovered()?,
    };
    found.sort_by_key(|installation| installation.major);
    Ok(found)
}

fn named(entry: &str) -> Result<Installation, Error> {
    match entry.parse::<u32>() {
        Ok(major) => Installation::at(Path::new(DEBIAN_ROOT).join(major.to_string())),
        Err(_) => Installation::at(entry),
    }
}

fn discovered() -> Result<Vec<Installation>, Error> {
    if let Some(configured) = pg_config_bin_dir().as_deref().and_then(server_dir) {
        return Ok(vec![Installation::at(configured)?]);
    }
    debian_bin_dirs().iter().map(Installation::at).collect()
}

/// Debian's bin directories that hold a server, in no order.
fn debian_bin_dirs() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(DEBIAN_ROOT) else { return Vec::new() };
    entries.flatten().filter_map(|entry| server_dir(&entry.path())).collect()
}

fn pg_config_bin_dir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim_end()))
}

/// `dir` or its `bin`, whichever has a server in it.
fn server_dir(dir: &Path) -> Option<PathBuf> {
    let has_server = |dir: &PathBuf| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    [dir.to_path_buf(), dir.join("bin")].into_iter().find(has_server)
}

fn ask_version(program: &Path) -> Result<u32, Error> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|source| Error::Spawn { program: program.to_path_buf(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    parse_major(&text).ok_or(Error::Version { program: program.to_path_buf(), output: text })
}

/// The major version in `postgres (PostgreSQL) 15.20 (Debian …)` or `postgres (PostgreSQL) 19devel`.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.strip_prefix("postgres (PostgreSQL) ")?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

fn searched_places() -> String {
    match env::var(VERSIONS_VARIABLE) {
        Ok(list) if !list.is_empty() => format!("{VERSIONS_VARIABLE}={list}"),
        _ => format!("\"pg_config --bindir\" and {DEBIAN_ROOT}/*/bin"),
    }
}

fn debian_program(name: &str) -> Option<PathBuf> {
    let mut found: Vec<_> = debian_bin_dirs().iter().filter_map(|dir| Installation::at(dir).ok()).collect();
    found.sort_by_key(Installation::major);
    found.iter().rev().map(|installation| installation.program(name)).find(|path| path.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel"), Some(19));
        assert_eq!(parse_major("psql (PostgreSQL) 15.20"), None);
    }

    #[test]
    fn a_directory_without_a_server_is_refused_by_name() {
        let error = Installation::at("/nonexistent").unwrap_err();
        assert_eq!(error.to_string(), "no PostgreSQL server found, looked in /nonexistent");
        assert!(error.hint().unwrap().contains("apt-get install postgresql"));
    }
}
