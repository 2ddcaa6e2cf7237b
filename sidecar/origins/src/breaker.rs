//! When an origin that fails is asked again: after a row of failures not at all for a while, then once, to see. Pure:
//! the time and the dice are arguments.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker: fewer could be one dropped connection of the pool and its retry.
pub(crate) const FAILURES_MAX: u32 = 5;
/// First pause: shorter than any person notices, longer than a thundering herd needs to disperse.
pub(crate) const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause: an origin that is back is found within a minute.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What the metric shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Closed,
    /// One request is under way to find out.
    HalfOpen,
    Open,
}

impl State {
    pub(crate) fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The origin answered, be it that it has no such object.
    Answered,
    Failed,
    /// The one who asked has left: says nothing about the origin.
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    failures: u32,
    pause: Duration,
    until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { state: State::Closed, failures: 0, pause: PAUSE_MIN, until: None }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How long nobody is let through.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        match (self.state, self.until) {
            (State::Open, Some(until)) => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// `Err`: not now; how long to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let left = self.left(now);
        match self.state {
            State::Closed => Ok(()),
            State::Open if left.is_zero() => {
                self.state = State::HalfOpen;
                Ok(())
            }
            State::Open => Err(left),
            State::HalfOpen => Err(PAUSE_MIN),
        }
    }

    /// `dice`: 0 to 1, spreads the pods' next tries over the second half of the pause.
    pub(crate) fn end(&mut self, ended: Ended, now: Instant, dice: f64) {
        match (ended, self.state) {
            (Ended::Answered, _) => *self = Self::new(),
            (Ended::Cancelled, State::HalfOpen) => self.state = State::Open,
            (Ended::Cancelled, _) => {}
            (Ended::Failed, State::HalfOpen) => {
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                self.open(now, dice);
            }
            (Ended::Failed, State::Closed) => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    self.open(now, dice);
                }
            }
            // Asked before it opened.
            (Ended::Failed, State::Open) => {}
        }
    }

    fn open(&mut self, now: Instant, dice: f64) {
        self.state = State::Open;
        self.until = Some(now + self.pause.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_MAX {
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.end(Ended::Failed, now, 1.0);
        }
        breaker
    }

    #[test]
    fn opens_after_a_row_of_failures_only() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            breaker.end(Ended::Failed, now, 1.0);
            breaker.end(Ended::Failed, now, 1.0);
            breaker.end(Ended::Answered, now, 1.0);
        }
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(failing(now).state(), State::Open);
    }

    #[test]
    fn lets_one_through_after_the_pause() {
        let now = Instant::now();
        let mut breaker = failing(now);
        assert_eq!(breaker.admit(now), Err(PAUSE_MIN));
        let later = now + PAUSE_MIN;
        assert_eq!((breaker.admit(later), breaker.state()), (Ok(()), State::HalfOpen));
        assert!(breaker.admit(later).is_err(), "only one");
        breaker.end(Ended::Answered, later, 1.0);
        assert_eq!((breaker.admit(later), breaker.state()), (Ok(()), State::Closed));
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let mut now = Instant::now();
        let mut breaker = failing(now);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            now += PAUSE_MAX;
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.end(Ended::Failed, now, 1.0);
            assert_eq!(breaker.admit(now), Err(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_probe_that_left_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = failing(now);
        let later = now + PAUSE_MIN;
        assert_eq!(breaker.admit(later), Ok(()));
        breaker.end(Ended::Cancelled, later, 1.0);
        assert_eq!(breaker.admit(later), Ok(()));
    }
}
