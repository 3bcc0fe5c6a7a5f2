//! A target's session as crate `ddl` wants it, over tokio-postgres; both test programs have it.

use ddl::{Row, Session};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The rows of a query, a line each.
pub(crate) async fn text(client: &Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.unwrap_or_else(|error| panic!("`{sql}`: {}", shown(&error)));
    let line = |row: SimpleQueryMessage| match row {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("null")).collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    rows.into_iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// What the server said, and where.
pub(crate) fn shown(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| format!("{} {:?}", error, error.where_()))
}

/// The target's session.
pub(crate) struct Target<'a>(pub(crate) &'a Client);

/// What the target refused.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) tokio_postgres::Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl std::error::Error for Refused {}

impl Session for Target<'_> {
    type Error = Refused;

    async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<Row>, Refused> {
        let rows = self.0.simple_query(&with_values(sql, parameters)).await.map_err(Refused)?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(row).collect())
    }

    async fn execute(&mut self, sql: &str) -> Result<(), Refused> {
        self.0.batch_execute(sql).await.map_err(Refused)
    }

    fn sqlstate(error: &Refused) -> Option<&str> {
        error.0.code().map(|code| code.code())
    }
}

/// A query with its parameters written into it: rows come as text only from simple queries.
fn with_values(sql: &str, parameters: &[Option<&str>]) -> String {
    let mut text = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find('$') {
        let digits = rest[at + 1..].chars().take_while(char::is_ascii_digit).count();
        text.push_str(&rest[..at]);
        match rest[at + 1..at + 1 + digits].parse::<usize>() {
            Ok(number) => text.push_str(&parameters[number - 1].map_or_else(|| "NULL".to_owned(), literal)),
            Err(_) => text.push('$'),
        }
        rest = &rest[at + 1 + digits..];
    }
    text + rest
}

fn literal(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
