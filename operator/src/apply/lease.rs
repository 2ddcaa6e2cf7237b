//! What a shard's Lease starts with when there is none. A Lease that was lost while its shard lives must not start
//! from nothing: epoch 0 would let an empty engine become primary. Pure.

use blobstore_operator_core::observed::{Observed, PodSeen};
use blobstore_sidecar_api::record::ShardRecord;

/// How to create a Lease that is not there.
#[derive(Clone, Debug, PartialEq)]
pub enum Birth {
    /// The shard is new, or none of its members has ever seen a record.
    Fresh,
    /// The shard lives: this is the newest record that its members know.
    Recovered(ShardRecord),
    /// A member that may know the record has not answered yet.
    Wait(String),
}

/// Decides for `shard`.
pub fn birth(observed: &Observed, shard: u32) -> Birth {
    let pods = observed.shard_pods(shard);
    if pods.is_empty() && !observed.sets.contains_key(&shard) {
        return Birth::Fresh;
    }
    let newest = pods.iter().filter_map(|pod| known(pod)).max_by_key(|(own, record)| (record.epoch, *own));
    // The primary's own word is final for its epoch: members leave and enter the in-sync set only through it.
    if let Some((true, record)) = newest {
        return Birth::Recovered(record.clone());
    }
    if pods.is_empty() {
        return Birth::Wait(format!("the record of shard {shard} is gone and so are its pods"));
    }
    match pods.iter().find(|pod| pod.topology.is_unknown()) {
        Some(silent) => {
            Birth::Wait(format!("the record of shard {shard} is gone and {} does not answer", silent.name))
        }
        None => newest.map_or(Birth::Fresh, |(_, record)| Birth::Recovered(record.clone())),
    }
}

/// The record that a pod knows, and whether it is the primary of it.
fn known(pod: &PodSeen) -> Option<(bool, &ShardRecord)> {
    let record = pod.topology.present()?.record.as_ref()?;
    let primary = record.primary.as_ref()?;
    Some((primary.pod == pod.name && pod.run_id() == Some(&primary.run_id), record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use blobstore_operator_core::observed::{Seen, SetSeen};
    use serde_json::json;

    fn pod(ordinal: u32, topology: Seen<serde_json::Value>) -> PodSeen {
        let topology = match topology {
            Seen::Present(topology) => Seen::Present(serde_json::from_value(topology).expect("a topology")),
            Seen::Absent => Seen::Absent,
            Seen::Unknown => Seen::Unknown,
        };
        PodSeen { name: format!("a-0-{ordinal}"), ordinal, topology, ..PodSeen::default() }
    }

    fn record(epoch: u64, primary: &str, in_sync: usize) -> serde_json::Value {
        let member =
            json!({"pod": primary, "runId": format!("{primary}-run"), "nodeId": "n", "ip": "1.1.1.1"});
        json!({"epoch": epoch, "primary": member, "inSync": vec![member.clone(); in_sync]})
    }

    fn answer(ordinal: u32, record: serde_json::Value) -> PodSeen {
        let name = format!("a-0-{ordinal}");
        let engine = json!({"flavor": "redis", "version": "7", "isPrimary": true, "loading": false,
            "member": {"pod": name, "runId": format!("{name}-run"), "nodeId": "n", "ip": "1.1.1.1"},
            "replicationLinkUp": true, "replicationOffset": 0, "keys": 0, "usedMemory": 0, "rss": 0,
            "maxmemory": 0, "uptimeSeconds": 0, "slots": [], "nodes": []});
        let topology = json!({"pod": name, "podIp": "1.1.1.1", "storeUid": "u", "shard": 0,
            "sidecarVersion": "1", "configHash": "h", "state": "InSync", "message": "", "record": record,
            "recordFresh": false, "engine": engine, "lastExit": null});
        pod(ordinal, Seen::Present(topology))
    }

    fn check(pods: Vec<PodSeen>, set: bool, want: impl Fn(&Birth) -> bool) {
        let mut observed = Observed { pods, ..Observed::default() };
        if set {
            observed.sets.insert(0, SetSeen::default());
        }
        let birth = birth(&observed, 0);
        assert!(want(&birth), "{birth:?}");
    }

    fn epoch(birth: &Birth) -> Option<(u64, usize)> {
        match birth {
            Birth::Recovered(record) => Some((record.epoch, record.in_sync.len())),
            Birth::Fresh | Birth::Wait(_) => None,
        }
    }

    #[test]
    fn new_shard_starts_fresh() {
        check(vec![], false, |birth| *birth == Birth::Fresh);
    }

    #[test]
    fn shard_whose_members_never_saw_a_record_starts_fresh() {
        let empty = || answer(0, serde_json::Value::Null);
        check(vec![empty(), pod(1, Seen::Absent)], true, |birth| *birth == Birth::Fresh);
    }

    #[test]
    fn primary_s_own_record_wins_within_its_epoch() {
        let replica = answer(1, record(4, "a-0-0", 2));
        let primary = answer(0, record(4, "a-0-0", 1));
        check(vec![primary, replica], true, |birth| epoch(birth) == Some((4, 1)));
    }

    #[test]
    fn highest_epoch_wins() {
        let old = answer(0, record(4, "a-0-0", 2));
        let new = answer(1, record(5, "a-0-1", 1));
        check(vec![old, new], true, |birth| epoch(birth) == Some((5, 1)));
    }

    #[test]
    fn replica_s_word_counts_only_when_all_have_answered() {
        let replica = || answer(1, record(4, "a-0-0", 2));
        check(vec![pod(0, Seen::Unknown), replica()], true, |birth| matches!(birth, Birth::Wait(_)));
        check(vec![pod(0, Seen::Absent), replica()], true, |birth| epoch(birth) == Some((4, 2)));
    }

    #[test]
    fn living_set_without_pods_waits() {
        check(vec![], true, |birth| matches!(birth, Birth::Wait(_)));
    }
}
