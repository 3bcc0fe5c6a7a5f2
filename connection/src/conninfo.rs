//! A connection string, read and checked as libpq would, before anything of the surroundings is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::environment::Environment;
use crate::keyword::Keyword;
use crate::settings::Settings;
use crate::{keyvalue, uri};

/// Where and how to connect: a URI or `key=value` pairs as in libpq.
///
/// It holds only what the text said. The environment (`PG*` variables), the service file, the password file and the
/// defaults fill it in each time a connection is opened, so that a changed password file is honoured by a reconnect.
///
/// Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Conninfo(BTreeMap<&'static str, String>);

/// Why a connection string or its surroundings cannot be used. No message holds a value that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConninfoError {
    /// A key without a value.
    #[error("connection string: a key is not followed by \"=\"")]
    MissingEquals,
    /// A value that starts with a quote and does not end.
    #[error("connection string: the quoted value of {0} does not end")]
    UnterminatedQuote(String),
    /// `%` without two hexadecimal digits, `%00`, or bytes that are not UTF-8.
    #[error("connection URI: invalid percent-encoding in {0}")]
    PercentEncoding(String),
    /// An IPv6 address in brackets.
    #[error("connection URI: the address in brackets {0}")]
    Bracket(&'static str),
    /// An `@` in what is not the user's part.
    #[error("connection URI: \"@\" in a host; in user and password it is written %40")]
    AtSign,
    /// `?key`.
    #[error("connection URI: a query parameter is not followed by \"=\"")]
    QueryWithoutEquals,
    /// `?key=a=b`.
    #[error("connection URI: a query parameter has a second \"=\"")]
    QueryTwoEquals,
    /// A key that libpq does not have.
    #[error("unknown connection parameter \"{0}\"")]
    UnknownKey(String),
    /// A value that the key does not take.
    #[error("invalid value \"{value}\" of connection parameter {key}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What may be written.
        expected: String,
    },
    /// Lists of `host`, `hostaddr` and `port` that do not fit each other.
    #[error("connection parameter {key} has {got} entries for {expected} hosts")]
    Count {
        /// The key.
        key: &'static str,
        /// Its entries.
        got: usize,
        /// The hosts.
        expected: usize,
    },
    /// The service file.
    #[error("service file \"{path}\": {problem}")]
    ServiceFile {
        /// Its path.
        path: String,
        /// What is wrong, with the line.
        problem: String,
    },
    /// No such service.
    #[error("definition of service \"{0}\" not found")]
    NoService(String),
    /// The operating system does not say who runs this.
    #[error("no user given, and the operating system's user {0} has no name")]
    NoUser(u32),
}

impl Conninfo {
    /// Reads a URI (`postgresql://…`, `postgres://…`) or `key=value` pairs.
    ///
    /// # Errors
    /// Syntax errors, unknown keys and values that a key does not take.
    pub fn parse(text: &str) -> Result<Conninfo, ConninfoError> {
        let pairs = match uri::after_scheme(text) {
            Some(rest) => uri::parse(rest)?,
            None => keyvalue::parse(text)?,
        };
        let mut info = Conninfo::default();
        let mut after_password = false;
        for (key, value) in pairs {
            info.set(&key, value).map_err(|error| if after_password { without_key(error) } else { error })?;
            after_password = key == "password";
        }
        info.check_lists()?;
        Ok(info)
    }

    /// The same with `key` set to `value`, for example another `dbname`.
    ///
    /// # Errors
    /// An unknown key, or a value that it does not take.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Result<Conninfo, ConninfoError> {
        self.set(key, value.into())?;
        self.check_lists()?;
        Ok(self)
    }

    /// What the text itself said about a key; the password too.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The same without passwords: a text for another program's command line.
    #[must_use]
    pub fn without_secrets(&self) -> Conninfo {
        let secret = |key: &str| Keyword::find(key).is_none_or(Keyword::is_secret);
        Conninfo(self.0.iter().filter(|(key, _)| !secret(key)).map(|(key, value)| (*key, value.clone())).collect())
    }

    /// The text as `key=value` pairs with `***` for the password; the same as `Display`.
    #[must_use]
    pub fn redacted(&self) -> String {
        self.to_string()
    }

    pub(crate) fn set(&mut self, key: &str, value: String) -> Result<(), ConninfoError> {
        let keyword = Keyword::find(key).ok_or_else(|| ConninfoError::UnknownKey(key.to_owned()))?;
        if let Some(expected) = keyword.complaint(&value).or_else(|| nul(&value)) {
            let value = if keyword.is_secret() { "***".to_owned() } else { value };
            return Err(ConninfoError::Value { key: keyword.name, value, expected });
        }
        self.0.insert(keyword.name, value);
        Ok(())
    }

    /// Sets what is not set yet.
    pub(crate) fn fill(&mut self, key: &str, value: &str) -> Result<(), ConninfoError> {
        if self.0.contains_key(key) { Ok(()) } else { self.set(key, value.to_owned()) }
    }

    /// The value of a key, where the empty value means that there is none.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    fn check_lists(&self) -> Result<(), ConninfoError> {
        crate::settings::hosts(self).map(drop)
    }

    /// Fills in what the text left open.
    pub(crate) fn resolve(&self, environment: &Environment) -> Result<Settings, ConninfoError> {
        let mut info = self.clone();
        crate::service::fill(&mut info, environment)?;
        for keyword in crate::keyword::KEYWORDS {
            if let Some(value) = keyword.variable.and_then(|variable| environment.variable(variable)) {
                info.fill(keyword.name, value)?;
            }
        }
        Settings::new(&info, environment)
    }
}

/// An unknown key after a password may be a piece of one that was not quoted.
fn without_key(error: ConninfoError) -> ConninfoError {
    match error {
        ConninfoError::UnknownKey(_) => ConninfoError::UnknownKey("***".to_owned()),
        error => error,
    }
}

fn nul(value: &str) -> Option<String> {
    value.contains('\0').then(|| "it may not hold a NUL".to_owned())
}

impl FromStr for Conninfo {
    type Err = ConninfoError;

    fn from_str(text: &str) -> Result<Conninfo, ConninfoError> {
        Conninfo::parse(text)
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let shown =
                if Keyword::find(key).is_none_or(Keyword::is_secret) { "***".to_owned() } else { quoted(value) };
            write!(f, "{space}{key}={shown}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conninfo({self})")
    }
}

fn quoted(value: &str) -> String {
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || "'\\\x0b".contains(c));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")) }
}

#[cfg(test)]
mod tests;
