//! A small world that carries out plans: StatefulSet controller, kubelets, engines, sidecars with the shard protocol
//! in its effects. Harsher than the real one where it matters: a hand-over leaves one member in the record, a
//! restarted container is empty, an eviction can be refused.

use std::collections::{BTreeMap, BTreeSet};

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_core::action::{Action, Done, Outcome, Plan};
use blobstore_operator_core::plan::plan;
use blobstore_operator_core::status::status;
use blobstore_operator_core::validate::ValidStore;
use blobstore_sidecar_api::action::{ActionResult, ActionState, name};
use blobstore_sidecar_api::record::{Member, ShardRecord};

use super::{at, context, revisions};

const START_SECONDS: i64 = 3;
const SYNC_SECONDS: i64 = 3;
const STOP_SECONDS: i64 = 2;
const FAILOVER_SECONDS: i64 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) shard: u32,
    pub(crate) ordinal: u32,
    pub(crate) revision: String,
    pub(crate) started: i64,
    pub(crate) stops: Option<i64>,
    /// Run number of the engine, new at every start.
    pub(crate) run: u32,
    /// Holds every acknowledged write.
    pub(crate) data: bool,
    /// Since when it could have been copying from the primary.
    pub(crate) follows: Option<i64>,
    pub(crate) silent_until: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) store: ValidStore,
    pub(crate) now: i64,
    pub(crate) sets: BTreeMap<u32, (u32, String)>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) records: BTreeMap<u32, ShardRecord>,
    /// Since when a shard has had no live primary.
    pub(crate) orphaned: BTreeMap<u32, i64>,
    pub(crate) status: BlobStoreStatus,
    /// Pods of these revisions never start.
    pub(crate) broken: BTreeSet<String>,
    /// No node takes a pod with this ordinal or higher.
    pub(crate) room: u32,
    pub(crate) refuse_hand_over_until: i64,
    /// A primary hands over to whoever takes it first, whatever the wish.
    pub(crate) wish_ignored: bool,
    /// UIDs of pods whose sidecar reports a leak.
    pub(crate) leaking: BTreeSet<String>,
    pub(crate) refuse_eviction_until: i64,
    /// Losses that a fault caused, per shard: the oracle forgives them.
    pub(crate) forgiven: BTreeSet<u32>,
    serial: u32,
    /// Since when each pod is what it is, for the Ready condition.
    pub(crate) ready: BTreeMap<String, (bool, i64)>,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new(store: ValidStore) -> Self {
        Self {
            store,
            now: 0,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            records: BTreeMap::new(),
            orphaned: BTreeMap::new(),
            status: BlobStoreStatus::default(),
            broken: BTreeSet::new(),
            room: u32::MAX,
            refuse_hand_over_until: 0,
            wish_ignored: false,
            leaking: BTreeSet::new(),
            refuse_eviction_until: 0,
            forgiven: BTreeSet::new(),
            serial: 0,
            ready: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    pub(crate) fn member(&self, name: &str) -> Member {
        let pod = &self.pods[name];
        Member {
            pod: name.to_owned(),
            run_id: format!("run-{}-{}", pod.uid, pod.run),
            node_id: format!("node-{}-{}", pod.uid, pod.run),
            ip: format!("10.{}.{}.{}", pod.shard, pod.ordinal, pod.uid.len()),
        }
    }

    pub(crate) fn running(&self, pod: &Pod) -> bool {
        !self.broken.contains(&pod.revision)
            && pod.ordinal < self.room
            && self.now >= pod.started + START_SECONDS
    }

    fn live(&self, member: &Member) -> bool {
        self.pods.get(&member.pod).is_some_and(|pod| self.running(pod))
            && self.member(&member.pod).run_id == member.run_id
    }

    pub(crate) fn primary(&self, shard: u32) -> Option<String> {
        let record = self.records.get(&shard)?;
        let primary = record.primary.as_ref()?;
        self.live(primary).then(|| primary.pod.clone())
    }

    /// Pods that hold every acknowledged write of the shard.
    pub(crate) fn copies(&self, shard: u32) -> usize {
        self.pods.values().filter(|pod| pod.shard == shard && pod.data && self.running(pod)).count()
    }

    /// One second: kubelets and the StatefulSet controller, then the sidecars.
    pub(crate) fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        let gone: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.stops.is_some_and(|stops| now >= stops))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.pods.remove(&name);
        }
        for (shard, (size, revision)) in self.sets.clone() {
            for ordinal in 0..size {
                let name = format!("{}-{shard}-{ordinal}", self.store.name);
                if !self.pods.contains_key(&name) {
                    self.serial += 1;
                    let pod = Pod {
                        uid: format!("u{}", self.serial),
                        shard,
                        ordinal,
                        revision: revision.clone(),
                        started: now,
                        stops: None,
                        run: 1,
                        data: false,
                        follows: None,
                        silent_until: 0,
                    };
                    self.pods.insert(name, pod);
                }
            }
            let extra: Vec<String> = self
                .pods
                .iter()
                .filter(|(_, pod)| pod.shard == shard && pod.ordinal >= size)
                .map(|(name, _)| name.clone())
                .collect();
            extra.iter().for_each(|name| self.stop(name));
            self.protocol(shard);
        }
        for pod in self.observe().pods {
            let before = self.ready.get(&pod.uid).copied().unwrap_or((false, now));
            let since = if before.0 == pod.ready { before.1 } else { now };
            self.ready.insert(pod.uid, (pod.ready, since));
        }
    }

    /// Deletion: preStop hands over when somebody can take it.
    pub(crate) fn stop(&mut self, name: &str) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return };
        if pod.stops.is_some() {
            return;
        }
        pod.stops = Some(now + STOP_SECONDS);
        let shard = pod.shard;
        if self.primary(shard).as_deref() == Some(name) {
            self.hand_over(shard, None);
        }
    }

    /// The engine's container restarts: without a volume it comes back empty.
    pub(crate) fn crash(&mut self, name: &str) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else { return };
        pod.run += 1;
        pod.started = now;
        pod.data = false;
        pod.follows = None;
        let shard = pod.shard;
        if self.copies(shard) == 0 {
            self.forgiven.insert(shard);
        }
    }

    fn candidates(&self, shard: u32) -> Vec<String> {
        let Some(record) = self.records.get(&shard) else { return Vec::new() };
        let primary = record.primary.as_ref().map(|member| member.pod.clone());
        record
            .in_sync
            .iter()
            .filter(|member| Some(&member.pod) != primary.as_ref() && self.live(member))
            .filter(|member| self.pods[&member.pod].stops.is_none())
            .map(|member| member.pod.clone())
            .collect()
    }

    fn hand_over(&mut self, shard: u32, to: Option<&str>) -> bool {
        let candidates = self.candidates(shard);
        let Some(to) = to.map(ToOwned::to_owned).or_else(|| candidates.first().cloned()) else {
            return false;
        };
        if !candidates.contains(&to) {
            return false;
        }
        let member = self.member(&to);
        let record = self.records.get_mut(&shard).expect("a record");
        record.epoch += 1;
        record.primary = Some(member.clone());
        record.in_sync = vec![member];
        for pod in self.pods.values_mut().filter(|pod| pod.shard == shard) {
            pod.follows = None;
        }
        self.log.push(format!("{:>4} {to} is primary", self.now));
        true
    }

    /// What the sidecars of a shard do within a second.
    fn protocol(&mut self, shard: u32) {
        let record = self.records.entry(shard).or_default().clone();
        let running: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.shard == shard && pod.stops.is_none() && self.running(pod))
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(start) = self.may_start(&record, &running) {
            let member = self.member(&start);
            let losses = record.losses + u64::from(record.release.is_some());
            self.pods.get_mut(&start).expect("a pod").data = true;
            let record = ShardRecord {
                epoch: record.epoch + 1,
                primary: Some(member.clone()),
                in_sync: vec![member],
                release: None,
                losses,
            };
            self.records.insert(shard, record);
            return;
        }
        if self.primary(shard).is_none() && record.epoch > 0 {
            let since = *self.orphaned.entry(shard).or_insert(self.now);
            if self.now - since >= FAILOVER_SECONDS && self.hand_over(shard, None) {
                self.orphaned.remove(&shard);
            }
            return;
        }
        self.orphaned.remove(&shard);
        self.follow(shard, &running);
    }

    fn may_start(&self, record: &ShardRecord, running: &[String]) -> Option<String> {
        if record.epoch == 0 {
            return running.first().cloned();
        }
        let release = record.release.as_ref().filter(|release| release.epoch == record.epoch)?;
        running.iter().find(|name| **name == release.pod).cloned()
    }

    /// Replicas copy and enter the record; members that are gone leave it.
    fn follow(&mut self, shard: u32, running: &[String]) {
        let now = self.now;
        let Some(primary) = self.primary(shard) else { return };
        for name in running.iter().filter(|name| **name != primary) {
            let pod = self.pods.get_mut(name).expect("a pod");
            let since = *pod.follows.get_or_insert(now);
            if now - since >= SYNC_SECONDS {
                pod.data = true;
            }
        }
        let mut in_sync: Vec<String> = running.iter().filter(|name| self.pods[*name].data).cloned().collect();
        in_sync.retain(|name| {
            *name == primary || self.pods[name].follows.is_some_and(|since| now - since >= SYNC_SECONDS)
        });
        let members = in_sync.iter().map(|name| self.member(name)).collect();
        self.records.get_mut(&shard).expect("a record").in_sync = members;
    }

    /// One pass of the operator, with every effect.
    pub(crate) fn pass(&mut self) -> Plan {
        let observed = self.observe();
        let plan = plan(&self.store, &observed, &context(), &self.status, at(self.now));
        let revisions = revisions(&self.store);
        for (shard, size) in &plan.sizes {
            self.sets.insert(*shard, (*size, revisions[shard].clone()));
        }
        let mut outcomes = Vec::new();
        for action in &plan.actions {
            let result = self.carry_out(action);
            self.log.push(format!("{:>4} {action:?} → {result:?}", self.now));
            outcomes.push(Outcome { action: action.clone(), result });
        }
        self.status = status(&self.store, &observed, &plan, &outcomes, &self.status, at(self.now)).status;
        plan
    }

    fn carry_out(&mut self, action: &Action) -> Result<Done, String> {
        match action {
            Action::Evict { pod, uid, .. } => Ok(self.evict(pod, uid)),
            Action::Delete { pod, uid, .. } | Action::Remove { pod, uid, .. } => {
                if self.pods.get(pod).is_some_and(|seen| seen.uid == *uid) {
                    self.stop(pod);
                }
                Ok(Done::Accepted)
            }
            Action::Release { shard, record, .. } => {
                self.records.insert(*shard, record.clone());
                Ok(Done::Accepted)
            }
            Action::Ask { pod, name: action, request, .. } => {
                let state = self.ask(pod, action, request.params.get("to").map(String::as_str));
                Ok(Done::Answer(ActionResult {
                    id: request.id.clone(),
                    state,
                    message: String::new(),
                    before: BTreeMap::new(),
                    after: BTreeMap::new(),
                }))
            }
            Action::Grow { .. } | Action::Label { .. } => Ok(Done::Accepted),
        }
    }

    fn ask(&mut self, pod: &str, action: &str, to: Option<&str>) -> ActionState {
        let Some(shard) = self.pods.get(pod).map(|pod| pod.shard) else { return ActionState::Failed };
        let done = match action {
            name::HAND_OVER => {
                self.now >= self.refuse_hand_over_until
                    && self.primary(shard).as_deref() == Some(pod)
                    && self.hand_over(shard, to)
            }
            name::PROMOTE => self.primary(shard).is_none() && self.hand_over(shard, Some(pod)),
            _ => true,
        };
        if done { ActionState::Done } else { ActionState::Refused }
    }

    /// The budget: one pod of the shard may be away.
    fn evict(&mut self, name: &str, uid: &str) -> Done {
        let Some(pod) = self.pods.get(name).filter(|pod| pod.uid == uid).cloned() else {
            return Done::Deferred("another pod".to_owned());
        };
        let size = self.sets[&pod.shard].0 as usize;
        let observed = self.observe();
        let ready = observed.pods.iter().filter(|seen| seen.shard == pod.shard && seen.ready).count();
        if self.now < self.refuse_eviction_until || ready < size {
            return Done::Deferred("budget".to_owned());
        }
        self.stop(name);
        Done::Accepted
    }
}
