//! An upload can be read while it runs, and a body from an origin keeps the ETag it came with.

use std::sync::Arc;

use blobstore_sidecar_core::{chunk::CHUNK_BYTES, etag::ETag};
use blobstore_sidecar_store::{HeadRequest, PutRequest, StoreOptions, UploadProgress};
use bytes::Bytes;
use futures::{SinkExt, channel::mpsc};

use crate::common::{Bench, PATIENCE, bucket, name, options, payload};

const CHUNK: usize = CHUNK_BYTES as usize;

/// Reads every acknowledged chunk of an upload that has not ended, from engine and cache.
async fn check(options: StoreOptions) {
    let bench = Bench::with(options, &[]).await;
    let body = payload(8 * CHUNK + 5, 3);
    let progress = Arc::new(UploadProgress::default());
    let (mut to, from) = mpsc::channel::<Result<Bytes, String>>(0);
    let request = PutRequest {
        etag: Some(ETag::Opaque([7; 16])),
        progress: Some(Arc::clone(&progress)),
        ..PutRequest::new(bucket(), name("a"), None)
    };
    let store = bench.store.clone();
    let put = blobstore_sidecar_runtime::tasks::spawn("test", async move { store.put(request, from).await });
    to.send(Ok(body.slice(..6 * CHUNK))).await.expect("the upload reads");
    // Four chunks may be on their way: the others must be acknowledged.
    let mut seen = progress.watch();
    let chunks = tokio::time::timeout(PATIENCE, seen.wait_for(|chunks| *chunks >= 2)).await;
    let chunks = *chunks.expect("in time").expect("the upload lives");
    assert_eq!(progress.readable(), u64::from(chunks) * u64::from(CHUNK_BYTES));
    for at in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK - 7, 7] {
        let read = bench.store.read_upload(&bucket(), &name("a"), &progress, at as u64).await;
        let end = (at / CHUNK + 1) * CHUNK;
        assert_eq!(read.expect("acknowledged"), body.slice(at..end), "{at}");
    }
    let beyond = bench.store.read_upload(&bucket(), &name("a"), &progress, progress.readable()).await;
    assert!(beyond.is_err(), "what is not acknowledged is not read");
    to.send(Ok(body.slice(6 * CHUNK..))).await.expect("the upload reads");
    drop(to);
    let put = put.await.expect("no panic").expect("stored");
    assert_eq!(put.etag, ETag::Opaque([7; 16]));
    let head = HeadRequest { bucket: bucket(), name: name("a"), conditions: Default::default() };
    assert_eq!(bench.store.head(head).await.expect("there").etag, ETag::Opaque([7; 16]));
    assert_eq!(bench.get("a").await.expect("read"), body);
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_upload_is_read_from_the_cache() {
    check(options()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_upload_is_read_from_the_engine() {
    let mut options = options();
    options.cache.max_bytes = 0;
    check(options).await;
}
