//! What a copying command says to the service or, while that is down, writes down for it.
//!
//! Without a service the mark is written first, and then it is looked again whether a service listens. One that started
//! in between is asked, and judges the mark by its log. One that listens only later trims nothing before it reads it: a
//! service listens before it trims.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use config::{Config, Target};
use decoder::Lsn;

use super::marks::Marks;
use super::stream;
use crate::control::{self, Answer, Request};
use crate::failure::{Failure, Result};
use crate::status::Progress;

/// Keeps the log for a target that is about to be copied, and says from where. Tables that were copied as of an earlier
/// position are of no use any more: what followed was not kept. To be called before the copy's snapshot is taken.
///
/// # Errors
/// The target has a checkpoint; neither log nor source can be asked.
pub(crate) async fn begin_bootstrap(config: &Config, target: &Target) -> Result<Lsn> {
    if let Some(lsn) = ask_to_begin(config, target).await? {
        return Ok(lsn);
    }
    let lsn = pin(config, target).await?;
    Ok(ask_to_begin(config, target).await?.unwrap_or(lsn))
}

async fn ask_to_begin(config: &Config, target: &Target) -> Result<Option<Lsn>> {
    let request = Request::BeginBootstrap { target: target.name.clone() };
    match control::ask(&config.log.dir, &request).await? {
        Some(Answer::Pinned { lsn }) => Ok(Some(lsn)),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => Ok(None),
    }
}

/// Writes the mark: where the log ends or, without one, where it will begin.
async fn pin(config: &Config, target: &Target) -> Result<Lsn> {
    let (dir, marks) = (&config.log.dir, Marks::new(&config.log.dir));
    let (first, end) = match stream::inspect(dir)? {
        Some(log) => (log.overview.first_lsn, log.overview.end_lsn),
        None => {
            let (_, slot) = replication::probe(&config.source.conninfo, &config.source.slot).await?;
            (slot.confirmed_flush_lsn, slot.confirmed_flush_lsn)
        }
    };
    let lsn = marks.bootstrapping(&target.name).filter(|lsn| *lsn >= first).unwrap_or(end);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Failure::because(format!("could not make \"{}\"", dir.display()), &e))?;
    marks.set_bootstrapping(&target.name, Some(lsn))?;
    Ok(lsn)
}

/// Tells the service how far the copy is; nobody, while it is down.
///
/// # Errors
/// The service gave the log up: the copy is of no use any more.
pub(crate) async fn bootstrap_progress(config: &Config, target: &Target, progress: Progress) -> Result<()> {
    let Progress { copied_bytes, expected_bytes, tables_done, tables, held_back_to } = progress;
    let target = target.name.clone();
    let request =
        Request::BootstrapProgress { target, copied_bytes, expected_bytes, tables_done, tables, held_back_to };
    match control::ask(&config.log.dir, &request).await {
        // A service that dies meanwhile takes nothing from the copy.
        Err(failure) if !failure.is_lost() => Err(failure),
        _ => Ok(()),
    }
}

/// Has the service apply to a target that was copied and has its checkpoint; a service that starts later does so anyway.
///
/// # Errors
/// The log was given up meanwhile, or the target cannot be applied to.
pub(crate) async fn end_bootstrap(config: &Config, target: &Target) -> Result<String> {
    let name = &target.name;
    match control::ask(&config.log.dir, &Request::EndBootstrap { target: name.clone() }).await? {
        Some(Answer::Done(text)) => Ok(text),
        Some(_) => Err(Failure::new("the service's answer does not fit the request")),
        None => Ok(format!("target \"{name}\" is copied, and will be applied to when the service runs")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const START: Lsn = Lsn::from_u64(0x1000);

    fn options(config: &Config) -> segment_log::Options {
        let identity = segment_log::Identity {
            system_id: 1,
            timeline: 1,
            database: "app".into(),
            slot: "walcast".into(),
            publication: "walcast".into(),
        };
        let dir = config.log.dir.clone();
        let on_sync = Arc::new(|_| ());
        segment_log::Options { dir, segment_size: 1 << 20, retain_min: 0, identity, start: START, on_sync }
    }

    #[tokio::test]
    async fn without_a_service_the_end_of_the_log_is_pinned_once() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = "conninfo = 'host=127.0.0.1 port=1 user=x'\n";
        let text = format!("[source]\n{nowhere}[log]\ndir = 'log'\n[[target]]\nname = 'berlin'\n{nowhere}");
        let config = Config::parse(&dir.path().join("walcast.toml"), &text).unwrap();
        let target = config.target("berlin").unwrap();
        let append = |lsn: Lsn| {
            let (mut writer, _log) = segment_log::open(options(&config)).unwrap();
            writer.append_progress(lsn).unwrap();
            writer.close().unwrap();
        };
        append(Lsn::from_u64(0x2000));
        let pinned = begin_bootstrap(&config, target).await.unwrap();
        assert_eq!(pinned, Lsn::from_u64(0x2000));
        append(Lsn::from_u64(0x3000));
        assert_eq!(begin_bootstrap(&config, target).await.unwrap(), pinned, "it goes on");
        // A mark that the log has left behind is of no use.
        Marks::new(&config.log.dir).set_bootstrapping("berlin", Some(Lsn::from_u64(0x10))).unwrap();
        assert_eq!(begin_bootstrap(&config, target).await.unwrap(), Lsn::from_u64(0x3000));
        assert_eq!(Marks::new(&config.log.dir).bootstrapping("berlin"), Some(Lsn::from_u64(0x3000)));
        let progress = Progress::default();
        bootstrap_progress(&config, target, progress).await.unwrap();
        assert!(end_bootstrap(&config, target).await.unwrap().contains("when the service runs"));
    }
}
