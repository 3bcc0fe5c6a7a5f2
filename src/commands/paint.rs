//! Colours of states in a terminal.

use std::io::{self, IsTerminal};

use crate::status::Status;

const RESET: &str = "\x1b[0m";

/// Whether standard output shows colours: a terminal, and nobody objects (no-color.org).
pub(crate) fn is_wanted() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A state in its colour: green is well, yellow on its way, red needs a person.
pub(crate) fn state(word: &str) -> String {
    match colour(word) {
        Some(colour) => format!("{colour}{word}{RESET}"),
        None => word.to_owned(),
    }
}

fn colour(state: &str) -> Option<&'static str> {
    match state {
        "streaming" => Some("\x1b[32m"),
        "catching_up" | "bootstrapping" | "connecting" | "retrying" | "paused" => Some("\x1b[33m"),
        "stopped" | "desync" => Some("\x1b[1;31m"),
        _ => None,
    }
}

/// The status for people with its states in colour: that of the source, and those in the lines of the targets.
pub(crate) fn status(status: &Status) -> String {
    let text = status.to_text();
    text.lines().map(|line| painted(line, status) + "\n").collect()
}

fn painted(line: &str, status: &Status) -> String {
    let states = status.targets.iter().map(|target| (target.name.as_str(), target.state.as_str()));
    let mut states = states.chain([("source", status.source.state.as_str())]);
    let begins = |name: &str, word: &str| {
        let rest = line.strip_prefix(name)?;
        let word_at = rest.len() - rest.trim_start().len();
        (word_at >= 2 && rest[word_at..].starts_with(word)).then_some(name.len() + word_at)
    };
    let found = states.find_map(|(name, word)| Some((begins(name, word)?, word)));
    match found {
        Some((at, word)) => format!("{}{}{}", &line[..at], state(word), &line[at + word.len()..]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Source, Target};

    #[test]
    fn states_are_painted_where_they_stand_and_columns_stay() {
        let target = |name: &str, state: &str| Target { name: name.into(), state: state.into(), ..Target::default() };
        let source = Source { state: "streaming".into(), ..Source::default() };
        let targets = vec![target("a", "streaming"), target("stopped", "stopped"), target("new", "new")];
        let plain = Status { source, log: None, targets };
        let text = status(&plain);
        assert!(text.starts_with("source  \x1b[32mstreaming\x1b[0m"), "{text}");
        assert!(text.contains("\nstopped  \x1b[1;31mstopped\x1b[0m"), "{text}");
        let without = ["\x1b[32m", "\x1b[1;31m", RESET].iter().fold(text, |text, code| text.replace(code, ""));
        assert_eq!(without, plain.to_text());
    }
}
