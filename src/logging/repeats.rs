//! The same line over and over is shown at once, and then counted: again after a minute, with how often it came meanwhile.
//!
//! ```text
//! 12:00:00  WARN … the log is full: targets that are far behind become desync bytes=4194304
//! 12:01:00  WARN … the log is full: targets that are far behind become desync bytes=5242880 repeated=59
//! ```
//!
//! Events are the same when they come from the same place and say the same words; numbers may be others. Lines for debugging
//! are all shown, and so is what answers a person ([`ASKED_FOR`]).

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::LogFormat;

const INTERVAL: Duration = Duration::from_secs(60);
/// So many different lines are remembered; more than that are not repeats.
const LINES_MAX: usize = 256;
/// Whoever sends a signal twice is to see twice what became of it.
const ASKED_FOR: &str = "walcast::service::reload";

/// What was shown lately, and what was not.
#[derive(Default)]
struct Seen {
    lines: HashMap<u64, Line>,
}

struct Line {
    shown: Instant,
    /// So often it was not shown since.
    held: u64,
    /// As it was the last time.
    last: String,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Show it, and that it came so often without being shown.
    Show(u64),
    /// Remember it.
    Hold,
}

impl Seen {
    fn judge(&mut self, key: u64, now: Instant) -> Verdict {
        if let Some(line) = self.lines.get_mut(&key) {
            if now.saturating_duration_since(line.shown) < INTERVAL {
                line.held += 1;
                return Verdict::Hold;
            }
            (line.shown, line.last) = (now, String::new());
            return Verdict::Show(std::mem::take(&mut line.held));
        }
        if self.lines.len() >= LINES_MAX {
            self.lines.retain(|_, line| line.held > 0 || now.saturating_duration_since(line.shown) < INTERVAL);
        }
        if self.lines.len() < LINES_MAX {
            self.lines.insert(key, Line { shown: now, held: 0, last: String::new() });
        }
        Verdict::Show(0)
    }

    fn remember(&mut self, key: u64, text: String) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.last = text;
        }
    }

    /// Lines that came again, with how often, whose time has come.
    fn due(&mut self, is_time: impl Fn(Instant) -> bool, now: Instant) -> Vec<(String, u64)> {
        let due = self.lines.values_mut().filter(|line| line.held > 0 && is_time(line.shown));
        let take = |line: &mut Line| {
            line.shown = now;
            (std::mem::take(&mut line.last), std::mem::take(&mut line.held))
        };
        due.map(take).collect()
    }
}

/// Formats events as `inner` does, and holds back repeats.
pub(super) struct Repeats<F> {
    inner: F,
    held: Held,
}

/// What is held back, for whoever shows it when its time has come.
#[derive(Clone)]
pub(super) struct Held {
    seen: Arc<Mutex<Seen>>,
    format: LogFormat,
}

impl Held {
    pub(super) fn new(format: LogFormat) -> Held {
        Held { seen: Arc::default(), format }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines whose minute is over, or all of them.
    pub(super) fn lines(&self, all: bool) -> Vec<String> {
        let now = Instant::now();
        let is_time = |shown: Instant| all || now.saturating_duration_since(shown) >= INTERVAL;
        let due = self.seen().due(is_time, now);
        due.into_iter().map(|(text, repeated)| counted(text, repeated, self.format)).collect()
    }
}

impl<F> Repeats<F> {
    pub(super) fn new(inner: F, held: Held) -> Repeats<F> {
        Repeats { inner, held }
    }
}

impl<S, N, F> FormatEvent<S, N> for Repeats<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(key) = key(context, event) else { return self.inner.format_event(context, writer, event) };
        let mut text = String::new();
        self.inner.format_event(context, Writer::new(&mut text), event)?;
        let mut seen = self.held.seen();
        match seen.judge(key, Instant::now()) {
            Verdict::Show(repeated) => writer.write_str(&counted(text, repeated, self.held.format)),
            Verdict::Hold => {
                seen.remember(key, text);
                Ok(())
            }
        }
    }
}

/// A line with how often it was held back.
fn counted(text: String, repeated: u64, format: LogFormat) -> String {
    if repeated == 0 {
        return text;
    }
    let line = text.trim_end_matches('\n');
    match format {
        LogFormat::Text => format!("{line} repeated={repeated}\n"),
        LogFormat::Json => format!("{},\"repeated\":{repeated}}}\n", line.strip_suffix('}').unwrap_or(line)),
    }
}

/// What two lines have in common that are the same; none for lines that are always shown.
fn key<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> Option<u64>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let metadata = event.metadata();
    if *metadata.level() > Level::INFO || metadata.target() == ASKED_FOR {
        return None;
    }
    let mut words = Words(DefaultHasher::new());
    metadata.callsite().hash(&mut words.0);
    event.record(&mut words);
    for span in context.event_scope().into_iter().flatten() {
        span.extensions().get::<FormattedFields<N>>().map(|fields| fields.fields.as_str()).hash(&mut words.0);
    }
    Some(words.0.finish())
}

