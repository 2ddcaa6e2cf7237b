//! Failures in a row, by store. How long they make a store wait is the core's decision.

use std::collections::BTreeMap;
use std::time::Duration;

use blobstore_operator_core::backoff::{DELAY_MAX, delay};

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
        *failures = failures.saturating_add(1);
        delay(*failures, chance)
    }

    pub fn succeeded(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_do_not_share_and_success_clears() {
        let mut backoff = Backoff::default();
        let delays: Vec<Duration> = (1..=3).map(|_| backoff.failed("a", 0.0)).collect();
        assert_eq!(delays, [delay(1, 0.0), delay(2, 0.0), delay(3, 0.0)]);
        assert_eq!(backoff.failed("b", 0.0), delay(1, 0.0));
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a", 0.0), delay(1, 0.0));
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
