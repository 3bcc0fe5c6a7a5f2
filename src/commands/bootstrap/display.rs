//! Shows how far a copy is: bars on a terminal, lines otherwise, and to the service.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bootstrap::{Progress, Stage, View};
use config::{Config, Target};
use indicatif::{HumanBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::commands::print;
use crate::failure::Failure;
use crate::{service, status};

const TICK: Duration = Duration::from_millis(200);
const TELL_SERVICE_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Bars of tables; there may be more jobs than lines on a screen.
const TABLES_SHOWN: usize = 8;

/// What is shown of one target.
pub(in crate::commands) struct Display {
    target: String,
    bars: Option<Bars>,
    began: Instant,
    stage: Option<Stage>,
    last_line: Instant,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    tables: BTreeMap<String, ProgressBar>,
}

impl Display {
    pub(in crate::commands) fn new(target: &str) -> Display {
        let bars = std::io::stderr().is_terminal().then(Bars::new);
        Display { target: target.to_owned(), bars, began: Instant::now(), stage: None, last_line: Instant::now() }
    }

    /// Shows until it is dropped, or until the service says that the copy of this target is of no use any more. Of a
    /// single table's copy the service is told nothing.
    pub(in crate::commands) async fn show(
        &mut self,
        target: Option<(&Config, &Target)>,
        progress: &Progress,
    ) -> Failure {
        let mut told = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let view = progress.view();
            if let Err(failure) = self.update(progress, &view) {
                return failure;
            }
            if let Some((config, target)) = target.filter(|_| told.elapsed() >= TELL_SERVICE_EVERY) {
                told = Instant::now();
                if let Err(failure) = service::bootstrap_progress(config, target, for_service(&view)).await {
                    return failure;
                }
            }
        }
    }

    fn update(&mut self, progress: &Progress, view: &View) -> Result<(), Failure> {
        for note in progress.take_notes() {
            self.say(&note)?;
        }
        if let Some(bars) = &mut self.bars {
            bars.update(view);
            return Ok(());
        }
        let new_stage = self.stage.replace(view.stage) != Some(view.stage);
        if new_stage || self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let text = line(view, self.began.elapsed());
            self.say(&text)?;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        let line = format!("{}: {text}\n", self.target);
        match &self.bars {
            Some(bars) => bars.all.suspend(|| print(&line)),
            None => print(&line),
        }
    }

    /// Takes the bars away, and says in a line what was done.
    pub(in crate::commands) fn finish(&mut self, progress: &Progress, complete: bool) -> Result<(), Failure> {
        if let Some(bars) = self.bars.take() {
            bars.all.clear().map_err(|e| Failure::because("could not write to the terminal", &e))?;
        }
        let mut notes = progress.take_notes();
        if complete {
            let (view, took) = (progress.view(), self.began.elapsed());
            let (rows, bytes) = (HumanCount(view.rows), HumanBytes(view.copied_bytes));
            notes.push(format!("copied {} tables, {rows} rows, {bytes} in {:.1} s", view.tables, took.as_secs_f64()));
        }
        notes.iter().try_for_each(|note| self.say(note))
    }
}

impl Bars {
    fn new() -> Bars {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(0).with_style(style("{prefix:24!} {bar:30} {percent:>3}% {msg}")));
        total.set_prefix("total");
        Bars { all, total, tables: BTreeMap::new() }
    }

    fn update(&mut self, view: &View) {
        self.tables.retain(|name, bar| {
            let runs = view.running.iter().any(|table| table.name == *name);
            if !runs {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            runs
        });
        for table in view.running.iter().take(TABLES_SHOWN) {
            let bar = self.tables.entry(table.name.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(0).with_style(style("{prefix:24!} {bar:30} {percent:>3}% {msg}"));
                let bar = self.all.insert_before(&self.total, bar);
                bar.set_prefix(table.name.clone());
                bar
            });
            bar.set_length(table.expected_bytes);
            bar.set_position(table.copied_bytes);
            bar.set_message(amounts(table.copied_bytes, table.rows, &rate(bar)));
        }
        self.total.set_length(view.expected_bytes);
        self.total.set_position(view.copied_bytes);
        let tables = format!("{}/{} tables, {}", view.tables_done, view.tables, view.stage.as_str());
        let message = amounts(view.copied_bytes, view.rows, &rate(&self.total));
        self.total.set_message(format!("{message}, {tables}{}", held_back(view)));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn rate(bar: &ProgressBar) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate in bytes is small and positive"
    )]
    let per_second = bar.per_sec() as u64;
    format!("{}/s, {} left", HumanBytes(per_second), HumanDuration(bar.eta()))
}

fn amounts(bytes: u64, rows: u64, rate: &str) -> String {
    format!("{}, {} rows, {rate}", HumanBytes(bytes), HumanCount(rows))
}

/// Why it is slower than it could be.
fn held_back(view: &View) -> String {
    let Some(held_back) = &view.held_back else { return String::new() };
    format!(", held back to {}/s because target \"{}\" got later", HumanBytes(held_back.rate), held_back.target)
}

/// The same for a file or a pipe.
fn line(view: &View, took: Duration) -> String {
    if view.stage != Stage::Data {
        return view.stage.as_str().to_owned();
    }
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = view.copied_bytes.saturating_mul(1000) / milliseconds;
    let missing = view.expected_bytes.saturating_sub(view.copied_bytes);
    let left = missing.checked_div(rate).map_or_else(String::new, |seconds| format!(", {seconds} s left"));
    let amounts = amounts(view.copied_bytes, view.rows, &format!("{}/s{left}", HumanBytes(rate)));
    format!("data: {}/{} tables, {amounts}{}", view.tables_done, view.tables, held_back(view))
}

fn for_service(view: &View) -> status::Progress {
    status::Progress {
        copied_bytes: view.copied_bytes,
        expected_bytes: view.expected_bytes,
        tables_done: view.tables_done,
        tables: view.tables,
        held_back_to: view.held_back.as_ref().map(|held_back| held_back.rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_held_back_says_for_whom() {
        let mut view = View { stage: Stage::Data, copied_bytes: 1 << 20, expected_bytes: 3 << 20, ..View::default() };
        let second = Duration::from_secs(1);
        assert_eq!(line(&view, second), "data: 0/0 tables, 1.00 MiB, 0 rows, 1.00 MiB/s, 2 s left");
        view.held_back = Some(bootstrap::HeldBack { rate: 4 << 20, target: "berlin".to_owned() });
        assert!(line(&view, second).ends_with(", held back to 4.00 MiB/s because target \"berlin\" got later"));
    }
}
