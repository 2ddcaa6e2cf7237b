//! Actions against a fake API server: what may not be done now is deferred, never forced.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

mod support;

use std::collections::BTreeMap;

use blobstore_operator::act::act;
use blobstore_operator::metrics::Metrics;
use blobstore_operator::shared::Shared;
use blobstore_operator_api::BlobStore;
use blobstore_operator_core::action::{Action, Done};
use blobstore_operator_core::context::Context;
use blobstore_operator_core::observed::{Observed, PodSeen, RecordSeen, Seen};
use blobstore_sidecar_api::record::{RECORD_ANNOTATION, Release, ShardRecord};
use http::Method;
use serde_json::json;
use support::{FakeApi, Fault};

const POD: &str = "/api/v1/namespaces/shop/pods/cart-0-1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/cart-shard-0";

fn api() -> FakeApi {
    let api = FakeApi::default();
    api.put(POD, json!({"metadata": {"uid": "p-1"}, "spec": {"containers": []}}));
    api.put(LEASE, json!({"metadata": {"uid": "l-1"}}));
    api
}

/// What a pass saw: the pod, and its shard's Lease without a record.
fn seen() -> Observed {
    let pod = PodSeen { name: "cart-0-1".to_owned(), ..PodSeen::default() };
    let record = RecordSeen { record: Seen::Present(ShardRecord::default()), ..RecordSeen::default() };
    Observed { pods: vec![pod], records: BTreeMap::from([(0, record)]), ..Observed::default() }
}

async fn carry_out(api: &FakeApi, action: Action) -> Result<Done, String> {
    let metrics = Metrics::new().expect("metrics register");
    let shared = Shared::new(api.client(), Context::default(), metrics, "test".to_owned());
    let store: BlobStore = serde_json::from_value(json!({
        "apiVersion": "cachehygiene.io/v1alpha1", "kind": "BlobStore",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"resources": {"engine": {"limits": {"memory": "1Gi"}}, "sidecar": {"limits": {"memory": "1Gi"}}}},
    }))
    .expect("a store");
    let outcomes = act(&shared, &store, &seen(), &[action]).await;
    outcomes.into_iter().next().expect("one outcome").result
}

fn evict(uid: &str) -> Action {
    Action::Evict { pod: "cart-0-1".to_owned(), uid: uid.to_owned(), why: "roll".to_owned() }
}

fn release(resource_version: &str) -> Action {
    let release = Release { pod: "cart-0-0".to_owned(), epoch: 3 };
    let record = ShardRecord { epoch: 3, release: Some(release), ..ShardRecord::default() };
    let (resource_version, why) = (resource_version.to_owned(), "no data anywhere".to_owned());
    Action::Release { shard: 0, resource_version, record, why }
}

fn deferred(result: &Result<Done, String>) -> bool {
    matches!(result, Ok(Done::Deferred(_)))
}

#[tokio::test]
async fn eviction_that_the_budget_forbids_is_held() {
    let api = api();
    api.fail(Method::POST, "/pods/cart-0-1/eviction", Fault::Status(429, "TooManyRequests"), 1);
    let held = carry_out(&api, evict("p-1")).await;
    assert!(deferred(&held), "{held:?}");
    assert!(api.get(POD).is_some());
    assert_eq!(api.take_writes(), vec![], "no delete behind the budget's back");
    assert_eq!(carry_out(&api, evict("p-1")).await, Ok(Done::Accepted));
    assert!(api.get(POD).is_none());
}

#[tokio::test]
async fn pod_stays_when_the_members_of_its_shard_changed_since_they_were_read() {
    let api = api();
    let fewer = serde_json::to_string(&ShardRecord { epoch: 2, ..ShardRecord::default() }).expect("a record");
    api.edit(LEASE, |lease| lease["metadata"]["annotations"] = json!({RECORD_ANNOTATION: fewer}));
    let delete = Action::Delete { pod: "cart-0-1".to_owned(), uid: "p-1".to_owned(), why: "x".to_owned() };
    for action in [evict("p-1"), delete] {
        let held = carry_out(&api, action).await;
        assert!(deferred(&held), "{held:?}");
    }
    assert!(api.get(POD).is_some());
    assert_eq!(api.take_writes(), vec![], "nothing was tried");
}

#[tokio::test]
async fn another_pod_of_the_same_name_is_left_alone() {
    let api = api();
    let delete = Action::Delete { pod: "cart-0-1".to_owned(), uid: "p-0".to_owned(), why: "x".to_owned() };
    for action in [evict("p-0"), delete] {
        let held = carry_out(&api, action).await;
        assert!(deferred(&held), "{held:?}");
        assert!(api.get(POD).is_some());
    }
}

#[tokio::test]
async fn pod_without_a_node_is_removed_at_once_and_no_other_of_its_name() {
    let remove = |uid: &str| Action::Remove {
        pod: "cart-0-1".to_owned(),
        uid: uid.to_owned(),
        why: "its node is gone".to_owned(),
    };
    let api = api();
    assert!(deferred(&carry_out(&api, remove("p-0")).await));
    api.take_writes();
    assert_eq!(carry_out(&api, remove("p-1")).await, Ok(Done::Accepted));
    let writes = api.take_writes();
    assert_eq!((writes[0].verb.as_str(), &writes[0].body["gracePeriodSeconds"]), ("delete", &json!(0)));
    assert!(api.get(POD).is_none());
}

#[tokio::test]
async fn record_that_changed_since_it_was_read_is_not_overwritten() {
    let api = api();
    let seen = api.get(LEASE).expect("a lease")["metadata"]["resourceVersion"].clone();
    let seen = seen.as_str().expect("a version").to_owned();
    api.edit(LEASE, |lease| lease["metadata"]["annotations"] = json!({RECORD_ANNOTATION: "new"}));
    let held = carry_out(&api, release(&seen)).await;
    assert!(deferred(&held), "{held:?}");
    let lease = api.get(LEASE).expect("a lease");
    assert_eq!(lease["metadata"]["annotations"][RECORD_ANNOTATION], "new");
    let now = lease["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    assert_eq!(carry_out(&api, release(&now)).await, Ok(Done::Accepted));
    let lease = api.get(LEASE).expect("a lease");
    let text = lease["metadata"]["annotations"][RECORD_ANNOTATION].as_str().expect("a record");
    let record: ShardRecord = serde_json::from_str(text).expect("a record");
    assert_eq!(record.release.map(|release| release.epoch), Some(3));
}

#[tokio::test]
async fn refused_write_is_a_failure_with_its_cause() {
    let api = api();
    api.fail(Method::POST, "/eviction", Fault::Status(403, "Forbidden"), 1);
    let error = carry_out(&api, evict("p-1")).await.expect_err("forbidden");
    assert!(error.starts_with("evict: "), "{error}");
}

#[tokio::test]
async fn sidecar_without_a_readable_token_is_not_asked() {
    let request = serde_json::from_value(json!({"id": "a"})).expect("a request");
    let action = Action::Ask {
        pod: "cart-0-1".to_owned(),
        uid: "p-1".to_owned(),
        ip: "127.0.0.1".to_owned(),
        name: "trim",
        request,
        why: "x".to_owned(),
    };
    let error = carry_out(&api(), action).await.expect_err("no token");
    assert!(error.contains("admin token"), "{error}");
}
