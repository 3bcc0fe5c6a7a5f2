//! What of the process's surroundings a connection depends on.

use std::collections::HashMap;
use std::path::PathBuf;

/// Environment variables, home directory and user of the operating system; a test makes its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: HashMap<String, String>,
    pub(crate) uid: u32,
    passwd_entry: Option<PasswdEntry>,
}

#[derive(Debug, Clone)]
struct PasswdEntry {
    user: String,
    home: PathBuf,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Environment {
        // A variable that is not UTF-8 is as good as none: no parameter can hold it.
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let uid = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Environment { variables: variables.collect(), uid, passwd_entry: passwd_entry(&passwd, uid) }
    }

    /// A variable that is set, be it to nothing.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn home(&self) -> Option<PathBuf> {
        let variable = self.variable("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        variable.or_else(|| self.passwd_entry.as_ref().map(|entry| entry.home.clone()))
    }

    /// The name of the effective user. Users that only a directory service knows are found by `LOGNAME` or `USER`.
    pub(crate) fn os_user(&self) -> Option<String> {
        let entry = self.passwd_entry.as_ref().map(|entry| entry.user.clone());
        entry.or_else(|| ["LOGNAME", "USER"].iter().find_map(|name| self.variable(name)).map(str::to_owned))
    }

    #[cfg(test)]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Environment {
        self.variables.insert(name.to_owned(), value.into());
        self
    }
}

fn passwd_entry(passwd: &str, uid: u32) -> Option<PasswdEntry> {
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find_map(|fields| match fields[..] {
        [user, _, id, _, _, home, ..] if id.parse() == Ok(uid) => {
            Some(PasswdEntry { user: user.to_owned(), home: home.into() })
        }
        _ => None,
    })
}
