//! Whole passes against a fake API server: order of writes, nothing when steady, drift, faults.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what should hold")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use blobstore_operator::error::Error;
use blobstore_operator::metrics::Metrics;
use blobstore_operator::reconcile::reconcile;
use blobstore_operator::shared::Shared;
use blobstore_operator_core::context::Context;
use http::Method;
use kube::core::{ObjectMeta, PartialObjectMeta, PartialObjectMetaExt};
use kube::runtime::controller::Action;
use serde_json::{Value, json};
use support::{FakeApi, Fault, Write};

const STORE: &str = "/apis/cachehygiene.io/v1alpha1/namespaces/shop/blobstores/cart";
const CONFIG: &str = "/api/v1/namespaces/shop/configmaps/cart-config";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/cart-auth";
const SET: &str = "/apis/apps/v1/namespaces/shop/statefulsets/cart-0";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/cart-shard-0";

struct Store {
    api: FakeApi,
    shared: Arc<Shared>,
}

/// A store of one shard without replicas, never reconciled.
fn store() -> Store {
    let api = FakeApi::default();
    api.put(
        STORE,
        json!({"apiVersion": "cachehygiene.io/v1alpha1", "kind": "BlobStore",
            "metadata": {"uid": "u-1", "generation": 1},
            "spec": {"shards": 1, "replicas": 0, "resources": {
                "engine": {"limits": {"memory": "256Mi"}}, "sidecar": {"limits": {"memory": "512Mi"}}}}}),
    );
    let context = Context { sidecar_image: "sidecar:1".to_owned(), ..Context::default() };
    let metrics = Metrics::new().expect("metrics register");
    let shared = Arc::new(Shared::new(api.client(), context, metrics, "test".to_owned()));
    Store { api, shared }
}

impl Store {
    async fn pass(&self) -> Result<Action, Error> {
        self.pass_at(None).await
    }

    /// As a watch that is up to date starts it: with the store's version.
    async fn watched_pass(&self) -> Result<Action, Error> {
        let store = self.api.get(STORE).expect("the store");
        self.pass_at(store["metadata"]["resourceVersion"].as_str().map(str::to_owned)).await
    }

