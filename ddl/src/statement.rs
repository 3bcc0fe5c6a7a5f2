//! A statement, and what is to be known about it to run and to report it.

/// Longest text of a statement in an error.
const SHOWN_MAX: usize = 300;

/// A statement for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// The role whose rights it is to run with: the owner of what it changes. None: the login role's own.
    pub(crate) role: Option<String>,
    /// The schema that it works in, where the role needs rights that on the source it may have had only once: `walcast.run`
    /// lends them. Empty: it makes or renames a schema.
    pub(crate) creates_in: Option<String>,
    /// What is shown of it instead, if it has secrets.
    pub(crate) shown: Option<String>,
    /// Whether the object is made anew, so that it loses what is not in its definition.
    pub(crate) anew: bool,
    /// What is done when the server refuses it for a certain reason.
    pub(crate) otherwise: Option<Otherwise>,
}

/// What is done instead of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Otherwise {
    /// SQLSTATEs, or the classes that they begin with.
    pub(crate) codes: &'static [&'static str],
    pub(crate) statements: Vec<Statement>,
    /// Why nothing may be done, if nothing is.
    pub(crate) why: &'static str,
    /// Whether it is a foreign key that waits for its table.
    pub(crate) waits: bool,
}

impl Statement {
    /// A statement with the rights of the login role.
    pub(crate) fn new(sql: impl Into<String>) -> Statement {
        Statement { sql: sql.into(), role: None, creates_in: None, shown: None, anew: false, otherwise: None }
    }

    /// With the rights of this role, the owner of what is changed.
    #[must_use]
    pub(crate) fn with_rights_of(mut self, role: Option<&str>) -> Statement {
        self.role = role.map(str::to_owned);
        self
    }

    /// Makes, alters or drops something in this schema, with its owner's rights.
    #[must_use]
    pub(crate) fn creating_in(mut self, schema: Option<&str>) -> Statement {
        self.creates_in = schema.map(str::to_owned);
        self
    }

    /// With secrets: this is what may be shown.
    #[must_use]
    pub(crate) fn shown_as(mut self, text: impl Into<String>) -> Statement {
        self.shown = Some(text.into());
        self
    }

    /// Makes the object anew: comments, and when it fires, are to be given to it again.
    #[must_use]
    pub(crate) fn anew(mut self) -> Statement {
        self.anew = true;
        self
    }

    /// If the server refuses it with one of these SQLSTATEs, others.
    #[must_use]
    pub(crate) fn or_else(mut self, codes: &'static [&'static str], statements: Vec<Statement>) -> Statement {
        self.otherwise = Some(Otherwise { codes, statements, why: "", waits: false });
        self
    }

    /// A foreign key: if the server refuses it with one of these SQLSTATEs, it waits.
    #[must_use]
    pub(crate) fn or_wait(mut self, codes: &'static [&'static str]) -> Statement {
        self.otherwise = Some(Otherwise { codes, statements: Vec::new(), why: "", waits: true });
        self
    }

    /// If the server refuses it with one of these SQLSTATEs, nothing; it is reported.
    #[must_use]
    pub(crate) fn or_skip(mut self, codes: &'static [&'static str], why: &'static str) -> Statement {
        self.otherwise = Some(Otherwise { codes, statements: Vec::new(), why, waits: false });
        self
    }

    /// One line for errors.
    pub(crate) fn display(&self) -> String {
        let text = self.shown.as_deref().unwrap_or(&self.sql);
        let line: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.len() < text.len() { format!("{line} …") } else { line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_short_line_without_secrets() {
        assert_eq!(Statement::new("a\nb").display(), "a b");
        assert_eq!(Statement::new("ü".repeat(400)).display(), format!("{} …", "ü".repeat(300)));
        let secret = Statement::new("ALTER ROLE r PASSWORD 'x'").shown_as("ALTER ROLE r PASSWORD …");
        assert_eq!(secret.display(), "ALTER ROLE r PASSWORD …");
    }
}
