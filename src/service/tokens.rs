//! By what each target's functions know this service: derived from a key on the source, and kept beside the log for when
//! the source is away. Without one, a login that is no superuser applies rows but no DDL.
//!
//! It is asked for whenever a session to a target begins, so that one that was renewed counts from then on.

use std::sync::Arc;
use std::time::Duration;

use connection::Conninfo;
use ddl::Token;
use tokio::sync::Semaphore;

use super::marks::Marks;
use crate::connect;
use crate::failure::{Failure, Result};

/// A source that does not answer is not waited for: targets get what the log holds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// So many connections to the source at a time, however many targets begin at once.
const CONNECTIONS_MAX: usize = 4;

/// Asks for tokens.
#[derive(Clone)]
pub(super) struct Tokens {
    marks: Marks,
    connections: Arc<Semaphore>,
}

impl Tokens {
    /// Those that are kept with these marks.
    pub(super) fn new(marks: &Marks) -> Tokens {
        Tokens { marks: marks.clone(), connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// What a target's sessions ask.
    pub(super) fn asker(&self, source: &Conninfo, target: &str) -> Arc<applier::AskToken> {
        let (tokens, source, target) = (self.clone(), source.clone(), target.to_owned());
        Arc::new(move || {
            let (tokens, source, target) = (tokens.clone(), source.clone(), target.clone());
            Box::pin(async move { tokens.of(&source, &target).await })
        })
    }

    /// The token of a target: the source's, or else the one that was kept.
    async fn of(&self, source: &Conninfo, target: &str) -> Option<Token> {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(source, target)).await;
        let asked = asked.unwrap_or_else(|_| Err(Failure::new("the source does not answer")));
        let asked = asked.unwrap_or_else(|failure| {
            tracing::debug!(target, error = %failure, "cannot ask the source for the target's token");
            None
        });
        let kept = self.marks.token(target);
        if let Some(token) = asked.as_ref().filter(|asked| kept.as_ref() != Some(asked))
            && let Err(failure) = self.marks.set_token(target, token)
        {
            tracing::warn!(target, error = %failure, "the target's token cannot be kept");
        }
        asked.or(kept).map(Token::new)
    }

    async fn ask(&self, source: &Conninfo, target: &str) -> Result<Option<String>> {
        let _one = self.connections.acquire().await.map_err(|e| Failure::because("cannot ask", &e))?;
        let source = connect::source(source).await?;
        Ok(capture::target::token(&source, target).await?)
    }
}
