//! How fast a copy goes where other targets are applied to: as fast as does not make them later.
//!
//! Whoever runs the copy says every [`TICK`] how late the other targets were lately, each by a high percentile of the times
//! from commit on the source to commit on the target ([`Lateness`]). What a target had just before the copy is its *usual*
//! lateness. A target *suffers* when it is later than usual by more than a fifth, or by [`SLACK`] if that is more. It is the
//! difference that counts, so clocks that are apart do no harm.
//!
//! Whether it is the copy from which a target suffers is found out by trying: the copy rests for a tick.
//!
//! | the copy | the others | what follows |
//! | --- | --- | --- |
//! | goes on | none suffers, and none has suffered from it yet | double the rate |
//! | goes on | none suffers | a sixteenth more, or [`STEP`] if that is more |
//! | goes on | one suffers | it rests |
//! | rests | none suffers any more | half of what was copied, not less than [`FLOOR`] |
//! | rests | one still does | the rate as before: what it is late now is usual for it, for whatever reason |
//! | has no rows to copy | one suffers | nothing: it makes an index, which cannot be slowed down |
//! | | there are none | no limit |
//!
//! So what a copy does no harm to does not slow it down, and it is never at rest for more than every other tick. When a target
//! gets better, its usual lateness follows, a quarter of the way each tick. A target that is behind by more than ten seconds,
//! or is paused or stopped, is not to be told of at all. A rate grows to at most twice what is really copied, so that it has an effect
//! when it is halved.
//!
//! # A timeline
//!
//! Usual is 2 ms; `SLACK` lets it be 3 ms. In tick 9 another load begins.
//!
//! ```text
//! tick      1    2    3    4     5    6    7     8     9    10   11
//! late      2    2    9    2     2    2    2.5   2.5   8    8    8
//! MiB/s     8   16   32   rest  16   17   18    19    20   rest  20
//!          └ doubled ┘       └ halved: it was the copy ┘      └ it was not: 8 ms is usual now
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the rate is judged.
pub const TICK: Duration = Duration::from_millis(500);
/// By what was within this time: what was on its way when the rate became another has arrived before.
pub const WINDOW: Duration = Duration::from_millis(350);

/// Bytes a second with which a copy begins.
const START: f64 = 8.0 * MIB;
/// The rate never falls below so many bytes a second, but for rests.
const FLOOR: f64 = 4.0 * MIB;
/// The rate grows by so many bytes a second in a tick, at least.
const STEP: f64 = 0.5 * MIB;
const MIB: f64 = 1_048_576.0;
/// Bytes a second of a copy that rests: it may not seem to be dead.
const RESTING: f64 = FLOOR / 8.0;
/// Microseconds by which a target may always be later than usual.
const SLACK: i64 = 1_000;

/// How late a target was, in microseconds, by a high percentile; clocks that are apart can make it negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lateness {
    /// The target's name.
    pub target: String,
    /// `None` if nothing was applied.
    pub micros: Option<i64>,
    /// The least of that time; the clocks' difference is in both.
    pub least_micros: Option<i64>,
}

/// Why a copy is slower than it could be.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldBack {
    /// Bytes a second.
    pub rate: u64,
    /// The target that suffered last.
    pub target: String,
}

/// The rate of one copy. Whoever copies asks for it, whoever knows the other targets tells of them.
#[derive(Debug, Default)]
pub struct Governor {
    law: Mutex<Law>,
    copied_bytes: AtomicU64,
}

impl Governor {
    /// How late the targets were that are applied to, within the last [`WINDOW`], or before the copy. To be called every
    /// [`TICK`].
    pub fn notice(&self, others: &[Lateness]) {
        let copied = self.copied_bytes.swap(0, Ordering::Relaxed);
        self.law().tick(others, copied as f64 / TICK.as_secs_f64());
    }

    /// `None` while nothing holds the copy back.
    #[must_use]
    pub fn held_back(&self) -> Option<HeldBack> {
        let law = self.law();
        let target = law.suffered.clone().filter(|_| law.rate.is_finite())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is above the floor and finite")]
        Some(HeldBack { rate: law.rate as u64, target })
    }

    /// Whether there is anybody to be considerate of.
    pub(crate) fn has_others(&self) -> bool {
        self.law().rate.is_finite()
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        let law = self.law();
        if law.rests.is_some() { RESTING } else { law.rate }
    }

