//! Pods that cannot end: deletion was asked for, and the kubelet that should report the end is gone with its node.
//! Their name stays taken until somebody removes the object, and with it a copy of the shard.

use crate::action::Action;
use crate::observed::{Observed, PodSeen};

/// The first pod whose object may be removed without its node's word: the node is gone or vouched to be off, and the
/// shard's primary serves elsewhere. One per pass, as with every disturbance.
pub fn release(observed: &Observed) -> Option<Action> {
    let pod = observed.pods.iter().find(|pod| stranded(observed, pod) && releasable(observed, pod))?;
    let node = pod.node.as_deref().unwrap_or_default();
    Some(Action::Remove {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        why: format!("it was to end, and its node {node} is gone or out of service"),
    })
}

/// On its way out, on a node that does not report.
pub fn stranded(observed: &Observed, pod: &PodSeen) -> bool {
    pod.deleting && observed.node_lost(pod)
}

/// Nothing of the pod can run any more, and nothing is lost with it.
pub fn releasable(observed: &Observed, pod: &PodSeen) -> bool {
    let out = pod.node.as_ref().is_some_and(|node| observed.nodes_out.contains(node));
    let primary = observed.serving_primary(pod.shard);
    out && primary.is_some_and(|primary| primary.name != pod.name && !observed.node_lost(primary))
}
