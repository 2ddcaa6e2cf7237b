//! Faults of the engine itself: an unread client, retained pages, foreign keys, fragmentation, and honest growth.

use std::sync::Arc;
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionState, name};
use blobstore_sidecar_api::report::VerdictClass;
use blobstore_sidecar_core::hygiene::book::Ledger;
use blobstore_sidecar_core::key::chunk;
use blobstore_sidecar_core::ledger::{Family, LedgerSink};
use blobstore_sidecar_core::partition::tag_of;
use redis::cmd;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::common::{Engine, act, config, confirmed, generation, has, hygiene, report, settled};

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_client_is_named_and_closed() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    engine.fill(1, 262_080, |_| "big".to_owned()).await;
    let refused = act(&hygiene, name::KILL_CLIENTS, "kill-0").await;
    assert_eq!(refused.state, ActionState::Refused, "{}", refused.message);

    // 200 replies of 256 KiB that nobody reads.
    let mut reader = UnixStream::connect(engine.socket()).await.expect("connected");
    reader.write_all("GET big\r\n".repeat(200).as_bytes()).await.expect("asked");
    let verdict = confirmed(&hygiene, VerdictClass::ClientBuffers).await;
    assert!(verdict.bytes > 40 << 20, "{verdict:#?}");
    assert!(verdict.evidence.iter().any(|line| line.contains("replies unread")), "{:?}", verdict.evidence);

    let done = act(&hygiene, name::KILL_CLIENTS, "kill-1").await;
    println!("{}: {:?} then {:?}", done.message, done.before, done.after);
    assert_eq!(done.state, ActionState::Done, "{}", done.message);
    let back = done.before["used_memory"] - done.after["used_memory"];
    assert!(back >= 0.8 * done.before["targeted_bytes"], "{back} bytes came back: {done:?}");
    report(&hygiene, "the verdict is gone", |report| !has(report, VerdictClass::ClientBuffers)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_a_bulk_delete_leaves_are_purged() {
    let mut engine = Engine::start_keeping_pages().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let refused = act(&hygiene, name::PURGE, "purge-0").await;
    assert_eq!(refused.state, ActionState::Refused, "{}", refused.message);
    engine.fill(40_000, 4_000, |index| format!("bulk:{{{}}}:{index}", tag_of(index as u32 % 256, 256))).await;
    let _: String = engine.run(cmd("FLUSHALL").arg("ASYNC")).await;
    confirmed(&hygiene, VerdictClass::RetainedPages).await;
    let done = act(&hygiene, name::PURGE, "purge-1").await;
    println!("{}: {:?} then {:?}", done.message, done.before, done.after);
    assert_eq!(done.state, ActionState::Done, "{}", done.message);
    let fell = done.before["rss"] - done.after["rss"];
    assert!(fell >= 0.5 * done.before["retained_bytes"], "rss fell by {fell}: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_beside_the_ledger_are_growth_without_a_cause() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let mut written = 0;
    let mut grown = None;
    while grown.is_none() && written < 600 {
        engine.fill(50, 16_000, |index| format!("cache:{}", written * 50 + index)).await;
        written += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = hygiene.report();
        let told = |line: &String| line.contains("outside the data model") && line.contains("cache:");
        grown = seen
            .verdicts
            .into_iter()
            .find(|verdict| verdict.class == VerdictClass::Growing && verdict.evidence.iter().any(told));
    }
    let verdict = grown.expect("growing, with the foreign keys named");
    println!("{:#?}", verdict.evidence);
    assert!(verdict.bytes > 4 << 20);
    confirmed(&hygiene, VerdictClass::Growing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_that_the_ledger_knows_is_capacity_and_never_a_leak() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let mut written = 0_usize;
    let mut seen = hygiene.report();
    while !has(&seen, VerdictClass::CapacityGrowth) && written < 900 {
        let tag = tag_of(written as u32 % 256, 256);
        let id = generation(0, written as u8);
        let name = |index: usize| chunk(tag, id, index as u32);
        (0..4).for_each(|_| ledger.sending(262_080));
        engine.fill(4, 262_080, name).await;
        for index in 0..4 {
            ledger.string_added(Family::Chunk, name(index).len(), 262_080);
            ledger.sent_done(262_080);
        }
        written += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = hygiene.report();
        assert!(!has(&seen, VerdictClass::Growing), "after {written} MiB: {seen:#?}");
    }
    assert!(has(&seen, VerdictClass::CapacityGrowth), "after {written} MiB: {seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slabs_with_holes_are_fragmentation_and_defrag_says_why_not() {
    let mut engine = Engine::start().await;
    let ledger = Arc::new(Ledger::new());
    let hygiene = hygiene(&engine, &ledger, config());
    settled(&hygiene).await;
    let name = |index: usize| format!("small:{index}");
    engine.fill(300_000, 120, name).await;
    // 85 of 100 go, spread by a multiplicative hash: holes everywhere.
    let doomed: Vec<String> = (0..300_000_usize)
        .filter(|index| index.wrapping_mul(2_654_435_761) % 4_096 % 100 >= 15)
        .map(name)
        .collect();
    for names in doomed.chunks(1_000) {
        let mut pipe = redis::pipe();
        names.iter().for_each(|name| {
            pipe.cmd("DEL").arg(name).ignore();
        });
        pipe.query_async::<()>(&mut engine.connection).await.expect("deleted");
    }
    let verdict = confirmed(&hygiene, VerdictClass::Fragmented).await;
    println!("{:#?}", verdict.evidence);
    assert!(verdict.bytes > 8 << 20, "{verdict:#?}");
    let refused = act(&hygiene, name::DEFRAG, "defrag-1").await;
    assert_eq!(refused.state, ActionState::Refused);
    assert!(refused.message.contains("cannot defragment"), "{}", refused.message);
}
