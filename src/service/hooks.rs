//! The program that is told when a target or the stream stops over an error. It has a task of its own, which looks once a
//! second: nothing that applies or streams waits for it, or knows of it.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use applier::{State, StoppedBy};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::failure::one_line;
use crate::notify;

const INTERVAL: Duration = Duration::from_secs(1);

/// What the program is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct News {
    /// Empty for the source.
    target: String,
    state: String,
    lsn: String,
    sqlstate: String,
    relation: String,
    message: String,
    hint: String,
}

impl News {
    fn of_target(target: &str, state: State, error: Option<&StoppedBy>) -> News {
        let text = |part: fn(&StoppedBy) -> Option<String>| error.and_then(part).unwrap_or_default();
        News {
            target: target.to_owned(),
            state: state.as_str().to_owned(),
            lsn: text(|error| error.lsn.map(|lsn| lsn.to_string())),
            sqlstate: text(|error| error.sqlstate.clone()),
            relation: text(|error| error.relation.clone()),
            message: text(|error| Some(error.message.clone())),
            hint: text(|error| error.hint.clone()),
        }
    }

    fn variables(&self) -> [(&'static str, String); 7] {
        [
            ("WALCAST_TARGET", &self.target),
            ("WALCAST_STATE", &self.state),
            ("WALCAST_LSN", &self.lsn),
            ("WALCAST_SQLSTATE", &self.sqlstate),
            ("WALCAST_RELATION", &self.relation),
            ("WALCAST_MESSAGE", &self.message),
            ("WALCAST_HINT", &self.hint),
        ]
        // No value that holds a zero byte can be given to a program.
        .map(|(name, value)| (name, one_line(&value.replace('\0', " "))))
    }
}

/// What was told last of each target, and when.
#[derive(Default)]
struct Told {
    last: HashMap<String, (Instant, Option<News>)>,
}

impl Told {
    /// What is to be told now, of all that is wrong. What comes too soon after the last is told later, if it still is so.
    fn due(&mut self, wrong: Vec<News>, interval: Duration, now: Instant) -> Vec<News> {
        for (target, (_, news)) in &mut self.last {
            // What went away is news when it comes back.
            *news = news.take().filter(|_| wrong.iter().any(|w| w.target == *target));
        }
        let is_due = |news: &News| match self.last.get(&news.target) {
            Some((_, Some(told))) if told == news => false,
            Some((at, _)) => now.saturating_duration_since(*at) >= interval,
            None => true,
        };
        let due: Vec<News> = wrong.into_iter().filter(is_due).collect();
        self.last.extend(due.iter().map(|news| (news.target.clone(), (now, Some(news.clone())))));
        due
    }
}

/// Looks until the shutdown. The program is the one of now.
pub(super) async fn run(service: Arc<Service>, shutdown: CancellationToken) {
    let mut told = Told::default();
    let looking = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let hooks = service.config().hooks.clone();
            let Some((program, arguments)) = hooks.on_error.split_first() else { continue };
            for news in told.due(service.wrong(), hooks.on_error_interval, Instant::now()) {
                tell(program, arguments, &news, hooks.on_error_timeout).await;
            }
        }
    };
    tokio::select! {
        () = looking => {}
        () = shutdown.cancelled() => {}
    }
}

impl Service {
    /// What needs a person now.
    fn wrong(&self) -> Vec<News> {
        let source = self.source_view();
        let stopped = source.last_error.filter(|_| source.state == "stopped");
        let of_source = stopped.map(|message| News { state: source.state, message, ..News::default() });
        let targets = self.targets();
        let of_targets = targets.values().filter_map(|target| {
            let status = target.watch().borrow().clone();
            let is_wrong = matches!(status.state, State::Stopped | State::Desync);
            is_wrong.then(|| News::of_target(target.name(), status.state, status.last_error.as_ref()))
        });
        of_source.into_iter().chain(of_targets).collect()
    }
}

/// Runs the program to its end, or kills it.
async fn tell(program: &str, arguments: &[String], news: &News, timeout: Duration) {
    let mut command = Command::new(program);
    for name in notify::VARIABLES {
        command.env_remove(name);
    }
    command.args(arguments).envs(news.variables()).stdin(Stdio::null()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%error, program, "cannot run on_error"),
    };
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    if ended.is_ok() {
        // What it left running on purpose is not ours; and its number may be another's by now.
        group.0 = None;
    }
    match ended {
        Ok(Ok(status)) if status.success() => tracing::debug!(program, "on_error was run"),
        Ok(Ok(status)) => tracing::warn!(program, %status, "on_error failed"),
        Ok(Err(error)) => tracing::warn!(program, %error, "cannot wait for on_error"),
        Err(_) => tracing::warn!(program, timeout_s = timeout.as_secs_f64(), "on_error took too long and is killed"),
    }
    drop(group);
    // It is dead; this only takes note of it.
    let _ = child.wait().await;
}

/// The program with all that it started. They are killed when this is dropped, which the shutdown does too.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody of them may be left.
        let _ = self.0.map(|pid| kill_process_group(pid, Signal::KILL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(target: &str, message: &str) -> News {
        News { target: target.into(), message: message.into(), ..News::default() }
    }

    #[test]
    fn an_error_is_told_once_and_another_one_not_before_its_time() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut due = |wrong: Vec<News>, seconds: u64| {
            told.due(wrong, Duration::from_secs(60), start + Duration::from_secs(seconds))
        };
        let (a, other, b) = (news("a", "x"), news("a", "y"), news("b", "x"));
        assert_eq!(due(vec![a.clone()], 0), vec![a.clone()]);
        assert_eq!(due(vec![a.clone(), b.clone()], 1), vec![b.clone()], "each target has its own time");
        assert_eq!(due(vec![a.clone()], 100), vec![], "nothing new");
        assert_eq!(due(vec![other.clone()], 101), vec![other.clone()]);
        assert_eq!(due(vec![a.clone()], 102), vec![], "too soon");
        assert_eq!(due(vec![a.clone()], 161), vec![a.clone()], "told later");
        assert_eq!(due(vec![], 162), vec![]);
        assert_eq!(due(vec![a.clone()], 230), vec![a], "it went away and is back");
    }

    #[test]
    fn variables_are_one_line_each() {
        let variables = news("a", "x\ny\0z").variables();
        assert!(variables.contains(&("WALCAST_MESSAGE", "x y z".to_owned())), "{variables:?}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("child");
        let script = format!("sleep 1000 & echo $! > '{}'; wait", file.display());
        tell("sh", &["-c".to_owned(), script], &news("a", "x"), Duration::from_secs(2)).await;
        let child: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running(child) {
            assert!(Instant::now() < deadline, "process {child} is left");
            tokio::task::yield_now().await;
        }
    }

    /// A zombie that nobody has taken note of yet does not run.
    fn is_running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }
}
