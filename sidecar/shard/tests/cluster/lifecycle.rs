//! Formation, acknowledging with and without replicas, loss of everything, return from volumes, register away.

use std::time::{Duration, Instant};

use blobstore_sidecar_api::{
    action::{ActionRequest, ActionState, name},
    config::Persistence,
    record::Release,
    topology::ShardState,
};
use blobstore_sidecar_runtime::authority::Owner;
use blobstore_sidecar_shard::Register;
use redis::AsyncCommands;

use crate::fixture::Shard;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_form_a_shard_and_know_the_owner() {
    let began = Instant::now();
    let shard = Shard::formed(3, Persistence::None).await;
    println!("three members in sync after {:?}", began.elapsed());
    assert_eq!(shard.serving(None), Some(0), "the lowest ordinal goes first");
    assert!(matches!(shard.members[0].handle().authority().owner(7), Owner::Here(_)));
    let wanted = format!("{}:9002", shard.members[0].ip);
    let Owner::Peer { address, .. } = shard.members[2].handle().authority().owner(7) else {
        panic!("a replica forwards: {}", shard.story().await);
    };
    assert_eq!(address, wanted);
    shard.until_state(1, ShardState::InSync).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_goes_to_the_pod_that_was_wished() {
    let shard = Shard::formed(3, Persistence::None).await;
    let mut primary = 0;
    // Each time to the one that would not come first by itself.
    for (turn, wished) in [2, 1, 2].into_iter().enumerate() {
        shard.until("all in sync", |shard| shard.register.peek().record.in_sync.len() == 3).await;
        let members = shard.register.peek().record.in_sync;
        let pod =
            members.into_iter().map(|member| member.pod).find(|pod| pod.ends_with(&format!("-{wished}")));
        let pod = pod.expect("a member");
        let request = ActionRequest {
            id: format!("wish-{turn}"),
            expected_epoch: Some(shard.register.peek().record.epoch),
            params: [("to".to_owned(), pod)].into(),
        };
        let asked = shard.members[primary].handle().act(name::HAND_OVER, request).await;
        assert_eq!(asked.expect("an action of the shard").state, ActionState::Done);
        primary = shard.until_serving(Some(primary)).await;
        assert_eq!(primary, wished, "{}", shard.story().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_waits_for_the_replica_until_it_has_left_the_record() {
    let mut shard = Shard::formed(2, Persistence::None).await;
    let authority = shard.members[0].handle().authority();
    let tenure = authority.tenure().expect("a tenure");
    let mut lane = shard.members[0].lane().await.expect("a lane");
    lane.set::<_, _, ()>("a", 1).await.expect("a write");
    let began = Instant::now();
    authority.acknowledged(&tenure).await.expect("a replica acknowledges");
    println!("acknowledged by a replica in {:?}", began.elapsed());
    authority.may_read(&tenure).await.expect("a read is allowed");
    // The register is away: the silent replica cannot be removed, so nothing is acknowledged.
    shard.register.set_away(true);
    shard.members[1].kill_engine();
    lane.set::<_, _, ()>("b", 2).await.expect("a write");
    assert!(authority.acknowledged(&tenure).await.is_err(), "no acknowledgement without the record");
    shard.register.set_away(false);
    shard.until("the silent replica has left", |shard| shard.register.peek().record.in_sync.len() == 1).await;
    authority.acknowledged(&tenure).await.expect("alone on record");
    authority.may_read(&tenure).await.expect("alone on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_data_is_gone_one_starts_empty_on_release_only() {
    let mut shard = Shard::formed(2, Persistence::None).await;
    for index in 0..2 {
        shard.members[index].kill_engine();
    }
    for index in 0..2 {
        shard.members[index].start_engine();
    }
    for index in 0..2 {
        shard.until_state(index, ShardState::Empty).await;
    }
    assert_eq!(shard.serving(None), None, "nobody serves without leave");
    let mut seen = shard.register.peek();
    seen.record.release = Some(Release { pod: "store-0-1".to_owned(), epoch: seen.record.epoch });
    shard.register.cas(seen.version, seen.record).await.expect("the operator writes");
    assert_eq!(shard.until_serving(None).await, 1);
    assert_eq!(shard.register.peek().record.losses, 1);
    shard.until("both in sync", |shard| shard.register.peek().record.in_sync.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_with_volumes_come_back_with_everything() {
    let mut shard = Shard::formed(2, Persistence::Aof).await;
    let authority = shard.members[0].handle().authority();
    let tenure = authority.tenure().expect("a tenure");
    let mut lane = shard.members[0].lane().await.expect("a lane");
    for number in 0..500 {
        lane.set::<_, _, ()>(format!("v-{number}"), number).await.expect("a write");
    }
    authority.acknowledged(&tenure).await.expect("acknowledged");
    for index in 0..2 {
        shard.members[index].stop_sidecar().await;
        shard.members[index].kill_engine();
    }
    let register = shard.register.clone();
    for index in 0..2 {
        shard.members[index].start_sidecar(&register).await;
        shard.members[index].boot(true).await;
        shard.members[index].start_engine();
    }
    let next = shard.until_serving(None).await;
    let mut lane = shard.members[next].lane().await.expect("a lane");
    for number in 0..500 {
        assert!(lane.exists::<_, bool>(format!("v-{number}")).await.expect("an answer"), "v-{number}");
    }
    assert_eq!(shard.register.peek().record.losses, 0);
    shard.until("both in sync", |shard| shard.register.peek().record.in_sync.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_sidecar_takes_its_tenure_up_at_a_new_epoch() {
    let mut shard = Shard::formed(2, Persistence::None).await;
    let epoch = shard.register.peek().record.epoch;
    let register = shard.register.clone();
    shard.members[0].stop_sidecar().await;
    shard.members[0].start_sidecar(&register).await;
    assert_eq!(shard.until_serving(None).await, 0);
    assert!(shard.register.peek().record.epoch > epoch);
    assert!(shard.members[0].handle().authority().tenure().is_some());
    // A leaving pod without an engine to wait for is not held up.
    tokio::time::timeout(
        Duration::from_secs(5),
        shard.members[1].handle().hand_over_and_stop(Duration::from_secs(4)),
    )
    .await
    .expect("a replica may leave at once");
}
