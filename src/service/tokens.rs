//! By what each target's functions know this service: derived from a key on the source, and kept beside the log for when
//! the source is away. Without one, a login that is no superuser applies rows but no DDL.

use std::collections::BTreeMap;
use std::time::Duration;

use config::Config;
use ddl::Token;

use super::marks::Marks;
use crate::connect;
use crate::failure::{Failure, Result};

/// A source that does not answer is not waited for: targets get what the log holds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The tokens of targets, by name.
pub(super) async fn collect(config: &Config, marks: &Marks) -> BTreeMap<String, Token> {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(config)).await;
    let asked = asked.unwrap_or_else(|_| Err(Failure::new("the source does not answer")));
    let known = asked.unwrap_or_else(|failure| {
        tracing::debug!(error = %failure, "cannot ask the source for the tokens of targets");
        BTreeMap::new()
    });
    for (target, token) in &known {
        if marks.token(target).as_ref() != Some(token)
            && let Err(failure) = marks.set_token(target, token)
        {
            tracing::warn!(target, error = %failure, "the target's token cannot be kept");
        }
    }
    let names = config.targets.iter().map(|target| &target.name);
    let of = |name: &String| Some((name.clone(), Token::new(known.get(name).cloned().or_else(|| marks.token(name))?)));
    names.filter_map(of).collect()
}

async fn ask(config: &Config) -> Result<BTreeMap<String, String>> {
    let source = connect::source(&config.source.conninfo).await?;
    let mut tokens = BTreeMap::new();
    for target in &config.targets {
        if let Some(token) = capture::target::token(&source, &target.name).await? {
            tokens.insert(target.name.clone(), token);
        }
    }
    Ok(tokens)
}
