//! Packing that is interrupted, overtaken or damaged: whoever writes meanwhile wins, a crash leaves one whole body, and
//! a packed chunk that is not what was written is never served.

use std::{sync::Arc, time::Instant};

use blobstore_sidecar_core::{ledger::NoLedger, precondition::Conditions};
use blobstore_sidecar_runtime::{authority::Alone, budget::Permit, tasks};
use blobstore_sidecar_store::{
    Change, CrashPoint, ErrorKind, PackReport, Spare, Store, StoreError, StoreOptions, UpdateRequest,
};
use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::{
    cold::{cold, ledger_is_exact, packed, store_three, text},
    common::{Bench, PATIENCE, bucket, name, open, tenure},
    damage::{HARMS, Harm, Replica, chunks, harm},
};

type PackResult = Result<PackReport, StoreError>;

const CHUNKS: usize = 40;

/// Keys of chunks, and whether an upload is under way.
async fn under_way(bench: &Bench) -> (usize, bool) {
    let keys = bench.engine.keys().await;
    let chunks = keys.iter().filter(|key| key.starts_with("c:")).count();
    (chunks, keys.iter().any(|key| key.starts_with("j:")))
}

/// Stops a packer in the middle of the only object. `None`: it was through before it could be stopped.
async fn in_the_middle<T>(bench: &Bench, pass: &JoinHandle<T>) -> Option<Permit> {
    let deadline = Instant::now() + PATIENCE;
    while !under_way(bench).await.1 {
        if pass.is_finished() {
            return None;
        }
        assert!(Instant::now() < deadline, "it never began");
    }
    let permit = bench.store.budget().permit(3 * 262_080, PATIENCE).await.expect("its turn");
    // No chunk is on its way: what is missing now stays missing until the permit is given back.
    let (chunks, begun) = under_way(bench).await;
    (begun && chunks < 2 * CHUNKS).then_some(permit)
}

