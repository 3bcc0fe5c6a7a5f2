//! When the source's WAL came to which position: what turns a position into an age.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use decoder::Lsn;

/// Beyond so many marks, the older half is thinned out: what is far behind need not be dated to the second.
const MARKS_MAX: usize = 4096;

/// Where the WAL ended, and since when at least.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    marks: VecDeque<(Instant, Lsn)>,
}

impl Timeline {
    /// The WAL ends here now. An end that is known, or before it, says nothing new.
    pub(crate) fn note(&mut self, end: Lsn, now: Instant) {
        if self.end().is_some_and(|known| end <= known) {
            return;
        }
        self.marks.push_back((now, end));
        if self.marks.len() > MARKS_MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index > MARKS_MAX / 2 || index % 2 == 1
            });
        }
    }

    /// Where the WAL was last seen to end.
    pub(crate) fn end(&self) -> Option<Lsn> {
        self.marks.back().map(|(_, end)| *end)
    }

    /// For how long there has been WAL beyond `lsn`; zero if there is none. Never more than the truth, and less than it by
    /// no more than the time between two looks.
    pub(crate) fn age(&self, lsn: Lsn, now: Instant) -> Duration {
        let beyond = self.marks.partition_point(|(_, end)| *end <= lsn);
        self.marks.get(beyond).map_or(Duration::ZERO, |(seen, _)| now.saturating_duration_since(*seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(raw: u64) -> Lsn {
        Lsn::from_u64(raw)
    }

    #[test]
    fn what_is_behind_is_as_old_as_the_first_end_beyond_it() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (seconds, end) in [(0, 100), (1, 100), (2, 200), (3, 150), (9, 300)] {
            timeline.note(lsn(end), at(seconds));
        }
        let age = |position| timeline.age(lsn(position), at(10)).as_secs();
        assert_eq!((age(300), age(299), age(200), age(199), age(100), age(99)), (0, 1, 1, 8, 8, 10));
        assert_eq!(timeline.end(), Some(lsn(300)));
    }

    #[test]
    fn an_idle_source_makes_nothing_old() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        assert_eq!(timeline.age(lsn(1), start), Duration::ZERO);
        timeline.note(lsn(100), start);
        assert_eq!(timeline.age(lsn(100), start + Duration::from_secs(3600)), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded_and_recent_times_stay_exact() {
        let mut timeline = Timeline::default();
        let start = Instant::now();
        let ends = 10 * MARKS_MAX as u64;
        for second in 0..ends {
            timeline.note(lsn(second + 1), start + Duration::from_secs(second));
        }
        assert!(timeline.marks.len() <= MARKS_MAX);
        let now = start + Duration::from_secs(ends);
        assert_eq!(timeline.age(lsn(ends - 100), now).as_secs(), 100);
        let oldest = timeline.age(Lsn::ZERO, now).as_secs();
        assert_eq!(oldest, ends, "the first mark stays");
    }
}
