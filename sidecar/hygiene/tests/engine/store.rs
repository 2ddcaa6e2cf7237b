//! The real store beside hygiene: what it tells the ledger is what the engine holds, through puts of every size,
//! overwrites and deletes.

use std::sync::Arc;

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::config::HygieneConfig;
use blobstore_sidecar_api::report::{LeakReport, VerdictClass, VerdictState};
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::precondition::Conditions;
use blobstore_sidecar_hygiene::{Hygiene, HygieneOptions, StoreHooks, Trimmable};
use blobstore_sidecar_runtime::authority::{Alone, Tenure};
use blobstore_sidecar_store::{
    DeleteRequest, EngineAddress, GetRequest, PutRequest, Store, StoreOptions, Version, Versioning,
};
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::common::{Engine, act, config, has, report, settled};

/// Sizes on each of the three paths, and between the allocator's classes.
const SIZES: [usize; 6] = [10, 4_096, 40_000, 65_536, 700_000, 3_000_000];
const OBJECTS_PER_SIZE: usize = 12;
const RESIDUAL_SHARE_MAX: f64 = 0.005;
/// Beside its keys the engine holds a megabyte for the store's scripts and lanes; one chunk forgotten on each of the
/// 12 largest objects would be twice this.
const RESIDUAL_CONSTANT: f64 = 1.5 * 1_048_576.0;

pub(crate) fn bucket() -> BucketName {
    BucketName::parse("b").expect("a good name")
}

pub(crate) fn object(index: usize, size: usize) -> ObjectName {
    ObjectName::parse(format!("folder/{size}/object-{index}")).expect("a good name")
}

async fn put_all(store: &Store, longer: usize) {
    for size in SIZES {
        for index in 0..OBJECTS_PER_SIZE {
            let body = Bytes::from(vec![7; size + longer]);
            let request = PutRequest::new(bucket(), object(index, size), Some(body.len() as u64));
            let frames = stream::iter([Ok::<Bytes, std::io::Error>(body)]);
            store.put(request, frames).await.expect("stored");
        }
    }
}

/// Everything is freed and looked at since.
async fn quiet(hygiene: &Hygiene) -> LeakReport {
    let sequence = hygiene.report().sequence + 1;
    report(hygiene, "a quiet sample", |report| {
        let figure = |name: &str| report.figures.get(name).copied().unwrap_or(f64::NAN);
        report.sequence > sequence
            && report.gates.is_empty()
            && figure("ledger_pending_free") == 0.0
            && figure("ledger_in_flight") == 0.0
    })
    .await
}

fn check(report: &LeakReport, what: &str) {
    let figure = |name: &str| report.figures.get(name).copied().unwrap_or(f64::NAN);
    let (residual, keyspace) = (figure("residual"), figure("keyspace"));
    println!("{what}: residual {residual:.0} of {keyspace:.0} bytes");
    assert!(
        residual.abs() <= keyspace * RESIDUAL_SHARE_MAX + RESIDUAL_CONSTANT,
        "{what}: {:#?}",
        report.figures
    );
    let leak = report.verdicts.iter().find(|verdict| {
        let harmless = [VerdictClass::Healthy, VerdictClass::CapacityGrowth, VerdictClass::RetainedPages]
            .contains(&verdict.class);
        verdict.state == VerdictState::Confirmed && !harmless
    });
    assert!(leak.is_none(), "{what}: {leak:#?}");
}

/// A store and its hygiene on an engine; the passes of every second check the ledger against the keys while the store
/// works.
fn beside(engine: &Engine, config: HygieneConfig) -> (Store, Hygiene) {
    beside_hooked(engine, config, |store| StoreHooks::new(store, None))
}

