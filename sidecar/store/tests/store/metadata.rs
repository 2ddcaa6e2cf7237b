//! What is told about objects and buckets besides bytes: headers and tags that change, documents, and ends that come.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blobstore_sidecar_core::{
    etag::TagSet,
    ledger::Family,
    lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule},
    precondition::Conditions,
};
use blobstore_sidecar_store::{
    Attributes, BodyChecks, Change, CreateUpload, DeleteRequest, ErrorKind, GetRequest, HeadRequest,
    LateChecksum, ObjectMeta, PutRequest, StoreError, UpdateRequest,
};

use crate::common::{Bench, PATIENCE, bucket, frames, list_of, name, options, payload, read};

async fn update(bench: &Bench, name_: &str, change: Change) -> Result<ObjectMeta, StoreError> {
    let conditions = Conditions::default();
    bench.store.update(UpdateRequest { bucket: bucket(), name: name(name_), conditions, change }).await
}

async fn head(bench: &Bench, name_: &str) -> Result<ObjectMeta, StoreError> {
    let conditions = Conditions::default();
    bench.store.head(HeadRequest { bucket: bucket(), name: name(name_), conditions }).await
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("small")
}

fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_tags_change_and_the_bytes_stay() {
    let bench = Bench::start().await;
    for len in [10, 70_000, 900_000] {
        let body = payload(len, 1);
        let stored = bench.put("a", body.clone()).await;
        assert_eq!(bench.get("a").await.expect("cached"), body);
        let tagged = update(&bench, "a", Change::Tags(tags(&[("k", "v"), ("l", "")]))).await.expect("tagged");
        assert_eq!((tagged.etag, tagged.modified_ms), (stored.etag, stored.modified_ms));
        let attributes = Attributes { content_type: Some("text/plain".into()), ..Attributes::default() };
        let changed =
            update(&bench, "a", Change::Attributes(Box::new(attributes.clone()))).await.expect("changed");
        assert!(changed.modified_ms > stored.modified_ms && changed.etag == stored.etag);
        let seen = head(&bench, "a").await.expect("there");
        assert_eq!(seen, changed);
        assert_eq!(seen.attributes.tags, tags(&[("k", "v"), ("l", "")]), "tags stay");
        update(&bench, "a", Change::AttributesAndTags(Box::new(attributes))).await.expect("changed");
        assert!(head(&bench, "a").await.expect("there").attributes.tags.is_empty());
        assert_eq!(bench.get("a").await.expect("whole"), body);
        bench.store.trim_cache(0);
        assert_eq!(bench.get("a").await.expect("whole"), body);
    }
    let delete = DeleteRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
    bench.store.delete(delete).await.expect("deleted");
    bench.engine.settles_at(&bench.empty).await;
    bench.is_quiet().await;
    assert_eq!(bench.ledger.strings(Family::Record), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_that_cannot_be_are_refused() {
    let bench = Bench::start().await;
    assert_eq!(update(&bench, "a", Change::Expiry(1)).await.expect_err("absent").kind, ErrorKind::NotFound);
    bench.put("a", payload(10, 1)).await;
    let many: Vec<(String, String)> = (0..11).map(|index| (index.to_string(), String::new())).collect();
    for wrong in [many, tags(&[("k", ""), ("k", "")]), tags(&[("", "")]), tags(&[("k", &"v".repeat(257))])] {
        assert_eq!(
            update(&bench, "a", Change::Tags(wrong)).await.expect_err("refused").kind,
            ErrorKind::InvalidTag
        );
    }
    let user = vec![("x".to_owned(), "y".repeat(9000))];
    let large = Change::Attributes(Box::new(Attributes { user, ..Attributes::default() }));
    assert_eq!(update(&bench, "a", large).await.expect_err("too large").kind, ErrorKind::MetadataTooLarge);
    let conditions = Conditions { if_match: TagSet::parse("\"other\""), ..Conditions::default() };
    let request =
        UpdateRequest { bucket: bucket(), name: name("a"), conditions, change: Change::Tags(Vec::new()) };
    assert_eq!(bench.store.update(request).await.expect_err("another").kind, ErrorKind::Precondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_and_writes_leave_a_whole_object() {
    let bench = Bench::start().await;
    bench.put("a", payload(300_000, 0)).await;
    let writes = async {
        for seed in 1..20 {
            bench.put("a", payload(300_000, seed)).await;
        }
    };
    let updates = |letter: &'static str| {
        let bench = &bench;
        async move {
            for round in 0..30 {
                let tags = vec![(letter.to_owned(), round.to_string())];
                match update(bench, "a", Change::Tags(tags)).await {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind, ErrorKind::Busy),
                }
            }
        }
    };
    tokio::join!(writes, updates("x"), updates("y"));
    assert_eq!(bench.get("a").await.expect("whole"), payload(300_000, 19));
    bench.is_quiet().await;
    assert_eq!(bench.ledger.strings(Family::Record).0, 1);
    let records = bench.engine.keys().await.iter().filter(|key| key.starts_with("n:")).count();
    assert_eq!(records, 0, "nothing staged is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_stay_with_their_bucket() {
    let bench = Bench::start().await;
    let store = &bench.store;
    assert!(store.get_bucket(&bucket()).await.expect("a bucket").documents.is_empty());
    store.set_document(&bucket(), "cors", Some("<CORS/>")).await.expect("set");
    store.set_document(&bucket(), "cors", Some("<CORS>2</CORS>")).await.expect("replaced");
    let info = store.set_document(&bucket(), "policy", Some("{}")).await.expect("set");
    assert_eq!((info.document("cors"), info.document("policy")), (Some("<CORS>2</CORS>"), Some("{}")));
    let info = store.set_document(&bucket(), "cors", None).await.expect("deleted");
    assert_eq!(info.document("cors"), None);
    for (name, text) in [("Big", "x"), ("", "x"), ("lifecycle", "no rules"), ("x", &"y".repeat(70_000))] {
        assert!(store.set_document(&bucket(), name, Some(text)).await.is_err(), "{name}");
    }
    for index in 0..15 {
        store.set_document(&bucket(), &format!("d{index}"), Some("x")).await.expect("set");
    }
    assert!(store.set_document(&bucket(), "one-more", Some("x")).await.is_err());
    store.delete_bucket(&bucket()).await.expect("deleted");
    let gone = store.set_document(&bucket(), "cors", Some("x")).await.expect_err("no bucket");
    assert_eq!(gone.kind, ErrorKind::NoSuchBucket);
    store.create_bucket(&bucket(), None).await.expect("made again");
    assert!(store.get_bucket(&bucket()).await.expect("a bucket").documents.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_end_has_come_is_not_served_and_is_swept() {
    let mut slow = options();
    slow.timing.sweep_every = Duration::from_secs(3600);
    let bench = Bench::with(slow, &[]).await;
    bench.store.set_bucket(&bucket(), Some(1_000_000)).await.expect("a quota");
    let put_until = async |end: u64| {
        let request = PutRequest { expires_ms: end, ..PutRequest::new(bucket(), name("a"), Some(800_000)) };
        bench.store.put(request, frames(payload(800_000, 1), 90_000)).await.expect("stored");
    };
    let end = now_ms() + 3_600_000;
    put_until(end).await;
    assert_eq!(head(&bench, "a").await.expect("alive").expires_ms, end);
    let end = now_ms() + 700;
    put_until(end).await;
    bench.put("b", payload(1000, 1)).await;
    let deadline = Instant::now() + PATIENCE;
    while let Ok(alive) = head(&bench, "a").await {
        assert_eq!(alive.expires_ms, end);
        assert!(Instant::now() < deadline, "it never ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(now_ms() >= end);
    let gone = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect_err("ended");
    assert_eq!(gone.kind, ErrorKind::NotFound);
    let list = list_of("", None, 10);
    assert_eq!(bench.store.list(list).await.expect("a page").items.len(), 1);
    assert!(bench.engine.keys().await.iter().any(|key| key.starts_with("c:")), "not swept yet");
    bench.store.sweep().await.expect("swept");
    assert!(!bench.engine.keys().await.iter().any(|key| key.starts_with("c:") || key.starts_with("e:")));
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!((usage.bytes, usage.objects), (1000, 1));
    bench.put("c", payload(900_000, 2)).await;
    // An end may be set, moved and lifted.
    update(&bench, "c", Change::Expiry(now_ms() + 3_600_000)).await.expect("set");
    update(&bench, "c", Change::Expiry(0)).await.expect("lifted");
    bench.store.sweep().await.expect("swept");
    assert_eq!(bench.get("c").await.expect("alive").len(), 900_000);
    let fresh = PutRequest {
        conditions: Conditions { if_none_match: TagSet::parse("*"), ..Default::default() },
        ..PutRequest::new(bucket(), name("c"), Some(1))
    };
    assert_eq!(
        bench.store.put(fresh.clone(), frames(payload(1, 1), 1)).await.expect_err("alive").kind,
        ErrorKind::Precondition
    );
    update(&bench, "c", Change::Expiry(1)).await.expect("ended");
    bench.store.put(fresh, frames(payload(1, 1), 1)).await.expect("what has ended is not there");
    assert_eq!(bench.get("c").await.expect("new").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lifecycle_rules_end_objects_and_uploads() {
    let bench = Bench::start().await;
    let uploads = CreateUpload::new(bucket(), name("log/open"));
    bench.store.create_upload(uploads).await.expect("opened");
    for name_ in ["log/1", "log/2", "keep", "old"] {
        bench.put(name_, payload(300_000, 1)).await;
    }
    let rule =
        |prefix: &str| LifecycleRule { enabled: true, prefix: prefix.into(), ..LifecycleRule::default() };
    let rules = vec![
        LifecycleRule { expire_after_seconds: Some(0), ..rule("log/") },
        LifecycleRule { expire_at_ms: Some(1), ..rule("old") },
        LifecycleRule { expire_after_seconds: Some(3600), ..rule("") },
        LifecycleRule { abort_after_seconds: Some(0), ..rule("log/") },
    ];
    assert_eq!(bench.store.apply_lifecycle().await.expect("no rules yet"), 0);
    let text = Lifecycle { rules }.text();
    bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("set");
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 4);
    assert_eq!(bench.store.apply_lifecycle().await.expect("nothing more"), 0);
    assert_eq!(bench.get("keep").await.expect("kept").len(), 300_000);
    assert_eq!(bench.get("old").await.expect_err("ended").kind, ErrorKind::NotFound);
    bench.is_quiet().await;
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!((usage.bytes, usage.objects), (300_000, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_told_behind_the_body_is_compared_before_the_commit() {
    use blobstore_sidecar_core::checksum::{Algorithm, Checksum};
    let bench = Bench::start().await;
    for len in [9, 100_000, 900_000] {
        let body = payload(len, 1);
        let put = async |late: Option<Checksum>| {
            let mut request = PutRequest::new(bucket(), name("a"), None);
            request.checks = BodyChecks {
                algorithm: Some(Algorithm::Sha256),
                expected: None,
                late: Some(LateChecksum::new(move || Ok(late))),
            };
            bench.store.put(request, frames(body.clone(), 50_000)).await
        };
        let right = put(None).await.expect("stored").checksum.expect("computed");
        let wrong = Checksum::new(Algorithm::Sha256, right.coverage, &[7; 32]).expect("32 bytes");
        let refused = put(Some(wrong)).await.expect_err("another body");
        assert_eq!(refused.kind, ErrorKind::BadDigest);
        put(Some(right)).await.expect("it matches");
        assert_eq!(head(&bench, "a").await.expect("there").attributes.checksum, Some(right));
        let got = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("there");
        assert_eq!(read(got).await.expect("whole"), body);
    }
    bench.is_quiet().await;
}
