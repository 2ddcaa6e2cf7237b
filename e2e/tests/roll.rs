//! Another image reaches every pod under load: no request fails for good, no shard that had two copies is ever
//! at one, and a roll that cannot surge waits and says why.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use blobstore_e2e::{
    client,
    error::{Error, Result},
    images,
    load::{Load, Plan},
    namespace::{self, Scope},
    progress, record,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::{names, status::reason};
use blobstore_sidecar_api::record::{Member, ShardRecord};
use futures::{StreamExt, future};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const READY_LIMIT: Duration = Duration::from_secs(180);
/// Two to three pods, one after another: 15 s each on an idle machine.
const ROLL_LIMIT: Duration = Duration::from_secs(300);
const WRITES: u64 = 200;
const RESUME_LIMIT: Duration = Duration::from_secs(120);
/// Scheduling is refused at once; the operator says so on its next pass.
const HELD_LIMIT: Duration = Duration::from_secs(120);

/// From the operator's look at a record to the deletion that follows from it, at most.
const LOOK_AGE: Duration = Duration::from_secs(5);

/// What the API server said of one shard during a roll: its records, and the pods that were told to go, each with the
/// `resourceVersion` of the change and when the watch told it. Two watches keep no order between them; the versions do.
#[derive(Default)]
struct Changes {
    records: BTreeMap<u64, (Instant, ShardRecord)>,
    /// By uid.
    leaving: BTreeMap<String, Leaving>,
}

struct Leaving {
    version: u64,
    told: Instant,
    pod: String,
}

impl Changes {
    /// For each pod that went, who was in sync beside it then. What a busy machine makes of the set in between (a
    /// member that is a second late leaves it and comes back) is no doing of the roll.
    fn stayed(&self) -> Vec<(String, Vec<String>)> {
        let all = self.leaving.values();
        all.filter_map(|leaving| Some((leaving.pod.clone(), self.beside(leaving)?))).collect()
    }

    /// The best of the records that held within the last seconds before the deletion: a member may leave the set after
    /// the operator has looked. Who went in those seconds counts in none of them.
    fn beside(&self, leaving: &Leaving) -> Option<Vec<String>> {
        let mut best = None;
        for (version, (told, record)) in self.records.range(..leaving.version).rev() {
            let is_gone = |pod: &str| {
                let between = *version..=leaving.version;
                self.leaving.values().any(|one| one.pod == pod && between.contains(&one.version))
            };
            let pods = record.in_sync.iter().map(|one| one.pod.clone());
            let stay: Vec<String> = pods.filter(|pod| !is_gone(pod)).collect();
            if best.as_ref().is_none_or(|best: &Vec<String>| stay.len() > best.len()) {
                best = Some(stay);
            }
            // The records before this one had been replaced by then.
            if *told + LOOK_AGE < leaving.told {
                break;
            }
        }
        best
    }
}

fn lock(changes: &Mutex<Changes>) -> MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Copies {
    seen: Arc<Mutex<Changes>>,
    _watch: JoinSet<()>,
}

fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn watch_copies(store: &Store) -> Copies {
    let seen = Arc::new(Mutex::new(Changes::default()));
    let lease = names::shard_lease(&store.name, 0);
    let selected = watcher::Config::default().fields(&format!("metadata.name={lease}"));
    let records = watcher(store.scope.api::<Lease>(), selected).default_backoff().applied_objects();
    let selected = watcher::Config::default().labels(&names::store_selector(&store.name));
    let pods = watcher(store.scope.pods(), selected).default_backoff().applied_objects();
    let mut watch = JoinSet::new();
    // An error is a watch that broke; the next one begins with what there is.
    let changes = Arc::clone(&seen);
    watch.spawn(records.for_each(move |lease| {
        if let Ok(lease) = lease
            && let Some(record) = record::of(&lease)
        {
            lock(&changes).records.entry(version(&lease.metadata)).or_insert((Instant::now(), record));
        }
        future::ready(())
    }));
    let changes = Arc::clone(&seen);
    watch.spawn(pods.for_each(move |pod| {
        if let Ok(pod) = pod
            && pod.metadata.deletion_timestamp.is_some()
        {
            let (version, told) = (version(&pod.metadata), Instant::now());
            let leaving = Leaving { version, told, pod: pod.name_any() };
            lock(&changes).leaving.entry(pod.uid().unwrap_or_default()).or_insert(leaving);
        }
        future::ready(())
    }));
    Copies { seen, _watch: watch }
}

