//! A replica gives away what it holds of a chunk, and nothing else.

use std::sync::Arc;

use blobstore_sidecar_core::ledger::NoLedger;
use blobstore_sidecar_runtime::authority::Alone;
use blobstore_sidecar_store::Store;

use crate::{
    common::{Bench, options, payload, tenure},
    damage::chunks,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_the_cluster_gives_its_copy_of_a_chunk() {
    let bench = Bench::start().await;
    let body = payload(700_000, 1);
    bench.put("a", body.clone()).await;
    let replica = bench.engine.follower().await;
    let holder = Store::open(replica.address(), options(), Arc::new(Alone(tenure())), Arc::new(NoLedger));
    let keys = chunks(&bench).await;
    let mut copies = Vec::new();
    for key in &keys {
        let len: u32 = bench.engine.query(redis::cmd("STRLEN").arg(key)).await;
        copies
            .extend_from_slice(&holder.chunk_here(key, len).await.expect("it answers").expect("it is there"));
        assert!(holder.chunk_here(key, len - 1).await.expect("it answers").is_none(), "another length");
    }
    assert!(copies.len() > 600_000 && copies == body.slice(..copies.len()), "the same bytes");
    let absent = format!("{}:99", keys[0].rsplit_once(':').expect("an index").0);
    assert!(holder.chunk_here(&absent, 10).await.expect("it answers").is_none());
    for foreign in ["o:{d}:b/a", "b:{d}:b", "nonsense"] {
        assert!(holder.chunk_here(foreign, 10).await.is_err(), "{foreign}");
    }
    assert!(holder.chunk_here(&keys[0], u32::MAX).await.is_err(), "longer than any chunk");
}