/// Everything of an event but its numbers.
struct Words(DefaultHasher);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        (field.name(), format!("{value:?}")).hash(&mut self.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        (field.name(), value).hash(&mut self.0);
    }

    fn record_f64(&mut self, _: &Field, _: f64) {}

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_i128(&mut self, _: &Field, _: i128) {}

    fn record_u128(&mut self, _: &Field, _: u128) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_shown_at_once_and_the_next_after_a_minute_with_a_count() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert_eq!(seen.judge(1, start), Verdict::Show(0));
        for second in 1..60 {
            assert_eq!(seen.judge(1, start + second * SECOND), Verdict::Hold, "{second}");
        }
        assert_eq!(seen.judge(2, start + SECOND), Verdict::Show(0), "another line");
        assert_eq!(seen.judge(1, start + 60 * SECOND), Verdict::Show(59));
        assert_eq!(seen.judge(1, start + 61 * SECOND), Verdict::Hold);
    }

    #[test]
    fn what_was_held_back_is_shown_when_it_does_not_come_again() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        seen.judge(1, start);
        for text in ["a", "b"] {
            assert_eq!(seen.judge(1, start + SECOND), Verdict::Hold);
            seen.remember(1, text.to_owned());
        }
        let mut due = |after: Duration| {
            let now = start + after;
            seen.due(|shown| now.saturating_duration_since(shown) >= INTERVAL, now)
        };
        assert_eq!(due(59 * SECOND), []);
        assert_eq!(due(60 * SECOND), [("b".to_owned(), 2)]);
        assert_eq!(due(200 * SECOND), [], "once");
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_remembered_is_shown() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        for key in 0..LINES_MAX as u64 + 10 {
            assert_eq!(seen.judge(key, start), Verdict::Show(0));
        }
        assert_eq!(seen.lines.len(), LINES_MAX);
        let unknown = LINES_MAX as u64 + 5;
        assert_eq!(seen.judge(unknown, start + SECOND), Verdict::Show(0));
        assert_eq!(seen.judge(unknown, start + INTERVAL), Verdict::Show(0), "the old ones make room");
        assert_eq!(seen.judge(unknown, start + INTERVAL), Verdict::Hold);
    }

    /// What is written to a log in memory, and what is still held back at its end.
    fn written(format: LogFormat, events: impl FnOnce()) -> (Vec<String>, Vec<String>) {
        #[derive(Clone, Default)]
        struct Memory(Arc<Mutex<Vec<u8>>>);
        impl Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (memory, held) = (Memory::default(), Held::new(format));
        let writer = memory.clone();
        let builder = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(move || writer.clone());
        match format {
            LogFormat::Text => {
                let subscriber = builder.with_ansi(false).map_event_format(|f| Repeats::new(f, held.clone())).finish();
                tracing::subscriber::with_default(subscriber, events);
            }
            LogFormat::Json => {
                let subscriber = builder.json().map_event_format(|f| Repeats::new(f, held.clone())).finish();
                tracing::subscriber::with_default(subscriber, events);
            }
        }
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        (text.lines().map(str::to_owned).collect(), held.lines(true))
    }

    /// Three lines that are the same, one about another target, two for debugging.
    fn events() {
        for (bytes, target) in [(1_u64, "berlin"), (2, "berlin"), (3, "berlin"), (1, "tokyo")] {
            tracing::warn!(bytes, target, "the log is full");
        }
        for _ in 0..2 {
            tracing::debug!("looking");
        }
    }

    #[test]
    fn a_flood_is_one_line_of_text_and_a_count() {
        let (shown, held) = written(LogFormat::Text, events);
        assert_eq!(shown.len(), 4, "{shown:?}");
        assert!(shown[0].ends_with("the log is full bytes=1 target=\"berlin\""), "{shown:?}");
        assert!(shown[1].contains("tokyo") && shown[3].contains("looking"), "{shown:?}");
        assert_eq!(held.len(), 1, "{held:?}");
        assert!(held[0].ends_with("the log is full bytes=3 target=\"berlin\" repeated=2\n"), "{held:?}");
    }

    #[test]
    fn a_count_is_part_of_the_object_of_json() {
        let (shown, held) = written(LogFormat::Json, events);
        assert_eq!((shown.len(), held.len()), (4, 1), "{shown:?} {held:?}");
        let object: serde_json::Value = serde_json::from_str(&held[0]).unwrap();
        assert_eq!((&object["repeated"], &object["fields"]["bytes"]), (&2.into(), &3.into()), "{object}");
        assert_eq!(object["fields"]["message"], "the log is full");
    }

    #[test]
    fn what_answers_a_person_is_shown_each_time() {
        let (shown, held) = written(LogFormat::Text, || {
            for _ in 0..2 {
                tracing::error!(target: "walcast::service::reload", "the configuration is not reloaded");
            }
        });
        assert_eq!((shown.len(), held.len()), (2, 0), "{shown:?}");
    }
}
