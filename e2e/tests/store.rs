//! A store is made, becomes ready, and gives blobs back whole and in part at every pod, to those who may read.

use std::time::Duration;

use blobstore_e2e::{
    http::{Contents, Http},
    namespace, payload,
    payload::Payload,
    progress,
    store::{self, Store},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::RANGE};

/// Under 10 s on an idle machine; the rest is for neighbours that compile.
const READY_LIMIT: Duration = Duration::from_secs(180);
#[tokio::test(flavor = "multi_thread")]
async fn one_shard_with_a_replica_takes_a_blob_and_gives_it_back_whole_and_in_part() {
    namespace::with_operator("store", |scope| async move {
        let store = Store::create(&scope, "one", &store::spec(1, 1)).await?;
        let ready = store.wait_ready(READY_LIMIT).await?;
        let redundant = store.wait_redundant(READY_LIMIT).await?;
        let (ready, redundant) = (ready.as_secs_f64(), (ready + redundant).as_secs_f64());
        progress::say(&format!(
            "1 shard x 1 replica: Ready after {ready:.1} s, redundant after {redundant:.1} s"
        ));
        store.make_bucket("files").await?;
        let (http, urls) = (store.http().await?, store.urls_of(2, READY_LIMIT).await?);
        let contents = Payload { seed: 7, size: 20_000_000 }.bytes();
        let url = |turn: usize| format!("{}/files/folder/file.bin", urls[turn % urls.len()]);
        let answer = http.ask_put(&url(0), &Contents::Bytes(contents.clone())).await?;
        assert!(answer.status.is_success(), "PUT answered {}", answer.status);
        for turn in 0..urls.len() {
            let whole = http.ask_get(&url(turn)).await?;
            assert_eq!(
                payload::checksum(&whole.body),
                payload::checksum(&contents),
                "whole, from {}",
                url(turn)
            );
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static("bytes=262000-9000000"));
            let part = http.ask(&Method::GET, &url(turn), &headers, &Contents::None).await?;
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(payload::checksum(&part.body), payload::checksum(&contents[262_000..=9_000_000]));
        }
        let answer = Http::default().ask_get(&url(0)).await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "nobody reads without a token");
        Ok(())
    })
    .await
    .expect("a store of one shard");
}
