//! How much is logged: a level, or a filter with levels of single parts.

use crate::Problem;

/// Notices of servers are not ours to tell.
pub const LOG_LEVEL_DEFAULT: &str = "info,tokio_postgres=warn";

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Checks a filter such as `info,applier=debug`.
pub(crate) fn log_level(text: &str) -> Result<String, Problem> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_part = |part: &str| match part.split_once('=') {
        Some((name, level)) => is_name(name) && is_level(level),
        None => is_level(part),
    };
    match text.split(',').map(str::trim).all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(Problem::new(
            format!("\"{}\" is not a log level", text.escape_default()),
            "write error, warn, info, debug, trace, or a filter such as \"info,applier=debug\"",
        )),
    }
}

/// A part of the program, such as `applier` or `walcast::service`.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    name.split("::").all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_told_from_nonsense() {
        for good in [LOG_LEVEL_DEFAULT, "warn", "DEBUG", "off", "info, walcast::service=trace"] {
            assert_eq!(log_level(good).unwrap(), good);
        }
        for bad in ["", "loud", "info,", "applier=", "=info", "a b=info", "walcast:::x=info", "applier=info=warn"] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }
}
