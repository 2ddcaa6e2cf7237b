//! The second trigger of a failover, and the only way for a shard to start over.

use blobstore_operator_core::action::Action;
use blobstore_operator_core::dataloss::{Loss, loss};
use blobstore_operator_core::failover::promotions;
use blobstore_operator_core::observed::{Observed, PodSeen, Seen};
use blobstore_operator_core::validate::ValidStore;
use blobstore_sidecar_api::record::Release;
use blobstore_sidecar_api::topology::{PodTopology, ShardState};

use crate::support::{at, healthy, revisions, valid};

fn world(spec: &str) -> (ValidStore, Observed) {
    let store = valid(spec);
    let observed = healthy(&store, &revisions(&store));
    (store, observed)
}

fn topology(pod: &mut PodSeen) -> &mut PodTopology {
    let Seen::Present(topology) = &mut pod.topology else { panic!("the pod answers") };
    topology
}

/// Restarted without data: a new run, no keys, waiting for leave.
fn emptied(pod: &mut PodSeen) {
    pod.ready = false;
    pod.ready_since = Some(at(-1));
    let topology = topology(pod);
    topology.state = ShardState::Empty;
    let engine = topology.engine.as_mut().expect("an engine");
    engine.member.run_id.push_str("-again");
    engine.keys = 0;
    engine.is_primary = false;
}

/// Has not answered since that second.
fn silence(pod: &mut PodSeen, since: i64) {
    pod.topology = Seen::Unknown;
    pod.silent_since = Some(at(since));
}

fn promoted(store: &ValidStore, observed: &Observed) -> Vec<String> {
    promotions(store, observed, at(0))
        .iter()
        .filter_map(|action| action.pod().map(ToOwned::to_owned))
        .collect()
}

#[test]
fn a_gone_primary_is_followed_by_the_furthest_replica() {
    let (store, mut observed) = world("replicas: 2");
    observed.pods.remove(0);
    topology(&mut observed.pods[1]).engine.as_mut().expect("an engine").replication_offset = 2_000;
    assert_eq!(promoted(&store, &observed), ["media-0-2"]);
}

#[test]
fn a_healthy_or_merely_slow_primary_is_left_alone() {
    let (store, mut observed) = world("");
    assert!(promoted(&store, &observed).is_empty());
    silence(&mut observed.pods[0], -60);
    assert!(promoted(&store, &observed).is_empty(), "silence proves nothing while the pod is ready");
    observed.pods[0].ready = false;
    observed.pods[0].ready_since = Some(at(-3));
    assert!(promoted(&store, &observed).is_empty(), "the sidecars act first");
    observed.pods[0].ready_since = Some(at(-6));
    assert_eq!(promoted(&store, &observed), ["media-0-1"]);
}

#[test]
fn a_primary_that_says_it_serves_is_not_gone_before_its_probe_came_round() {
    let (store, mut observed) = world("");
    for pod in &mut observed.pods {
        pod.ready = false;
        pod.ready_since = Some(at(-60));
    }
    assert!(promoted(&store, &observed).is_empty());
    topology(&mut observed.pods[0]).state = ShardState::EngineDown;
    assert_eq!(promoted(&store, &observed), ["media-0-1"]);
}

#[test]
fn a_lost_node_counts_only_where_the_primarys_sidecar_is_silent() {
    let (store, mut observed) = world("");
    observed.nodes_lost.insert("node-0".to_owned());
    assert!(promoted(&store, &observed).is_empty(), "it answers: only its kubelet does not report");
    silence(&mut observed.pods[0], -3);
    assert!(promoted(&store, &observed).is_empty(), "a look or two may be missed");
    silence(&mut observed.pods[0], -5);
    assert_eq!(promoted(&store, &observed), ["media-0-1"]);
}

#[test]
fn a_restarted_engine_counts_as_gone() {
    let (store, mut observed) = world("");
    emptied(&mut observed.pods[0]);
    assert_eq!(promoted(&store, &observed), ["media-0-1"]);
}