/// A pass that goes on once the permit is given back.
async fn stopped_in_the_middle(bench: &Bench, body: &Bytes) -> (JoinHandle<PackResult>, Permit) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        bench.put("a", body.clone()).await;
        while under_way(bench).await != (CHUNKS, false) {
            assert!(Instant::now() < deadline, "left behind: {:?}", bench.engine.keys().await);
        }
        let packer = bench.store.clone();
        let pass = tasks::spawn("test", async move { packer.pack_cold().await });
        if let Some(permit) = in_the_middle(bench, &pass).await {
            return (pass, permit);
        }
        pass.await.expect("no panic").expect("a pass");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_or_an_update_while_an_object_is_packed_wins() {
    let mut narrow = cold();
    // The packer needs all of it for each chunk: whoever stands in line stops it between two.
    narrow.limits.inflight_bytes_max = 3 * 262_080 + (64 << 10);
    let bench = Bench::with(narrow, &[]).await;
    let body = text(262_080 * CHUNKS, 1);
    for way in ["write", "update"] {
        let (pass, permit) = stopped_in_the_middle(&bench, &body).await;
        let (other, _) = open(&bench.engine, cold());
        let new = text(700_000, 2);
        if way == "write" {
            let request = blobstore_sidecar_store::PutRequest::new(bucket(), name("a"), None);
            other.put(request, crate::common::frames(new.clone(), 90_000)).await.expect("stored");
        } else {
            let change = Change::Tags(vec![("k".into(), "v".into())]);
            let conditions = Conditions::default();
            let request = UpdateRequest { bucket: bucket(), name: name("a"), conditions, change };
            other.update(request).await.expect("updated");
        }
        drop(permit);
        let report = pass.await.expect("no panic").expect("a pass");
        assert_eq!((report.packed, report.skipped.get("changed")), (0, Some(&1)), "{way}: {report:?}");
        let want = if way == "write" { &new } else { &body };
        bench.store.trim_cache(0);
        assert_eq!(&bench.get("a").await.expect("whole"), want, "{way}");
        drop(other);
    }
    // What was packed in vain is gone: one generation is left.
    let deadline = Instant::now() + PATIENCE;
    while bench.engine.keys().await.iter().filter(|key| key.starts_with("k:")).count() > 1 {
        assert!(Instant::now() < deadline, "left behind: {:?}", bench.engine.keys().await);
    }
    let keys = bench.engine.keys().await;
    assert_eq!(keys.iter().filter(|key| key.starts_with("c:")).count(), CHUNKS);
    assert!(!keys.iter().any(|key| key.starts_with("j:") || key.starts_with("n:")), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_writers_and_the_packer_at_once_see_whole_bodies_only() {
    let bench = Bench::with(cold(), &[]).await;
    let bodies: Vec<Bytes> = (0..4).map(|seed| text(700_000, seed)).collect();
    bench.put("a", bodies[0].clone()).await;
    let (mut rounds, mut packs) = (0, 0);
    while rounds < 30 {
        let next = bodies[rounds % bodies.len()].clone();
        let read_and_write = async {
            bench.put("a", next.clone()).await;
            for _ in 0..3 {
                assert_eq!(bench.get("a").await.expect("whole"), next);
                bench.store.trim_cache(0);
            }
        };
        let (report, (), read) = tokio::join!(bench.store.pack_cold(), read_and_write, bench.get("a"));
        packs += report.expect("a pass").packed;
        assert!(bodies.contains(&read.expect("a whole body")), "one of those that were written");
        rounds += 1;
    }
    assert!(packs > 0, "some passes met a quiet moment");
    ledger_is_exact(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_while_packing_leaves_one_whole_body() {
    let bench = Bench::with(cold(), &[]).await;
    let body = text(900_001, 1);
    for crash in [CrashPoint::ManifestWritten, CrashPoint::PackStaged, CrashPoint::PackSwapped] {
        store_three(&bench, &body).await;
        let before = chunks(&bench).await;
        let dying = StoreOptions { crash: Some(crash), ..cold() };
        let dying = Store::open(bench.engine.address(), dying, Arc::new(Alone(tenure())), Arc::new(NoLedger));
        let stopped = dying.pack_cold().await;
        assert_eq!(stopped.is_err(), crash != CrashPoint::ManifestWritten, "{crash:?}: {stopped:?}");
        drop(dying);
        bench.engine.journal_is_due().await;
        // Another process begins: it knows nothing but what the engine holds.
        let (next, _) = open(&bench.engine, cold());
        for name_ in ["a", "one", "p"] {
            let want = if name_ == "one" { body.slice(..100_000) } else { body.clone() };
            let get = blobstore_sidecar_store::GetRequest::new(bucket(), name(name_));
            let got = next.get(get).await.expect("there");
            assert_eq!(crate::common::read(got).await.expect("whole"), want, "{crash:?} {name_}");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let keys = bench.engine.keys().await;
            let settled = keys.iter().filter(|key| key.starts_with("c:")).count() == before.len()
                && !keys.iter().any(|key| key.starts_with("j:") || key.starts_with("d:"));
            if settled {
                break;
            }
            assert!(Instant::now() < deadline, "{crash:?} left behind: {keys:?}");
        }
        assert_eq!(next.scrub().await.expect("a pass").damaged, 0);
        for name_ in ["a", "one", "p"] {
            let conditions = Conditions::default();
            let request =
                blobstore_sidecar_store::DeleteRequest { bucket: bucket(), name: name(name_), conditions };
            next.delete(request).await.expect("deleted");
        }
        bench.store.trim_cache(0);
        bench.engine.settles_at(&without_staged(&bench).await).await;
    }
}

/// A staged record ends by itself.
async fn without_staged(bench: &Bench) -> Vec<String> {
    let keys = bench.engine.keys().await;
    let staged = keys.into_iter().filter(|key| key.starts_with("n:"));
    let mut all: Vec<String> = staged.chain(bench.empty.iter().cloned()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_packed_chunk_is_never_served_and_repaired_where_somebody_has_it() {
    let replica = Arc::new(Replica::default());
    let spare: Arc<dyn Spare> = replica.clone();
    let bench = Bench::with(StoreOptions { spare, ..cold() }, &[]).await;
    let body = text(900_001, 1);
    store_three(&bench, &body).await;
    assert_eq!(packed(&bench).await.packed, 3);
    let keys = chunks(&bench).await;
    let mut values = Vec::new();
    for key in &keys {
        values.push(bench.engine.query::<Vec<u8>>(redis::cmd("GET").arg(key)).await);
    }
    for way in HARMS {
        // Nobody has it: an error and a mark.
        bench.store.trim_cache(0);
        harm(&bench, &keys[0], way).await;
        let report = bench.store.scrub().await.expect("a pass");
        assert_eq!((report.damaged, report.repaired, bench.store.damaged().len()), (1, 0, 1), "{way:?}");
        let mut lost = 0;
        for name_ in ["a", "one", "p"] {
            let got = bench.get(name_).await;
            lost += usize::from(got.is_err_and(|error| error.kind == ErrorKind::Damaged));
        }
        assert_eq!(lost, 1, "{way:?}: never served");
        // A replica has it, packed as it was.
        for (key, value) in keys.iter().zip(&values) {
            replica.0.lock().expect("no panic").insert(key.clone(), value.clone().into());
        }
        let report = bench.store.scrub().await.expect("a pass");
        assert_eq!((report.damaged, report.repaired), (0, 1), "{way:?}");
        replica.0.lock().expect("no panic").clear();
        // The cache has the plain bytes: packed again they are what was written.
        for name_ in ["a", "one", "p"] {
            bench.get(name_).await.expect("whole");
        }
        for key in &keys {
            harm(&bench, key, way).await;
        }
        let report = bench.store.scrub().await.expect("a pass");
        assert_eq!((report.damaged, report.repaired), (0, keys.len() as u64), "{way:?}");
        for (key, want) in keys.iter().zip(&values) {
            let value: Vec<u8> = bench.engine.query(redis::cmd("GET").arg(key)).await;
            assert_eq!(&value, want, "{way:?} {key}");
        }
    }
    ledger_is_exact(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_not_packed_over() {
    let bench = Bench::with(cold(), &[]).await;
    bench.put("a", text(900_000, 1)).await;
    harm(&bench, &chunks(&bench).await[1], Harm::Flip).await;
    let keys = bench.engine.keys().await;
    let report = packed(&bench).await;
    assert_eq!((report.packed, report.skipped.get("damaged")), (0, Some(&1)), "{report:?}");
    bench.engine.settles_at(&keys).await;
    ledger_is_exact(&bench).await;
}
