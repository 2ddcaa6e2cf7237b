//! The last word of every sidecar, by pod: a look that gets no answer is told as silence only after a while. Nothing
//! is decided on it (`LastWord`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use blobstore_operator_core::observed::{LastWord, PodSeen, SILENCE_HELD_MS};
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use jiff::Timestamp;

/// Some 5 kB each. Of more pods than this, those that were heard longest ago have no last word.
const PODS_MAX: usize = 2_048;
/// A word is of use while looks are half a minute apart and silence is held; then its pod is gone or long silent.
const AGE_MS_MAX: i64 = 60_000 + SILENCE_HELD_MS;

#[derive(Debug)]
struct Word {
    topology: Option<PodTopology>,
    report: Option<LeakReport>,
    heard: Timestamp,
    silent_since: Option<Timestamp>,
}

/// Words by UID of the pod.
#[derive(Debug, Default)]
pub struct Words(Mutex<BTreeMap<String, Word>>);

impl Words {
    /// Keeps what pods have said, and gives those that are silent their last word.
    pub fn hear(&self, pods: &mut [PodSeen], now: Timestamp) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.retain(|_, word| now.as_millisecond().saturating_sub(word.heard.as_millisecond()) < AGE_MS_MAX);
        for pod in pods {
            if !pod.topology.is_unknown() && !pod.report.is_unknown() {
                hear(&mut words, pod, now);
            } else if let Some(word) = words.get_mut(&pod.uid) {
                let silent_since = *word.silent_since.get_or_insert(now);
                let (topology, report) = (word.topology.clone(), word.report.clone());
                pod.last_word = Some(LastWord { topology, report, silent_since });
            }
        }
    }
}

fn hear(words: &mut BTreeMap<String, Word>, pod: &PodSeen, now: Timestamp) {
    if words.len() >= PODS_MAX && !words.contains_key(&pod.uid) {
        let oldest = words.iter().min_by_key(|(_, word)| word.heard).map(|(uid, _)| uid.clone());
        oldest.map(|uid| words.remove(&uid));
    }
    let mut topology = pod.topology.present().cloned();
    if let Some(engine) = topology.as_mut().and_then(|topology| topology.engine.as_mut()) {
        // Of a large cluster they are most of the answer, and only formation reads them.
        engine.nodes = Vec::new();
    }
    let report = pod.report.present().cloned();
    words.insert(pod.uid.clone(), Word { topology, report, heard: now, silent_since: None });
}

#[cfg(test)]
mod tests {
    use super::*;
    use blobstore_operator_core::observed::Seen;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn pod(uid: &str, answers: bool) -> PodSeen {
        let (topology, report) =
            if answers { (Seen::Absent, Seen::Absent) } else { (Seen::Unknown, Seen::Unknown) };
        PodSeen { uid: uid.to_owned(), topology, report, ..PodSeen::default() }
    }

    fn silent_since(words: &Words, second: i64) -> Option<Timestamp> {
        let mut pods = [pod("a", false)];
        words.hear(&mut pods, at(second));
        pods[0].last_word.as_ref().map(|word| word.silent_since)
    }

    #[test]
    fn silence_counts_from_the_first_missed_look_and_ends_with_an_answer() {
        let words = Words::default();
        assert_eq!(silent_since(&words, 0), None, "it never said anything");
        words.hear(&mut [pod("a", true)], at(1));
        assert_eq!(silent_since(&words, 31), Some(at(31)));
        assert_eq!(silent_since(&words, 33), Some(at(31)));
        words.hear(&mut [pod("a", true)], at(35));
        assert_eq!(silent_since(&words, 37), Some(at(37)));
        assert_eq!(silent_since(&words, 200), None, "too old to be of use");
    }

    #[test]
    fn memory_is_bounded_and_forgets_who_was_heard_longest_ago() {
        let words = Words::default();
        words.hear(&mut [pod("a", true)], at(1));
        let mut many: Vec<PodSeen> = (0..PODS_MAX).map(|index| pod(&index.to_string(), true)).collect();
        words.hear(&mut many, at(2));
        assert_eq!(words.0.lock().expect("no panic").len(), PODS_MAX);
        assert_eq!(silent_since(&words, 3), None);
    }
}