#[test]
fn nobody_is_asked_while_somebody_acts_or_the_record_is_fresh() {
    let (store, mut observed) = world("replicas: 2");
    observed.pods.remove(0);
    topology(&mut observed.pods[0]).state = ShardState::Promoting;
    assert!(promoted(&store, &observed).is_empty());
    let (store, mut observed) = world("");
    observed.pods.remove(0);
    observed.records.get_mut(&0).expect("a record").written = Some(at(-2));
    assert!(promoted(&store, &observed).is_empty());
}

#[test]
fn a_replica_outside_the_set_or_of_another_run_is_no_candidate() {
    let (store, mut observed) = world("");
    observed.pods.remove(0);
    emptied(&mut observed.pods[0]);
    assert!(promoted(&store, &observed).is_empty());
}

fn all_empty(spec: &str) -> (ValidStore, Observed) {
    let (store, mut observed) = world(spec);
    observed.pods.iter_mut().for_each(emptied);
    (store, observed)
}

#[test]
fn a_shard_that_lost_everything_is_released_once_for_its_epoch() {
    let (store, mut observed) = all_empty("replicas: 2");
    let Loss::Certain { message, release } = loss(&store, &observed, 0) else { panic!("it is certain") };
    assert_eq!(message, "shard 0 lost its data: all 3 members restarted empty");
    let Action::Release { record, resource_version, .. } = *release else { panic!("a release") };
    assert_eq!(record.release, Some(Release { pod: "media-0-0".to_owned(), epoch: 1 }));
    assert_eq!(resource_version, "7");
    for pod in &mut observed.pods {
        topology(pod).record = Some(record.clone());
    }
    observed.records.get_mut(&0).expect("a record").record = Seen::Present(record);
    assert!(matches!(loss(&store, &observed, 0), Loss::Released(_)));
}

type Doubt = fn(&mut Observed);

/// Each change alone must stop the release.
#[test]
fn doubt_stops_the_release() {
    let doubts: &[(&str, Doubt)] = &[
        ("a pod is missing", |observed| drop(observed.pods.pop())),
        ("a pod is silent", |observed| observed.pods[1].topology = Seen::Unknown),
        ("a pod is being deleted", |observed| observed.pods[1].deleting = true),
        ("a pod has keys", |observed| {
            topology(&mut observed.pods[1]).engine.as_mut().expect("an engine").keys = 1;
        }),
        ("a pod loads", |observed| {
            topology(&mut observed.pods[1]).engine.as_mut().expect("an engine").loading = true;
        }),
        ("a sidecar cannot read the record", |observed| topology(&mut observed.pods[1]).record_fresh = false),
        ("a sidecar has read an older record", |observed| {
            topology(&mut observed.pods[1]).record.as_mut().expect("a record").epoch = 0;
        }),
        ("a pod copies", |observed| topology(&mut observed.pods[1]).state = ShardState::Syncing),
    ];
    for (what, doubt) in doubts {
        let (store, mut observed) = all_empty("");
        doubt(&mut observed);
        assert!(matches!(loss(&store, &observed, 0), Loss::Suspected(_)), "{what}");
    }
}

#[test]
fn a_volume_that_is_away_stops_the_release() {
    let (store, mut observed) = all_empty("persistence: Aof\nstorage: {size: 1Gi}");
    observed.claims.insert("data-media-0-0".to_owned(), "1Gi".to_owned());
    observed.claims.insert("data-media-1-7".to_owned(), "1Gi".to_owned());
    assert!(
        matches!(loss(&store, &observed, 0), Loss::Certain { .. }),
        "another shard's volume says nothing"
    );
    observed.claims.insert("data-media-0-2".to_owned(), "1Gi".to_owned());
    assert!(matches!(loss(&store, &observed, 0), Loss::Suspected(_)));
}

#[test]
fn an_unreadable_record_or_a_young_shard_is_no_loss() {
    let (store, mut observed) = all_empty("");
    observed.records.get_mut(&0).expect("a record").record = Seen::Unknown;
    assert_eq!(loss(&store, &observed, 0), Loss::None);
    let (store, mut observed) = all_empty("");
    observed.records.get_mut(&0).expect("a record").record = Seen::Present(Default::default());
    assert_eq!(loss(&store, &observed, 0), Loss::None);
}
