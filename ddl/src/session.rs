//! What runs statements on the target.

use std::future::Future;

/// Values of one row, as text.
pub type Row = Vec<Option<String>>;

/// A session on the target, inside a transaction that the caller began and will end.
///
/// # Contract
/// Calls are made one after the other, each awaited before the next. A refused statement aborts the
/// transaction as usual: `ROLLBACK TO SAVEPOINT` is sent where something else is to be tried, otherwise nothing more is asked
/// of the session and the caller rolls back. Values are in the server's text format.
pub trait Session {
    /// What the server or the connection said.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Runs one statement with text parameters (`$1`, …) of types that the server infers, and returns its rows.
    fn query(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> impl Future<Output = Result<Vec<Row>, Self::Error>> + Send;

    /// The SQLSTATE with which the server refused a statement; None: the connection broke.
    fn sqlstate(error: &Self::Error) -> Option<&str>;

    /// Runs one statement, or several separated by semicolons, without parameters.
    fn execute(&mut self, sql: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
