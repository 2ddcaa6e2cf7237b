//! What a real engine says of its own memory, explained.

use std::sync::Arc;

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::memory::FragmentationCause;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::partition::tag_of;
use redis::cmd;

use crate::common::{Engine, act, config, hygiene, settled, until_true};

/// R004-11: INFO, MEMORY STATS, DOCTOR and USAGE.
#[tokio::test(flavor = "multi_thread")]
async fn the_engines_own_evidence_is_read_and_explained() {
    let mut engine = Engine::start_keeping_pages().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let empty = hygiene.memory().await.expect("an engine that answers");
    assert_eq!(empty.fragmentation.cause, FragmentationCause::Negligible, "{empty:#?}");
    assert!(empty.fragmentation.ratio > 1.5, "the ratio of an empty engine alarms: {empty:#?}");

    engine.fill(40_000, 4_000, |index| format!("bulk:{{{}}}:{index}", tag_of(index as u32 % 256, 256))).await;
    engine.fill(1, 5_000_000, |_| "cart".to_owned()).await;
    let audited = act(&hygiene, name::AUDIT, "audit-1").await;
    assert_eq!(audited.state, ActionState::Done, "{}", audited.message);
    let full = hygiene.memory().await.expect("an engine that answers");
    let sum: u64 = full.parts.iter().map(|part| part.bytes).sum();
    assert!(sum.abs_diff(full.used) < full.used / 50, "the parts make up what is allocated: {full:#?}");
    assert_eq!(full.parts[0].name, "dataset.bytes", "{full:#?}");
    assert_eq!((full.largest[0].key.as_str(), full.largest[0].family.as_str()), ("cart", "foreign"));
    assert!(full.largest[0].bytes >= 5_000_000, "{full:#?}");
    assert!(full.explained.iter().any(|line| line.contains("keys and values (dataset.bytes)")), "{full:#?}");
    assert!(!full.doctor.is_empty());

    let _: String = engine.run(cmd("FLUSHALL").arg("ASYNC")).await;
    // The engine looks at its own pages every 100 ms.
    until_true("the freed pages are named", async || {
        let view = hygiene.memory().await.expect("an engine that answers");
        view.fragmentation.cause == FragmentationCause::FreedPages
            && view.explained.iter().any(|line| line.contains("a purge gives them back"))
    })
    .await;
    for line in hygiene.memory().await.expect("an engine that answers").explained {
        println!("{line}");
    }
}
