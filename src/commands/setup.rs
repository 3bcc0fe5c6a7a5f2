//! `walcast setup [--target NAME] [--print-sql]`

use capture::Step;
use capture::target::{self as functions, Target};
use config::Config;
use tokio_postgres::Client;

use super::{installation, print, print_steps};
use crate::connect;
use crate::failure::{Failure, Result};

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

/// Installs, or prints, what a target needs.
///
/// # Errors
/// Source or target cannot be reached, or the login is no superuser.
pub(crate) async fn target(config: &Config, name: &str, print_sql: bool) -> Result<()> {
    let configured = super::target(config, name)?;
    let mut client = connect::target(configured).await?;
    let source = connect::source(&config.source.conninfo).await?;
    let wanted = wanted(config, name, &client, &source).await?;
    if print_sql {
        return print(&format!("begin;\n{}commit;\n", functions::setup_sql(&wanted)));
    }
    let outcome = functions::setup(&mut client, &wanted).await.map_err(|e| {
        let hint =
            format!("have a superuser of the target run what `walcast setup --target {name} --print-sql` prints");
        Failure::from(e).hint(hint)
    })?;
    print_steps(&[Step { object: format!("functions of target \"{name}\""), outcome }], "made", "unchanged")
}

/// What a target is to have, by the source as it is now.
///
/// # Errors
/// Source or target cannot be asked.
pub(super) async fn wanted(config: &Config, name: &str, client: &Client, source: &Client) -> Result<Target> {
    let login = client.query_one("select session_user::text", &[]).await.and_then(|row| row.try_get(0));
    let failed = |e: tokio_postgres::Error| Failure::new(format!("target \"{name}\": {}", capture::one_line(&e)));
    let digest = match functions::token(source, name).await? {
        Some(token) => Some(functions::digest(source, &token).await?),
        None => return Err(Failure::new("the source has no key of the capture yet").hint("run `walcast setup` first")),
    };
    let published = capture::published_tables(source, &config.source.publication).await?;
    Ok(Target {
        login: login.map_err(failed)?,
        digest,
        passwords: config.roles.passwords,
        adopt: config.roles.adopt.clone(),
        tables: applier::tables_sql().to_owned(),
        replicated: published.into_iter().map(|table| (table.schema, table.table)).collect(),
    })
}
