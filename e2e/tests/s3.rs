//! Three shards under a mixed load of the S3 API while pods are killed one after another: nothing acknowledged is
//! lost, no byte is wrong; errors and the longest pause are shown.

mod mixed;

use std::time::{Duration, Instant};

use blobstore_e2e::{
    error::Result,
    fault,
    load::{Load, Plan},
    namespace, progress, record,
    store::{self, Store},
};

use mixed::Mixed;

const READY_LIMIT: Duration = Duration::from_secs(180);
const RESUME_LIMIT: Duration = Duration::from_secs(120);
/// Writes between a kill and the next, at least: every fault meets a running load.
const WRITES: u64 = 200;
/// How long the load runs; a soak takes the ten minutes of the promise, with a kill a minute.
const MINUTES: &str = "E2E_S3_MINUTES";
const SHORT: Duration = Duration::from_secs(60);
const KILL_EVERY: Duration = Duration::from_secs(60);
const SHORT_KILL_EVERY: Duration = Duration::from_secs(15);

/// Deletes the primary of a shard without a grace period and waits for another pod of its name. Before that all copies
/// are in sync: else the kill may take the only copy of what was just acknowledged, and no promise would be broken.
async fn kill_primary(store: &Store, shard: usize) -> Result<()> {
    let primaries = record::wait_whole(store, READY_LIMIT).await?;
    fault::replace_pod_now(&store.scope, &primaries[shard], READY_LIMIT).await
}

/// Kills until the time is over, never before all copies are back: two losses at once may take both copies.
async fn kills(store: &Store, load: &Load, length: Duration, every: Duration) -> Result<usize> {
    let start = Instant::now();
    let mut killed = 0;
    while start.elapsed() < length {
        let turn = Instant::now();
        load.wait_writes(WRITES, RESUME_LIMIT).await?;
        kill_primary(store, killed % 3).await?;
        killed += 1;
        let back = store.wait_redundant(READY_LIMIT).await?;
        progress::say(&format!("kill {killed}: all copies back {:.1} s later", back.as_secs_f64()));
        while turn.elapsed() < every {
            load.wait_writes(20, RESUME_LIMIT).await?;
        }
    }
    Ok(killed)
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_load_of_s3_survives_pod_kills() {
    namespace::with_operator("s3", |scope| async move {
        let minutes = std::env::var(MINUTES).ok().and_then(|value| value.parse().ok());
        let (length, every) = minutes.map_or((SHORT, SHORT_KILL_EVERY), |minutes: u64| {
            (Duration::from_secs(minutes * 60), KILL_EVERY)
        });
        let store = Store::create(&scope, "s3", &store::spec(3, 1)).await?;
        store.wait_ready(READY_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        let plan = Plan { bucket: "load".to_owned(), keys_per_writer: 12, s3: true, ..Plan::default() };
        let load = Load::of(&store, plan).await?;
        let mixed = Mixed::of(&store, "mixed").await?;
        let killed = kills(&store, &load, length, every).await?;
        let seen = mixed.finish().await?;
        let report = load.finish().await?;
        report.show(&format!("S3, 3 shards x 1 replica, {killed} primaries killed"));
        progress::say(&format!("beside it, {seen}"));
        report.check()
    })
    .await
    .expect("an S3 API that survives");
}
