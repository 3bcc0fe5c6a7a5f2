//! Connection strings as libpq understands them.

use std::fmt;

/// A connection string of `key=value` pairs.
///
/// Its `Debug` hides the password; its `Display` is the whole string.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Conninfo(Vec<(String, String)>);

impl Conninfo {
    /// The same with `key` set to `value`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Conninfo {
        self = self.without(key);
        self.0.push((key.to_string(), value.into()));
        self
    }

    /// The same without `key`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Conninfo {
        self.0.retain(|(existing, _)| existing != key);
        self
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{key}={}", quoted(value))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(key, value)| (key, if key == "password" { "***" } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

fn quoted(value: &str) -> String {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:".contains(c));
    if plain { value.to_string() } else { format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_when_they_must_be() {
        let conninfo = Conninfo::default().with("host", "/tmp/a-b").with("dbname", r"o'b\c d").with("options", "");
        assert_eq!(conninfo.to_string(), r"host=/tmp/a-b dbname='o\'b\\c d' options=''");
    }

    #[test]
    fn a_password_is_not_shown_by_debug() {
        let conninfo = Conninfo::default().with("password", "secret");
        assert!(!format!("{conninfo:?}").contains("secret"));
    }
}
