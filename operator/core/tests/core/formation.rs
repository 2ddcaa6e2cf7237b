//! Who meets whom, who is forgotten, and the stranger that stops everything.

use blobstore_operator_core::action::Action;
use blobstore_operator_core::observed::{Observed, Seen};
use blobstore_operator_core::plan::{REQUEUE_WAITING, plan};
use blobstore_operator_core::topology::{Formation, formation};
use blobstore_operator_core::validate::ValidStore;
use blobstore_sidecar_api::topology::{EngineView, NodeView};

use crate::support::{at, context, healthy, revisions, valid};

fn world() -> (ValidStore, Observed) {
    let store = valid("shards: 3");
    let observed = healthy(&store, &revisions(&store));
    (store, observed)
}

fn engine(observed: &mut Observed, index: usize) -> &mut EngineView {
    let Seen::Present(topology) = &mut observed.pods[index].topology else { panic!("the pod answers") };
    topology.engine.as_mut().expect("an engine")
}

/// `pod name(node)` of every request.
fn asks(formation: &Formation) -> Vec<String> {
    formation
        .actions
        .iter()
        .map(|action| match action {
            Action::Ask { pod, name, request, .. } => format!("{pod} {name}({})", request.params["node_id"]),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn check(store: &ValidStore, observed: &Observed, want: &[&str]) {
    let formation = formation(store, observed, at(0));
    assert_eq!(asks(&formation), want);
    assert_eq!(formation.stranger, None);
}

fn dead(id: &str, slots: &[[u16; 2]]) -> NodeView {
    NodeView {
        node_id: id.to_owned(),
        ip: "10.9.9.9".to_owned(),
        primary_id: None,
        failed: true,
        suspected: false,
        handshake: false,
        linked: false,
        slots: slots.to_vec(),
    }
}

#[test]
fn a_formed_cluster_wants_nothing() {
    let (store, observed) = world();
    check(&store, &observed, &[]);
    assert_eq!(formation(&store, &observed, at(0)).slots_missing, 0);
}

#[test]
fn the_first_engine_meets_everyone_by_id() {
    let (store, mut observed) = world();
    for index in 0..6 {
        engine(&mut observed, index).nodes.clear();
    }
    let want: Vec<String> = [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
        .into_iter()
        .map(|(shard, pod)| format!("media-0-0 meet(node-{shard}-{pod}-1)"))
        .collect();
    check(&store, &observed, &want.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_moved_address_is_met_again() {
    let (store, mut observed) = world();
    engine(&mut observed, 3).member.ip = "10.7.7.7".to_owned();
    check(&store, &observed, &["media-0-0 meet(node-1-1-1)"]);
}

#[test]
fn a_dead_slotless_id_is_forgotten_everywhere_before_anyone_is_met() {
    let (store, mut observed) = world();
    for index in 0..6 {
        engine(&mut observed, index).nodes.push(dead("old", &[]));
    }
    engine(&mut observed, 0).nodes.retain(|node| node.node_id != "node-2-1-1");
    let want: Vec<String> =
        (0..3).flat_map(|shard| (0..2).map(move |pod| format!("media-{shard}-{pod} forget(old)"))).collect();
    check(&store, &observed, &want.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_dead_id_with_slots_or_a_silent_pod_forbids_forgetting() {
    let (store, mut observed) = world();
    engine(&mut observed, 0).nodes.push(dead("old", &[[0, 5]]));
    check(&store, &observed, &[]);
    engine(&mut observed, 0).nodes.pop();
    engine(&mut observed, 0).nodes.push(dead("old", &[]));
    observed.pods[5].topology = Seen::Unknown;
    check(&store, &observed, &[]);
}

#[test]
fn a_live_stranger_stops_everything() {
    let (store, mut observed) = world();
    engine(&mut observed, 0).nodes.clear();
    engine(&mut observed, 2).nodes.push(NodeView { failed: false, linked: true, ..dead("foreign", &[]) });
    let formation = formation(&store, &observed, at(0));
    assert!(formation.actions.is_empty());
    assert!(formation.stranger.is_some_and(|message| message.contains("foreign at 10.9.9.9")));
}

#[test]
fn node_of_a_pod_that_has_just_gone_is_waited_for_and_not_reported() {
    let (store, mut observed) = world();
    engine(&mut observed, 2).nodes.push(NodeView { failed: false, linked: true, ..dead("gone", &[]) });
    for moved in [0, 9] {
        let mut replaced = observed.clone();
        replaced.pods[3].created = Some(at(-moved));
        let mut promoted = observed.clone();
        promoted.records.get_mut(&1).expect("a record").written = Some(at(-moved));
        for seen in [replaced, promoted] {
            let waiting = formation(&store, &seen, at(0));
            assert_eq!((waiting.stranger, waiting.fading, waiting.actions), (None, true, Vec::new()));
            let quick = plan(&store, &seen, &context(), &Default::default(), at(0)).requeue;
            assert!(quick <= REQUEUE_WAITING, "looks again soon: {quick:?}");
            let later = formation(&store, &seen, at(10));
            assert!(later.stranger.is_some_and(|message| message.contains("gone at 10.9.9.9")));
        }
    }
}

#[test]
fn dead_node_of_a_store_of_one_pod_is_forgotten_although_nobody_can_agree() {
    let store = valid("replicas: 0");
    let mut observed = healthy(&store, &revisions(&store));
    let left = NodeView { failed: false, suspected: true, linked: true, ..dead("left", &[]) };
    engine(&mut observed, 0).nodes.push(left);
    check(&store, &observed, &["media-0-0 forget(left)"]);
}

#[test]
fn our_own_old_id_is_no_stranger() {
    let (store, mut observed) = world();
    let address = observed.pods[1].ip.clone().expect("an address");
    engine(&mut observed, 0).nodes.push(NodeView {
        failed: false,
        linked: true,
        ip: address,
        ..dead("before", &[])
    });
    assert_eq!(formation(&store, &observed, at(0)).stranger, None);
}

#[test]
fn missing_slots_are_counted() {
    let (store, mut observed) = world();
    engine(&mut observed, 0).slots.clear();
    assert_eq!(formation(&store, &observed, at(0)).slots_missing, 5_461);
}

#[test]
fn the_same_cause_gives_the_same_id() {
    let (store, mut observed) = world();
    engine(&mut observed, 0).nodes.clear();
    assert_eq!(formation(&store, &observed, at(0)), formation(&store, &observed, at(9)));
    assert_ne!(formation(&store, &observed, at(0)), formation(&store, &observed, at(60)));
}
