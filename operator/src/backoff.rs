//! How long a failing store waits: doubling per failure in a row, by UID. Pure; chance comes in as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

/// The first failure is often a conflict or a restart of something: look again soon.
const DELAY_MIN: Duration = Duration::from_secs(1);
/// A store that keeps failing still gets a look each minute.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// 2^6 seconds pass the maximum.
const DOUBLINGS_MAX: u32 = 6;
/// More failing stores than this share the longest delay; the table stays small.
const STORES_MAX: usize = 4_096;

/// Failures in a row, by UID.
#[derive(Debug, Default)]
pub struct Backoff(BTreeMap<String, u32>);

impl Backoff {
    /// The delay after one more failure; `chance` from 0 to 1 spreads stores that failed together.
    pub fn failed(&mut self, uid: &str, chance: f64) -> Duration {
        if !self.0.contains_key(uid) && self.0.len() >= STORES_MAX {
            return DELAY_MAX;
        }
        let failures = self.0.entry(uid.to_owned()).or_default();
        let delay = DELAY_MIN.saturating_mul(1 << (*failures).min(DOUBLINGS_MAX)).min(DELAY_MAX);
        *failures = failures.saturating_add(1);
        delay.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0)
    }

    pub fn succeeded(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_maximum_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..8).map(|_| backoff.failed("a", 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.failed("b", 0.0).as_secs(), 1, "stores do not share");
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", 0.0).as_secs(), 1);
    }

    #[test]
    fn chance_shortens_by_a_quarter_at_most() {
        let delay = Backoff::default().failed("a", 1.0);
        assert_eq!(delay, Duration::from_millis(750));
    }

    #[test]
    fn full_table_waits_longest() {
        let mut backoff = Backoff::default();
        for store in 0..STORES_MAX {
            backoff.failed(&store.to_string(), 0.0);
        }
        assert_eq!(backoff.failed("one more", 0.0), DELAY_MAX);
        assert_eq!(backoff.0.len(), STORES_MAX);
    }
}
