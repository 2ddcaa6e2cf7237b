//! What the operator sees of the world.

use std::collections::BTreeMap;

use blobstore_operator_core::observed::{ContainerSeen, Observed, PodSeen, RecordSeen, Seen, SetSeen};
use blobstore_sidecar_api::record::Member;
use blobstore_sidecar_api::report::{Verdict, VerdictClass};
use blobstore_sidecar_api::topology::{PodTopology, ShardState};

use super::world::{Pod, World};
use super::{at, engine, report, revisions, verdict};

impl World {
    pub(crate) fn observe(&self) -> Observed {
        let mut observed = Observed { auth: Seen::Absent, ..Observed::default() };
        let all: Vec<Member> = self
            .pods
            .iter()
            .filter(|(_, pod)| self.running(pod))
            .map(|(name, _)| self.member(name))
            .collect();
        for (name, pod) in &self.pods {
            observed.pods.push(self.see(name, pod, &all));
        }
        for (shard, (size, revision)) in &self.sets {
            let set = SetSeen { size: *size, revision: Some(revision.clone()), claim_size: None };
            observed.sets.insert(*shard, set);
        }
        for (shard, record) in &self.records {
            let record = Seen::Present(record.clone());
            observed
                .records
                .insert(*shard, RecordSeen { record, resource_version: "1".to_owned(), written: None });
        }
        observed
    }

    fn see(&self, name: &str, pod: &Pod, all: &[Member]) -> PodSeen {
        let running = self.running(pod);
        let role = self
            .records
            .get(&pod.shard)
            .and_then(|record| record.primary.as_ref())
            .map(|primary| if primary.pod == name { "primary" } else { "replica" }.to_owned());
        let engine = ContainerSeen { running, ready: running, ..ContainerSeen::default() };
        let topology = if !running {
            Seen::Absent
        } else if self.now < pod.silent_until {
            Seen::Unknown
        } else {
            Seen::Present(self.topology(name, pod, all))
        };
        let good = topology
            .present()
            .is_some_and(|seen| matches!(seen.state, ShardState::Primary | ShardState::InSync));
        let silent = topology.is_unknown();
        PodSeen {
            name: name.to_owned(),
            uid: pod.uid.clone(),
            shard: pod.shard,
            ordinal: pod.ordinal,
            ip: running.then(|| self.member(name).ip),
            node: Some("n".to_owned()),
            created: Some(at(pod.started)),
            deleting: pod.stops.is_some(),
            ready: (good || silent) && pod.stops.is_none(),
            ready_since: Some(at(self.ready.get(&pod.uid).map_or(pod.started, |(_, since)| *since))),
            revision: Some(pod.revision.clone()),
            role,
            unschedulable: (pod.ordinal >= self.room).then(|| "0/3 nodes are available".to_owned()),
            containers: BTreeMap::from([("engine".to_owned(), engine)]),
            report: if running {
                Seen::Present(report(name, self.now, self.verdicts(pod)))
            } else {
                Seen::Absent
            },
            topology,
            silent_since: None,
            last_word: None,
        }
    }

    fn verdicts(&self, pod: &Pod) -> Vec<Verdict> {
        let leak = self.leaking.contains(&pod.uid).then(|| verdict(VerdictClass::Growing, 80, pod.started));
        leak.into_iter().collect()
    }

    fn topology(&self, name: &str, pod: &Pod, all: &[Member]) -> PodTopology {
        let member = self.member(name);
        let record = self.records.get(&pod.shard).cloned().unwrap_or_default();
        let primary = self.primary(pod.shard).as_deref() == Some(name);
        let state = if primary {
            ShardState::Primary
        } else if record.in_sync.contains(&member) {
            ShardState::InSync
        } else if !pod.data && record.epoch > 0 && self.primary(pod.shard).is_none() {
            ShardState::Empty
        } else {
            ShardState::Syncing
        };
        let mut engine = engine(self.store.shards, pod.shard, &member, primary, all);
        engine.keys = if pod.data { 10 } else { 0 };
        PodTopology {
            pod: name.to_owned(),
            pod_ip: member.ip.clone(),
            store_uid: self.store.uid.clone(),
            shard: pod.shard,
            sidecar_version: "0.1.0".to_owned(),
            config_hash: String::new(),
            state,
            message: String::new(),
            record: Some(record),
            record_fresh: true,
            engine: Some(engine),
            last_exit: None,
        }
    }

    /// Every wanted pod is there, in sync, at the wanted revision, and the primary is one of them.
    pub(crate) fn settled(&self) -> bool {
        let revisions = revisions(&self.store);
        let observed = self.observe();
        (0..self.store.shards).all(|shard| {
            let pods: Vec<&PodSeen> = observed.pods.iter().filter(|pod| pod.shard == shard).collect();
            self.sets.get(&shard).is_some_and(|set| set.0 == self.store.members())
                && pods.len() == self.store.members() as usize
                && pods.iter().all(|pod| pod.revision.as_ref() == revisions.get(&shard))
                && pods.iter().all(|pod| observed.surely_in_sync(pod) && pod.ready)
                && observed.serving_primary(shard).is_some()
        })
    }
}
