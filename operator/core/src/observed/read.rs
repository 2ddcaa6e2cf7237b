//! Kubernetes objects into what was seen of them: total functions, nothing is guessed.

use std::collections::BTreeMap;

use blobstore_operator_api::names;
use blobstore_sidecar_api::record::{RECORD_ANNOTATION, ShardRecord};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, PersistentVolumeClaim, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ContainerSeen, EndSeen, PodSeen, RecordSeen, Seen, SetSeen};

/// Set by a person or a cloud controller on a node that is surely off.
pub const TAINT_OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A pod of the store; `None` for a pod whose name is not one of the store's. Topology and report are `Unknown`
/// until the shell has asked the sidecar, `Absent` while there is no IP to ask.
pub fn pod(store: &str, pod: &Pod) -> Option<PodSeen> {
    let name = pod.metadata.name.as_deref()?;
    let (shard, ordinal) = names::parse_pod(store, name)?;
    let status = pod.status.clone().unwrap_or_default();
    let (ready, ready_since) = ready(&status);
    let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty());
    Some(PodSeen {
        name: name.to_owned(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        shard,
        ordinal,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        ready,
        ready_since,
        revision: annotation(&pod.metadata, names::ANNOTATION_REVISION),
        role: pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::LABEL_ROLE)).cloned(),
        unschedulable: unschedulable(&status),
        containers: containers(&status),
        topology: if ip.is_some() { Seen::Unknown } else { Seen::Absent },
        report: if ip.is_some() { Seen::Unknown } else { Seen::Absent },
        silent_since: None,
        last_word: None,
        ip,
    })
}

/// A StatefulSet of the store: its shard, and what was seen.
pub fn set(set: &StatefulSet) -> Option<(u32, SetSeen)> {
    let shard = set.metadata.labels.as_ref()?.get(names::LABEL_SHARD)?.parse().ok()?;
    let spec = set.spec.as_ref()?;
    let template = spec.template.metadata.as_ref();
    Some((
        shard,
        SetSeen {
            size: u32::try_from(spec.replicas.unwrap_or(1)).ok()?,
            revision: template.and_then(|meta| annotation(meta, names::ANNOTATION_REVISION)),
            claim_size: spec.volume_claim_templates.iter().flatten().find_map(claim_size),
        },
    ))
}

/// The size that a claim asks for.
pub fn claim_size(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

/// A shard's Lease. A record that does not parse is `Unknown`: acting on it would be guessing.
pub fn record(lease: &Lease) -> RecordSeen {
    let record = match annotation(&lease.metadata, RECORD_ANNOTATION) {
        None => Seen::Present(ShardRecord::default()),
        Some(text) => serde_json::from_str(&text).map_or(Seen::Unknown, Seen::Present),
    };
    RecordSeen {
        record,
        resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        written: lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
    }
}

/// The node's kubelet has stopped reporting.
pub fn node_lost(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    !conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Somebody vouches that nothing runs on the node any more: Kubernetes' own sign of it.
pub fn node_out(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().any(|taint| taint.key == TAINT_OUT_OF_SERVICE)
}

fn annotation(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(key).cloned()
}

fn ready(status: &PodStatus) -> (bool, Option<Timestamp>) {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    condition.map_or((false, None), |condition| {
        (condition.status == "True", condition.last_transition_time.as_ref().map(|time| time.0))
    })
}

fn unschedulable(status: &PodStatus) -> Option<String> {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")?;
    let stuck = condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable");
    stuck.then(|| condition.message.clone().unwrap_or_default())
}

fn containers(status: &PodStatus) -> BTreeMap<String, ContainerSeen> {
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    init.chain(main).map(|status| (status.name.clone(), container(status))).collect()
}

fn container(status: &ContainerStatus) -> ContainerSeen {
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.clone().unwrap_or_default();
    // The state itself may be the end, until the kubelet restarts the container.
    let end = state.terminated.or(last.terminated);
    ContainerSeen {
        running: state.running.is_some(),
        ready: status.ready,
        restarts: status.restart_count,
        waiting: state
            .waiting
            .map(|waiting| (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())),
        last_end: end.map(|end| EndSeen {
            reason: end.reason.unwrap_or_default(),
            message: end.message.unwrap_or_default(),
            exit_code: end.exit_code,
            at: end.finished_at.map(|time| time.0),
        }),
    }
}
