//! `walcast setup [--print-sql]`

use config::Config;

use super::{installation, print, print_steps};
use crate::connect;
use crate::failure::Result;

/// Installs what is missing.
///
/// # Errors
/// The source cannot be reached, or a privilege or a setting is missing.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let mut client = connect::source(&config.source.conninfo).await?;
    let steps = capture::setup(&mut client, &installation(config)).await?;
    print_steps(&steps, "made", "unchanged")
}

/// Prints what [`run`] would run.
///
/// # Errors
/// The source cannot be reached.
pub(crate) async fn print_sql(config: &Config) -> Result<()> {
    let client = connect::source(&config.source.conninfo).await?;
    let statements = capture::pending_sql(&client, &installation(config)).await?;
    match statements.is_empty() {
        true => print("-- nothing to do\n"),
        false => print(&statements.iter().map(|sql| format!("{sql};\n")).collect::<String>()),
    }
}
