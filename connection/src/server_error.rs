//! What the server says in ErrorResponse and NoticeResponse.

use std::fmt;

/// An error or notice of the server.
///
/// `Display` is one line: severity, SQLSTATE and message. Detail and hint may hold values of rows and are only given
/// by their own fields.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC` or `NOTICE` …, never translated.
    pub severity: String,
    /// Five characters, as `23505`.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// May hold values of rows.
    pub detail: Option<String>,
    /// The server's own.
    pub hint: Option<String>,
    /// The call stack of functions.
    pub context: Option<String>,
    /// Schema of the table, type or constraint.
    pub schema: Option<String>,
    /// Table.
    pub table: Option<String>,
    /// Column.
    pub column: Option<String>,
    /// Type.
    pub data_type: Option<String>,
    /// Constraint, or unique index.
    pub constraint: Option<String>,
}

impl ServerError {
    /// Reads the body of an `E` or `N` message. A field that is broken is left out: the server's bytes never panic.
    #[must_use]
    pub fn parse(body: &[u8]) -> ServerError {
        let mut error = ServerError::default();
        for field in body.split(|&byte| byte == 0) {
            if let Some((&code, value)) = field.split_first() {
                error.set(code, String::from_utf8_lossy(value).into_owned());
            }
        }
        error
    }

    fn set(&mut self, code: u8, value: String) {
        match code {
            b'V' => self.severity = value,
            // The translated one, which servers before 9.6 alone have.
            b'S' if self.severity.is_empty() => self.severity = value,
            b'C' => self.sqlstate = value,
            b'M' => self.message = value,
            b'D' => self.detail = Some(value),
            b'H' => self.hint = Some(value),
            b'W' => self.context = Some(value),
            b's' => self.schema = Some(value),
            b't' => self.table = Some(value),
            b'c' => self.column = Some(value),
            b'd' => self.data_type = Some(value),
            b'n' => self.constraint = Some(value),
            _ => {}
        }
    }

    /// May the same again succeed? Lost connections, serialization failures, deadlocks, too few resources, locks not
    /// available, shutdown and start of the server, a read-only transaction (a failover under way), an object in use.
    #[must_use]
    pub fn transient(&self) -> bool {
        let class = self.sqlstate.get(..2).unwrap_or_default();
        let codes = ["40001", "40P01", "55P03", "55006", "57P01", "57P02", "57P03", "25006"];
        matches!(class, "08" | "53") || codes.contains(&self.sqlstate.as_str())
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.severity, self.sqlstate)?;
        self.message.chars().try_for_each(|c| fmt::Write::write_char(f, if c.is_control() { ' ' } else { c }))
    }
}

/// The same as `Display`, so that an error printed for debugging shows no row either.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerError({self})")
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"SFEHLER\0VERROR\0C23505\0Mduplicate key\nin \"t_pkey\"\0DKey (a)=(canary) already exists.\0\
        Hhint\0Wwhere\0sschema\0ttable\0ccolumn\0dtype\0nconstraint\0Ffile\0\0";

    #[test]
    fn every_field_is_read_and_values_of_rows_are_not_printed() {
        let error = ServerError::parse(BODY);
        assert_eq!(error.to_string(), "ERROR 23505: duplicate key in \"t_pkey\"");
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(error.detail.as_deref(), Some("Key (a)=(canary) already exists."));
        let rest = [&error.hint, &error.context, &error.schema, &error.table, &error.column, &error.data_type];
        let rest: Vec<_> = rest.iter().map(|field| field.as_deref().unwrap()).collect();
        assert_eq!(rest, ["hint", "where", "schema", "table", "column", "type"]);
        assert_eq!(error.constraint.as_deref(), Some("constraint"));
    }

    #[test]
    fn only_passing_conditions_are_transient() {
        let transient =
            |sqlstate: &str| ServerError { sqlstate: sqlstate.into(), ..ServerError::default() }.transient();
        for sqlstate in "08006 08P01 40001 40P01 53100 53300 55P03 55006 57P01 57P02 57P03 25006".split(' ') {
            assert!(transient(sqlstate), "{sqlstate}");
        }
        for sqlstate in ["", "0", "23505", "28P01", "3D000", "42P01", "40002", "57014", "55000", "25P02", "ü8000"] {
            assert!(!transient(sqlstate), "{sqlstate}");
        }
    }
}
