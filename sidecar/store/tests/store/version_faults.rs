//! A store that is stopped in the middle of a change of versions: what is there afterwards is one state or the other, and
//! everything can be emptied without a rest.

use blobstore_sidecar_store::{
    CrashPoint, DeleteRequest, PutRequest, StoreOptions, Version, VersionItem, Versioning,
};

use crate::{
    common::{Bench, bucket, frames, name, open, options, payload},
    multipart::{begin, complete, part, refs},
    versions::{delete_request, listing, pages},
};

fn crashing(at: CrashPoint) -> StoreOptions {
    let mut options = StoreOptions { part_bytes_min: 0, ..options() };
    // What is abandoned is swept at once; what is to be committed must not be, however slow it is.
    if !matches!(at, CrashPoint::Committed | CrashPoint::HalfFreed) {
        options.timing.journal_ttl = std::time::Duration::from_millis(1);
    }
    StoreOptions { crash: Some(at), ..options }
}

/// Versions of `a`, all of which can be read; then all are removed, and nothing is left.
async fn all_there(bench: &Bench) -> usize {
    let all = pages(&bench.store, listing(1000)).await;
    for item in &all {
        let VersionItem::Version(version) = item else { continue };
        let (id, request) = (version.marker.version, delete_request(&version.name));
        if !version.delete_marker {
            let get = blobstore_sidecar_store::GetRequest::new(bucket(), name(&version.name));
            let found = bench.store.get_version(get, id).await.expect("kept");
            crate::common::read(found).await.expect("whole");
        }
        assert!(bench.store.delete_version(request, id).await.expect("deleted").existed);
    }
    bench.store.sweep().await.expect("swept");
    bench.settles_but_for_seals().await;
    all.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stops_adds_a_version_or_none() {
    for at in CrashPoint::OF_PUT {
        let bench = Bench::start().await;
        bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
        bench.put("a", payload(600_000, 1)).await;
        let (store, _) = open(&bench.engine, crashing(at));
        let request = PutRequest::new(bucket(), name("a"), Some(700_000));
        let stopped = store.put(request, frames(payload(700_000, 2), 100_000)).await;
        drop(store);
        let want = match at {
            // Nothing is replaced, so nothing is freed and there is nowhere to stop.
            CrashPoint::HalfFreed => stopped.map(|_| 2).expect("stored"),
            CrashPoint::Committed => stopped.map_or(2, |_| 0),
            _ => stopped.map_or(1, |_| 0),
        };
        assert_eq!(all_there(&bench).await, want, "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_of_null_that_stops_leaves_one_null() {
    for at in [CrashPoint::Committed, CrashPoint::HalfFreed] {
        let bench = Bench::start().await;
        bench.put("a", payload(600_000, 1)).await;
        bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
        bench.put("a", payload(20, 2)).await;
        bench.store.set_versioning(&bucket(), Versioning::Suspended).await.expect("set");
        let (store, _) = open(&bench.engine, crashing(at));
        let request = PutRequest::new(bucket(), name("a"), Some(700_000));
        let _outcome = store.put(request, frames(payload(700_000, 3), 100_000)).await;
        drop(store);
        assert_eq!(bench.get("a").await.expect("the new one").len(), 700_000);
        assert_eq!(all_there(&bench).await, 2, "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_and_completions_that_stop_are_done_or_not() {
    let bench = Bench::start().await;
    bench.store.set_versioning(&bucket(), Versioning::Enabled).await.expect("set");
    let first = bench.put("a", payload(600_000, 1)).await.version.expect("a version");
    bench.put("a", payload(600_000, 2)).await;
    for at in [CrashPoint::Deleted, CrashPoint::HalfFreed] {
        let (store, _) = open(&bench.engine, crashing(at));
        let _stopped = store.delete(delete_request("a")).await;
        drop(store);
    }
    let (store, _) = open(&bench.engine, crashing(CrashPoint::Deleted));
    let purged = store.delete_version(delete_request("a"), first).await;
    assert!(purged.is_err(), "it stopped: {purged:?}");
    drop(store);
    for at in [CrashPoint::PartsChecked, CrashPoint::PartListWritten, CrashPoint::Committed] {
        let options = StoreOptions { crash: Some(at), part_bytes_min: 0, ..options() };
        let (store, _) = open(&bench.engine, options);
        let to = begin(&bench.store, "a").await;
        let stored = part(&bench.store, &to, 1, payload(300_000, 4)).await.expect("stored");
        let list = || refs(std::slice::from_ref(&stored));
        assert!(complete(&store, &to, list()).await.is_err(), "{at:?}: it stopped");
        drop(store);
        let done = complete(&bench.store, &to, list()).await.expect("asked again");
        assert!(matches!(done.version, Some(Version::Id(id)) if id == to.upload.0), "{at:?}");
    }
    // One of the first two, two delete markers, three completed.
    assert_eq!(all_there(&bench).await, 6);
    let gone: DeleteRequest = delete_request("a");
    assert!(!bench.store.delete_version(gone, first).await.expect("gone already").existed);
}