async fn ready(scope: &Scope, name: &str, replicas: u32) -> Result<Store> {
    let store = Store::create(scope, name, &store::spec(1, replicas)).await?;
    store.wait_ready(READY_LIMIT).await?;
    store.wait_redundant(READY_LIMIT).await?;
    Ok(store)
}

/// All pods run the new image, none of them is extra, every copy is in sync.
async fn wait_rolled(store: &Store, pods: usize) -> Result<Duration> {
    let start = Instant::now();
    store
        .wait_until("the roll is over", ROLL_LIMIT, |resource| {
            let done =
                client::condition(resource, "ConfigApplied").is_some_and(|one| one["status"] == "True");
            let rests =
                client::condition(resource, "Progressing").is_some_and(|one| one["status"] == "False");
            let seen =
                resource.pointer("/status/observedGeneration") == resource.pointer("/metadata/generation");
            (seen && done && rests).then_some(())
        })
        .await?;
    store.wait_redundant(ROLL_LIMIT).await?;
    // The extra pod is on its way out when the roll is over; it takes its time to hand over.
    let all = wait::until("the extra pod is gone", ROLL_LIMIT, || async {
        let all = store.pods().await?;
        let count = all.len();
        Ok(Seen::when(count == pods, all, || format!("{count} pods")))
    })
    .await?;
    let image = |pod: &Pod| {
        let spec = pod.spec.clone().unwrap_or_default();
        spec.containers.into_iter().find(|one| one.name == "engine").and_then(|one| one.image)
    };
    let images: Vec<Option<String>> = all.iter().map(image).collect();
    if images.iter().all(|one| one.as_deref() == Some(images::ENGINE_NEXT)) {
        return Ok(start.elapsed());
    }
    Err(Error::Wrong(format!("the roll is over with {images:?}")))
}

