//! The password file: `host:port:database:user:password`, the first line that fits.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::conninfo::Conninfo;
use crate::environment::Environment;

/// What a line of the file is compared with.
pub(crate) struct Wanted<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: &'a str,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The text of the password file; none when it is missing, or open to others and so not to be trusted.
pub(crate) fn read(info: &Conninfo, environment: &Environment) -> Option<String> {
    let given = info.value("passfile").map(PathBuf::from);
    let path = given.or_else(|| environment.home().map(|home| home.join(".pgpass")))?;
    let metadata = std::fs::metadata(&path).ok()?;
    if let Some(problem) = distrust(metadata.is_file(), metadata.mode()) {
        tracing::warn!(path = %path.display(), "password file ignored: {problem}");
        return None;
    }
    read_file(&path)
}

fn distrust(is_file: bool, mode: u32) -> Option<&'static str> {
    if !is_file {
        Some("it is not a plain file")
    } else if mode & 0o077 != 0 {
        Some("it has group or world access; permissions should be u=rw (0600) or less")
    } else {
        None
    }
}

fn read_file(path: &Path) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "password file could not be read");
            None
        }
    }
}

/// The password of the first line that fits.
pub(crate) fn password(text: &str, wanted: &Wanted<'_>) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| fits(line, wanted))
}

fn fits(line: &str, wanted: &Wanted<'_>) -> Option<String> {
    let mut rest = line;
    for expected in [wanted.host, wanted.port, wanted.database, wanted.user] {
        let (raw, field, after) = field(rest)?;
        if raw != "*" && field != expected {
            return None;
        }
        rest = after;
    }
    let (password, _) = unescape(rest, None);
    (!password.is_empty()).then_some(password)
}

/// The next field, raw and without its escapes, and what follows its colon.
fn field(text: &str) -> Option<(&str, String, &str)> {
    let (field, end) = unescape(text, Some(':'));
    let after = text.get(end..)?.strip_prefix(':')?;
    Some((text.get(..end)?, field, after))
}

/// Reads up to `stop`, taking backslashes away; also where it ended.
fn unescape(text: &str, stop: Option<char>) -> (String, usize) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c if Some(c) == stop => return (value, index),
            c => value.push(c),
        }
    }
    (value, text.len())
}
