//! Figures: what processes used, and what many runs come to.

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};

/// CPU time that a process has used, without its children.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    ticks(pid, 13)
}

/// CPU time of those children of a process that have ended.
pub(crate) fn cpu_of_ended_children(pid: u32) -> anyhow::Result<Duration> {
    ticks(pid, 15)
}

/// The sum of two neighbouring counters, user and system, of `/proc/PID/stat`; `index` counts the first from zero.
fn ticks(pid: u32, index: usize) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let ticks = sum_of_two(&stat, index).with_context(|| format!("cannot read {path}"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The name in the second field may hold anything; the third begins behind its last parenthesis.
fn sum_of_two(stat: &str, index: usize) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(index.checked_sub(2)?);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The most memory that a process ever had resident, in bytes.
pub(crate) fn peak_memory_of(pid: u32) -> anyhow::Result<u64> {
    kibibytes(pid, "VmHWM:")
}

/// What of a process's resident memory is in no file, in bytes: what the kernel cannot take back.
pub(crate) fn anonymous_memory_of(pid: u32) -> anyhow::Result<u64> {
    kibibytes(pid, "RssAnon:")
}

/// How many files and sockets a process has open.
pub(crate) fn descriptors_of(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).with_context(|| format!("could not read {path}"))?.count() as u64)
}

/// A line of `/proc/PID/status`, in bytes.
fn kibibytes(pid: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes * 1024).with_context(|| format!("no {name} in {path}"))
}

/// What the processes of one contender used.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Usage {
    /// The source's walsenders.
    pub(crate) walsender: Duration,
    /// The program between source and target: walcast or pg_recvlogical. A subscription has none.
    pub(crate) program: Option<Duration>,
    /// What applies on the target: its apply workers, or the backends that serve walcast.
    pub(crate) apply: Option<Duration>,
    /// Peak resident memory of `program`, if it was asked for.
    pub(crate) peak_memory: Option<u64>,
    /// The most of it that was in no file, of those moments at which it was looked at.
    pub(crate) peak_anonymous: Option<u64>,
}

impl Usage {
    /// What was used after `earlier`.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        let part = |now: Option<Duration>, before: Option<Duration>| {
            now.map(|now| now.saturating_sub(before.unwrap_or_default()))
        };
        Usage {
            walsender: self.walsender.saturating_sub(earlier.walsender),
            program: part(self.program, earlier.program),
            apply: part(self.apply, earlier.apply),
            peak_memory: self.peak_memory,
            peak_anonymous: self.peak_anonymous,
        }
    }
}

/// Median, smallest and largest of some figures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> anyhow::Result<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { bail!("nothing was measured") };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Ok(Spread { median, min, max })
    }
}

/// The smallest of `sorted` figures that at least `share` of them do not exceed.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194304 95 0 0 0 11 22 300 400 20 0 1 0 5 6 7";
        assert_eq!(sum_of_two(stat, 13), Some(33));
        assert_eq!(sum_of_two(stat, 15), Some(700));
        assert_eq!(sum_of_two("7 (a) S 1", 13), None);
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let pid = std::process::id();
        assert!(descriptors_of(pid).unwrap() > 2);
        assert!(anonymous_memory_of(pid).unwrap() > 10_000);
        assert!(peak_memory_of(pid).unwrap() > 100_000);
        while cpu_of(pid).unwrap().is_zero() {}
        assert!(cpu_of_ended_children(pid).unwrap() <= Duration::from_secs(3600));
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([5.0]).unwrap().median, 5.0);
        assert!(Spread::of([]).is_err());
    }

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50.0));
        assert_eq!(percentile(&sorted, 0.99), Some(99.0));
        assert_eq!(percentile(&sorted, 1.0), Some(100.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
