//! The last word of every sidecar and since when it is silent, by pod: a look that gets no answer is told as silence
//! only after a while. Nothing is decided on a last word (`LastWord`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use blobstore_operator_core::observed::{LastWord, PodSeen, SILENCE_HELD_MS};
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use jiff::Timestamp;

/// A word is some 5 kB. Of more pods than this, those that were heard longest ago have no last word, and of those
/// that fell silent last nobody knows since when.
const PODS_MAX: usize = 2_048;
/// A word is of use while looks are half a minute apart and silence is held; then its pod is gone or long silent.
const AGE_MS_MAX: i64 = 60_000 + SILENCE_HELD_MS;

#[derive(Debug)]
struct Word {
    topology: Option<PodTopology>,
    report: Option<LeakReport>,
    heard: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Timestamp,
    /// The last look that got no answer.
    met: Timestamp,
}

/// By UID of the pod.
#[derive(Debug, Default)]
struct Kept {
    words: BTreeMap<String, Word>,
    silences: BTreeMap<String, Silence>,
}

#[derive(Debug, Default)]
pub struct Words(Mutex<Kept>);

impl Words {
    /// Keeps what pods have said, and gives those that are silent their last word and the time of their first
    /// missed look.
    pub fn hear(&self, pods: &mut [PodSeen], now: Timestamp) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at: Timestamp| now.as_millisecond().saturating_sub(at.as_millisecond()) < AGE_MS_MAX;
        kept.words.retain(|_, word| fresh(word.heard));
        kept.silences.retain(|_, silence| fresh(silence.met));
        for pod in pods {
            if !pod.topology.is_unknown() && !pod.report.is_unknown() {
                kept.silences.remove(&pod.uid);
                hear(&mut kept.words, pod, now);
                continue;
            }
            pod.silent_since = Some(miss(&mut kept.silences, &pod.uid, now));
            pod.last_word = kept.words.get(&pod.uid).map(|word| {
                let (topology, report) = (word.topology.clone(), word.report.clone());
                LastWord { topology, report }
            });
        }
    }
}

fn miss(silences: &mut BTreeMap<String, Silence>, uid: &str, now: Timestamp) -> Timestamp {
    if let Some(silence) = silences.get_mut(uid) {
        silence.met = now;
        return silence.since;
    }
    if silences.len() < PODS_MAX {
        silences.insert(uid.to_owned(), Silence { since: now, met: now });
    }
    now
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
    words.insert(pod.uid.clone(), Word { topology, report, heard: now });
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

    /// The missed look at that second, with the first one of the same silence, and whether there is a last word.
    fn missed(words: &Words, second: i64) -> (Option<Timestamp>, bool) {
        let mut pods = [pod("a", false)];
        words.hear(&mut pods, at(second));
        (pods[0].silent_since, pods[0].last_word.is_some())
    }

    #[test]
    fn silence_counts_from_the_first_missed_look_and_ends_with_an_answer() {
        let words = Words::default();
        assert_eq!(missed(&words, 0), (Some(at(0)), false), "it never said anything");
        words.hear(&mut [pod("a", true)], at(1));
        assert_eq!(missed(&words, 31), (Some(at(31)), true));
        assert_eq!(missed(&words, 33), (Some(at(31)), true));
        words.hear(&mut [pod("a", true)], at(35));
        assert_eq!(missed(&words, 37), (Some(at(37)), true));
        assert_eq!(missed(&words, 80), (Some(at(37)), true));
        assert_eq!(missed(&words, 110), (Some(at(37)), false), "the word is too old to be of use");
        assert_eq!(missed(&words, 200), (Some(at(200)), false), "nobody looked for a while");
    }

    #[test]
    fn memory_is_bounded_and_forgets_who_was_heard_longest_ago() {
        let words = Words::default();
        words.hear(&mut [pod("a", true)], at(1));
        let mut many: Vec<PodSeen> = (0..PODS_MAX).map(|index| pod(&index.to_string(), true)).collect();
        words.hear(&mut many, at(2));
        assert_eq!(words.0.lock().expect("no panic").words.len(), PODS_MAX);
        assert_eq!(missed(&words, 3), (Some(at(3)), false));
        let mut silent: Vec<PodSeen> = (0..PODS_MAX).map(|index| pod(&index.to_string(), false)).collect();
        words.hear(&mut silent, at(4));
        assert_eq!(words.0.lock().expect("no panic").silences.len(), PODS_MAX);
        assert_eq!(silent[PODS_MAX - 1].silent_since, Some(at(4)), "the one too many is silent from now on");
    }
}
