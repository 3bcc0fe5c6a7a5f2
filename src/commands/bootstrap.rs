//! `walcast bootstrap --no-copy TARGET…`

use config::Config;

use super::{print, target};
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::service::declare_offline;

/// Declares targets that equal the source as it was when the slot was made. Copying is not in this version.
///
/// # Errors
/// Copying was asked for, a target cannot be reached, or the log no longer begins where the slot did.
pub(crate) async fn run(config: &Config, names: &[String], all: bool, no_copy: bool) -> Result<()> {
    if !no_copy {
        return Err(Failure::new("`walcast bootstrap` cannot copy yet: that comes in a later version").hint(
            "make the target equal to the source before `walcast setup`, then run `walcast bootstrap --no-copy TARGET`",
        ));
    }
    let targets = match all {
        true => config.targets.iter().collect(),
        false => names.iter().map(|name| target(config, name)).collect::<Result<Vec<_>>>()?,
    };
    for target in targets {
        let request = Request::Declare { target: target.name.clone() };
        let text = match control::ask(&config.log.dir, &request).await? {
            Some(Answer::Done(text)) => text,
            Some(_) => return Err(Failure::new("the service's answer does not fit the request")),
            None => declare_offline(config, target).await?,
        };
        print(&format!("{text}\n"))?;
    }
    Ok(())
}
