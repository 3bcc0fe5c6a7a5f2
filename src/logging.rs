//! The service's own log: one line per event on stderr.

mod repeats;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;
use crate::failure::{Failure, Result};
use repeats::{Held, Repeats};

const REPEATS_INTERVAL: Duration = Duration::from_secs(5);

/// The log of this process, to be changed while it runs.
pub(crate) struct Logging {
    set: Box<dyn Fn(EnvFilter) -> Result<(), tracing_subscriber::reload::Error> + Send + Sync>,
    held: Held,
}

/// Starts logging at this level, or by this filter. What an event says is in `fields` of its JSON.
///
/// # Errors
/// The level is not one.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<Logging> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(OneLine);
    let held = Held::new(format);
    let repeats = held.clone();
    let set: Box<dyn Fn(EnvFilter) -> _ + Send + Sync> = match format {
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal();
            let builder = builder.with_ansi(ansi).map_event_format(|f| Repeats::new(f.with_ansi(ansi), repeats));
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
        LogFormat::Json => {
            let builder = builder.json().map_event_format(|f| Repeats::new(f, repeats)).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |filter| handle.reload(filter))
        }
    };
    Ok(Logging { set, held })
}

fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|_| {
        Failure::new(format!("\"{level}\" is not a log level"))
            .hint("write error, warn, info, debug, trace, or a filter such as \"info,applier=debug\"")
            .usage()
    })
}

impl Logging {
    /// Logs at another level from now on.
    ///
    /// # Errors
    /// The level is not one.
    pub(crate) fn set_level(&self, level: &str) -> Result<()> {
        (self.set)(filter(level)?).map_err(|e| Failure::because("could not change the log level", &e))
    }

    /// Shows, until it is dropped, what was held back of lines that do not come again.
    pub(crate) async fn show_repeats(&self) {
        loop {
            tokio::time::sleep(REPEATS_INTERVAL).await;
            show(&self.held.lines(false));
        }
    }
}

/// Nothing stays held back.
impl Drop for Logging {
    fn drop(&mut self) {
        show(&self.held.lines(true));
    }
}

fn show(lines: &[String]) {
    for line in lines {
        // Written when it is dropped.
        drop(Line(line.as_bytes().to_vec()));
    }
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
        // A repeat that is held back.
        if self.0.is_empty() {
            return;
        }
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