    pub(crate) fn copied(&self, bytes: u64) {
        self.copied_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn law(&self) -> MutexGuard<'_, Law> {
        self.law.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table at the top.
#[derive(Debug)]
struct Law {
    /// Bytes a second.
    rate: f64,
    rests: Option<Rest>,
    usual: BTreeMap<String, Usual>,
    /// The last one that suffered from the copy.
    suffered: Option<String>,
}

/// Why the copy rests.
#[derive(Debug)]
struct Rest {
    /// Bytes a second that were copied before.
    copied: f64,
    /// Who suffers.
    target: String,
}

/// What a target is like, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Usual {
    high: i64,
    least: i64,
}

impl Usual {
    fn allowed(self) -> i64 {
        let spread = self.high.saturating_sub(self.least);
        self.high.saturating_add((spread / 5).max(SLACK))
    }
}

impl Default for Law {
    fn default() -> Law {
        Law { rate: f64::INFINITY, rests: None, usual: BTreeMap::new(), suffered: None }
    }
}

impl Law {
    /// `copied`: bytes a second since the tick before.
    fn tick(&mut self, others: &[Lateness], copied: f64) {
        if others.is_empty() {
            return *self = Law::default();
        }
        let known = |other: &Lateness| {
            let usual = Usual { high: other.micros?, least: other.least_micros? };
            Some((other.target.clone(), usual))
        };
        let now: Vec<(String, Usual)> = others.iter().filter_map(known).collect();
        let worst = self.worst(&now);
        let mut resigned = false;
        match (self.rests.take(), worst) {
            _ if self.rate.is_infinite() => self.rate = START,
            (Some(_), Some(_)) => resigned = true,
            (Some(Rest { copied, target }), None) => {
                self.rate = (self.rate.min(copied) / 2.0).max(FLOOR);
                self.suffered = Some(target);
            }
            (None, Some(_)) if copied == 0.0 => {}
            (None, Some(target)) => self.rests = Some(Rest { copied, target }),
            (None, None) => self.rate = self.rate.max(self.faster().min(copied * 2.0)),
        }
        for (target, seen) in now {
            self.usual.entry(target).or_insert(seen).learn(seen, resigned);
        }
    }

    fn worst(&self, now: &[(String, Usual)]) -> Option<String> {
        let excesses = now.iter().filter_map(|(target, seen)| {
            let excess = seen.high.saturating_sub(self.usual.get(target)?.allowed());
            (excess > 0).then_some((excess, target))
        });
        excesses.max().map(|(_, target)| target.clone())
    }

