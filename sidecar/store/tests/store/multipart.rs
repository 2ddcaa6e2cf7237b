//! Multipart uploads over a real engine: what is completed is exactly the parts, what is not leaves nothing.

use blobstore_sidecar_core::{etag::ETag, ledger::Family, precondition::Conditions, range::ByteRange};
use blobstore_sidecar_store::{
    CompleteUpload, CreateUpload, DeleteRequest, ErrorKind, GetRequest, ListPartsRequest, ListUploadsRequest,
    PartCopyRequest, PartInfo, PartRef, PartRequest, PutOutcome, Store, StoreError, StoreOptions, UploadId,
    UploadItem, UploadRef,
};
use bytes::Bytes;

use crate::{
    clock::{Stepped, with_clock},
    common::{Bench, bucket, frames, name, options, payload, read},
};

pub(crate) fn small_parts() -> StoreOptions {
    StoreOptions { part_bytes_min: 0, ..options() }
}

pub(crate) async fn begin(store: &Store, name_: &str) -> UploadRef {
    let created = store.create_upload(CreateUpload::new(bucket(), name(name_))).await.expect("opened");
    UploadRef { bucket: bucket(), name: name(name_), upload: created.upload }
}

pub(crate) async fn part(
    store: &Store,
    to: &UploadRef,
    number: u16,
    body: Bytes,
) -> Result<PartInfo, StoreError> {
    let mut request = PartRequest::new(to.clone(), number, Some(body.len() as u64));
    request.want_md5_etag = true;
    store.put_part(request, frames(body, 90_000)).await
}

pub(crate) fn refs(parts: &[PartInfo]) -> Vec<PartRef> {
    let of =
        |part: &PartInfo| PartRef { number: part.number, etag: Some(part.etag.quoted()), checksum: None };
    parts.iter().map(of).collect()
}

pub(crate) async fn complete(
    store: &Store,
    to: &UploadRef,
    parts: Vec<PartRef>,
) -> Result<PutOutcome, StoreError> {
    let conditions = Conditions::default();
    store
        .complete_upload(CompleteUpload { to: to.clone(), parts, conditions, checksum: None, size: None })
        .await
}

async fn range(store: &Store, name_: &str, first: u64, last: u64) -> Bytes {
    let range = Some(ByteRange::Between { first, last });
    let request = GetRequest { range, ..GetRequest::new(bucket(), name(name_)) };
    read(store.get(request).await.expect("a range")).await.expect("whole")
}

