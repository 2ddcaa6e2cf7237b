//! The last gate: whatever a planner wants, no last copy goes and one thing moves at a time.

use blobstore_operator_api::BlobStoreStatus;
use blobstore_operator_core::action::{Action, Plan};
use blobstore_operator_core::observed::{ContainerSeen, Observed, Seen};
use blobstore_operator_core::plan::plan;
use blobstore_operator_core::safety::enforce;
use blobstore_sidecar_api::record::ShardRecord;
use proptest::prelude::*;

use crate::support::{at, context, healthy, names, revisions, valid};

fn evict(name: &str) -> Action {
    Action::Evict { pod: name.to_owned(), uid: format!("uid-{name}"), why: String::new() }
}

fn delete(name: &str) -> Action {
    Action::Delete { pod: name.to_owned(), uid: format!("uid-{name}"), why: String::new() }
}

fn world(replicas: u32) -> Observed {
    let store = valid(&format!("replicas: {replicas}"));
    healthy(&store, &revisions(&store))
}

fn check(observed: &Observed, actions: Vec<Action>, want: usize) {
    let mut plan = Plan { actions, ..Plan::default() };
    enforce(observed, &mut plan);
    assert_eq!(plan.actions.len(), want, "{:?}", plan.holds);
}

#[test]
fn the_only_copy_stays() {
    check(&world(0), vec![evict("media-0-0")], 0);
    check(&world(1), vec![evict("media-0-1")], 1);
    let mut observed = world(1);
    observed.pods[1].topology = Seen::Unknown;
    check(&observed, vec![evict("media-0-0")], 0);
}

/// A pod on its way out, on a node in this state; what the plan removes.
fn removed(change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let store = valid("replicas: 1");
    let mut observed = healthy(&store, &revisions(&store));
    observed.pods[1].deleting = true;
    observed.pods[1].ready = false;
    observed.pods[1].topology = Seen::Unknown;
    change(&mut observed);
    let plan = plan(&store, &observed, &context(), &BlobStoreStatus::default(), at(0));
    let removed = |action: &Action| match action {
        Action::Remove { pod, .. } => Some(pod.clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(removed).collect()
}

fn out(observed: &mut Observed) {
    observed.nodes_lost.insert("node-1".to_owned());
    observed.nodes_out.insert("node-1".to_owned());
}

#[test]
fn a_pod_that_cannot_end_is_removed_only_when_its_node_is_out_and_the_primary_serves_elsewhere() {
    assert_eq!(removed(out), ["media-0-1"]);
    assert!(removed(|_| {}).is_empty(), "the node reports: the pod ends by itself");
    let silent = |observed: &mut Observed| {
        observed.nodes_lost.insert("node-1".to_owned());
    };
    assert!(removed(silent).is_empty(), "the pod may still run");
    let staying = |observed: &mut Observed| {
        out(observed);
        observed.pods[1].deleting = false;
    };
    assert!(removed(staying).is_empty(), "nobody wants it to end");
    let alone = |observed: &mut Observed| {
        out(observed);
        observed.pods[0].topology = Seen::Unknown;
    };
    assert!(removed(alone).is_empty(), "no primary serves elsewhere");
}

#[test]
fn the_gate_stops_a_removal_that_a_planner_should_not_have_wanted() {
    let remove =
        |name: &str| Action::Remove { pod: name.to_owned(), uid: format!("uid-{name}"), why: String::new() };
    let mut observed = world(1);
    check(&observed, vec![remove("media-0-1")], 0);
    out(&mut observed);
    check(&observed, vec![remove("media-0-1")], 1);
    check(&observed, vec![remove("media-0-0")], 0);
}

#[test]
fn one_disruption_at_a_time() {
    check(&world(2), vec![evict("media-0-1"), evict("media-0-2")], 1);
    let mut plan = Plan { actions: vec![evict("media-0-1")], sizes: [(0, 2)].into(), ..Plan::default() };
    enforce(&world(2), &mut plan);
    assert_eq!((plan.actions.len(), plan.sizes[&0]), (0, 2));
}

#[test]
fn a_set_shrinks_by_one_and_never_below_a_copy() {
    let mut plan = Plan { sizes: [(0, 0)].into(), ..Plan::default() };
    enforce(&world(2), &mut plan);
    assert_eq!(plan.sizes[&0], 2);
    let mut observed = world(1);
    observed.pods[0].topology = Seen::Unknown;
    let mut plan = Plan { sizes: [(0, 1)].into(), ..Plan::default() };
    enforce(&observed, &mut plan);
    assert_eq!(plan.sizes[&0], 2, "media-0-1 is the only pod that surely has the data");
}

#[test]
fn another_pod_of_the_same_name_is_left_alone() {
    let action = Action::Evict { pod: "media-0-1".to_owned(), uid: "other".to_owned(), why: String::new() };
    check(&world(1), vec![action], 0);
}

#[test]
fn a_ready_pod_is_never_deleted() {
    check(&world(1), vec![delete("media-0-1")], 0);
    let mut observed = world(1);
    observed.pods[1].ready = false;
    check(&observed, vec![delete("media-0-1")], 1);
}

#[test]
fn a_pod_whose_engine_does_not_run_may_go_even_alone() {
    let mut observed = world(0);
    observed.pods[0].ready = false;
    observed.pods[0].containers.insert("engine".to_owned(), ContainerSeen::default());
    check(&observed, vec![delete("media-0-0")], 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any wish, any view: what passes leaves a pod that surely has every acknowledged write.
    #[test]
    fn never_removes_the_last_in_sync_copy(
        wishes in proptest::collection::vec((0_u32..3, any::<bool>()), 0..5),
        size in 0_u32..4,
        unreachable in proptest::collection::vec(any::<bool>(), 3),
        recorded in proptest::collection::vec(any::<bool>(), 3),
        ready in proptest::collection::vec(any::<bool>(), 3),
    ) {
        let mut observed = world(2);
        let Some(seen) = observed.records.get_mut(&0) else { return Ok(()) };
        let Seen::Present(record) = &mut seen.record else { return Ok(()) };
        let kept: ShardRecord = ShardRecord {
            in_sync: record.in_sync.iter().zip(&recorded).filter(|(_, keep)| **keep).map(|(member, _)| member.clone()).collect(),
            ..record.clone()
        };
        *record = kept;
        for (index, pod) in observed.pods.iter_mut().enumerate() {
            pod.ready = ready[index];
            if unreachable[index] {
                pod.topology = Seen::Unknown;
            }
            pod.containers.insert("engine".to_owned(), ContainerSeen { running: true, ..ContainerSeen::default() });
        }
        let actions = wishes
            .into_iter()
            .map(|(ordinal, deletion)| {
                let name = format!("media-0-{ordinal}");
                if deletion { delete(&name) } else { evict(&name) }
            })
            .collect();
        let mut plan = Plan { actions, sizes: [(0, size)].into(), ..Plan::default() };
        enforce(&observed, &mut plan);
        let mut removed: Vec<String> = plan.actions.iter().filter_map(|action| action.pod().map(ToOwned::to_owned)).collect();
        removed.extend((plan.sizes[&0]..3).map(|ordinal| format!("media-0-{ordinal}")));
        prop_assert!(removed.len() <= 1, "{removed:?}");
        if !removed.is_empty() {
            let left = observed.pods.iter().filter(|pod| observed.surely_in_sync(pod) && !removed.contains(&pod.name));
            prop_assert!(!names(left).is_empty(), "{removed:?} was the last");
        }
    }
}
