//! The wall clock is stepped by hours under everything that the store does: nothing is lost, nothing ends early by a
//! step that is taken back, and what is due ends once the step has lasted.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use blobstore_sidecar_core::{
    clock::BELIEVED_AFTER,
    lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, LifecycleRule},
};
use blobstore_sidecar_store::{Clock, ErrorKind, PutRequest, StoreOptions};
use bytes::Bytes;
use futures::channel::mpsc;

use crate::{
    common::{Bench, PATIENCE, bucket, frames, list_of, name, open, options, payload},
    multipart::{begin, complete, part, refs, small_parts},
};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The machine's clock, moved; the engine's moves with it.
#[derive(Debug)]
pub(crate) struct Stepped {
    started: Instant,
    step_ms: AtomicI64,
    /// Time that a test lets pass, for every clock.
    passed_ms: AtomicU64,
}

impl Stepped {
    pub(crate) fn new() -> Arc<Self> {
        let (step_ms, passed_ms) = (AtomicI64::new(0), AtomicU64::new(0));
        Arc::new(Self { started: Instant::now(), step_ms, passed_ms })
    }

    /// Away from the right time.
    pub(crate) fn step(&self, ms: i64) {
        self.step_ms.store(ms, SeqCst);
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.passed_ms.fetch_add(u64::try_from(time.as_millis()).expect("short"), SeqCst);
    }

    fn moved(&self, ms: u64) -> u64 {
        (ms + self.passed_ms.load(SeqCst)).saturating_add_signed(self.step_ms.load(SeqCst))
    }

    /// The right time.
    fn right_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        u64::try_from(since.as_millis()).expect("small") + self.passed_ms.load(SeqCst)
    }
}

impl Clock for Stepped {
    fn wall_ms(&self) -> u64 {
        self.right_ms().saturating_add_signed(self.step_ms.load(SeqCst))
    }
    fn passed(&self) -> Duration {
        self.started.elapsed() + Duration::from_millis(self.passed_ms.load(SeqCst))
    }
    fn engine_ms(&self, told: u64) -> u64 {
        self.moved(told)
    }
}

pub(crate) fn with_clock(clock: &Arc<Stepped>, options: StoreOptions) -> StoreOptions {
    StoreOptions { clock: Arc::clone(clock) as _, ..options }
}

async fn put_until(bench: &Bench, name_: &str, expires_ms: u64) {
    let mut request = PutRequest::new(bucket(), name(name_), Some(3));
    request.expires_ms = expires_ms;
    let body = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))]);
    bench.store.put(request, body).await.expect("stored");
}

