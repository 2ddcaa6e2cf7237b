//! Figures of compression, by their values: a program of its own, since metrics are the whole process's.
#![expect(clippy::expect_used, reason = "helpers of tests: a broken fixture ends the test")]

use std::time::Duration;

use blobstore_sidecar_runtime::metrics::registry;
use blobstore_sidecar_store::{Attributes, PutRequest, StoreOptions};
use bytes::Bytes;

use common::{Bench, bucket, frames, name, options, payload};

#[path = "store/common.rs"]
#[expect(dead_code, reason = "shared with the other program of tests")]
mod common;
#[path = "store/tally.rs"]
#[expect(dead_code, reason = "shared with the other program of tests")]
mod tally;

fn text(len: usize) -> Bytes {
    b"2026-11-21T12:00:00Z GET /objects/17 200 served from the cache\n"
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

/// Of the sample that begins with `prefix`, 0 if it is not there yet.
fn figure(prefix: &str) -> f64 {
    let shown =
        prometheus::TextEncoder::new().encode_to_string(&registry().gather()).expect("metrics are text");
    let line = shown.lines().find(|line| line.starts_with(prefix) && line[prefix.len()..].starts_with(' '));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default()
}

fn cold(name: &str, label: &str) -> f64 {
    figure(&format!("blobstore_sidecar_cold_{name}_total{{{label}}}"))
}

/// Bytes of all chunks, as the engine has them.
async fn chunk_bytes(bench: &Bench) -> f64 {
    let mut bytes = 0;
    for key in bench.engine.keys().await.iter().filter(|key| key.starts_with("c:")) {
        bytes += bench.engine.query::<u32>(redis::cmd("STRLEN").arg(key)).await;
    }
    f64::from(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_compression_did_is_what_its_figures_say() {
    let mut options = StoreOptions { compress_after: Some(Duration::ZERO), ..options() };
    options.timing.pack_every = Duration::from_secs(3_600);
    options.cache.max_bytes = 0;
    let bench = Bench::with(options, &[]).await;
    // Four whole chunks, of which one does not pack.
    let mixed = Bytes::from([text(262_080 * 3), payload(262_080, 1)].concat());
    bench.put("mixed", mixed.clone()).await;
    let before = chunk_bytes(&bench).await;
    bench.put("noise", payload(600_000, 2)).await;
    bench.put("small", text(9_000)).await;
    let mut film = PutRequest::new(bucket(), name("film"), Some(300_000));
    film.attributes = Attributes { content_type: Some("video/mp4".to_owned()), ..Attributes::default() };
    bench.store.put(film, frames(text(300_000), 90_000)).await.expect("stored");
    let others = chunk_bytes(&bench).await - before;
    assert_eq!(bench.store.pack_cold().await.expect("a pass").packed, 1);
    bench.is_quiet().await;

    for (result, count) in [("packed", 1.0), ("no_gain", 1.0), ("inline", 1.0), ("content_type", 1.0)] {
        assert_eq!(cold("objects", &format!("result=\"{result}\"")), count, "{result}");
    }
    assert_eq!(cold("chunks", "form=\"packed\""), 3.0);
    assert_eq!(cold("chunks", "form=\"plain\""), 1.0);
    assert_eq!(cold("bytes", "when=\"before\""), before);
    let after = chunk_bytes(&bench).await - others;
    assert_eq!(cold("bytes", "when=\"after\""), after);
    assert!(after < before / 2.0, "{after} of {before}");
    assert_eq!(figure("blobstore_sidecar_cold_passes_total"), 1.0);
    let seconds = |operation: &str| {
        figure(&format!("blobstore_sidecar_pack_cpu_seconds_total{{operation=\"{operation}\"}}"))
    };
    assert!(seconds("pack") > 0.0);

    // Each packed chunk is unpacked once to be verified, and once for each reader of it.
    let unpacked = figure("blobstore_sidecar_chunks_unpacked_total");
    assert_eq!(bench.get("mixed").await.expect("whole"), mixed);
    assert_eq!(figure("blobstore_sidecar_chunks_unpacked_total") - unpacked, 3.0);
    assert!(seconds("unpack") > 0.0);

    // Another pass finds nothing to do.
    assert_eq!(bench.store.pack_cold().await.expect("a pass").packed, 0);
    assert_eq!(cold("objects", "result=\"already_packed\""), 1.0);
    assert_eq!((cold("bytes", "when=\"before\""), cold("bytes", "when=\"after\"")), (before, after));
}
