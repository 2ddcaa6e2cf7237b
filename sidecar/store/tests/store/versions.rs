//! Versions of objects over a real engine: what is kept, what is shown, what goes, and that nothing is left.

use blobstore_sidecar_core::{
    etag::TagSet,
    ledger::Family,
    lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule},
    precondition::Conditions,
};
use blobstore_sidecar_runtime::tasks;
use blobstore_sidecar_store::{
    Change, DeleteOutcome, DeleteRequest, ErrorKind, GetRequest, HeadRequest, ListVersionsRequest,
    ListedVersion, PutOutcome, PutRequest, Store, StoreError, UpdateRequest, Version, VersionItem,
    VersionMarker, Versioning,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::oneshot;

use crate::{
    common::{Bench, bucket, frames, list_of, name, open, options, payload, read},
    multipart::{begin, complete, part, refs, small_parts},
};

pub(crate) fn delete_request(name_: &str) -> DeleteRequest {
    DeleteRequest { bucket: bucket(), name: name(name_), conditions: Conditions::default() }
}

pub(crate) async fn delete(store: &Store, name_: &str) -> DeleteOutcome {
    store.delete(delete_request(name_)).await.expect("deleted")
}

async fn purge(store: &Store, name_: &str, version: Version) -> DeleteOutcome {
    store.delete_version(delete_request(name_), version).await.expect("deleted")
}

async fn get_version(store: &Store, name_: &str, version: Version) -> Result<Bytes, StoreError> {
    read(store.get_version(GetRequest::new(bucket(), name(name_)), version).await?).await
}

pub(crate) async fn keep(store: &Store, keeps: Versioning) {
    store.set_versioning(&bucket(), keeps).await.expect("set");
}

async fn put(store: &Store, name_: &str, body: Bytes) -> PutOutcome {
    let request = PutRequest::new(bucket(), name(name_), Some(body.len() as u64));
    store.put(request, frames(body, 100_000)).await.expect("stored")
}

pub(crate) fn listing(max: usize) -> ListVersionsRequest {
    ListVersionsRequest {
        bucket: bucket(),
        prefix: String::new(),
        delimiter: None,
        after: None,
        after_version: None,
        max,
    }
}

/// All pages of a listing, each of at most `request.max`.
pub(crate) async fn pages(store: &Store, mut request: ListVersionsRequest) -> Vec<VersionItem> {
    let mut all = Vec::new();
    loop {
        let page = store.list_versions(request.clone()).await.expect("a page");
        assert!(page.items.len() <= request.max);
        all.extend(page.items.clone());
        if !page.truncated {
            return all;
        }
        let last = page.items.last().expect("a page that goes on has items");
        request.after = Some(last.key().to_owned());
        request.after_version = match last {
            VersionItem::Version(version) => Some(version.marker),
            VersionItem::Prefix(_) => None,
        };
    }
}

async fn versions(store: &Store) -> Vec<ListedVersion> {
    let version = |item| match item {
        VersionItem::Version(version) => Some(version),
        VersionItem::Prefix(_) => None,
    };
    pages(store, listing(1000)).await.into_iter().filter_map(version).collect()
}

pub(crate) async fn ids(store: &Store) -> Vec<(Version, bool, bool)> {
    let shown = |version: ListedVersion| (version.marker.version, version.latest, version.delete_marker);
    versions(store).await.into_iter().map(shown).collect()
}

/// Everything goes, and the engine and the ledger are as they were.
pub(crate) async fn ends_empty(bench: &Bench) {
    for version in versions(&bench.store).await {
        purge(&bench.store, &version.name, version.marker.version).await;
    }
    assert!(versions(&bench.store).await.is_empty());
    bench.store.sweep().await.expect("swept");
    bench.settles_but_for_seals().await;
    bench.is_quiet().await;
    for family in [Family::Record, Family::Manifest, Family::Chunk] {
        assert_eq!(bench.ledger.strings(family), (0, 0), "{family:?}");
    }
    for family in [Family::Versions, Family::Expiry, Family::Journal, Family::PendingFree] {
        assert_eq!(bench.ledger.members(family), 0, "{family:?}");
    }
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!((usage.bytes, usage.objects), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enabled_bucket_keeps_every_version_of_every_size() {
    let bench = Bench::start().await;
    let first = bench.put("a", payload(70_000, 1)).await;
    assert_eq!(first.version, None);
    keep(&bench.store, Versioning::Enabled).await;
    let mut kept = vec![(Version::Null, payload(70_000, 1))];
    for (seed, size) in (2..).zip([10, 0, 16_385, 262_080, 900_000]) {
        let body = payload(size, seed);
        let stored = bench.put("a", body.clone()).await;
        assert!(!stored.created);
        kept.push((stored.version.expect("a version"), body));
    }
    for (version, body) in &kept {
        assert!(get_version(&bench.store, "a", *version).await.expect("kept") == *body, "{version}");
        let head = HeadRequest { bucket: bucket(), name: name("a"), conditions: Conditions::default() };
        let head = bench.store.head_version(head, *version).await.expect("kept");
        assert_eq!((head.size, head.version), (body.len() as u64, *version));
    }
    assert_eq!(bench.get("a").await.expect("current"), kept.last().expect("some").1);
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!(usage.bytes, kept.iter().map(|(_, body)| body.len() as u64).sum::<u64>());
    let listed = ids(&bench.store).await;
    let want: Vec<_> = kept.iter().rev().enumerate().map(|(at, (id, _))| (*id, at == 0, false)).collect();
    assert_eq!(listed, want);
    // The current one goes: the one before it is current again.
    for left in (1..kept.len()).rev() {
        let gone = purge(&bench.store, "a", kept[left].0).await;
        assert_eq!((gone.existed, gone.version, gone.marker), (true, Some(kept[left].0), false));
        assert!(bench.get("a").await.expect("the one before") == kept[left - 1].1);
    }
    let absent = get_version(&bench.store, "a", kept[2].0).await.expect_err("gone");
    assert_eq!(absent.kind, ErrorKind::NoSuchVersion);
    assert!(!purge(&bench.store, "a", kept[2].0).await.existed);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_marker_hides_and_uncovers() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    let stored = bench.put("a", payload(300_000, 1)).await.version.expect("a version");
    let marked = delete(&bench.store, "a").await;
    let marker = marked.version.expect("a marker");
    assert!(marked.marker && marked.existed);
    let hidden = bench.get("a").await.expect_err("hidden");
    assert_eq!(hidden.kind, ErrorKind::NotFound);
    assert_eq!(hidden.current.expect("the marker").version, marker);
    let asked = get_version(&bench.store, "a", marker).await.expect_err("no object");
    assert_eq!(asked.kind, ErrorKind::DeleteMarker);
    assert!(get_version(&bench.store, "a", stored).await.expect("kept").len() == 300_000);
    let list = list_of("", None, 10);
    assert!(bench.store.list(list).await.expect("a page").items.is_empty());
    assert_eq!(ids(&bench.store).await, [(marker, true, true), (stored, false, false)]);
    let full = bench.store.delete_bucket(&bucket()).await.expect_err("versions are left");
    assert_eq!(full.kind, ErrorKind::BucketNotEmpty);
    // A second marker, as at home; both go, and the object is back.
    let second = delete(&bench.store, "a").await;
    assert!(!second.existed && second.marker);
    assert!(purge(&bench.store, "a", second.version.expect("a marker")).await.marker);
    assert_eq!(bench.get("a").await.expect_err("hidden").kind, ErrorKind::NotFound);
    purge(&bench.store, "a", marker).await;
    assert_eq!(bench.get("a").await.expect("back").len(), 300_000);
    // A name that never was gets a marker, too.
    assert!(delete(&bench.store, "never").await.marker);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_bucket_has_one_null_version() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    let kept = bench.put("a", payload(400_000, 1)).await.version.expect("a version");
    keep(&bench.store, Versioning::Suspended).await;
    assert_eq!(bench.put("a", payload(300_000, 2)).await.version, Some(Version::Null));
    assert_eq!(bench.put("a", payload(20, 3)).await.version, Some(Version::Null));
    assert_eq!(ids(&bench.store).await, [(Version::Null, true, false), (kept, false, false)]);
    keep(&bench.store, Versioning::Enabled).await;
    let newer = bench.put("a", payload(30, 4)).await.version.expect("a version");
    assert_eq!(get_version(&bench.store, "a", Version::Null).await.expect("kept"), payload(20, 3));
    keep(&bench.store, Versioning::Suspended).await;
    // The version `null` is not current now: a write replaces it all the same.
    bench.put("a", payload(40, 5)).await;
    let want = [(Version::Null, true, false), (newer, false, false), (kept, false, false)];
    assert_eq!(ids(&bench.store).await, want);
    let marked = delete(&bench.store, "a").await;
    assert_eq!((marked.version, marked.marker), (Some(Version::Null), true));
    let want = [(Version::Null, true, true), (newer, false, false), (kept, false, false)];
    assert_eq!(ids(&bench.store).await, want);
    delete(&bench.store, "a").await;
    assert_eq!(ids(&bench.store).await, want);
    assert_eq!(bench.put("a", payload(300_000, 6)).await.version, Some(Version::Null));
    assert_eq!(ids(&bench.store).await[0], (Version::Null, true, false));
    purge(&bench.store, "a", Version::Null).await;
    assert_eq!(bench.get("a").await.expect("the newest that is left"), payload(30, 4));
    let off = bench.store.set_versioning(&bucket(), Versioning::Off).await.expect_err("never off again");
    assert_eq!(off.kind, ErrorKind::InvalidName);
    ends_empty(&bench).await;
}

/// Two pods: the second knows the bucket as it was, and its write must not take what the setting keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_to_a_pod_that_knows_the_bucket_as_it_was() {
    let bench = Bench::start().await;
    bench.put("a", payload(300_000, 1)).await;
    bench.put("b", payload(10, 1)).await;
    let (late, _) = open(&bench.engine, options());
    let known = late.get_bucket(&bucket()).await.expect("known from now on");
    assert_eq!(known.versioning(), Versioning::Off);
    // An upload that began before, and ends after.
    let (go, wait) = oneshot::channel::<()>();
    let body = payload(600_000, 9);
    let (head, tail) = (body.slice(..300_000), body.slice(300_000..));
    let started = stream::once(async move { Ok::<_, std::io::Error>(head) });
    let rest = stream::once(async move {
        wait.await.map_err(std::io::Error::other)?;
        Ok(tail)
    });
    let slow = tasks::spawn("a slow upload", {
        let late = late.clone();
        async move { late.put(PutRequest::new(bucket(), name("c"), Some(600_000)), started.chain(rest)).await }
    });
    bench.put("c", payload(50, 7)).await;
    keep(&bench.store, Versioning::Enabled).await;
    let replaced = put(&late, "a", payload(20, 2)).await;
    assert!(matches!(replaced.version, Some(Version::Id(_))), "{replaced:?}");
    assert!(delete(&late, "b").await.marker);
    go.send(()).expect("the upload waits");
    let stored = slow.await.expect("no panic").expect("stored");
    assert!(matches!(stored.version, Some(Version::Id(_))), "{stored:?}");
    for (name_, body) in [("a", payload(300_000, 1)), ("b", payload(10, 1)), ("c", payload(50, 7))] {
        assert_eq!(get_version(&late, name_, Version::Null).await.expect("kept"), body, "{name_}");
    }
    for version in versions(&late).await {
        purge(&late, &version.name, version.marker.version).await;
    }
    bench.settles_but_for_seals().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_concern_the_current_version() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    let only_new = || Conditions { if_none_match: TagSet::parse("*"), ..Conditions::default() };
    let try_put = |conditions: Conditions| {
        let request = PutRequest { conditions, ..PutRequest::new(bucket(), name("a"), Some(10)) };
        bench.store.put(request, frames(payload(10, 1), 10))
    };
    let first = try_put(only_new()).await.expect("nothing there");
    assert_eq!(try_put(only_new()).await.expect_err("there").kind, ErrorKind::Precondition);
    delete(&bench.store, "a").await;
    let second = try_put(only_new()).await.expect("a delete marker is no object");
    let matching = |etag: String| Conditions { if_match: TagSet::parse(&etag), ..Conditions::default() };
    let third = try_put(matching(second.etag.quoted())).await.expect("it is that one");
    assert_eq!(
        try_put(matching(first.etag.quoted())).await.expect_err("an older one").kind,
        ErrorKind::Precondition
    );
    let request = DeleteRequest { conditions: matching(third.etag.quoted()), ..delete_request("a") };
    assert!(bench.store.delete(request.clone()).await.expect("it is that one").marker);
    assert_eq!(bench.store.delete(request).await.expect_err("a marker").kind, ErrorKind::Precondition);
    let old = first.version.expect("a version");
    let request = DeleteRequest { conditions: matching("\"x\"".into()), ..delete_request("a") };
    let kept = bench.store.delete_version(request, old).await.expect_err("another");
    assert_eq!(kept.kind, ErrorKind::Precondition);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_in_parts_and_tags_are_versions_like_others() {
    let bench = Bench::with(small_parts(), &[]).await;
    keep(&bench.store, Versioning::Enabled).await;
    let mut made = Vec::new();
    for seed in 1..4 {
        let to = begin(&bench.store, "a").await;
        let body = payload(400_000, seed);
        let stored = part(&bench.store, &to, 1, body.clone()).await.expect("stored");
        let done = complete(&bench.store, &to, refs(std::slice::from_ref(&stored))).await.expect("completed");
        made.push((done.version.expect("a version"), body, to, stored));
    }
    let (old, body, to, stored) = &made[0];
    let again = complete(&bench.store, to, refs(std::slice::from_ref(stored))).await.expect("the same");
    assert_eq!(again.version, Some(*old), "told again although it is not current");
    let tags = vec![("k".to_owned(), "v".to_owned())];
    let update = UpdateRequest {
        bucket: bucket(),
        name: name("a"),
        conditions: Conditions::default(),
        change: Change::Tags(tags.clone()),
    };
    bench.store.update_version(update, *old).await.expect("tagged");
    let found = bench.store.get_version(GetRequest::new(bucket(), name("a")), *old).await.expect("there");
    assert_eq!(found.meta.attributes.tags, tags);
    assert_eq!(read(found).await.expect("whole"), *body);
    let current = bench.store.get(GetRequest::new(bucket(), name("a"))).await.expect("there");
    assert!(current.meta.attributes.tags.is_empty());
    drop(current);
    // The number of its entry survived the change: it can still be removed.
    assert!(purge(&bench.store, "a", *old).await.existed);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_go_on_behind_versions_that_were_deleted_meanwhile() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    for round in 0..9_u64 {
        for name_ in ["a", "a/1", "a/2", "b"] {
            bench.put(name_, payload(10, round)).await;
        }
    }
    delete(&bench.store, "a/1").await;
    for max in [1, 2, 5, 1000] {
        let all = pages(&bench.store, listing(max)).await;
        let names: Vec<&str> = all.iter().map(VersionItem::key).collect();
        assert!(names.is_sorted() && names.len() == 37, "{max}: {names:?}");
        let folded = ListVersionsRequest { delimiter: Some("/".into()), ..listing(max) };
        let folded = pages(&bench.store, folded).await;
        assert_eq!(folded.iter().filter(|item| matches!(item, VersionItem::Prefix(_))).count(), 1);
        assert_eq!(folded.len(), 9 + 1 + 9);
        let below = ListVersionsRequest { prefix: "a/".into(), ..listing(max) };
        assert_eq!(pages(&bench.store, below).await.len(), 19);
    }
    // As clients empty a bucket: a page, delete all of it, the next page.
    let (mut request, mut gone) = (listing(4), 0);
    loop {
        let page = bench.store.list_versions(request.clone()).await.expect("a page");
        for item in &page.items {
            let VersionItem::Version(version) = item else { panic!("no delimiter") };
            assert!(purge(&bench.store, &version.name, version.marker.version).await.existed);
            gone += 1;
            request.after = Some(version.name.clone());
            let text = version.marker.to_string();
            request.after_version = VersionMarker::parse(&text);
        }
        if !page.truncated {
            break;
        }
    }
    assert_eq!(gone, 37);
    ends_empty(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_by_itself_ends_where_versions_are_kept() {
    let bench = Bench::start().await;
    keep(&bench.store, Versioning::Enabled).await;
    let kept = bench.put("a", payload(300_000, 1)).await.version.expect("a version");
    let mut due = Vec::new();
    // One that is current when its time comes, and one that is not.
    for name_ in ["a", "b"] {
        let request = PutRequest { expires_ms: 1, ..PutRequest::new(bucket(), name(name_), Some(300_000)) };
        let stored = bench.store.put(request, frames(payload(300_000, 2), 90_000)).await.expect("stored");
        due.push((name_, stored.version.expect("a version")));
    }
    let newer = bench.put("b", payload(10, 3)).await.version.expect("a version");
    bench.store.sweep().await.expect("swept");
    let left = ids(&bench.store).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left[0].2 && left[0].1, "a delete marker hides what was before: {left:?}");
    assert_eq!(left[1..], [(kept, false, false), (newer, true, false)]);
    for (name_, version) in due {
        let gone = get_version(&bench.store, name_, version).await.expect_err("its end has come");
        assert_eq!(gone.kind, ErrorKind::NoSuchVersion);
    }
    // A rule of the bucket ends what is current, and keeps it.
    let rule = LifecycleRule { enabled: true, expire_after_seconds: Some(0), ..LifecycleRule::default() };
    let text = Lifecycle { rules: vec![rule] }.text();
    bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("rules");
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 1);
    let left = ids(&bench.store).await;
    assert!(left[2].1 && left[2].2 && left[3] == (newer, false, false), "{left:?}");
    ends_empty(&bench).await;
}
