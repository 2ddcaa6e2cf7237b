//! What a store has promised: for every key the contents that were tried and the one that was acknowledged.
//! Judges what a read returned; decides only, sends nothing.

use std::collections::BTreeMap;

use crate::payload::{Checksum, Payload};

#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// In the order of the attempts; a retry of the same contents is no new attempt.
    tries: Vec<(Payload, Checksum)>,
    acknowledged: Option<usize>,
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
    pub fn acknowledge(&mut self, key: &str) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.acknowledged = entry.tries.len().checked_sub(1);
        }
    }

    pub fn acknowledged(&self) -> Vec<String> {
        let kept = self.keys.iter().filter(|(_, entry)| entry.acknowledged.is_some());
        kept.map(|(key, _)| key.clone()).collect()
    }

    pub fn mark(&self, key: &str) -> Mark {
        Mark(self.keys.get(key).and_then(|entry| entry.acknowledged))
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
    use super::*;

    const OLD: Payload = Payload { seed: 2, size: 10 };
    const NEW: Payload = Payload { seed: 4, size: 10 };

    /// Tries and acknowledges as told, then judges a read that began after all of it.
    fn check(history: &[(Payload, bool)], found: Option<Payload>, want: Judgement) {
        let mut ledger = Ledger::default();
        for (payload, acknowledged) in history {
            ledger.try_write("k", *payload);
            if *acknowledged {
                ledger.acknowledge("k");
            }
        }
        let judged = ledger.judge("k", ledger.mark("k"), found.map(Payload::checksum));
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
        ledger.acknowledge("k");
        let mark = ledger.mark("k");
        ledger.try_write("k", NEW);
        ledger.acknowledge("k");
        for payload in [OLD, NEW] {
            assert_eq!(ledger.judge("k", mark, Some(payload.checksum())), Judgement::Right);
        }
    }
}