async fn roll(scope: Scope, name: &str, members: usize) -> Result<()> {
    let replicas = u32::try_from(members - 1).map_err(Error::other("count replicas"))?;
    let store = ready(&scope, name, replicas).await?;
    let copies = watch_copies(&store);
    let plan = Plan { bucket: "roll".to_owned(), keys_per_writer: 12, ..Plan::default() };
    let load = Load::of(&store, plan).await?;
    load.wait_writes(WRITES, RESUME_LIMIT).await?;
    store.merge(&json!({ "spec": { "engine": { "image": images::ENGINE_NEXT } } })).await?;
    let took = wait_rolled(&store, members).await?;
    load.wait_writes(WRITES, RESUME_LIMIT).await?;
    let report = load.finish().await?;
    let stayed = lock(&copies.seen).stayed();
    let fewest = stayed.iter().map(|(_, stay)| stay.len()).min().unwrap_or_default();
    report.show(&format!(
        "roll of 1 shard x {replicas} replicas in {:.1} s, {fewest} in-sync copies or more stayed behind at every step",
        took.as_secs_f64()
    ));
    report.check()?;
    assert!(stayed.len() > members, "every pod and the extra one went: {stayed:?}");
    assert!(fewest >= members, "a pod went and left fewer than {members} copies: {stayed:?}");
    let shards = store.resource().await?.status.unwrap_or_default().shards;
    assert!(shards.iter().all(|shard| shard.losses == 0), "{shards:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn store_with_a_replica_rolls_under_load_and_never_at_one_copy() {
    namespace::with_operator("roll", |scope| roll(scope, "pair", 2)).await.expect("a roll of two copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_with_two_replicas_rolls_under_load_and_never_at_fewer_copies() {
    namespace::with_operator("roll", |scope| roll(scope, "trio", 3)).await.expect("a roll of three copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_without_a_replica_rolls_under_load_and_keeps_its_data() {
    namespace::with_operator("roll", |scope| roll(scope, "alone", 1)).await.expect("a roll of one copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn roll_without_room_to_surge_is_held_and_says_why() {
    namespace::with_operator("held", |scope| async move {
        let mut spec = store::spec(1, 2);
        // More than half a node each, and as many pods as nodes: an extra pod fits nowhere.
        spec["resources"]["engine"]["requests"]["cpu"] =
            json!(format!("{}m", client::node_millicpu(&scope.client).await? * 3 / 5));
        let store = Store::create(&scope, "held", &spec).await?;
        store.wait_ready(READY_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        spec["engine"]["image"] = json!(images::ENGINE_NEXT);
        store.apply_spec(&spec).await?;
        let message = store
            .wait_until("the roll is held", HELD_LIMIT, |resource| {
                let found = client::condition(resource, "Progressing")?;
                (found["reason"] == reason::NO_ROOM_TO_SURGE).then(|| found["message"].clone())
            })
            .await?;
        progress::say(&format!("held: {message}"));
        // Waited for: a copy that is a second late leaves the set until it has caught up. A pod that the roll took would
        // stay away for as long as the roll is held.
        store
            .wait_until("all copies are kept while it waits", HELD_LIMIT, |resource| {
                let found = client::condition(resource, "Progressing")?;
                let shards = resource.pointer("/status/shards")?.as_array()?;
                let copies = |shard: &Value| shard["inSync"].as_array().is_some_and(|all| all.len() >= 3);
                let is_held = found["reason"] == reason::NO_ROOM_TO_SURGE;
                (is_held && !shards.is_empty() && shards.iter().all(copies)).then_some(())
            })
            .await
    })
    .await
    .expect("a roll that waits");
}

/// Needs no cluster: what the rolls above are judged by. Versions, seconds and members; then the deletions.
fn check_stayed(records: &[(u64, u64, &[&str])], deletions: &[(u64, u64, &str)], want: &[usize]) {
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let member = |pod: &&str| Member {
        pod: (*pod).to_owned(),
        run_id: String::new(),
        node_id: String::new(),
        ip: String::new(),
    };
    let mut changes = Changes::default();
    for (version, second, pods) in records {
        let in_sync = pods.iter().map(member).collect();
        let record = ShardRecord { in_sync, ..ShardRecord::default() };
        changes.records.insert(*version, (at(*second), record));
    }
    for (version, second, pod) in deletions {
        let leaving = Leaving { version: *version, told: at(*second), pod: (*pod).to_owned() };
        changes.leaving.insert(format!("{version}"), leaving);
    }
    let found: Vec<usize> = changes.stayed().iter().map(|(_, stay)| stay.len()).collect();
    assert_eq!(found, want, "{records:?}, {deletions:?}");
}

#[test]
fn deletion_is_judged_by_the_seconds_before_it() {
    let (all, without_b): (&[&str], &[&str]) = (&["a", "b", "x"], &["a", "x"]);
    // The operator saw all copies, and one of them left the record before the deletion came.
    check_stayed(&[(1, 0, all), (2, 60, without_b)], &[(3, 61, "a")], &[2]);
    // It was gone for so long that the operator must have seen it.
    check_stayed(&[(1, 0, all), (2, 50, without_b)], &[(3, 61, "a")], &[1]);
    // A second deletion at once: who went first is no copy any more, whatever the record still says.
    check_stayed(&[(1, 0, all)], &[(2, 60, "a"), (3, 61, "b")], &[2, 1]);
    check_stayed(&[(1, 0, all), (3, 61, &["b", "x"])], &[(2, 60, "a"), (4, 62, "b")], &[2, 1]);
    // The first has come back under its name.
    check_stayed(&[(1, 0, all), (3, 61, &["b", "x"]), (4, 62, all)], &[(2, 60, "a"), (5, 63, "b")], &[2, 2]);
}
