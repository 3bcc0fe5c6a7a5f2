//! `walcast status --watch` in a terminal: the whole screen, drawn anew every second, with the past of every target.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use config::Config;
use decoder::Lsn;
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{SignalKind, signal};

use super::status::current;
use super::{paint, print};
use crate::failure::{Failure, Result};
use crate::metrics::gauge_value;
use crate::status::{Status, Target, bytes};

const INTERVAL: Duration = Duration::from_secs(1);
/// The screen that full-screen programs use, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; what is left of a line, and of the screen, is cleared as it is drawn, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Points of a curve: those that do not fit are not shown.
const POINTS_MAX: usize = 120;
/// Columns before the curves.
const COLUMNS: usize = 66;

/// Draws until Ctrl-C or SIGTERM, and leaves the terminal as it was.
///
/// # Errors
/// The status cannot be had any more.
pub(crate) async fn run(config: &Config) -> Result<()> {
    let failed = |e| Failure::because("could not listen to signals", &e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    print(ENTER)?;
    let result = tokio::select! {
        result = draw(config) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    print(LEAVE)?;
    result
}

async fn draw(config: &Config) -> Result<()> {
    let mut past = Past::default();
    loop {
        let status = current(config).await?;
        past.add(&status, Instant::now());
        let (rows, columns) = size();
        print(&screen(&lines(&status, &past, columns), rows))?;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)))
}

fn screen(lines: &[String], rows: usize) -> String {
    let shown: Vec<String> = lines.iter().take(rows).map(|line| format!("{line}{CLEAR_LINE}")).collect();
    format!("{HOME}{}{CLEAR_BELOW}", shown.join("\r\n"))
}

/// What is remembered of the targets, by name.
#[derive(Default)]
struct Past {
    targets: BTreeMap<String, Curves>,
}

/// Of one target; the newest is last.
#[derive(Default)]
struct Curves {
    lag: VecDeque<f64>,
    /// Bytes of the source's WAL that were applied in a second.
    speed: VecDeque<f64>,
    applied: Option<(Lsn, Instant)>,
}

impl Past {
    fn add(&mut self, status: &Status, now: Instant) {
        self.targets.retain(|name, _| status.target(name).is_some());
        for target in &status.targets {
            self.targets.entry(target.name.clone()).or_default().add(target, now);
        }
    }
}

impl Curves {
    fn add(&mut self, target: &Target, now: Instant) {
        let applied = target.applied_lsn.as_ref().and_then(|text| text.parse::<Lsn>().ok()).map(|lsn| (lsn, now));
        let speed = self.applied.zip(applied).map_or(0.0, |((before, then), (lsn, now))| {
            let seconds = now.saturating_duration_since(then).as_secs_f64().max(f64::EPSILON);
            gauge_value(lsn.bytes_since(before).unwrap_or(0)) / seconds
        });
        self.applied = applied;
        for (points, point) in [(&mut self.lag, target.lag_seconds.unwrap_or(0.0)), (&mut self.speed, speed)] {
            points.push_back(point);
            points.drain(..points.len().saturating_sub(POINTS_MAX));
        }
    }
}

fn lines(status: &Status, past: &Past, columns: usize) -> Vec<String> {
    let width = columns.saturating_sub(COLUMNS).div_ceil(2).saturating_sub(1).min(POINTS_MAX);
    // Source, log and everything that is not a target's row is as without --watch.
    let text = paint::status(status);
    let mut text = text.lines().map(str::to_owned).skip_while(|line| line.is_empty());
    let mut lines: Vec<String> = text.by_ref().take(status_head(status)).collect();
    let rest = text.skip(1 + status.targets.len());
    lines.push(String::new());
    lines.push(format!(
        "\x1b[2m{:<16} {:<13} {:>9} {:>11} {:>12}  {:<width$} {}\x1b[0m",
        "target", "state", "lag", "WAL behind", "applied/s", "lag", "applied"
    ));
    lines.extend(status.targets.iter().map(|target| row(target, past.targets.get(&target.name), width)));
    lines.push(String::new());
    lines.extend(rest);
    lines.push(format!("\x1b[2m{} · Ctrl-C ends\x1b[0m", concat!("walcast ", env!("CARGO_PKG_VERSION"))));
    lines
}

