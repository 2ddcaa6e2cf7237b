//! Listings and buckets: order, paging, prefixes, quota, and deletion that never loses an upload.

use std::collections::BTreeSet;

use crate::common::{Bench, bucket, frames, list_of, name, options, payload};
use blobstore_sidecar_core::{
    key::BucketName,
    list::{ListItem, ListPage},
};
use blobstore_sidecar_store::{ErrorKind, ListRequest, PutRequest};
use bytes::Bytes;
use futures::{StreamExt, stream};

pub(crate) async fn pages(bench: &Bench, mut request: ListRequest) -> Vec<ListPage> {
    let mut pages = Vec::new();
    loop {
        let page = bench.store.list(request.clone()).await.expect("a page");
        assert!(page.items.len() <= request.max);
        request.token = page.next.clone();
        pages.push(page);
        assert!(pages.len() < 1000, "the listing never ends");
        if request.token.is_none() {
            return pages;
        }
    }
}

async fn keys(bench: &Bench, request: ListRequest) -> Vec<String> {
    let pages = pages(bench, request).await;
    pages.iter().flat_map(|page| &page.items).map(|item| item.key().to_owned()).collect()
}

async fn filled() -> (Bench, BTreeSet<String>) {
    let bench = Bench::with(options(), &[]).await;
    let mut names = BTreeSet::new();
    for index in 0..150 {
        names.insert(format!("logs/{}/{index}", index % 7));
        names.insert(format!("plain-{index:03}"));
    }
    names.insert("ärger/ü".into());
    names.insert("a\u{10FFFF}".into());
    let puts = names.iter().map(|name_| bench.put(name_, Bytes::from_static(b"x")));
    stream::iter(puts).buffer_unordered(16).collect::<Vec<_>>().await;
    (bench, names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_comes_once_and_in_order_whatever_the_page() {
    let (bench, names) = filled().await;
    let all: Vec<String> = names.iter().cloned().collect();
    for max in [1000, 100, 7] {
        assert_eq!(keys(&bench, list_of("", None, max)).await, all, "{max}");
    }
    let logs: Vec<String> = names.iter().filter(|name| name.starts_with("logs/3/")).cloned().collect();
    assert_eq!(keys(&bench, list_of("logs/3/", None, 5)).await, logs);
    assert!(keys(&bench, list_of("nothing", None, 5)).await.is_empty());
    let after = ListRequest { after: Some("plain-100".into()), ..list_of("", None, 1000) };
    let want: Vec<String> = names.iter().filter(|name| name.as_str() > "plain-100").cloned().collect();
    assert_eq!(keys(&bench, after).await, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_are_told_once_whatever_the_page() {
    let (bench, names) = filled().await;
    for max in [1000, 10, 1] {
        let found = keys(&bench, list_of("logs/", Some("/"), max)).await;
        assert_eq!(found, (0..7).map(|index| format!("logs/{index}/")).collect::<Vec<_>>(), "{max}");
    }
    let top = keys(&bench, list_of("", Some("/"), 20)).await;
    let want: BTreeSet<String> = names
        .iter()
        .map(|name| name.split_once('/').map_or(name.clone(), |(prefix, _)| format!("{prefix}/")))
        .collect();
    assert_eq!(top, want.into_iter().collect::<Vec<_>>());
    let page = bench.store.list(list_of("", Some("/"), 1000)).await.expect("a page");
    let prefixes = page.items.iter().filter(|item| matches!(item, ListItem::Prefix(_))).count();
    assert_eq!(prefixes, 2, "logs/ and ärger/");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_token_and_a_missing_bucket_are_refused() {
    let bench = Bench::with(options(), &[]).await;
    let foreign = ListRequest { token: Some("zzz".into()), ..list_of("", None, 10) };
    assert_eq!(bench.store.list(foreign).await.expect_err("foreign").kind, ErrorKind::InvalidName);
    let mut missing = list_of("", None, 10);
    missing.bucket = BucketName::parse("none").expect("a name");
    assert_eq!(bench.store.list(missing).await.expect_err("missing").kind, ErrorKind::NoSuchBucket);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_are_made_once_listed_and_deleted_when_empty() {
    let bench = Bench::with(options(), &[]).await;
    let other = BucketName::parse("another").expect("a name");
    assert_eq!(
        bench.store.create_bucket(&bucket(), None).await.expect_err("exists").kind,
        ErrorKind::BucketExists
    );
    bench.store.create_bucket(&other, Some(5)).await.expect("made");
    let names: Vec<String> =
        bench.store.list_buckets().await.expect("listed").iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["another", "b"]);
    bench.put("a", Bytes::from_static(b"x")).await;
    assert_eq!(bench.store.delete_bucket(&bucket()).await.expect_err("full").kind, ErrorKind::BucketNotEmpty);
    bench.put("a", Bytes::from_static(b"still open")).await;
    let usage = bench.store.bucket_usage(&bucket()).await.expect("sums");
    assert_eq!((usage.bytes, usage.objects), (10, 1));
    bench.store.delete_bucket(&other).await.expect("empty");
    assert_eq!(bench.store.get_bucket(&other).await.expect_err("gone").kind, ErrorKind::NoSuchBucket);
    assert_eq!(bench.store.delete_bucket(&other).await.expect_err("gone").kind, ErrorKind::NoSuchBucket);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_cannot_land_in_a_bucket_deleted_under_it() {
    let bench = Bench::with(options(), &[]).await;
    let (feed, rest) = tokio::sync::oneshot::channel::<()>();
    let body = payload(1_000_000, 1);
    let first = frames(body.slice(..600_000), 60_000);
    let second = stream::once(async move {
        rest.await.expect("the test goes on");
        Ok(body.slice(600_000..))
    });
    let upload =
        bench.store.put(PutRequest::new(bucket(), name("late"), Some(1_000_000)), first.chain(second));
    let deletion = async {
        let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
        while !bench.engine.keys().await.iter().any(|key| key.starts_with("c:")) {
            assert!(tokio::time::Instant::now() < deadline, "the upload never began");
        }
        bench.store.delete_bucket(&bucket()).await.expect("no object yet");
        feed.send(()).expect("the upload waits");
    };
    let (upload, ()) = tokio::join!(upload, deletion);
    assert_eq!(upload.expect_err("the bucket is gone").kind, ErrorKind::NoSuchBucket);
    let left = bench.engine.keys().await;
    assert!(left.iter().all(|key| key.starts_with("s:")), "only the seals are left: {left:?}");
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_holds_for_every_path_and_overwrites_count_the_difference() {
    let bench = Bench::with(options(), &[]).await;
    bench.store.set_bucket(&bucket(), Some(10_000_000)).await.expect("set");
    bench.put("large", payload(6_000_000, 1)).await;
    bench.put("large", payload(6_000_000, 2)).await;
    for (index, size) in [(0, 3_000_000), (1, 200_000), (2, 10_000)] {
        bench.put(&format!("fits-{index}"), payload(size, 3)).await;
    }
    let before = bench.engine.keys().await;
    for size in [5_000_000, 1_000_000] {
        let error = bench.try_put("over", payload(size, 4)).await.expect_err("too much");
        assert_eq!(error.kind, ErrorKind::QuotaExceeded);
    }
    let fill = bench.store.bucket_usage(&bucket()).await.expect("sums").bytes;
    let mut stored = fill;
    for index in 0..100 {
        match bench.try_put(&format!("small-{index}"), payload(16_000, index)).await {
            Ok(_) => stored += 16_000,
            Err(error) => assert_eq!(error.kind, ErrorKind::QuotaExceeded),
        }
    }
    assert!(stored <= 10_000_000, "never over: {stored}");
    assert!(stored > 10_000_000 - 32_000, "what is not used anywhere can be used here: {stored}");
    assert_eq!(bench.store.bucket_usage(&bucket()).await.expect("sums").bytes, stored);
    assert!(before.iter().all(|key| !key.contains(":over")));
    bench.is_quiet().await;
}
