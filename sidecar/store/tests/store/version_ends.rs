//! Lifecycle rules on versions that are not current, and delete markers that hide nothing.

use blobstore_sidecar_core::lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule};
use blobstore_sidecar_store::{PutRequest, Version, Versioning};

use crate::{
    common::{Bench, bucket, frames, name, payload},
    versions::{delete, ends_empty, ids, keep},
};

async fn rules(bench: &Bench, rule: LifecycleRule) -> u64 {
    let rule = LifecycleRule { enabled: true, ..rule };
    let text = Lifecycle { rules: vec![rule] }.text();
    bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("rules");
    bench.store.apply_lifecycle().await.expect("applied")
}

fn noncurrent(keep: Option<u32>) -> LifecycleRule {
    LifecycleRule { noncurrent_after_seconds: Some(0), noncurrent_keep: keep, ..LifecycleRule::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_end_after_they_ceased_to_be_current() {
    let bench = Bench::start().await;
    bench.put("a", payload(300_000, 0)).await;
    keep(&bench.store, Versioning::Enabled).await;
    let mut made = vec![Version::Null];
    for seed in 1..6 {
        made.push(bench.put("a", payload(300_000, seed)).await.version.expect("a version"));
    }
    let only = bench.put("b", payload(10, 1)).await.version.expect("a version");
    let young = LifecycleRule { noncurrent_after_seconds: Some(3_600), ..LifecycleRule::default() };
    assert_eq!(rules(&bench, young).await, 0, "an hour has not passed");
    assert_eq!(rules(&bench, LifecycleRule { prefix: "x".into(), ..noncurrent(None) }).await, 0);
    assert_eq!(rules(&bench, noncurrent(Some(2))).await, 3, "the newest two stay");
    let left: Vec<Version> = ids(&bench.store).await.into_iter().map(|(version, ..)| version).collect();
    assert_eq!(left, [made[5], made[4], made[3], only]);
    assert_eq!(rules(&bench, noncurrent(None)).await, 2);
    assert_eq!(ids(&bench.store).await, [(made[5], true, false), (only, true, false)]);
    assert_eq!(bench.get("a").await.expect("the current one stays"), payload(300_000, 5));
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_end_by_their_own_tags_and_size() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    for tag in ["log", "other", "log"] {
        let mut request = PutRequest::new(bucket(), name("a"), Some(5));
        request.attributes.tags = vec![("kind".to_owned(), tag.to_owned())];
        bench.store.put(request, frames(payload(5, 1), 5)).await.expect("stored");
    }
    bench.put("b", payload(300_000, 1)).await;
    bench.put("b", payload(300_000, 2)).await;
    let logs = vec![("kind".to_owned(), "log".to_owned())];
    assert_eq!(
        rules(&bench, LifecycleRule { tags: logs, ..noncurrent(None) }).await,
        1,
        "not the current one"
    );
    assert_eq!(rules(&bench, LifecycleRule { size_below: Some(5), ..noncurrent(None) }).await, 0);
    assert_eq!(rules(&bench, LifecycleRule { size_above: Some(5), ..noncurrent(None) }).await, 1);
    assert_eq!(ids(&bench.store).await.len(), 3);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_marker_goes_when_it_hides_nothing() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    for name_ in ["a", "b", "c"] {
        bench.put(name_, payload(300_000, 1)).await;
    }
    delete(&bench.store, "a").await;
    delete(&bench.store, "b").await;
    delete(&bench.store, "never").await;
    let markers = || LifecycleRule { expire_markers: true, ..LifecycleRule::default() };
    assert_eq!(rules(&bench, markers()).await, 1, "only one of them hides nothing");
    assert_eq!(ids(&bench.store).await.len(), 5);
    // With the versions gone, the next look takes the markers.
    let both = || LifecycleRule { expire_markers: true, ..noncurrent(None) };
    assert_eq!(rules(&bench, both()).await, 2);
    assert_eq!(rules(&bench, both()).await, 2);
    let left = ids(&bench.store).await;
    assert!(left.len() == 1 && !left[0].2, "the object that nobody deleted: {left:?}");
    ends_empty(&bench).await;
}
