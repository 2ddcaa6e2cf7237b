//! What an upload costs, under which conditions it ends, and what a crash in it leaves.

use std::sync::Arc;

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum, Coverage},
    ledger::NoLedger,
    precondition::Conditions,
};
use blobstore_sidecar_runtime::authority::Alone;
use blobstore_sidecar_store::{
    BodyChecks, CompleteUpload, CrashPoint, CreateUpload, DeleteRequest, ErrorKind, ListPartsRequest, Store,
    StoreOptions, UploadChecksum, UploadRef,
};

use crate::{
    common::{Bench, bucket, frames, name, payload, tenure},
    multipart::{begin, complete, joined, part, refs, small_parts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_counts_parts_and_gives_them_back() {
    let bench = Bench::with(small_parts(), &[]).await;
    bench.store.set_bucket(&bucket(), Some(1_000_000)).await.expect("a quota");
    let to = begin(&bench.store, "a").await;
    part(&bench.store, &to, 1, payload(600_000, 1)).await.expect("fits");
    assert_eq!(
        part(&bench.store, &to, 2, payload(600_000, 2)).await.expect_err("full").kind,
        ErrorKind::QuotaExceeded
    );
    assert_eq!(
        bench.try_put("b", payload(600_000, 2)).await.expect_err("full").kind,
        ErrorKind::QuotaExceeded
    );
    part(&bench.store, &to, 1, payload(900_000, 3)).await.expect("it replaces the first");
    bench.store.abort_upload(&to).await.expect("aborted");
    bench.put("b", payload(600_000, 2)).await;
    let to = begin(&bench.store, "b").await;
    let small = part(&bench.store, &to, 1, payload(300_000, 4)).await.expect("fits");
    complete(&bench.store, &to, refs(&[small])).await.expect("it replaces the object");
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!((usage.bytes, usage.objects), (300_000, 1));
    bench.put("c", payload(690_000, 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_hold_at_the_end_of_an_upload() {
    let bench = Bench::with(small_parts(), &[]).await;
    bench.put("a", payload(10, 1)).await;
    let to = begin(&bench.store, "a").await;
    let one = part(&bench.store, &to, 1, payload(300_000, 1)).await.expect("stored");
    let only_new = Conditions {
        if_none_match: blobstore_sidecar_core::etag::TagSet::parse("*"),
        ..Conditions::default()
    };
    let request = CompleteUpload {
        to: to.clone(),
        parts: refs(std::slice::from_ref(&one)),
        conditions: only_new,
        checksum: None,
        size: None,
    };
    let error = bench.store.complete_upload(request.clone()).await.expect_err("it exists");
    assert_eq!(error.kind, ErrorKind::Precondition);
    let delete = DeleteRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
    bench.store.delete(delete).await.expect("deleted");
    bench.store.complete_upload(request).await.expect("the upload is still open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_of_parts_become_that_of_the_object() {
    let bench = Bench::with(small_parts(), &[]).await;
    let bodies = [payload(300_000, 1), payload(70_000, 2)];
    for (algorithm, composite) in [
        (Algorithm::Crc32, false),
        (Algorithm::Crc32c, true),
        (Algorithm::Crc64Nvme, false),
        (Algorithm::Sha1, true),
        (Algorithm::Sha256, true),
    ] {
        let checksum = Some(UploadChecksum { algorithm, composite });
        let create = CreateUpload { checksum, ..CreateUpload::new(bucket(), name("a")) };
        let upload = bench.store.create_upload(create).await.expect("opened").upload;
        let to = UploadRef { bucket: bucket(), name: name("a"), upload };
        let mut parts = Vec::new();
        for (number, body) in (1..).zip(&bodies) {
            let stored = part(&bench.store, &to, number, body.clone()).await.expect("stored");
            assert_eq!(stored.checksum.expect("computed").algorithm, algorithm);
            parts.push(stored);
        }
        let wrong = Checksum::new(algorithm, Coverage::FullObject, &[9; 32][..algorithm.value_len()]);
        let mut request = CompleteUpload {
            to: to.clone(),
            parts: refs(&parts),
            conditions: Conditions::default(),
            checksum: wrong,
            size: None,
        };
        let error = bench.store.complete_upload(request.clone()).await.expect_err("another checksum");
        assert_eq!(error.kind, ErrorKind::BadDigest);
        request.checksum = None;
        let done = bench.store.complete_upload(request).await.expect("completed");
        let whole = done.checksum.expect("computed");
        let want = if composite { Coverage::Composite { parts: 2 } } else { Coverage::FullObject };
        assert_eq!(whole.coverage, want, "{algorithm:?}");
        if !composite {
            // A plain upload of the same bytes has the same.
            let body = joined(&bodies);
            let mut plain = blobstore_sidecar_store::PutRequest::new(bucket(), name("p"), None);
            plain.checks = BodyChecks { expected: Some(whole), ..BodyChecks::default() };
            let plain = bench.store.put(plain, frames(body, 50_000)).await.expect("it matches");
            assert_eq!(plain.checksum, Some(whole));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_in_a_multipart_upload_loses_nothing_and_leaves_nothing() {
    let bench = Bench::with(small_parts(), &[]).await;
    let open = |options: StoreOptions| {
        Store::open(bench.engine.address(), options, Arc::new(Alone(tenure())), Arc::new(NoLedger))
    };
    let crashing = |crash| open(StoreOptions { crash: Some(crash), ..small_parts() });
    for crash in
        [CrashPoint::Reserved, CrashPoint::ManifestWritten, CrashPoint::ChunksWritten, CrashPoint::PartStored]
    {
        let to = begin(&bench.store, "a").await;
        let dying = crashing(crash);
        part(&dying, &to, 1, payload(400_000, 1)).await.expect_err("stopped");
        drop(dying);
        let kept = part(&bench.store, &to, 2, payload(300_000, 2)).await.expect("stored");
        let page = bench
            .store
            .list_parts(ListPartsRequest { to: to.clone(), after: 0, max: 10 })
            .await
            .expect("a page");
        assert_eq!(page.parts, [kept], "{crash:?}: only what was acknowledged");
        bench.store.abort_upload(&to).await.expect("aborted");
        bench.engine.journal_is_due().await;
        bench.engine.settles_at(&bench.empty).await;
    }
    for crash in [CrashPoint::PartsChecked, CrashPoint::PartListWritten, CrashPoint::Committed] {
        let to = begin(&bench.store, "a").await;
        let body = payload(400_000, 1);
        let one = part(&bench.store, &to, 1, body.clone()).await.expect("stored");
        let dying = crashing(crash);
        complete(&dying, &to, refs(std::slice::from_ref(&one))).await.expect_err("stopped");
        drop(dying);
        // A client that got no answer asks again.
        let done = complete(&bench.store, &to, refs(&[one])).await.expect("completed");
        assert_eq!(done.size, 400_000, "{crash:?}");
        assert_eq!(bench.get("a").await.expect("the object"), body);
        let delete = DeleteRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
        bench.store.delete(delete).await.expect("deleted");
        bench.engine.journal_is_due().await;
        bench.engine.settles_at(&bench.empty).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stops_in_a_deletion_leaves_nothing_and_the_object_is_gone() {
    let bench = Bench::with(small_parts(), &[]).await;
    for crash in [CrashPoint::Deleted, CrashPoint::HalfFreed] {
        bench.put("a", payload(900_000, 1)).await;
        let to = begin(&bench.store, "p").await;
        let one = part(&bench.store, &to, 1, payload(600_000, 1)).await.expect("stored");
        let two = part(&bench.store, &to, 2, payload(300_000, 2)).await.expect("stored");
        complete(&bench.store, &to, refs(&[one, two])).await.expect("completed");
        let options = StoreOptions { crash: Some(crash), ..small_parts() };
        let dying =
            Store::open(bench.engine.address(), options, Arc::new(Alone(tenure())), Arc::new(NoLedger));
        for name_ in ["a", "p"] {
            let conditions = Conditions::default();
            let deleted =
                dying.delete(DeleteRequest { bucket: bucket(), name: name(name_), conditions }).await;
            assert_eq!(deleted.is_ok(), crash == CrashPoint::HalfFreed, "{crash:?}");
        }
        drop(dying);
        // Another process begins: it knows nothing but what the engine holds.
        let (next, _) = crate::common::open(&bench.engine, small_parts());
        for name_ in ["a", "p"] {
            let get = blobstore_sidecar_store::GetRequest::new(bucket(), name(name_));
            assert_eq!(next.get(get).await.expect_err("gone").kind, ErrorKind::NotFound, "{crash:?}");
        }
        bench.engine.settles_at(&bench.empty).await;
        bench.store.trim_cache(0);
    }
}
