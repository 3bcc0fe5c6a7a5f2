//! What the kernel says of this process, under the names that every exporter uses.

use std::fs;
use std::sync::OnceLock;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::exposition::Page;
use crate::metrics::{self as names, gauge_value};

/// Adds the process's samples; those that the kernel does not tell are left out.
pub(crate) fn samples(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(stat) = stat.as_deref().and_then(Stat::parse) {
        page.sample(names::PROCESS_CPU_SECONDS, &[], seconds(stat.cpu_ticks));
        page.sample(names::PROCESS_RESIDENT_MEMORY_BYTES, &[], gauge_value(stat.resident_pages * page_size() as u64));
        page.sample(names::PROCESS_VIRTUAL_MEMORY_BYTES, &[], gauge_value(stat.virtual_bytes));
        if let Some(boot) = boot_time() {
            page.sample(names::PROCESS_START_TIME_SECONDS, &[], boot + seconds(stat.start_ticks));
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // Without the one that lists them.
        page.sample(names::PROCESS_OPEN_FDS, &[], gauge_value((files.count() as u64).saturating_sub(1)));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.sample(names::PROCESS_MAX_FDS, &[], gauge_value(most));
    }
}

/// Fields of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// The second field is a name in parentheses that may contain anything.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5) counts from 1; these begin with the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn seconds(ticks: u64) -> f64 {
    gauge_value(ticks) / gauge_value(clock_ticks_per_second())
}

/// When the machine was started, in seconds since the Unix epoch. It is read once, for it moves with the clock.
fn boot_time() -> Option<f64> {
    static BOOT_TIME: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT_TIME.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_passed_over() {
        let text =
            "7 (a) b 1 2) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 5 0 900 10485760 256 18446744073709551615";
        let stat = Stat { cpu_ticks: 200, start_ticks: 900, virtual_bytes: 10_485_760, resident_pages: 256 };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn the_kernel_tells_everything() {
        let mut page = Page::default();
        samples(&mut page);
        let text = page.finish();
        for (name, ..) in names::ALL.iter().filter(|(name, ..)| name.starts_with("process_")) {
            assert!(text.contains(&format!("\n{name} ")), "{name} is not in\n{text}");
        }
    }
}
