//! What is to be applied, and how.

use std::fmt;
use std::sync::Arc;

/// Whether a table, by schema and name, is replicated.
pub type Selected = dyn Fn(&str, &str) -> bool + Send + Sync;

/// What is to be applied, and how.
#[derive(Clone)]
pub struct Options {
    /// Whether a table (schema, name) is replicated. What belongs to one that is not is passed over.
    pub selected: Arc<Selected>,
    /// Whether there may be tables that are not. What needs one of them waits for it.
    pub partial: bool,
    /// Whether rows of some tables are of another time, as those of a table that is still to be copied again. A foreign
    /// key that they break waits.
    pub stale: bool,
    /// What tells the source, and its OIDs, from others.
    pub origin: String,
    /// The target's version, 150020 for 15.20.
    pub server_version: u32,
    /// Whose rights statements run with.
    pub rights: Rights,
    /// What is done with roles and privileges.
    pub roles: RoleOptions,
}

impl Options {
    /// Everything is replicated, and the login role's rights are enough for it.
    pub fn everything(server_version: u32) -> Options {
        let roles = RoleOptions { replicate: true, ..RoleOptions::default() };
        Options {
            selected: Arc::new(|_, _| true),
            partial: false,
            stale: false,
            origin: String::new(),
            server_version,
            rights: Rights::Login,
            roles,
        }
    }

    /// Whether there may be something that waits for tables.
    pub(crate) fn may_wait(&self) -> bool {
        self.partial || self.stale
    }

    /// SQLSTATEs with which a foreign key waits: its table is not here, or not whole.
    pub(crate) fn key_waits(&self) -> &'static [&'static str] {
        match (self.partial, self.stale) {
            (true, _) => &["42P01", "3F000", FOREIGN_KEY_VIOLATION],
            (false, true) => &[FOREIGN_KEY_VIOLATION],
            (false, false) => &[],
        }
    }
}

const FOREIGN_KEY_VIOLATION: &str = "23503";

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("server_version", &self.server_version)
            .field("rights", &self.rights)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// Whose rights statements run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// The login role's own: it is a superuser. Code of an object's owner that a statement runs has them, too.
    Login,
    /// Those of the owner of what is changed, in a security-restricted operation, through `walcast.run`, which
    /// `capture::target::setup` installs. The login need not be a superuser, but may be.
    Owner(Token),
}

/// What proves to the target's functions that it is walcast who calls, and not code of somebody else that happens to run
/// in its session: `capture::target::token` makes it. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// As the target knows the digest of.
    pub fn new(text: impl Into<String>) -> Token {
        Token(text.into())
    }

    /// For a parameter; not to be written into the text of a statement, which others may see.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is done with roles and privileges: section `[roles]` of the configuration.
#[derive(Debug, Clone, Default)]
pub struct RoleOptions {
    /// Whether roles, owners and privileges are replicated at all.
    pub replicate: bool,
    /// Whether passwords are.
    pub passwords: bool,
    /// Names of roles that are not.
    pub exclude: Vec<String>,
    /// Names of roles that exist on the target and may be altered and dropped.
    pub adopt: Vec<String>,
}
