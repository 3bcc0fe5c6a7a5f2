//! SIGHUP: the configuration is read again, and what changed in it is done. What did not change is not touched.
//!
//! ```text
//! read and check ─▶ can all of it be done without a restart? ─▶ hold the targets that changed ─▶ the new configuration
//!   │ wrong           │ no: a line says what cannot             ─▶ stop those that changed or went ─▶ start the others
//!   ▼                 ▼
//!  everything stays as it is
//! ```
//!
//! A target that is gone from the file is left alone with its checkpoint, as by a restart; `walcast remove` is what forgets
//! one. A target is started anew when anything of it changed that its applier goes by, the selection of tables and the roles
//! among it: it goes on from its checkpoint, with a new session.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::Config;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::failure::with_causes;
use crate::logging::Logging;

/// What a reload is asked by, and what it has to do with the log of the process.
pub(crate) struct Reloading {
    /// SIGHUP.
    pub hangups: Signal,
    /// Its level is set.
    pub logging: Arc<Logging>,
    /// The command line or the environment says which, whatever the file says.
    pub level_is_given: bool,
}

/// Reloads at every signal until the shutdown.
pub(super) async fn run(service: Arc<Service>, mut reloading: Reloading, shutdown: CancellationToken) {
    loop {
        let asked = tokio::select! {
            asked = reloading.hangups.recv() => asked,
            () = shutdown.cancelled() => return,
        };
        if asked.is_none() {
            return;
        }
        service.notifier.reloading();
        tokio::select! {
            () = reload(&service, &reloading) => {}
            () = shutdown.cancelled() => return,
        }
        service.notifier.reloaded();
    }
}

async fn reload(service: &Arc<Service>, reloading: &Reloading) {
    let path = service.config().path.clone();
    let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
    let new = match loaded {
        Ok(Ok(new)) => new,
        Ok(Err(error)) => {
            return tracing::error!("{NOT_RELOADED}: {} (hint: {})", with_causes(&error), error.hint());
        }
        Err(error) => return tracing::error!(%error, "{NOT_RELOADED}"),
    };
    let fixed = needing_restart(&service.config(), &new);
    if !fixed.is_empty() {
        return tracing::error!("{NOT_RELOADED}: {} needs a restart", fixed.join(", "));
    }
    let level = new.service.log_level.clone();
    if !reloading.level_is_given
        && let Err(failure) = reloading.logging.set_level(&level)
    {
        return tracing::error!("{NOT_RELOADED}: {failure}");
    }
    let change = service.change_to(new).await;
    tracing::info!("the configuration is reloaded: {change}");
    if change.wants_setup {
        tracing::warn!("what is selected has changed: run `walcast setup`, which has the source publish it");
    }
}

const NOT_RELOADED: &str = "the configuration is not reloaded, nothing has changed";

/// Keys of which a running service cannot take another value.
fn needing_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("[source] conninfo", old.source.conninfo == new.source.conninfo),
        ("[source] slot", old.source.slot == new.source.slot),
        ("[source] publication", old.source.publication == new.source.publication),
        ("[log] dir", old.log.dir == new.log.dir),
        ("[log] segment_size", old.log.segment_size == new.log.segment_size),
        ("[log] retain_min", old.log.retain_min == new.log.retain_min),
        ("[http] listen", old.http == new.http),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

/// What a reload does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    /// Anything that no target goes by.
    others: bool,
    /// What the source publishes is not what the configuration says now.
    wants_setup: bool,
}

impl Change {
    fn between(old: &Config, new: &Config) -> Change {
        let selection = old.source.selection != new.source.selection;
        let all = selection || old.roles != new.roles;
        let name = |target: &config::Target| target.name.clone();
        let is_changed = |target: &&config::Target| {
            let before = old.target(&target.name);
            before.is_some_and(|before| all || before.conninfo != target.conninfo || before.apply != target.apply)
        };
        Change {
            added: new.targets.iter().filter(|t| old.target(&t.name).is_none()).map(name).collect(),
            changed: new.targets.iter().filter(is_changed).map(name).collect(),
            removed: old.targets.iter().filter(|t| new.target(&t.name).is_none()).map(name).collect(),
            others: all || old.service != new.service || old.hooks != new.hooks || old.log != new.log,
            wants_setup: selection || old.roles.passwords != new.roles.passwords,
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let named = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let mut words: Vec<String> = named.map(|(word, names)| format!("{word} {}", names.join(", "))).collect();
        if words.is_empty() {
            words.push(if self.others { "no target is concerned" } else { "it is the same" }.to_owned());
        }
        f.write_str(&words.join("; "))
    }
}

impl Service {
    /// Goes by another configuration from now on.
    async fn change_to(self: &Arc<Self>, new: Config) -> Change {
        // The targets of the first configuration are started meanwhile, or were.
        let _changing = self.changing.lock().await;
        let change = Change::between(&self.config(), &new);
        let stopping: BTreeSet<String> = change.changed.iter().chain(&change.removed).cloned().collect();
        // Nobody may rely on a target that rests while it is started anew.
        let _held = self.holds.take(stopping.clone()).await;
        self.set_config(new);
        // One that was forgotten by `walcast remove` comes back by `walcast bootstrap`, not by another word in the file.
        let was_running: BTreeSet<String> = stopping.iter().filter(|name| self.is_running(name)).cloned().collect();
        self.end_targets(&stopping).await;
        change.removed.iter().for_each(|name| self.forget_target(name));
        if let Some(log) = self.log() {
            let config = self.config();
            let starts = |name: &String| change.added.contains(name) || was_running.contains(name);
            config.targets.iter().filter(|t| starts(&t.name)).for_each(|target| self.start_target(target, log));
        }
        change
    }

