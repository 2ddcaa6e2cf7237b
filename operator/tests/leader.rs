//! Leader election against a fake API server, on a paused clock.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

mod support;

use std::time::Duration;

use blobstore_operator::leader::{Elector, Ended, Times};
use http::Method;
use support::{FakeApi, Fault};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/op";

fn elector(api: &FakeApi, identity: &str) -> Elector {
    Elector::new(api.client(), "ops", "op", identity, Times::default())
}

fn holder(api: &FakeApi) -> Option<String> {
    api.get(LEASE)?["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

async fn lead(api: &FakeApi, identity: &str) -> Elector {
    let mut elector = elector(api, identity);
    timeout(Duration::from_secs(60), elector.acquire()).await.expect("leads within a minute");
    assert_eq!(holder(api).as_deref(), Some(identity));
    elector
}

/// Resolves as `keep` does, with the time it took.
async fn kept(elector: Elector, stop: oneshot::Receiver<()>) -> (Ended, Duration) {
    let began = Instant::now();
    let ended = timeout(Duration::from_secs(600), elector.keep(async { drop(stop.await) })).await;
    (ended.expect("ends within ten minutes"), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn absent_lease_is_created_and_renewed_and_given_back() {
    let api = FakeApi::default();
    let elector = lead(&api, "a").await;
    let (stop, stopped) = oneshot::channel();
    let (ended, ()) = tokio::join!(kept(elector, stopped), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stop);
    });
    assert_eq!(ended.0, Ended::Released);
    assert_eq!(holder(&api), None, "given back");
    let writes = api.take_writes();
    let renewals = writes.iter().filter(|write| write.verb == "put").count();
    assert!((25..=32).contains(&renewals), "one renewal each 2 s in a minute and the release: {renewals}");
}

#[tokio::test(start_paused = true)]
async fn second_candidate_waits_for_a_renewing_leader_and_follows_its_release() {
    let api = FakeApi::default();
    let first = lead(&api, "a").await;
    let (stop, stopped) = oneshot::channel();
    let mut second = elector(&api, "b");
    let waiting = async {
        let early = timeout(Duration::from_secs(120), second.acquire()).await;
        assert!(early.is_err(), "b must not lead while a renews");
        assert_eq!(holder(&api).as_deref(), Some("a"));
        drop(stop);
        let began = Instant::now();
        timeout(Duration::from_secs(60), second.acquire()).await.expect("b follows");
        began.elapsed()
    };
    let (ended, took) = tokio::join!(kept(first, stopped), waiting);
    assert_eq!(ended.0, Ended::Released);
    assert!(took <= Duration::from_secs(4), "a released lease is taken at the next try: {took:?}");
    assert_eq!(holder(&api).as_deref(), Some("b"));
    assert_eq!(api.get(LEASE).expect("lease")["spec"]["leaseTransitions"], 2);
}

#[tokio::test(start_paused = true)]
async fn dead_leader_is_followed_only_after_the_lease_time() {
    let api = FakeApi::default();
    drop(lead(&api, "a").await);
    let mut second = elector(&api, "b");
    let began = Instant::now();
    timeout(Duration::from_secs(60), second.acquire()).await.expect("b follows");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(15), "{took:?}");
    assert!(took <= Duration::from_secs(18), "{took:?}");
}

/// The server answers nothing, or only errors: the leader must have ended before another may begin.
async fn loses_before_the_lease_time(fault: Fault) {
    let api = FakeApi::default();
    let elector = lead(&api, "a").await;
    api.fail(Method::GET, "/leases/op", fault.clone(), u32::MAX);
    api.fail(Method::PUT, "/leases/op", fault, u32::MAX);
    let (_stop, stopped) = oneshot::channel();
    let (ended, took) = kept(elector, stopped).await;
    assert_eq!(ended, Ended::Lost);
    assert!(took <= Duration::from_secs(12), "{took:?}");
    assert!(took >= Duration::from_secs(8), "short outages are survived: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn leader_ends_when_the_server_hangs() {
    loses_before_the_lease_time(Fault::Hang).await;
}

#[tokio::test(start_paused = true)]
async fn leader_ends_when_the_server_only_fails() {
    loses_before_the_lease_time(Fault::Status(500, "InternalError")).await;
}

#[tokio::test(start_paused = true)]
async fn short_outage_and_a_conflict_are_survived() {
    let api = FakeApi::default();
    let elector = lead(&api, "a").await;
    api.fail(Method::PUT, "/leases/op", Fault::Status(409, "Conflict"), 1);
    api.fail(Method::GET, "/leases/op", Fault::Hang, 1);
    let (stop, stopped) = oneshot::channel();
    let (ended, ()) = tokio::join!(kept(elector, stopped), async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stop);
    });
    assert_eq!(ended.0, Ended::Released);
}

#[tokio::test(start_paused = true)]
async fn leader_ends_when_another_holds_the_lease() {
    let api = FakeApi::default();
    let elector = lead(&api, "a").await;
    api.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = "b".into());
    let (_stop, stopped) = oneshot::channel();
    let (ended, took) = kept(elector, stopped).await;
    assert_eq!(ended, Ended::Lost);
    assert!(took <= Duration::from_secs(3), "{took:?}");
    assert_eq!(holder(&api).as_deref(), Some("b"), "not taken back");
}

#[tokio::test(start_paused = true)]
async fn two_candidates_race_and_one_leads() {
    let api = FakeApi::default();
    let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
    let both = async { tokio::join!(a.acquire(), b.acquire()) };
    assert!(timeout(Duration::from_secs(14), both).await.is_err(), "only one may lead");
    assert!(holder(&api).is_some());
}
