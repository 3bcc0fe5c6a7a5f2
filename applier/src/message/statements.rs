//! The applier's session as crate `ddl` wants it.

use connection::WireError;

use crate::error::Error;
use crate::session::Session;

/// Runs statements inside the open target transaction, when nothing else is outstanding.
pub(super) struct Statements<'a>(pub(super) &'a mut Session);

impl ::ddl::Session for Statements<'_> {
    type Error = Error;

    async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<::ddl::Row>, Error> {
        self.0.query_optional(sql, parameters).await
    }

    fn sqlstate(error: &Error) -> Option<&str> {
        error.sqlstate()
    }

    async fn execute(&mut self, sql: &str) -> Result<(), Error> {
        self.0.simple(sql).await.map(drop).map_err(refused)
    }
}

/// What a statement was refused with may have values of rows in it: as [`Error::Refused`] it is shown without.
fn refused(error: Error) -> Error {
    match error {
        Error::Wire(WireError::Server(error)) => Error::Refused(error),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    /// The size of what a function returns, which is not called.
    fn size_of_future<'a, F: Future>(
        _: impl Fn(&'a mut Statements<'a>, &'a ::ddl::Message, &'a ::ddl::Options) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// It is polled on a worker's stack, and each level of calls has a part of it there.
    #[test]
    fn what_applies_a_message_is_small() {
        let size = size_of_future(::ddl::apply::<Statements<'_>>);
        assert!(size < 16 * 1024, "{size}");
    }
}
