//! The operating system's user that owns a cluster.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// Whom the server runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user of this process.
    Myself,
    /// The user `postgres`, because this process is root's.
    Other { uid: u32, gid: u32 },
}

impl Owner {
    /// Who it has to be.
    pub(crate) fn find() -> Result<Owner, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Owner::Myself);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::file("read", "/etc/passwd"))?;
        let (uid, gid) = parse_passwd(&passwd, "postgres").ok_or(Error::NoServerUser)?;
        Ok(Owner::Other { uid, gid })
    }

    /// Makes `command` run as this user, in a directory that it can enter, without the caller's `PG*` variables.
    pub(crate) fn apply(self, command: &mut Command, directory: &Path) {
        if let Owner::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command.current_dir(directory);
        without_pg_variables(command);
    }

    /// Gives `path` to this user.
    pub(crate) fn take(self, path: &Path) -> Result<(), Error> {
        match self {
            Owner::Myself => Ok(()),
            Owner::Other { uid, gid } => {
                chown(path, Some(uid), Some(gid)).map_err(Error::file("change the owner of", path))
            }
        }
    }

    /// `$TMPDIR` unless the user could not enter it or a socket's path in it would be too long.
    pub(crate) fn temporary_root(self) -> PathBuf {
        const LONGEST: usize = 60;
        let wanted = std::env::temp_dir();
        let enterable = self == Owner::Myself || everyone_can_enter(&wanted);
        if enterable && wanted.as_os_str().len() <= LONGEST { wanted } else { PathBuf::from("/tmp") }
    }
}

fn everyone_can_enter(path: &Path) -> bool {
    let enterable = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    path.ancestors().all(enterable)
}

/// Keeps `PGOPTIONS`, `PGSERVICE` and the like of the caller away from `command`.
pub(crate) fn without_pg_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}

/// The user and group id of `user` in the text of `/etc/passwd`.
fn parse_passwd(passwd: &str, user: &str) -> Option<(u32, u32)> {
    let fields =
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&user))?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_user_are_read_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(parse_passwd(passwd, "postgres"), Some((101, 104)));
        assert_eq!(parse_passwd(passwd, "post"), None);
    }
}
