//! An owner that dies, freezes or hands over, under writes: nothing acknowledged is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blobstore_sidecar_api::{
    action::{ActionRequest, ActionState, name},
    config::Persistence,
};
use nix::sys::signal::Signal;
use redis::AsyncCommands;
use tokio::task::JoinHandle;

use crate::fixture::Shard;

/// Writes one key after the other through one member, and keeps those that were acknowledged.
fn writer(
    shard: &Shard,
    index: usize,
    prefix: &'static str,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Vec<String>> {
    let authority = shard.members[index].handle().authority();
    let lane = shard.members[index].lane_info();
    #[expect(clippy::disallowed_methods, reason = "a test's client is not counted")]
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        let Some(tenure) = authority.tenure() else { return acknowledged };
        let Ok(mut lane) = lane.await else { return acknowledged };
        for number in 0_u32.. {
            let key = format!("{prefix}-{number}");
            let written: redis::RedisResult<()> = lane.set(&key, number).await;
            if written.is_ok() && authority.acknowledged(&tenure).await.is_ok() {
                acknowledged.push(key);
            } else {
                break;
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
        acknowledged
    })
}

async fn lost(shard: &Shard, index: usize, keys: &[String]) -> Vec<String> {
    let mut lane = shard.members[index].lane().await.expect("a lane");
    let mut lost = Vec::new();
    for key in keys {
        if !lane.exists::<_, bool>(key).await.expect("an answer") {
            lost.push(key.clone());
        }
    }
    lost
}

async fn wrote(shard: &Shard, index: usize, at_least: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut lane = shard.members[index].lane().await.expect("a lane");
    while redis::cmd("DBSIZE").query_async::<u64>(&mut lane).await.expect("a size") < at_least {
        assert!(Instant::now() < deadline, "writes flow");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut shard = Shard::formed(2, Persistence::None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writes = writer(&shard, 0, "k", stop);
    wrote(&shard, 0, 200).await;
    let killed = Instant::now();
    shard.members[0].kill_engine();
    let next = shard.until_serving(Some(0)).await;
    println!("engine SIGKILL to the next tenure: {:?}", killed.elapsed());
    let acknowledged = writes.await.expect("a writer");
    println!("{} writes acknowledged before", acknowledged.len());
    assert!(acknowledged.len() > 100);
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    // The empty engine that comes back must copy, not wipe.
    shard.members[0].start_engine();
    shard
        .until("the old primary is in sync again", |shard| shard.register.peek().record.in_sync.len() == 2)
        .await;
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    assert_eq!(shard.register.peek().record.losses, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_under_writes_loses_nothing_and_is_short() {
    let shard = Shard::formed(2, Persistence::None).await;
    let writes = writer(&shard, 0, "h", Arc::new(AtomicBool::new(false)));
    wrote(&shard, 0, 200).await;
    let began = Instant::now();
    let request = ActionRequest {
        id: "roll-1".to_owned(),
        expected_epoch: Some(shard.register.peek().record.epoch),
        params: std::collections::BTreeMap::new(),
    };
    let handle = shard.members[0].handle().clone();
    let (result, next) =
        tokio::join!(handle.act(name::HAND_OVER, request.clone()), shard.until_serving(Some(0)));
    println!("hand-over to the next tenure: {:?}", began.elapsed());
    let result = result.expect("an action of the shard");
    assert_eq!(result.state, ActionState::Done, "{}", result.message);
    assert_eq!(handle.act(name::HAND_OVER, request).await.expect("known").state, ActionState::Done);
    let acknowledged = writes.await.expect("a writer");
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    shard
        .until("the old owner is in sync again", |shard| shard.register.peek().record.in_sync.len() == 2)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_is_fenced_when_it_thaws() {
    let mut shard = Shard::formed(2, Persistence::None).await;
    let authority = shard.members[0].handle().authority();
    let tenure = authority.tenure().expect("a tenure");
    let writes = writer(&shard, 0, "f", Arc::new(AtomicBool::new(false)));
    wrote(&shard, 0, 50).await;
    let frozen = Instant::now();
    shard.members[0].signal_engine(Signal::SIGSTOP);
    shard.until_serving(Some(0)).await;
    println!("engine SIGSTOP to the next tenure: {:?}", frozen.elapsed());
    shard.members[0].signal_engine(Signal::SIGCONT);
    let acknowledged = writes.await.expect("a writer");
    assert!(authority.acknowledged(&tenure).await.is_err(), "no late acknowledgement");
    assert!(authority.may_read(&tenure).await.is_err(), "no stale read");
    shard
        .until("the thawed engine is in sync", |shard| shard.register.peek().record.in_sync.len() == 2)
        .await;
    assert_eq!(lost(&shard, 1, &acknowledged).await, Vec::<String>::new());
    shard.members[0].kill_engine();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_from_the_past_leaves_a_shard_that_serves_and_loses_nothing() {
    let shard = Shard::formed(2, Persistence::None).await;
    let writes = writer(&shard, 0, "p", Arc::new(AtomicBool::new(false)));
    wrote(&shard, 0, 200).await;
    // As the last order of a claim that ended while its member slept: the primary's engine follows this one, or drops
    // what it holds.
    let mut late = shard.members[1].lane().await.expect("a lane");
    let taken: String =
        redis::cmd("CLUSTER").arg("FAILOVER").arg("TAKEOVER").query_async(&mut late).await.expect("taken");
    assert_eq!(taken, "OK");
    let acknowledged = writes.await.expect("a writer");
    assert!(acknowledged.len() > 100);
    let next = shard.until_serving(Some(0)).await;
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    shard
        .until("the old primary is in sync again", |shard| shard.register.peek().record.in_sync.len() == 2)
        .await;
    assert_eq!(lost(&shard, next, &acknowledged).await, Vec::<String>::new());
    assert_eq!(shard.register.peek().record.losses, 0);
}