/// The same with hooks of the test's own over the store.
pub(crate) fn beside_hooked<H: Trimmable>(
    engine: &Engine,
    config: HygieneConfig,
    hooks: impl FnOnce(Store) -> H,
) -> (Store, Hygiene) {
    let ledger = Arc::new(Ledger::new());
    let address = EngineAddress::Unix(engine.socket());
    let tenure = Tenure { epoch: 1, run_id: Arc::from("run") };
    let options = StoreOptions { partitions: 16, ..StoreOptions::default() };
    let store = Store::open(address.clone(), options, Arc::new(Alone(tenure)), ledger.clone());
    let hooks = Arc::new(hooks(store.clone()));
    let options =
        HygieneOptions { pod: "pod-0".to_owned(), address, auth: None, config, engine_limit_bytes: 0 };
    let hygiene = Hygiene::start(options, ledger.clone(), hooks);
    (store, hygiene)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_accounted_for_and_are_no_orphans() {
    let engine = Engine::start().await;
    // What nothing names is an orphan after a second, however small.
    let strict =
        HygieneConfig { orphan_grace_seconds: 1, orphan_bytes_min: 1, orphan_keys_min: 1, ..config() };
    let (store, hygiene) = beside(&engine, strict);
    settled(&hygiene).await;
    store.create_bucket(&bucket(), None).await.expect("a bucket");
    put_all(&store, 0).await;
    store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
    put_all(&store, 100).await;
    let request = |index, size| DeleteRequest {
        bucket: bucket(),
        name: object(index, size),
        conditions: Conditions::default(),
    };
    let mut markers = Vec::new();
    for size in SIZES {
        markers.push(store.delete(request(0, size)).await.expect("a marker").version.expect("its version"));
    }
    let kept = quiet(&hygiene).await;
    check(&kept, "with two versions of each");
    assert!(!has(&kept, VerdictClass::Orphaned), "{:#?}", kept.verdicts);
    let reclaimed = act(&hygiene, name::RECLAIM_ORPHANS, "reclaim-1").await;
    println!("{}", reclaimed.message);
    for size in SIZES {
        for index in 0..OBJECTS_PER_SIZE {
            let get = GetRequest::new(bucket(), object(index, size));
            let old = store.get_version(get, Version::Null).await.expect("kept");
            let read: Vec<_> = old.body.collect().await;
            assert!(read.iter().all(Result::is_ok), "{index} of {size}");
        }
    }
    for (size, marker) in SIZES.into_iter().zip(markers) {
        assert!(store.delete_version(request(0, size), marker).await.expect("removed").marker);
        for index in 0..OBJECTS_PER_SIZE {
            store.delete_version(request(index, size), Version::Null).await.expect("removed");
        }
    }
    check(&quiet(&hygiene).await, "with one version of each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_tells_is_what_the_engine_holds() {
    let engine = Engine::start().await;
    let (store, hygiene) = beside(&engine, config());
    settled(&hygiene).await;

    store.create_bucket(&bucket(), None).await.expect("a bucket");
    put_all(&store, 0).await;
    check(&quiet(&hygiene).await, "after the puts");
    for longer in [100, 0, 5_000] {
        put_all(&store, longer).await;
    }
    check(&quiet(&hygiene).await, "after three overwrites");

    let outcome = store.get(GetRequest::new(bucket(), object(0, 3_000_000))).await.expect("there");
    let read: Vec<_> = outcome.body.collect().await;
    assert!(read.iter().all(Result::is_ok));
    let trimmed = act(&hygiene, name::TRIM, "trim-1").await;
    println!("{}: {:?} then {:?}", trimmed.message, trimmed.before, trimmed.after);
    assert_eq!(trimmed.state, ActionState::Done);
    assert!(trimmed.after["cache_bytes"] <= trimmed.before["cache_bytes"] * 0.8 + 1.0, "{trimmed:?}");

    for size in SIZES {
        for index in 0..OBJECTS_PER_SIZE {
            let (name, conditions) = (object(index, size), Conditions::default());
            store.delete(DeleteRequest { bucket: bucket(), name, conditions }).await.expect("deleted");
        }
    }
    let empty = quiet(&hygiene).await;
    check(&empty, "after the deletes");
    assert!(!has(&empty, VerdictClass::Orphaned), "{:#?}", empty.verdicts);
    let left = empty.figures["ledger_committed"];
    assert!(left < 65_536.0, "{left} bytes are still in the ledger: {:#?}", empty.figures);
}
