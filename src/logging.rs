//! The service's own log: one line per event on stderr.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;
use crate::failure::{Failure, Result};

/// Starts logging at this level, or by this filter. What an event says is in `fields` of its JSON.
///
/// # Errors
/// The level is not one.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|_| {
        Failure::new(format!("\"{level}\" is not a log level"))
            .hint("write error, warn, info, debug, trace, or a filter such as \"info,applier=debug\"")
            .usage()
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(OneLine);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// Keeps one event in one line whatever a name or a server's message contains.
struct OneLine;

/// One event.
struct Line(Vec<u8>);

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::with_capacity(256))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = single_line(&self.0);
        // Nobody is left to be told when stderr is closed.
        let _ = io::stderr().lock().write_all(&line);
    }
}

/// The bytes with every line break but the last one replaced.
fn single_line(bytes: &[u8]) -> Vec<u8> {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let plain = |b: &u8| if matches!(b, b'\n' | b'\r') { b' ' } else { *b };
    let mut line: Vec<u8> = text.iter().map(plain).collect();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x15_an_event_is_one_line() {
        assert_eq!(single_line(b"a\nb\r\nc\n"), b"a b  c\n");
        assert_eq!(single_line(b"a"), b"a\n");
    }
}
