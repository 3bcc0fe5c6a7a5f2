//! Names from outside: quoted into SQL, shown on one line.

use std::fmt::{self, Write};

/// A table by its two names, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    /// Schema.
    pub(crate) schema: String,
    /// Table.
    pub(crate) table: String,
}

impl TableName {
    /// `"schema"."table"`.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// For messages and labels: as it is, on one line.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.schema.chars().chain(['.']).chain(self.table.chars()) {
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        Ok(())
    }
}

/// An identifier in double quotes. It holds no NUL: names arrive as C strings.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The text on one line: control characters become spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x01_a_hostile_name_stays_one_identifier() {
        let name = TableName { schema: "a\"; DROP TABLE b; --".into(), table: "x\ny".into() };
        assert_eq!(name.quoted(), "\"a\"\"; DROP TABLE b; --\".\"x\ny\"");
        assert_eq!(name.to_string(), "a\"; DROP TABLE b; --.x y");
    }
}