/// Waits until the sweeper has taken what is due by every clock: whatever else it would take, it has looked at.
async fn swept(bench: &Bench, clock: &Stepped) {
    for round in 0..2 {
        let witness = format!("witness-{round}");
        put_until(bench, &witness, clock.right_ms() - DAY_MS.unsigned_abs() * 30).await;
        let deadline = Instant::now() + PATIENCE;
        while bench.engine.keys().await.iter().any(|key| key.ends_with(&format!("b/{witness}"))) {
            assert!(Instant::now() < deadline, "the sweeper never came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn is_there(bench: &Bench, name_: &str) -> bool {
    let listed = bench.store.list(list_of(name_, None, 10)).await.expect("a page").items.len() == 1;
    let read = bench.get(name_).await;
    match read {
        Ok(ref body) => assert_eq!(*body, Bytes::from_static(b"abc")),
        Err(ref error) => assert_eq!(error.kind, ErrorKind::NotFound),
    }
    assert_eq!(listed, read.is_ok(), "readers and listings see the same");
    listed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_ahead_that_is_taken_back_ends_nothing_and_one_that_lasts_does() {
    let clock = Stepped::new();
    let bench = Bench::with(with_clock(&clock, options()), &[]).await;
    put_until(&bench, "ends", clock.right_ms() + HOUR_MS.unsigned_abs()).await;
    for hours in [2, 30, -5, 24 * 400, 3] {
        clock.step(hours * HOUR_MS);
        swept(&bench, &clock).await;
        assert!(is_there(&bench, "ends").await, "{hours} hours away it is there");
        clock.step(0);
        swept(&bench, &clock).await;
        assert!(is_there(&bench, "ends").await, "back from {hours} hours it is there");
    }
    // Behind, it lives longer; its end comes with the right time.
    clock.step(-5 * HOUR_MS);
    clock.pass(Duration::from_secs(7_200));
    assert!(is_there(&bench, "ends").await, "by this clock it has not ended");
    clock.step(0);
    clock.pass(BELIEVED_AFTER);
    let deadline = Instant::now() + PATIENCE;
    while is_there(&bench, "ends").await {
        // The step to the right time is a step ahead: it has to last.
        clock.pass(BELIEVED_AFTER);
        assert!(Instant::now() < deadline, "it never ends");
    }
    // Ahead for good.
    put_until(&bench, "later", clock.right_ms() + HOUR_MS.unsigned_abs()).await;
    clock.step(2 * HOUR_MS);
    assert!(is_there(&bench, "later").await, "not believed yet");
    clock.pass(BELIEVED_AFTER);
    assert!(!is_there(&bench, "later").await, "believed by now");
    // The engine's clock is looked at by the sweeper alone.
    swept(&bench, &clock).await;
    clock.pass(BELIEVED_AFTER);
    swept(&bench, &clock).await;
    bench.is_quiet().await;
    bench.engine.settles_at(&bench.empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_live_through_steps_and_their_generations_keep_their_order() {
    let clock = Stepped::new();
    let bench = Bench::with(with_clock(&clock, small_parts()), &[]).await;
    let open_upload = begin(&bench.store, "parts").await;
    let first = part(&bench.store, &open_upload, 1, payload(300_000, 1)).await.expect("a part");
    // One that is sent slowly, across all steps.
    let (to, from) = mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    let body = payload(1_000_000, 2);
    let slow = {
        let (store, request) =
            (bench.store.clone(), PutRequest::new(bucket(), name("slow"), Some(1_000_000)));
        blobstore_sidecar_runtime::tasks::spawn("test", async move { store.put(request, from).await })
    };
    to.unbounded_send(Ok(body.slice(..600_000))).expect("it listens");
    let (mut seen, mut last) = (BTreeSet::new(), None);
    for (round, hours) in [0, 9, 0, -9, -30, 0, 24 * 30, 0, -1].into_iter().enumerate() {
        clock.step(hours * HOUR_MS);
        swept(&bench, &clock).await;
        for index in 0..3 {
            let text = payload(20_000 + index, round as u64);
            let stored = bench.put(&format!("o/{round}-{index}"), text.clone()).await;
            let born = stored.generation.born_ms();
            assert!(last.is_none_or(|last| last <= born), "generations never go back: {last:?}, then {born}");
            assert!(seen.insert(stored.generation), "no generation comes twice");
            last = Some(born);
            assert!(bench.get(&format!("o/{round}-{index}")).await.expect("there") == text);
        }
    }
    assert_eq!(bench.store.list(list_of("o/", None, 1_000)).await.expect("a page").items.len(), 27);
    to.unbounded_send(Ok(body.slice(600_000..))).expect("it listens");
    drop(to);
    slow.await.expect("no panic").expect("the upload was never swept");
    assert!(bench.get("slow").await.expect("there") == body);
    clock.step(24 * 30 * HOUR_MS);
    swept(&bench, &clock).await;
    let second = part(&bench.store, &open_upload, 2, payload(300_000, 3)).await.expect("a part");
    complete(&bench.store, &open_upload, refs(&[first, second])).await.expect("its parts are all there");
    let whole = [payload(300_000, 1), payload(300_000, 3)].concat();
    assert!(bench.get("parts").await.expect("there") == whole);
    bench.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lifecycle_rules_wait_until_a_step_has_lasted() {
    let clock = Stepped::new();
    let mut options = with_clock(&clock, options());
    options.timing.lifecycle_every = Duration::from_secs(3_600);
    let bench = Bench::with(options, &[]).await;
    let rule = LifecycleRule {
        id: "r".to_owned(),
        enabled: true,
        expire_after_seconds: Some(24 * 3_600),
        ..LifecycleRule::default()
    };
    let text = Lifecycle { rules: vec![rule] }.text();
    bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("set");
    put_until(&bench, "old", 0).await;
    for days in [2, -2, 40] {
        clock.step(days * DAY_MS);
        assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 0, "{days} days");
        clock.step(0);
        assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 0, "back from {days} days");
        assert!(is_there(&bench, "old").await);
    }
    clock.step(3 * DAY_MS);
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 0, "not believed yet");
    clock.pass(BELIEVED_AFTER);
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 1);
    assert!(!is_there(&bench, "old").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tagged_object_ends_and_the_untagged_stays() {
    let clock = Stepped::new();
    let mut options = with_clock(&clock, options());
    options.timing.lifecycle_every = Duration::from_secs(3_600);
    let bench = Bench::with(options, &[]).await;
    let (day, tag) = (24 * 3_600, |value: &str| vec![("keep".to_owned(), value.to_owned())]);
    let ends =
        || LifecycleRule { enabled: true, expire_after_seconds: Some(day), ..LifecycleRule::default() };
    let rules = vec![
        LifecycleRule { tags: tag("no"), ..ends() },
        LifecycleRule { prefix: "big".to_owned(), size_above: Some(250_000), ..ends() },
        LifecycleRule { prefix: "small".to_owned(), size_below: Some(250_000), tags: tag("yes"), ..ends() },
    ];
    let text = Lifecycle { rules }.text();
    bench.store.set_document(&bucket(), LIFECYCLE_DOCUMENT, Some(&text)).await.expect("set");
    let put = async |name_: &str, size: usize, tags: Vec<(String, String)>| {
        let mut request = PutRequest::new(bucket(), name(name_), Some(size as u64));
        request.attributes.tags = tags;
        bench.store.put(request, frames(payload(size, 1), 100_000)).await.expect("stored");
    };
    let all = [
        ("tagged", 300_000, tag("no"), true),
        ("inline", 10, tag("no"), true),
        ("other", 10, tag("yes"), false),
        ("untagged", 300_000, Vec::new(), false),
        ("big/a", 250_001, Vec::new(), true),
        ("big/b", 250_000, Vec::new(), false),
        ("small/a", 10, tag("yes"), true),
        ("small/b", 250_000, tag("yes"), false),
        ("small/c", 10, Vec::new(), false),
    ];
    for (name_, size, tags, _) in all.clone() {
        put(name_, size, tags).await;
    }
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 0, "a day has not passed");
    clock.pass(Duration::from_secs(day + 60));
    assert_eq!(bench.store.apply_lifecycle().await.expect("applied"), 4);
    for (name_, .., ends) in all {
        assert_eq!(bench.get(name_).await.is_ok(), !ends, "{name_}");
    }
}

/// The seal of a deleted bucket does not hold for the next one of its name, whatever the clock said meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_made_again_takes_writes_though_the_clock_went_back() {
    let mut bench = Bench::start().await;
    let info = bench.store.get_bucket(&bucket()).await.expect("there");
    let home = bench.engine.keys().await.into_iter().find(|key| key.starts_with("b:")).expect("the bucket");
    // As if it had been made while the clock was a day ahead.
    let ahead = info.epoch + DAY_MS.unsigned_abs();
    let _: u64 = bench.engine.query(redis::cmd("HSET").arg(&home).arg("epoch").arg(ahead)).await;
    (bench.store, bench.ledger) = open(&bench.engine, options());
    bench.store.delete_bucket(&bucket()).await.expect("empty");
    bench.store.create_bucket(&bucket(), None).await.expect("made again");
    bench.put("a", payload(100_000, 1)).await;
    assert!(bench.get("a").await.expect("there") == payload(100_000, 1));
}