/// Lines before the table of the targets.
fn status_head(status: &Status) -> usize {
    let text = status.to_text();
    text.lines().take_while(|line| !line.starts_with("target ")).count()
}

fn row(target: &Target, curves: Option<&Curves>, width: usize) -> String {
    let painted = paint::state(&target.state);
    let padding = " ".repeat(13_usize.saturating_sub(target.state.len()));
    let lag = target.lag_seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"));
    let behind = target.lag_bytes.map_or("-".to_owned(), bytes);
    let speed = curves.and_then(|curves| curves.speed.back().copied()).unwrap_or(0.0);
    let curve = |points: fn(&Curves) -> &VecDeque<f64>| {
        let drawn = curves.map(|curves| sparkline(points(curves), width)).unwrap_or_default();
        format!("{drawn:<width$}")
    };
    let numbers = format!("{lag:>9} {behind:>11} {:>12}", bytes(whole(speed)) + "/s");
    let curves = format!("{} {}", curve(|curves| &curves.lag), curve(|curves| &curves.speed));
    format!("{:<16} {painted}{padding} {numbers}  {curves}", target.name)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed for people, never negative")]
fn whole(speed: f64) -> u64 {
    speed as u64
}

/// The last points that fit, the highest of them as high as the line; what is nothing is the lowest bar.
fn sparkline(points: &VecDeque<f64>, width: usize) -> String {
    let shown = || points.iter().skip(points.len().saturating_sub(width));
    let most = shown().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |point: &f64| BARS.iter().zip(1..).find(|(_, step)| point / most <= f64::from(*step) / 8.0);
    shown().map(|point| bar(point).map_or(BARS[7], |(bar, _)| *bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Log, Source};

    fn example(applied: &str) -> Status {
        Status {
            source: Source { state: "streaming".into(), ..Source::default() },
            log: Some(Log { first_lsn: "0/1".into(), durable_lsn: "0/10".into(), bytes: 64 << 20, segments: 1 }),
            targets: vec![Target {
                name: "berlin".into(),
                state: "stopped".into(),
                applied_lsn: Some(applied.into()),
                lag_bytes: Some(2048),
                lag_seconds: Some(1.5),
                last_error: Some("no such table".into()),
                ..Target::default()
            }],
        }
    }

    #[test]
    fn a_sparkline_is_as_high_as_its_highest_point() {
        let line = |points: &[f64], width| sparkline(&points.iter().copied().collect(), width);
        assert_eq!(line(&[0.0, 1.0, 4.0, 8.0], 9), "▁▁▄█");
        assert_eq!(line(&[9.0, 0.0, 0.0], 2), "▁▁");
        assert_eq!(line(&[], 5), "");
        assert_eq!(line(&[1.0], 0), "");
    }

    #[test]
    fn a_screen_has_the_targets_with_curves_and_their_errors() {
        let (mut past, start) = (Past::default(), Instant::now());
        past.add(&example("0/1000"), start);
        past.add(&example("0/3000"), start + Duration::from_secs(2));
        let lines = lines(&example("0/3000"), &past, 100);
        let row = lines.iter().find(|line| line.starts_with("berlin ")).unwrap();
        assert!(
            row.contains("4.0 KiB/s") && row.contains("1.5 s") && row.contains("2.0 KiB") && row.contains("▁█"),
            "{row}"
        );
        assert_eq!(lines.iter().filter(|line| line.starts_with("berlin ")).count(), 1, "{lines:?}");
        assert!(lines.iter().any(|line| line == "berlin: no such table"), "{lines:?}");
        assert!(lines[0].starts_with("source  "), "{lines:?}");
        let screen = screen(&lines, 3);
        assert_eq!(screen.matches("\r\n").count(), 2);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_with_its_target() {
        let (mut past, start) = (Past::default(), Instant::now());
        for second in 0..2 * POINTS_MAX as u64 {
            past.add(&example("0/1000"), start + Duration::from_secs(second));
        }
        assert_eq!(past.targets["berlin"].lag.len(), POINTS_MAX);
        past.add(&Status::default(), start);
        assert!(past.targets.is_empty());
    }
}
