//! What a store has promised: for every key the contents that were tried and the one that was acknowledged.
//! Judges what a read returned; decides only, sends nothing.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Instant};

use crate::payload::{Checksum, Payload};

#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// In the order of the attempts; a retry of the same contents is no new attempt.
    tries: Vec<(Payload, Checksum)>,
    /// When which try was acknowledged, in order.
    acknowledged: Vec<(Instant, usize)>,
}

/// What was acknowledged for a key when a read began: an older state may not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(Option<usize>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Right,
    /// Acknowledged, and not there.
    Lost,
    /// Contents from before the last acknowledged write.
    Stale,
    /// Contents that nobody wrote.
    Altered,
}

impl Ledger {
    /// Before the first byte is sent: from now on a read may see these contents.
    pub fn try_write(&mut self, key: &str, payload: Payload) {
        let entry = self.keys.entry(key.to_owned()).or_default();
        entry.tries.push((payload, payload.checksum()));
    }

    /// The last contents tried for the key were acknowledged.
    pub fn acknowledge(&mut self, key: &str, at: Instant) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.acknowledged.extend(entry.tries.len().checked_sub(1).map(|last| (at, last)));
        }
    }

    pub fn acknowledged(&self) -> Vec<String> {
        let kept = self.keys.iter().filter(|(_, entry)| !entry.acknowledged.is_empty());
        kept.map(|(key, _)| key.clone()).collect()
    }

    /// What was acknowledged at an excused time may be gone: the second that a log may lose with the power.
    pub fn mark(&self, key: &str, excused: Option<&RangeInclusive<Instant>>) -> Mark {
        let counts = |at: &Instant| excused.is_none_or(|times| !times.contains(at));
        let acknowledged = self.keys.get(key).map_or(&[][..], |entry| entry.acknowledged.as_slice());
        Mark(acknowledged.iter().rev().find(|(at, _)| counts(at)).map(|(_, index)| *index))
    }

    /// `None` is a 404.
    pub fn judge(&self, key: &str, mark: Mark, found: Option<Checksum>) -> Judgement {
        let Some(entry) = self.keys.get(key) else {
            return if found.is_none() { Judgement::Right } else { Judgement::Altered };
        };
        let Some(found) = found else {
            return if mark.0.is_none() { Judgement::Right } else { Judgement::Lost };
        };
        match entry.tries.iter().rposition(|(_, checksum)| *checksum == found) {
            None => Judgement::Altered,
            Some(index) if mark.0.is_some_and(|oldest| index < oldest) => Judgement::Stale,
            Some(_) => Judgement::Right,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OLD: Payload = Payload { seed: 2, size: 10 };
    const NEW: Payload = Payload { seed: 4, size: 10 };

    /// Tries and acknowledges as told, then judges a read that began after all of it.
    fn check(history: &[(Payload, bool)], found: Option<Payload>, want: Judgement) {
        let mut ledger = Ledger::default();
        for (payload, acknowledged) in history {
            ledger.try_write("k", *payload);
            if *acknowledged {
                ledger.acknowledge("k", Instant::now());
            }
        }
        let judged = ledger.judge("k", ledger.mark("k", None), found.map(Payload::checksum));
        assert_eq!(judged, want, "{history:?} then {found:?}");
    }

    #[test]
    fn acknowledged_contents_must_be_there() {
        check(&[(OLD, true)], Some(OLD), Judgement::Right);
        check(&[(OLD, true)], None, Judgement::Lost);
        check(&[(OLD, true)], Some(NEW), Judgement::Altered);
        check(&[(OLD, true), (NEW, true)], Some(OLD), Judgement::Stale);
    }

    #[test]
    fn unacknowledged_contents_may_be_there_or_not() {
        check(&[(OLD, false)], None, Judgement::Right);
        check(&[(OLD, false)], Some(OLD), Judgement::Right);
        check(&[(OLD, true), (NEW, false)], Some(OLD), Judgement::Right);
        check(&[(OLD, true), (NEW, false)], Some(NEW), Judgement::Right);
        check(&[(OLD, true), (NEW, false)], None, Judgement::Lost);
    }

    #[test]
    fn write_that_ends_during_a_read_may_or_may_not_be_seen() {
        let mut ledger = Ledger::default();
        ledger.try_write("k", OLD);
        ledger.acknowledge("k", Instant::now());
        let mark = ledger.mark("k", None);
        ledger.try_write("k", NEW);
        ledger.acknowledge("k", Instant::now());
        for payload in [OLD, NEW] {
            assert_eq!(ledger.judge("k", mark, Some(payload.checksum())), Judgement::Right);
        }
    }
    #[test]
    fn excused_write_may_be_gone_and_what_came_before_or_after_may_not() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut ledger = Ledger::default();
        ledger.try_write("k", OLD);
        ledger.acknowledge("k", start);
        ledger.try_write("k", NEW);
        ledger.acknowledge("k", start + 2 * second);
        let excused = start + second..=start + 3 * second;
        let judge = |ledger: &Ledger, found: Option<Payload>| {
            ledger.judge("k", ledger.mark("k", Some(&excused)), found.map(Payload::checksum))
        };
        assert_eq!(judge(&ledger, Some(OLD)), Judgement::Right);
        assert_eq!(judge(&ledger, None), Judgement::Lost);
        ledger.try_write("k", NEW);
        ledger.acknowledge("k", start + 4 * second);
        assert_eq!(judge(&ledger, Some(OLD)), Judgement::Stale);
    }
}