    fn faster(&self) -> f64 {
        match self.suffered {
            None => self.rate * 2.0,
            Some(_) => self.rate + (self.rate / 16.0).max(STEP),
        }
    }
}

impl Usual {
    /// Better times are believed slowly, worse ones only when they are not the copy's doing.
    fn learn(&mut self, seen: Usual, resigned: bool) {
        let better = (self.high.saturating_sub(seen.high) / 4).max(0);
        self.high = if resigned { seen.high.max(self.high) } else { self.high.saturating_sub(better) };
        self.least = self.least.min(seen.least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `berlin` with this high percentile; the least is 1 ms.
    fn berlin(millis: i64) -> Vec<Lateness> {
        let (micros, least_micros) = (Some(millis * 1000), Some(1000));
        vec![Lateness { target: "berlin".into(), micros, least_micros }]
    }

    /// A copy that has begun beside a target that is usually 2 ms late.
    fn begun() -> Law {
        let mut law = Law::default();
        law.tick(&berlin(2), 0.0);
        assert_eq!(law.rate, START);
        law
    }

    /// So many ticks of a copy that is as fast as it may be.
    fn ticks(law: &mut Law, count: u32, millis: i64) {
        for _ in 0..count {
            law.tick(&berlin(millis), law.rate);
        }
    }

    #[test]
    fn without_others_nothing_is_limited() {
        let mut law = Law::default();
        law.tick(&[], 1e9);
        assert_eq!(law.rate, f64::INFINITY);
        law = begun();
        ticks(&mut law, 1, 50);
        ticks(&mut law, 1, 2);
        law.tick(&[], 1e9);
        assert_eq!((law.rate, law.suffered), (f64::INFINITY, None));
    }

    #[test]
    fn the_rate_doubles_until_somebody_suffers_and_then_seeks_what_there_is_to_spare() {
        let mut law = begun();
        ticks(&mut law, 2, 2);
        assert_eq!(law.rate, 4.0 * START);
        ticks(&mut law, 1, 9);
        assert!(law.rests.is_some() && law.suffered.is_none(), "whose doing it is, is not known yet");
        ticks(&mut law, 1, 2);
        assert_eq!((law.rate, law.suffered.as_deref()), (2.0 * START, Some("berlin")));
        law.tick(&berlin(3), law.rate);
        assert_eq!(law.rate, 2.0 * START * 17.0 / 16.0, "3 ms is within the slack");
        // As long as it suffers at more than 20 MiB/s, that is what the rate stays about.
        let mut rates = Vec::new();
        for _ in 0..200 {
            let millis = if law.rests.is_none() && law.rate > 20.0 * MIB { 20 } else { 2 };
            law.tick(&berlin(millis), law.rate);
            rates.push(law.rate);
        }
        assert!(rates.iter().all(|rate| (9.0 * MIB..22.0 * MIB).contains(rate)), "{rates:?}");
    }

    #[test]
    fn a_rate_that_is_not_used_does_not_grow_and_what_is_copied_is_what_is_halved() {
        let mut law = begun();
        for _ in 0..20 {
            law.tick(&berlin(2), 10.0 * MIB);
        }
        assert_eq!(law.rate, 20.0 * MIB);
        law.tick(&berlin(30), 10.0 * MIB);
        law.tick(&berlin(2), RESTING);
        assert_eq!(law.rate, 5.0 * MIB);
        law.tick(&berlin(30), 0.0);
        assert!(law.rests.is_none() && law.rate == 5.0 * MIB, "an index is being made");
    }

    #[test]
    fn the_rate_never_falls_below_the_floor() {
        let mut law = begun();
        for _ in 0..20 {
            ticks(&mut law, 1, 40);
            ticks(&mut law, 1, 2);
        }
        assert_eq!(law.rate, FLOOR);
    }

    #[test]
    fn what_does_not_get_better_while_the_copy_rests_does_not_slow_it_down() {
        let mut law = begun();
        ticks(&mut law, 1, 40);
        assert!(law.rests.is_some());
        ticks(&mut law, 1, 40);
        assert_eq!((law.rate, law.rests.is_none(), law.suffered.as_deref()), (START, true, None));
        ticks(&mut law, 3, 42);
        assert_eq!(law.rate, 8.0 * START, "40 ms is usual now");
        ticks(&mut law, 20, 2);
        law.tick(&berlin(40), law.rate);
        assert!(law.rests.is_some(), "it was better meanwhile, so 40 ms is not usual any more");
    }

    #[test]
    fn a_target_that_is_idle_or_not_applied_to_holds_nothing_back() {
        let mut law = begun();
        let idle = [Lateness { target: "berlin".into(), micros: None, least_micros: None }];
        law.tick(&idle, law.rate);
        assert_eq!(law.rate, 2.0 * START);
        let mut both = berlin(2);
        both.push(Lateness { target: "tokyo".into(), micros: Some(900_000), least_micros: Some(800_000) });
        law.tick(&both, law.rate);
        law.tick(&both, law.rate);
        assert_eq!(law.rate, 8.0 * START, "what a target is like when it is first seen is usual for it");
    }

    #[test]
    fn clocks_that_are_apart_do_no_harm() {
        for apart in [-10_000_000, 10_000_000] {
            let seen = |micros: i64| {
                let (micros, least_micros) = (Some(micros + apart), Some(1000 + apart));
                vec![Lateness { target: "berlin".into(), micros, least_micros }]
            };
            let mut law = Law::default();
            law.tick(&seen(2000), 0.0);
            law.tick(&seen(3000), law.rate);
            assert_eq!((law.rate, law.suffered.as_deref()), (2.0 * START, None));
            law.tick(&seen(5000), law.rate);
            law.tick(&seen(2000), RESTING);
            assert_eq!((law.rate, law.suffered.as_deref()), (START, Some("berlin")));
        }
    }
}
