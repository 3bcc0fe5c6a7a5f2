//! Tables whose rows cannot be written without running code of their owner: CHECKs, index expressions, generated columns,
//! domains, triggers that fire in a replica session.
//!
//! With the login's rights that code could read and change every replicated table, so such a table is written as its owner:
//! `walcast.write` (`capture/sql/target.sql`) runs the statement in a security-restricted operation. Which tables these
//! are, the target says when they are looked up: they are few, and cost a millisecond per statement.
//!
//! The outer statement has the token as its first parameter, then those of the change; they travel as an array of texts.

use ::ddl::Token;

use crate::catalog::text;
use crate::error::Error;
use crate::session::Session;

/// Who writes a table instead of the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    role: String,
    schema: String,
    pub(crate) token: Token,
}

impl Owner {
    /// For tests.
    #[cfg(test)]
    pub(crate) fn of(role: &str, schema: &str, token: &str) -> Owner {
        Owner { role: role.into(), schema: schema.into(), token: Token::new(token) }
    }

    /// The owner of a table, if it has code of somebody's in the way. Without a token, or without walcast's functions on the
    /// target, everything is written with the login's rights.
    pub(crate) async fn find(
        session: &mut Session,
        token: Option<&Token>,
        schema: &str,
        oid: &str,
    ) -> Result<Option<Owner>, Error> {
        const THERE: &str = "SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname = 'walcast' AND p.proname = 'writer' AND pg_catalog.has_function_privilege(p.oid, \
             'EXECUTE')";
        let Some(token) = token else { return Ok(None) };
        if session.simple(THERE).await?.is_empty() {
            return Ok(None);
        }
        let rows = session.query("SELECT walcast.writer($1::pg_catalog.oid)", &[oid]).await?;
        let role = rows.first().map_or(Ok(""), |row| text(row, 0))?;
        let owner = || Owner { role: role.to_owned(), schema: schema.to_owned(), token: token.clone() };
        Ok((!role.is_empty()).then(owner))
    }

    /// The statement that has the owner run `statement`, whose parameters are [`parameter`]s.
    pub(crate) fn wrapped(&self, statement: &str, parameters: usize) -> String {
        let values: Vec<String> = (2..parameters + 2).map(|number| format!("${number}::pg_catalog.text")).collect();
        let [role, schema, statement] = [&self.role, &self.schema, statement].map(literal);
        format!(
            "SELECT walcast.write($1, {role}, {schema}, {statement}, ARRAY[{}]::pg_catalog.text[])",
            values.join(", ")
        )
    }
}

/// A parameter inside the statement that the owner runs.
pub(crate) fn parameter(number: usize, bare_type: &str) -> String {
    format!("($1[{number}])::{bare_type}")
}

/// A string constant. Backslashes are safe under both settings of `standard_conforming_strings`.
fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!(" E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}
