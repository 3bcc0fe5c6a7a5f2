//! What has to be true before replication can work, one [`Finding`] per requirement. Nothing here writes.

mod source;
mod target;

pub use source::check_source;
pub use target::check_target;

use tokio_postgres::Client;

use crate::{Error, shown_table};

/// How a requirement came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It holds.
    Pass,
    /// Replication works, with a reservation.
    Warn,
    /// Replication will not work.
    Fail,
}

impl Level {
    /// The word in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Pass => "pass",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it came out.
    pub level: Level,
    /// What was found, in one line.
    pub text: String,
    /// What to do about it; always there unless it passed.
    pub hint: Option<String>,
}

impl Finding {
    /// A requirement that holds.
    pub fn pass(text: impl Into<String>) -> Finding {
        Finding { level: Level::Pass, text: text.into(), hint: None }
    }

    /// A reservation.
    pub fn warn(text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, text: text.into(), hint: Some(hint.into()) }
    }

    /// A requirement that does not hold.
    pub fn fail(text: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, text: text.into(), hint: Some(hint.into()) }
    }

    /// A requirement that could not be looked at.
    fn unknown(error: &Error) -> Finding {
        Finding::fail(error.to_string(), error.hint().unwrap_or("the role needs to read the system catalogs"))
    }

    /// `passed` or what is made of the complaint.
    pub(crate) fn when(holds: bool, passed: &str, complaint: impl FnOnce() -> Finding) -> Finding {
        if holds { Finding::pass(passed) } else { complaint() }
    }
}

/// A finding, or the reason why there is none.
type Found = Result<Finding, Error>;

fn finding(found: Found) -> Finding {
    found.unwrap_or_else(|e| Finding::unknown(&e))
}

/// The versions that walcast is made for.
async fn version(client: &Client) -> Found {
    let number = crate::source::server_version(client).await?;
    let text = format!("server version is {}.{}", number / 10_000, number % 10_000);
    Ok(match number / 10_000 {
        14..=18 => Finding::pass(text),
        ..14 => Finding::fail(format!("{text}, older than 14"), "upgrade the server to 14 or later"),
        _ => Finding::warn(format!("{text}, newer than 18"), "walcast has not been tried with it"),
    })
}

/// `a, b, c and 7 more`.
pub(crate) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The tables that a query with columns schema and name returns, as they are shown.
async fn shown_tables(
    client: &Client,
    sql: &str,
    doing: &'static str,
    selects: impl Fn(&str, &str) -> bool,
) -> Result<Vec<String>, Error> {
    let rows = client.query(sql, &[]).await.map_err(Error::doing(doing))?;
    let names: Result<Vec<(String, String)>, _> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    let names = names.map_err(Error::doing(doing))?;
    Ok(names.iter().filter(|(s, t)| selects(s, t)).map(|(s, t)| shown_table(s, t)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_short() {
        let names = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
        assert_eq!(some_of(&names(2)), "t0, t1");
        assert_eq!(some_of(&names(5)), "t0, t1, t2, t3, t4");
        assert_eq!(some_of(&names(12)), "t0, t1, t2, t3, t4 and 7 more");
    }
}