    async fn pass_at(&self, resource_version: Option<String>) -> Result<Action, Error> {
        let metadata = ObjectMeta {
            name: Some("cart".to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("u-1".to_owned()),
            resource_version,
            ..ObjectMeta::default()
        };
        let subject: PartialObjectMeta<blobstore_operator_api::BlobStore> = metadata.into_request_partial();
        reconcile(Arc::new(subject), Arc::clone(&self.shared)).await
    }

    /// Passes until one writes nothing.
    async fn settle(&self) {
        for _ in 0..5 {
            self.pass().await.expect("a pass");
            if self.api.take_writes().is_empty() {
                return;
            }
        }
        panic!("still writes after five passes");
    }

    fn condition(&self, type_: &str) -> Value {
        let store = self.api.get(STORE).expect("the store");
        let conditions = store["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
    }
}

fn kinds(writes: &[Write]) -> Vec<&str> {
    writes
        .iter()
        .map(|write| write.path.rsplit('/').nth(usize::from(write.verb != "post")).unwrap_or(""))
        .collect()
}

#[tokio::test]
async fn first_pass_writes_the_intent_then_config_before_workloads_and_the_status_last() {
    let store = store();
    store.pass().await.expect("a pass");
    let writes = store.api.take_writes();
    let order = kinds(&writes);
    assert_eq!(writes.first().map(|write| write.path.as_str()), Some(&*format!("{STORE}/status")));
    let at = |kind: &str| order.iter().position(|found| *found == kind).expect("it is written");
    for (first, then) in [
        ("serviceaccounts", "roles"),
        ("roles", "rolebindings"),
        ("rolebindings", "secrets"),
        ("secrets", "configmaps"),
        ("configmaps", "services"),
        ("services", "poddisruptionbudgets"),
        ("poddisruptionbudgets", "leases"),
        ("leases", "statefulsets"),
    ] {
        assert!(at(first) < at(then), "{first} before {then}: {order:?}");
    }
    let owner = &store.api.get(SET).expect("a set")["metadata"]["ownerReferences"][0];
    assert_eq!((owner["uid"].as_str(), owner["controller"].as_bool()), (Some("u-1"), Some(true)));
}

#[tokio::test]
async fn steady_store_costs_no_write() {
    let store = store();
    store.settle().await;
    for _ in 0..10 {
        store.pass().await.expect("a pass");
    }
    assert_eq!(store.api.take_writes(), vec![]);
    assert_eq!(store.api.get(STORE).expect("the store")["status"]["observedGeneration"], 1);
}

#[tokio::test]
async fn drift_is_put_right_by_one_write_and_what_others_own_stays() {
    let store = store();
    store.settle().await;
    store.api.edit(CONFIG, |map| {
        map["data"]["engine.conf"] = json!("maxmemory 1\n");
        map["metadata"]["labels"]["team"] = json!("shop");
    });
    store.pass().await.expect("a pass");
    assert_eq!(kinds(&store.api.take_writes()), ["configmaps"]);
    let map = store.api.get(CONFIG).expect("the map");
    assert_ne!(map["data"]["engine.conf"], "maxmemory 1\n");
    assert_eq!(map["metadata"]["labels"]["team"], "shop");
}

#[tokio::test]
async fn secret_is_created_once_and_never_rewritten() {
    let store = store();
    store.settle().await;
    let secret = store.api.get(SECRET).expect("a secret");
    store.api.edit(SECRET, |secret| {
        secret["data"]["admin-token"] = json!("cm90YXRlZA==");
        secret["data"].as_object_mut().expect("data").remove("peer-token");
    });
    store.pass().await.expect("a pass");
    let after = store.api.get(SECRET).expect("a secret");
    assert_eq!(after["data"]["admin-token"], "cm90YXRlZA==", "a person's value stays");
    assert!(after["data"]["peer-token"].is_string(), "what is missing is completed");
    assert_eq!(after["data"]["engine-password"], secret["data"]["engine-password"]);
}

#[tokio::test]
async fn what_is_no_longer_wanted_is_pruned_and_what_is_not_ours_is_kept() {
    let store = store();
    store.settle().await;
    let mut old = store.api.get(CONFIG).expect("the map");
    old["metadata"]["uid"] = json!("u-old");
    store.api.put("/api/v1/namespaces/shop/configmaps/cart-old", old.clone());
    let annotations = old["metadata"]["annotations"].as_object_mut().expect("annotations");
    annotations.remove("cachehygiene.io/applied");
    store.api.put("/api/v1/namespaces/shop/configmaps/by-hand", old);
    store.pass().await.expect("a pass");
    let writes = store.api.take_writes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(writes[0].body["preconditions"]["uid"], "u-old");
    assert!(store.api.get("/api/v1/namespaces/shop/configmaps/cart-old").is_none());
    assert!(store.api.get("/api/v1/namespaces/shop/configmaps/by-hand").is_some());
}

#[tokio::test]
async fn conflict_on_the_status_stops_the_pass_before_anything_is_changed() {
    let store = store();
    store.api.fail(Method::PATCH, "/blobstores/cart/status", Fault::Status(409, "Conflict"), 1);
    let error = store.pass().await.expect_err("a conflict");
    assert_eq!(error.category(), "conflict");
    assert!(store.api.get(SET).is_none(), "no intent, no act");
    store.settle().await;
    assert!(store.api.get(SET).is_some());
}

#[tokio::test]
async fn refused_write_is_named_in_the_status() {
    let store = store();
    store.api.fail(Method::PATCH, "/networkpolicies/cart", Fault::Status(403, "Forbidden"), 1);
    let error = store.pass().await.expect_err("forbidden");
    assert_eq!(error.category(), "forbidden");
    let condition = store.condition("Reconcilable");
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("PermissionDenied")));
    assert!(condition["message"].as_str().expect("a message").contains("NetworkPolicy cart"), "{condition}");
    assert!(store.api.get(SET).is_none(), "workloads come after what they need");
    store.settle().await;
    assert_eq!(store.condition("Reconcilable")["status"], "True");
}

#[tokio::test]
async fn failed_read_changes_nothing_but_the_status() {
    let store = store();
    store.settle().await;
    store.api.remove(CONFIG);
    store.api.fail(Method::GET, "/poddisruptionbudgets", Fault::Status(500, "InternalError"), 1);
    let error = store.pass().await.expect_err("incomplete");
    assert_eq!(error.category(), "incomplete");
    assert!(store.api.get(CONFIG).is_none(), "what is unknown is not acted upon");
    store.settle().await;
    assert!(store.api.get(CONFIG).is_some());
}

#[tokio::test(start_paused = true)]
async fn hanging_server_ends_the_pass() {
    let store = store();
    store.api.fail(Method::GET, "/statefulsets", Fault::Hang, 1);
    let pass = tokio::time::timeout(Duration::from_secs(61), store.pass()).await.expect("the pass ends");
    assert_eq!(pass.expect_err("it failed").category(), "unreachable");
}

