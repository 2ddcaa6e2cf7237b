//! Which alerts were hinted lately, by fingerprint and start. Bounded: the oldest leave first.

use std::collections::{HashSet, VecDeque};

/// A sender repeats an alert every few minutes for as long as it fires; this many fire at once at most.
const RECENT_MAX: usize = 1_024;

/// Memory of the hinted alerts.
#[derive(Debug, Default)]
pub struct Recent {
    order: VecDeque<(String, String)>,
    known: HashSet<(String, String)>,
}

impl Recent {
    /// True the first time. An alert without a fingerprint cannot be told from others: always new.
    pub fn is_new(&mut self, fingerprint: &str, starts_at: &str) -> bool {
        if fingerprint.is_empty() {
            return true;
        }
        let key = (fingerprint.to_owned(), starts_at.to_owned());
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        while self.order.len() > RECENT_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        true
    }

    /// The alert is over: the next one with the same key is new again.
    pub fn forget(&mut self, fingerprint: &str, starts_at: &str) {
        let key = (fingerprint.to_owned(), starts_at.to_owned());
        if self.known.remove(&key) {
            self.order.retain(|known| *known != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_leave_first() {
        let mut recent = Recent::default();
        for number in 0..=RECENT_MAX {
            assert!(recent.is_new(&number.to_string(), "t"));
        }
        assert_eq!(recent.known.len(), RECENT_MAX);
        assert!(!recent.is_new("1", "t"), "the second is still known");
        assert!(recent.is_new("0", "t"), "the first has left");
    }
}
