//! `walcast check [--config-only]`

use capture::preflight::{Finding, Level, check_source, check_target};
use config::{Config, Target};

use super::setup::wanted;
use super::{installation, print};
use crate::connect;
use crate::failure::{Failure, Result};

/// Says what a configuration file that could be read is about.
///
/// # Errors
/// Standard output is closed.
pub(crate) fn configuration(config: &Config) -> Result<()> {
    let names: Vec<&str> = config.targets.iter().map(|target| target.name.as_str()).collect();
    let targets = match names.as_slice() {
        [] => "no target".to_owned(),
        [name] => format!("1 target ({name})"),
        names => format!("{} targets ({})", names.len(), names.join(", ")),
    };
    let finding = Finding::pass(format!("{} can be used: {targets}", config.path.display()));
    report("config", &[finding]).map(drop)
}

/// Prints a line per requirement, of the source first and then of each target.
///
/// # Errors
/// A requirement does not hold.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let mut failed = 0;
    let published = {
        let (findings, published) = source(config).await;
        failed += report("source", &findings)?;
        published
    };
    for target in &config.targets {
        let findings = target_findings(config, target, published.as_deref()).await;
        failed += report(&target.name, &findings)?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new("1 requirement does not hold").hint("see the line that begins with fail")),
        more => {
            Err(Failure::new(format!("{more} requirements do not hold")).hint("see the lines that begin with fail"))
        }
    }
}

async fn source(config: &Config) -> (Vec<Finding>, Option<Vec<capture::PublishedTable>>) {
    let client = match connect::source(&config.source.conninfo).await {
        Ok(client) => client,
        Err(failure) => return (vec![unreachable(&failure)], None),
    };
    let mut findings = vec![Finding::pass("the source can be reached")];
    findings.extend(check_source(&client, &installation(config)).await);
    let published = capture::published_tables(&client, &config.source.publication).await;
    (findings, published.ok())
}

async fn target_findings(
    config: &Config,
    target: &Target,
    published: Option<&[capture::PublishedTable]>,
) -> Vec<Finding> {
    match connect::target(target).await {
        Ok(client) => {
            let mut findings = vec![Finding::pass("the target can be reached")];
            findings.extend(check_target(&client, published).await);
            // Whether the source can be asked was said before.
            if let Ok(source) = connect::source(&config.source.conninfo).await
                && let Ok(wanted) = wanted(config, &target.name, &client, &source).await
            {
                findings.extend(capture::target::check(&client, &wanted).await);
            }
            findings
        }
        Err(failure) => vec![unreachable(&failure)],
    }
}

fn unreachable(failure: &Failure) -> Finding {
    Finding::fail(failure.to_string(), failure.hint_text().unwrap_or("look at conninfo in the configuration"))
}

/// Prints findings; returns how many of them failed.
fn report(subject: &str, findings: &[Finding]) -> Result<usize> {
    let line = |finding: &Finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        format!("{}  {subject:<8}  {}{hint}\n", finding.level.as_str(), finding.text)
    };
    print(&findings.iter().map(line).collect::<String>())?;
    Ok(findings.iter().filter(|finding| finding.level == Level::Fail).count())
}
