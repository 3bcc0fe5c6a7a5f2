//! Trying something, and undoing it if the target refuses it.

use std::error::Error;

use crate::apply::Context;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::session::Session;
use crate::statement::Statement;

/// Where to go back to.
pub(crate) struct Attempt {
    object: String,
    outcome: Outcome,
    postponed: Vec<(String, u32)>,
}

/// What came of it; None: it was refused as expected, and is undone.
type Tried<E> = Result<Option<Failure<E>>, Failure<E>>;

impl<S: Session + Send> Context<'_, S> {
    /// From here on everything can be undone. Attempts may be nested.
    pub(crate) async fn begin(&mut self, object: String) -> Result<Attempt, Failure<S::Error>> {
        self.run(&object, &Statement::new("SAVEPOINT walcast_attempt")).await?;
        Ok(Attempt { object, outcome: self.outcome.clone(), postponed: self.postponed.clone() })
    }

    /// Keeps what was done, or undoes it if it failed as expected: then the failure is returned, any other is an error.
    pub(crate) async fn end(
        &mut self,
        attempt: Attempt,
        applied: Result<(), Failure<S::Error>>,
        is_expected: fn(&Failure<S::Error>) -> bool,
    ) -> Tried<S::Error> {
        let Attempt { object, outcome, postponed } = attempt;
        match applied {
            Ok(()) => {
                self.run(&object, &Statement::new("RELEASE SAVEPOINT walcast_attempt")).await?;
                Ok(None)
            }
            Err(failure) if is_expected(&failure) => {
                self.run(&object, &Statement::new("ROLLBACK TO SAVEPOINT walcast_attempt")).await?;
                self.run(&object, &Statement::new("RELEASE SAVEPOINT walcast_attempt")).await?;
                (self.outcome, self.postponed) = (outcome, postponed);
                Ok(Some(failure))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Whether the server refused a statement with one of these SQLSTATEs, or classes of them.
pub(crate) fn is_refused<S: Session>(failure: &Failure<S::Error>, codes: &[&str]) -> bool
where
    S::Error: Error,
{
    let is_one = |sqlstate: &str| codes.iter().any(|code| sqlstate.starts_with(code));
    failure.cause().is_some_and(|error| S::sqlstate(error).is_some_and(is_one))
}
