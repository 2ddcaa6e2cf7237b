//! The end of the service: whoever drops it is rid of its tasks and of its connection.

use std::sync::Arc;

use blobstore_sidecar_core::hygiene::book::Ledger;

use crate::common::{Engine, config, hygiene, until_true};

/// Waits until the engine has so many: ours, and the service's.
async fn connections(engine: &mut Engine, want: u64) {
    let what = format!("{want} connections");
    until_true(&what, async || engine.memory("connected_clients").await == want).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_it_ends_its_tasks_and_its_connection() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    // Of this runtime alone: other tests have theirs.
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    connections(&mut engine, 1).await;
    let before = alive();
    // Before its first sample, and while it samples and audits.
    for samples in [0, 2] {
        let service = hygiene(&engine, &ledger, config());
        assert!(alive() >= before + 2, "it samples and it audits");
        for _ in 0..samples {
            service.sampled().await;
            connections(&mut engine, 2).await;
        }
        drop(service);
        until_true("its tasks end", async || alive() <= before).await;
        connections(&mut engine, 1).await;
    }
    assert_eq!(Arc::strong_count(&ledger), 1, "nothing of it is left");
}
