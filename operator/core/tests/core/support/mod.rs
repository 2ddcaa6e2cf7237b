//! Fixtures of the core's tests: a small store, healthy pods, and a world that answers to plans.

pub(crate) mod eyes;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};

use blobstore_operator_api::BlobStore;
use blobstore_operator_core::context::Context;
use blobstore_operator_core::observed::{Observed, PodSeen, RecordSeen, Seen, SetSeen};
use blobstore_operator_core::validate::{ValidStore, validate};
use blobstore_sidecar_api::record::{Member, ShardRecord};
use blobstore_sidecar_api::report::{AuditProgress, LeakReport, Verdict, VerdictClass, VerdictState};
use blobstore_sidecar_api::topology::{EngineView, NodeView, PodTopology, ShardState};
use jiff::Timestamp;

/// The smallest manifest, plus the lines of `extra` under `spec`.
pub(crate) fn store(extra: &str) -> BlobStore {
    let text = format!(
        "apiVersion: cachehygiene.io/v1alpha1
kind: BlobStore
metadata: {{name: media, namespace: team, uid: 11111111-2222-3333-4444-555555555555, generation: 1}}
spec:
  resources: {{engine: {{limits: {{memory: 1Gi}}}}}}
{}",
        extra.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    serde_yaml_ng::from_str(&text).expect("the manifest is a BlobStore")
}

pub(crate) fn valid(extra: &str) -> ValidStore {
    validate(&store(extra)).expect("the store is valid")
}

pub(crate) fn context() -> Context {
    Context {
        sidecar_image: "registry.example/blobstore-sidecar:0.1.0".to_owned(),
        operator_namespace: "blobstore-system".to_owned(),
        monitoring_namespace: Some("monitoring".to_owned()),
        image_pull_policy: None,
    }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}

pub(crate) fn member(store: &str, shard: u32, ordinal: u32, run: u32) -> Member {
    Member {
        pod: format!("{store}-{shard}-{ordinal}"),
        run_id: format!("run-{shard}-{ordinal}-{run}"),
        node_id: format!("node-{shard}-{ordinal}-{run}"),
        ip: format!("10.0.{shard}.{}", ordinal + 1),
    }
}

/// Everything is fine: `shards` × `members` pods, ordinal 0 is primary, all in sync, no findings.
pub(crate) fn healthy(store: &ValidStore, revisions: &BTreeMap<u32, String>) -> Observed {
    let mut observed = Observed::default();
    let all: Vec<Member> = (0..store.shards)
        .flat_map(|shard| (0..store.members()).map(move |n| (shard, n)))
        .map(|(shard, n)| member(&store.name, shard, n, 1))
        .collect();
    for shard in 0..store.shards {
        let members: Vec<Member> = (0..store.members()).map(|n| member(&store.name, shard, n, 1)).collect();
        let record = ShardRecord {
            epoch: 1,
            primary: members.first().cloned(),
            in_sync: members.clone(),
            ..ShardRecord::default()
        };
        let revision = revisions.get(&shard).cloned();
        observed
            .sets
            .insert(shard, SetSeen { size: store.members(), revision: revision.clone(), claim_size: None });
        for (ordinal, member) in members.iter().enumerate() {
            let ordinal = u32::try_from(ordinal).expect("small");
            observed.pods.push(pod(store, shard, ordinal, member, &record, &all, revision.clone()));
        }
        observed.records.insert(
            shard,
            RecordSeen {
                record: Seen::Present(record),
                resource_version: "7".to_owned(),
                written: Some(at(-3600)),
            },
        );
    }
    observed.auth = Seen::Absent;
    observed
}

fn pod(
    store: &ValidStore,
    shard: u32,
    ordinal: u32,
    member: &Member,
    record: &ShardRecord,
    all: &[Member],
    revision: Option<String>,
) -> PodSeen {
    let primary = record.primary.as_ref().is_some_and(|primary| primary.pod == member.pod);
    let engine = engine(store.shards, shard, member, primary, all);
    PodSeen {
        name: member.pod.clone(),
        uid: format!("uid-{}", member.pod),
        shard,
        ordinal,
        ip: Some(member.ip.clone()),
        node: Some(format!("node-{ordinal}")),
        created: Some(at(-3600)),
        ready: true,
        ready_since: Some(at(-3500)),
        revision,
        role: Some(if primary { "primary" } else { "replica" }.to_owned()),
        topology: Seen::Present(PodTopology {
            pod: member.pod.clone(),
            pod_ip: member.ip.clone(),
            store_uid: store.uid.clone(),
            shard,
            sidecar_version: "0.1.0".to_owned(),
            config_hash: "hash".to_owned(),
            state: if primary { ShardState::Primary } else { ShardState::InSync },
            message: "fine".to_owned(),
            record: Some(record.clone()),
            record_fresh: true,
            engine: Some(engine),
            last_exit: None,
        }),
        report: Seen::Present(report(&member.pod, 0, Vec::new())),
        ..PodSeen::default()
    }
}

pub(crate) fn engine(shards: u32, shard: u32, member: &Member, primary: bool, all: &[Member]) -> EngineView {
    let first = u16::try_from(16_384 * shard / shards).expect("a slot");
    let last = u16::try_from(16_384 * (shard + 1) / shards - 1).expect("a slot");
    EngineView {
        flavor: "valkey".to_owned(),
        version: "8.1.0".to_owned(),
        member: member.clone(),
        is_primary: primary,
        loading: false,
        replication_link_up: !primary,
        replication_offset: 1_000,
        keys: 10,
        used_memory: 200 << 20,
        rss: 220 << 20,
        maxmemory: 768 << 20,
        uptime_seconds: 3_600,
        slots: if primary { vec![[first, last]] } else { Vec::new() },
        nodes: all
            .iter()
            .filter(|other| other.node_id != member.node_id)
            .map(|other| NodeView {
                node_id: other.node_id.clone(),
                ip: other.ip.clone(),
                primary_id: None,
                failed: false,
                suspected: false,
                handshake: false,
                linked: true,
                slots: Vec::new(),
            })
            .collect(),
    }
}

pub(crate) fn report(pod: &str, second: i64, verdicts: Vec<Verdict>) -> LeakReport {
    LeakReport {
        pod: pod.to_owned(),
        at: at(second).to_string(),
        sequence: u64::try_from(second.max(0)).expect("small"),
        engine_run_id: None,
        verdicts,
        gates: Vec::new(),
        figures: BTreeMap::new(),
        audit: AuditProgress::default(),
    }
}

pub(crate) fn verdict(class: VerdictClass, mib: u64, since: i64) -> Verdict {
    Verdict {
        class,
        confidence: 1.0,
        state: VerdictState::Confirmed,
        bytes: mib << 20,
        slope_bytes_per_minute: 0.0,
        eta_seconds: None,
        since: at(since).to_string(),
        evidence: vec![format!("{mib} MiB that no object names")],
    }
}

pub(crate) fn revisions(store: &ValidStore) -> BTreeMap<u32, String> {
    (0..store.shards)
        .map(|shard| (shard, blobstore_operator_core::build::revision(store, &context(), shard)))
        .collect()
}

pub(crate) fn names<'a>(pods: impl IntoIterator<Item = &'a PodSeen>) -> BTreeSet<String> {
    pods.into_iter().map(|pod| pod.name.clone()).collect()
}
