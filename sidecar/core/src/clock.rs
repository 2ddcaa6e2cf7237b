//! Wall time that may be relied on: a clock that jumps ahead is not believed at once. What ends by wall time (objects,
//! rules, uploads) is then late by minutes instead of early by hours, and a step that is taken back ends nothing.

use std::time::Duration;

/// Beyond what time passed: the drift of a bad oscillator between two looks, and the slewing of a good daemon.
const TOLERANCE_MS: u64 = 5_000;
/// A step ahead is believed when it has lasted for this long: an operator or a time daemon takes a wrong one back sooner,
/// and whatever was due waits no longer than that.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(15 * 60);

/// A wall clock, and what a steady one says of it.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    wall_ms: u64,
    at: Duration,
    /// Since when the wall clock has been ahead.
    ahead_since: Option<Duration>,
}

impl Steady {
    /// `at`: of a monotonic clock.
    pub fn new(wall_ms: u64, at: Duration) -> Self {
        Self { wall_ms, at, ahead_since: None }
    }

    /// What the wall clock says, unless it has just jumped ahead. Steps back are believed at once: they end nothing.
    pub fn now_ms(&mut self, wall_ms: u64, at: Duration) -> u64 {
        let passed = u64::try_from(at.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let expected = self.wall_ms.saturating_add(passed);
        if wall_ms <= expected.saturating_add(TOLERANCE_MS) {
            *self = Self::new(wall_ms, self.at.max(at));
            return wall_ms;
        }
        let since = *self.ahead_since.get_or_insert(at);
        if at.saturating_sub(since) < BELIEVED_AFTER {
            return expected;
        }
        *self = Self::new(wall_ms, at);
        wall_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Pairs of seconds passed and wall clock, with what is believed.
    fn check(looks: &[(u64, u64, u64)]) {
        let mut steady = Steady::new(10 * HOUR, Duration::ZERO);
        for (seconds, wall_ms, want) in looks {
            assert_eq!(steady.now_ms(*wall_ms, Duration::from_secs(*seconds)), *want, "after {seconds} s");
        }
    }

    #[test]
    fn a_clock_that_goes_is_believed() {
        let at = |seconds: u64| (seconds, 10 * HOUR + seconds * 1_000, 10 * HOUR + seconds * 1_000);
        check(&[at(0), at(1), at(4_000), at(100_000)]);
    }

    #[test]
    fn a_step_ahead_that_is_taken_back_never_shows() {
        check(&[
            (1, 15 * HOUR, 10 * HOUR + 1_000),
            (600, 15 * HOUR + 599_000, 10 * HOUR + 600_000),
            (700, 10 * HOUR + 700_000, 10 * HOUR + 700_000),
            // Another one begins to wait anew.
            (1_000, 15 * HOUR, 10 * HOUR + 1_000_000),
            (1_800, 15 * HOUR + 800_000, 10 * HOUR + 1_800_000),
        ]);
    }

    #[test]
    fn a_step_ahead_that_lasts_is_believed() {
        check(&[(1, 15 * HOUR, 10 * HOUR + 1_000), (901, 16 * HOUR, 16 * HOUR)]);
    }

    #[test]
    fn a_step_back_is_believed_at_once() {
        check(&[(1, 2 * HOUR, 2 * HOUR), (2, 2 * HOUR + 1_000, 2 * HOUR + 1_000)]);
    }

    proptest! {
        /// Whatever the clock does, what is believed never runs ahead of both what it says and what has passed.
        #[test]
        fn never_ahead_of_time_without_waiting(steps in proptest::collection::vec((0_u64..800, -50_i64..50), 1..40)) {
            let mut steady = Steady::new(1_000 * HOUR, Duration::ZERO);
            let (mut at, mut last) = (0_u64, 1_000 * HOUR);
            for (seconds, hours) in steps {
                at += seconds;
                let offset = hours * HOUR.cast_signed();
                let wall = (1_000 * HOUR + at * 1_000).saturating_add_signed(offset);
                let now = steady.now_ms(wall, Duration::from_secs(at));
                prop_assert!(now <= wall);
                prop_assert!(now == wall || now == last + seconds * 1_000);
                last = now;
            }
        }
    }
}
