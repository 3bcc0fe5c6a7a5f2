//! `walcast teardown`

use config::Config;

use super::{installation, print_steps};
use crate::connect;
use crate::failure::Result;

/// Removes what setup made.
///
/// # Errors
/// The source cannot be reached, or the slot is in use.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let mut client = connect::source(&config.source.conninfo).await?;
    let steps = capture::teardown(&mut client, &installation(config)).await?;
    print_steps(&steps, "removed", "absent")
}