    /// Stops applying to these targets, all at once; until one has stopped, the status shows it.
    async fn end_targets(&self, names: &BTreeSet<String>) {
        let ends: Vec<_> = names.iter().filter_map(|name| self.with_target(name, super::Target::end).ok()).collect();
        for mut status in ends {
            // It says nothing more once its applier has ended.
            while status.changed().await.is_ok() {}
        }
        for name in names {
            let ended = self.targets().remove(name);
            if let Some(target) = ended {
                target.stop().await;
            }
        }
    }

    fn is_running(&self, name: &str) -> bool {
        self.targets().contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[source]\nconninfo = 'host=a'\n";

    fn parse(text: &str) -> Config {
        Config::parse(std::path::Path::new("/etc/walcast/walcast.toml"), text).unwrap()
    }

    fn target(name: &str, host: &str) -> String {
        format!("[[target]]\nname = '{name}'\nconninfo = 'host={host}'\n")
    }

    #[test]
    fn keys_of_what_is_made_once_need_a_restart() {
        let same = parse(BASE);
        assert_eq!(needing_restart(&same, &parse(&format!("{BASE}[log]\nretain_max = '1GiB'\n"))), [""; 0]);
        let other = "[source]\nconninfo = 'host=b'\nslot = 's'\npublication = 'p'\n[log]\ndir = '/l'\nsegment_size = '1MiB'\n\
                     retain_min = '1MiB'\n[http]\nlisten = ''\n";
        let named = needing_restart(&same, &parse(other));
        assert_eq!(named.len(), 7, "{named:?}");
        for section in other.split('[').filter_map(|text| text.split_once("]\n")) {
            for key in section.1.lines().filter_map(|line| line.split_once(" = ")) {
                assert!(named.contains(&format!("[{}] {}", section.0, key.0).as_str()), "{section:?} {key:?}");
            }
        }
    }

    #[test]
    fn targets_are_told_apart_by_name_and_compared_by_what_they_are_applied_with() {
        let old = parse(&(BASE.to_owned() + &target("a", "x") + &target("b", "x") + &target("c", "x")));
        assert_eq!(Change::between(&old, &old), Change::default());
        let order = parse(&(BASE.to_owned() + &target("c", "x") + &target("b", "x") + &target("a", "x")));
        assert_eq!(Change::between(&old, &order), Change::default());
        let new = parse(&(BASE.to_owned() + &target("a", "x") + &target("b", "y") + &target("d", "x")));
        let change = Change::between(&old, &new);
        assert_eq!(change.to_string(), "added d; changed b; removed c");
        assert!(!change.wants_setup);
        let rows = parse(
            &(BASE.to_owned() + &target("a", "x") + "batch_max_rows = 7\n" + &target("b", "x") + &target("c", "x")),
        );
        assert_eq!(Change::between(&old, &rows).changed, ["a"]);
    }

    #[test]
    fn selection_and_roles_concern_every_target_and_the_level_none() {
        let targets = target("a", "x") + &target("b", "x");
        let old = parse(&(BASE.to_owned() + &targets));
        let tables = Change::between(&old, &parse(&(BASE.to_owned() + "exclude = ['public.big']\n" + &targets)));
        assert_eq!((tables.changed, tables.wants_setup), (vec!["a".to_owned(), "b".to_owned()], true));
        let roles = Change::between(&old, &parse(&(BASE.to_owned() + "[roles]\nexclude = ['x']\n" + &targets)));
        assert_eq!((roles.changed.len(), roles.wants_setup), (2, false));
        let level = Change::between(&old, &parse(&(BASE.to_owned() + "[service]\nlog_level = 'debug'\n" + &targets)));
        assert_eq!(level.to_string(), "no target is concerned");
        assert_eq!(Change::default().to_string(), "it is the same");
    }
}
