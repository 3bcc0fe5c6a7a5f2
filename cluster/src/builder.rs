//! Choices made before a cluster starts.

use std::path::PathBuf;

use crate::error::Error;
use crate::installation::{Installation, installations};
use crate::server::Cluster;

/// How a cluster is to be made. Made by [`Cluster::builder`].
#[derive(Clone, Default)]
pub struct Builder {
    choice: Choice,
    pub(crate) password: Option<String>,
    pub(crate) initdb_arguments: Vec<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Clone, Default)]
enum Choice {
    #[default]
    Newest,
    Major(u32),
    BinDir(PathBuf),
    Given(Installation),
}

/// What every cluster is set to unless the builder says otherwise.
const SETTINGS: [(&str, &str); 13] = [
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    ("max_connections", "100"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "20"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %q%a "),
    ("log_min_messages", "warning"),
    ("logging_collector", "off"),
];

impl Builder {
    /// Uses the installation of this major version among those that the environment offers.
    #[must_use]
    pub fn version(mut self, major: u32) -> Builder {
        self.choice = Choice::Major(major);
        self
    }

    /// Uses the programs in this directory, or in its `bin`.
    #[must_use]
    pub fn bin_dir(mut self, bin_dir: impl Into<PathBuf>) -> Builder {
        self.choice = Choice::BinDir(bin_dir.into());
        self
    }

    /// Uses this installation.
    #[must_use]
    pub fn installation(mut self, installation: Installation) -> Builder {
        self.choice = Choice::Given(installation);
        self
    }

    /// Asks everyone for a password by SCRAM; the superuser's is this one. Without it every local user is trusted.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Builder {
        self.password = Some(password.into());
        self
    }

    /// Makes what was committed survive a crash of the machine. Default: off.
    #[must_use]
    pub fn fsync(self, on: bool) -> Builder {
        let value = if on { "on" } else { "off" };
        self.set("fsync", value).set("full_page_writes", value)
    }

    /// Keeps everything in this directory, for example of a tmpfs, which the server's user has to be able to enter.
    /// Default: the system's directory for temporary files.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Builder {
        self.directory = Some(directory.into());
        self
    }

    /// Sets a parameter of the server; the last one counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Builder {
        self.settings.push((name.to_string(), value.into()));
        self
    }

    /// Gives `initdb` another argument, for example `--wal-segsize=1`.
    #[must_use]
    pub fn initdb_argument(mut self, argument: impl Into<String>) -> Builder {
        self.initdb_arguments.push(argument.into());
        self
    }

    /// Makes the cluster and starts its server.
    ///
    /// # Errors
    ///
    /// When no such PostgreSQL is installed, or the server does not get ready.
    pub fn start(self) -> Result<Cluster, Error> {
        Cluster::create(self)
    }

    pub(crate) fn chosen_installation(&self) -> Result<Installation, Error> {
        match &self.choice {
            Choice::Newest => Installation::newest(),
            Choice::BinDir(path) => Installation::at(path),
            Choice::Given(installation) => Ok(installation.clone()),
            Choice::Major(major) => of_major(*major),
        }
    }

    /// The text of `postgresql.conf`.
    pub(crate) fn configuration(&self) -> String {
        let defaults = SETTINGS.iter().map(|&(name, value)| (name, value));
        let chosen = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        defaults.chain(chosen).map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
    }
}

fn of_major(major: u32) -> Result<Installation, Error> {
    let found = installations()?.into_iter().find(|installation| installation.major() == major);
    found.map_or_else(|| Installation::at(format!("/usr/lib/postgresql/{major}/bin")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_setting_comes_after_an_earlier_one() {
        let text = Builder::default().fsync(true).set("log_line_prefix", "it's %m").configuration();
        let off = text.find("fsync = 'off'").unwrap();
        let on = text.find("fsync = 'on'").unwrap();
        assert!(off < on);
        assert!(text.ends_with("log_line_prefix = 'it''s %m'\n"));
    }
}