#[tokio::test]
async fn invalid_spec_waits_for_a_change_and_keeps_what_runs() {
    let store = store();
    store.settle().await;
    store.api.edit(STORE, |store| {
        store["spec"]["resources"]["engine"]["limits"]["memory"] = json!("1Mi");
        store["metadata"]["generation"] = json!(2);
    });
    let next = store.pass().await.expect("an invalid spec is no failure");
    assert_eq!(next, Action::await_change());
    let condition = store.condition("Reconcilable");
    assert_eq!(condition["reason"], "SpecInvalid");
    assert!(condition["message"].as_str().expect("a message").contains("spec.resources"), "{condition}");
    let writes = store.api.take_writes();
    assert_eq!(writes.len(), 2, "the status and an event: {writes:?}");
    assert_eq!(
        (&writes[1].body["kind"], &writes[1].body["reason"]),
        (&json!("Event"), &json!("SpecInvalid"))
    );
    assert_eq!(store.pass().await.expect("no failure"), Action::await_change());
    assert_eq!(store.api.take_writes(), vec![], "said once");
    assert!(store.api.get(SET).is_some());
    assert_eq!(store.api.get(STORE).expect("the store")["status"]["observedGeneration"], 2);
}

#[tokio::test]
async fn lost_record_of_a_living_shard_is_not_started_from_nothing() {
    let store = store();
    store.settle().await;
    store.api.remove(LEASE);
    let error = store.pass().await.expect_err("the set lives, its pods are unknown");
    assert_eq!(error.category(), "record_unknown");
    assert!(store.api.get(LEASE).is_none());
}

#[tokio::test]
async fn steady_store_costs_no_read_until_a_watch_tells_of_a_change() {
    let store = store();
    store.settle().await;
    let reads = store.api.reads();
    let next = store.watched_pass().await.expect("a pass");
    assert_eq!(store.api.reads(), reads, "nothing has changed");
    store.api.remove(CONFIG);
    store.shared.kept.changed("shop", "cart");
    assert_eq!(store.watched_pass().await.expect("a pass"), next);
    assert!(store.api.reads() > reads);
    assert!(store.api.get(CONFIG).is_some(), "the change was seen");
}

/// No watch tells of a Secret that is not ours: those that the resource names are read on every pass.
#[tokio::test]
async fn certificate_that_goes_from_a_steady_store_is_told_by_the_next_pass() {
    let store = store();
    store.api.edit(STORE, |store| store["spec"]["auth"] = json!({"tlsSecret": {"name": "tls"}}));
    let secret = |data: Value| {
        let head = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"uid": "u-tls"}, "data": data});
        store.api.put("/api/v1/namespaces/shop/secrets/tls", head);
    };
    secret(json!({"tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8="}));
    store.settle().await;
    let wrong = store.condition("Degraded");
    assert_eq!(wrong["reason"], "TlsSecretInvalid", "{wrong}");
    assert!(
        wrong["message"].as_str().expect("words").contains("Secret tls: tls.crt holds no cert"),
        "{wrong}"
    );
    secret(json!({"tls.crt": "aGVsbG8="}));
    store.watched_pass().await.expect("a pass");
    assert_eq!(store.condition("Degraded")["reason"], "TlsSecretMissing");
    let writes = store.api.take_writes();
    assert!(writes.iter().any(|write| write.body["reason"] == "TlsSecretMissing"), "an event: {writes:?}");
}

#[tokio::test]
async fn changed_store_is_read_anew() {
    let store = store();
    store.settle().await;
    store.api.edit(STORE, |store| store["spec"]["engine"]["config"] = json!({"hz": "20"}));
    store.watched_pass().await.expect("a pass");
    assert!(
        store.api.get(CONFIG).expect("the map")["data"]["engine.conf"]
            .as_str()
            .expect("text")
            .contains("hz 20")
    );
}

/// The kept reads say that there is something to do, the API server that it is done: nothing is written.
#[tokio::test]
async fn what_is_to_be_done_is_decided_on_a_fresh_read() {
    let store = store();
    store.settle().await;
    let stale = store.api.get(STORE).expect("the store");
    *store.shared.crd_outdated.lock().expect("no panic") = Some("CRDOutdated: scripted".to_owned());
    store.api.edit(STORE, |store| store["status"]["phaseReason"] = json!("somebody else's"));
    let version = stale["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let reads = store.api.reads();
    store.pass_at(version).await.expect("no conflict: the status is written at the version that was read");
    assert!(store.api.reads() > reads, "the kept version would have been refused");
    assert_eq!(store.condition("Reconcilable")["reason"], "ApiFailure");
}

#[tokio::test]
async fn store_that_is_gone_or_going_is_left_alone() {
    let store = store();
    store.api.edit(STORE, |store| store["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(store.pass().await.expect("no failure"), Action::await_change());
    store.api.edit(STORE, |store| {
        store["metadata"].as_object_mut().expect("metadata").remove("deletionTimestamp");
        store["metadata"]["uid"] = json!("another");
    });
    assert_eq!(store.pass().await.expect("no failure"), Action::await_change());
    assert_eq!(store.api.take_writes(), vec![]);
}