pub(crate) fn joined(bodies: &[Bytes]) -> Bytes {
    Bytes::from(bodies.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_become_one_object_whose_ranges_cross_them() {
    let bench = Bench::with(small_parts(), &[]).await;
    let to = begin(&bench.store, "a").await;
    let bodies: Vec<Bytes> =
        [700_000, 262_080, 1, 0, 530_000].iter().zip(1..).map(|(len, seed)| payload(*len, seed)).collect();
    let mut parts = Vec::new();
    // Not in order: the numbers decide.
    for index in [4, 0, 2, 3, 1] {
        let number = u16::try_from(index * 7 + 1).expect("small");
        parts.push(part(&bench.store, &to, number, bodies[index].clone()).await.expect("stored"));
    }
    assert!(bench.get("a").await.is_err(), "nothing is visible yet");
    parts.sort_by_key(|part| part.number);
    let whole = joined(&bodies);
    let done = complete(&bench.store, &to, refs(&parts)).await.expect("completed");
    assert!(matches!(done.etag, ETag::Parts { count: 5, .. }), "{}", done.etag);
    assert_eq!((done.size, done.generation), (whole.len() as u64, to.upload.0));
    for _ in 0..2 {
        assert_eq!(bench.get("a").await.expect("the object"), whole);
        for (first, last) in
            [(0, 0), (699_990, 700_010), (699_999, 1_000_000), (962_079, 962_081), (1_492_000, 9_999_999)]
        {
            let end = (last as usize + 1).min(whole.len());
            assert_eq!(range(&bench.store, "a", first, last).await, whole.slice(first as usize..end));
        }
        bench.store.trim_cache(0);
    }
    let again = complete(&bench.store, &to, refs(&parts)).await.expect("the same answer");
    assert_eq!((again.etag, again.generation, again.size), (done.etag, done.generation, done.size));
    bench.put("b", payload(10, 1)).await;
    let delete = |name_: &str| DeleteRequest {
        bucket: bucket(),
        name: name(name_),
        conditions: Conditions::default(),
    };
    bench.store.delete(delete("b")).await.expect("deleted");
    bench.store.delete(delete("a")).await.expect("deleted");
    bench.engine.settles_at(&bench.empty).await;
    bench.is_quiet().await;
    for family in [Family::Chunk, Family::Manifest, Family::Record] {
        assert_eq!(bench.ledger.strings(family), (0, 0), "{family:?}");
    }
    for family in [Family::Upload, Family::OpenUploads, Family::Journal, Family::PendingFree] {
        assert_eq!(bench.ledger.members(family), 0, "{family:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_parts_and_parts_left_out_are_freed() {
    let bench = Bench::with(small_parts(), &[]).await;
    let to = begin(&bench.store, "a").await;
    let (old, new, extra) = (payload(400_000, 1), payload(300_000, 2), payload(600_000, 3));
    let first = part(&bench.store, &to, 1, old).await.expect("stored");
    let second = part(&bench.store, &to, 1, new.clone()).await.expect("replaced");
    part(&bench.store, &to, 2, extra).await.expect("stored");
    assert_eq!(
        complete(&bench.store, &to, refs(&[first])).await.expect_err("replaced").kind,
        ErrorKind::InvalidPart
    );
    complete(&bench.store, &to, refs(std::slice::from_ref(&second))).await.expect("completed");
    assert_eq!(bench.get("a").await.expect("the object"), new);
    bench.is_quiet().await;
    let chunks = bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")).count();
    assert_eq!(chunks, 2, "300,000 bytes");
    assert_eq!(bench.ledger.strings(Family::Chunk), (2, 300_000));
    // An ordinary upload replaces it, and everything of it goes.
    bench.put("a", payload(20, 4)).await;
    bench.is_quiet().await;
    assert_eq!(bench.ledger.strings(Family::Chunk), (0, 0));
    assert_eq!(bench.ledger.strings(Family::Manifest), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_do_not_fit_are_refused() {
    let bench = Bench::start().await;
    let to = begin(&bench.store, "a").await;
    let one = part(&bench.store, &to, 1, payload(5 << 20, 1)).await.expect("stored");
    let two = part(&bench.store, &to, 2, payload(1000, 2)).await.expect("stored");
    let three = part(&bench.store, &to, 3, payload(1000, 3)).await.expect("stored");
    let check = async |parts: Vec<PartRef>, kind: ErrorKind| {
        assert_eq!(complete(&bench.store, &to, parts).await.expect_err("refused").kind, kind);
    };
    check(vec![], ErrorKind::InvalidPart).await;
    check(refs(&[two.clone(), one.clone()]), ErrorKind::InvalidPartOrder).await;
    check(refs(&[one.clone(), one.clone()]), ErrorKind::InvalidPartOrder).await;
    check(refs(&[one.clone(), two.clone(), three]), ErrorKind::PartTooSmall).await;
    check(refs(&[PartInfo { number: 9, ..one.clone() }]), ErrorKind::InvalidPart).await;
    check(refs(&[PartInfo { etag: two.etag, ..one.clone() }]), ErrorKind::InvalidPart).await;
    let wrong_size = CompleteUpload {
        to: to.clone(),
        parts: refs(&[one.clone(), two.clone()]),
        conditions: Conditions::default(),
        checksum: None,
        size: Some(5),
    };
    assert_eq!(bench.store.complete_upload(wrong_size).await.expect_err("size").kind, ErrorKind::InvalidPart);
    let absent = UploadRef { upload: UploadId(one.etag_generation()), ..to.clone() };
    assert_eq!(
        complete(&bench.store, &absent, refs(std::slice::from_ref(&one))).await.expect_err("none").kind,
        ErrorKind::NoSuchUpload
    );
    assert_eq!(part(&bench.store, &to, 0, payload(1, 1)).await.expect_err("0").kind, ErrorKind::InvalidName);
    assert_eq!(
        part(&bench.store, &to, 10_001, payload(1, 1)).await.expect_err("10,001").kind,
        ErrorKind::InvalidName
    );
    complete(&bench.store, &to, refs(&[one, two])).await.expect("the last may be small");
    assert_eq!(bench.get("a").await.expect("the object").len(), (5 << 20) + 1000);
}

/// Some generation that is no upload's.
trait NotAnUpload {
    fn etag_generation(&self) -> blobstore_sidecar_core::generation::Generation;
}

impl NotAnUpload for PartInfo {
    fn etag_generation(&self) -> blobstore_sidecar_core::generation::Generation {
        blobstore_sidecar_core::generation::Generation(*self.etag.bytes())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_and_abandoned_uploads_leave_nothing() {
    let (clock, options) = (Stepped::new(), small_parts());
    let bench = Bench::with(with_clock(&clock, options.clone()), &[]).await;
    let to = begin(&bench.store, "a").await;
    for number in 1..=3 {
        part(&bench.store, &to, number, payload(300_000, u64::from(number))).await.expect("stored");
    }
    bench.store.abort_upload(&to).await.expect("aborted");
    assert_eq!(bench.store.abort_upload(&to).await.expect_err("gone").kind, ErrorKind::NoSuchUpload);
    assert_eq!(
        part(&bench.store, &to, 4, payload(9, 1)).await.expect_err("gone").kind,
        ErrorKind::NoSuchUpload
    );
    bench.engine.settles_at(&bench.empty).await;
    bench.is_quiet().await;
    let abandoned = begin(&bench.store, "b").await;
    part(&bench.store, &abandoned, 1, payload(300_000, 1)).await.expect("stored");
    clock.pass(options.timing.upload_ttl);
    bench.engine.settles_at(&bench.empty).await;
    bench.is_quiet().await;
    assert_eq!(bench.ledger.strings(Family::Chunk), (0, 0));
    assert_eq!(bench.ledger.members(Family::Upload), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_and_uploads_are_listed_in_pages() {
    let bench = Bench::with(small_parts(), &[]).await;
    let mut uploads = Vec::new();
    for name_ in ["d/x", "a", "d/y", "c", "a"] {
        uploads.push(begin(&bench.store, name_).await);
    }
    let to = &uploads[0];
    for number in [1, 5, 9, 10_000] {
        part(&bench.store, to, number, payload(usize::from(number), 1)).await.expect("stored");
    }
    let request = |after| ListPartsRequest { to: to.clone(), after, max: 3 };
    let page = bench.store.list_parts(request(0)).await.expect("a page");
    assert_eq!(
        page.parts.iter().map(|part| (part.number, part.size)).collect::<Vec<_>>(),
        [(1, 1), (5, 5), (9, 9)]
    );
    assert_eq!(page.next, Some(9));
    let page = bench.store.list_parts(request(9)).await.expect("a page");
    assert_eq!((page.parts.len(), page.next), (1, None));

    let list = async |delimiter: Option<&str>, prefix: &str, max: usize| {
        let mut seen = Vec::new();
        let (mut after, mut after_upload) = (None, None);
        loop {
            let request = ListUploadsRequest {
                bucket: bucket(),
                prefix: prefix.into(),
                delimiter: delimiter.map(str::to_owned),
                after: after.clone(),
                after_upload,
                max,
            };
            let page = bench.store.list_uploads(request).await.expect("a page");
            assert!(page.items.len() <= max);
            for item in &page.items {
                match item {
                    UploadItem::Upload(upload) => {
                        seen.push(upload.name.clone());
                        (after, after_upload) = (Some(upload.name.clone()), Some(upload.upload));
                    }
                    UploadItem::Prefix(prefix) => {
                        seen.push(prefix.clone());
                        (after, after_upload) = (Some(prefix.clone()), None);
                    }
                }
            }
            if !page.truncated {
                return seen;
            }
        }
    };
    for max in [1, 2, 100] {
        assert_eq!(list(None, "", max).await, ["a", "a", "c", "d/x", "d/y"], "{max}");
        assert_eq!(list(Some("/"), "", max).await, ["a", "a", "c", "d/"], "{max}");
        assert_eq!(list(Some("/"), "d/", max).await, ["d/x", "d/y"], "{max}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_copied_from_ranges_of_objects() {
    let bench = Bench::with(small_parts(), &[]).await;
    let source = payload(900_000, 1);
    bench.put("source", source.clone()).await;
    let to = begin(&bench.store, "a").await;
    let mut parts = Vec::new();
    for (number, first, last) in [(1, 100, 400_099), (2, 0, 899_999)] {
        let range = Some(ByteRange::Between { first, last });
        let source = GetRequest { range, ..GetRequest::new(bucket(), name("source")) };
        let part = PartRequest::new(to.clone(), number, None);
        parts.push(bench.store.copy_part(PartCopyRequest { part, source }).await.expect("copied"));
    }
    complete(&bench.store, &to, refs(&parts)).await.expect("completed");
    let want = joined(&[source.slice(100..400_100), source]);
    assert_eq!(bench.get("a").await.expect("the object"), want);
}
