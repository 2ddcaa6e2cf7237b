//! A bad resource is refused at once, with a sentence that names the field and the rule.

use std::collections::BTreeMap;

use ::kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use blobstore_e2e::{
    error::{Error, Result},
    namespace::{self, Scope},
    progress, store,
};
use blobstore_operator_api::{BlobStore, cel_rules};
use serde_json::{Value, json};

/// A store of the smallest spec with some of it replaced.
fn resource(name: &str, changes: &[(&str, Value)]) -> Value {
    json!({
        "apiVersion": "cachehygiene.io/v1alpha1",
        "kind": "BlobStore",
        "metadata": { "name": name },
        "spec": store::spec_with(changes),
    })
}

/// The sentence with which the API server refuses it; an error when it is let in.
async fn refusal(scope: &Scope, resource: &Value) -> Result<String> {
    let api: Api<BlobStore> = scope.api();
    let name = resource["metadata"]["name"].as_str().unwrap_or_default();
    // Server-side apply creates or updates, and sends the object as it is: a typed create would fill in defaults.
    let parameters = PatchParams { dry_run: true, ..PatchParams::apply("blobstore-e2e").force() };
    match api.patch(name, &parameters, &Patch::Apply(resource)).await {
        Ok(_) => Err(Error::Wrong(format!("this was let in: {resource}"))),
        Err(::kube::Error::Api(status)) if status.code == 422 => Ok(status.message),
        Err(error) => Err(Error::kube(format!("try {name}"))(error)),
    }
}

/// An origin of bucket `films` that says it is all of `kinds`.
fn origin(name: &str, kinds: &[&str]) -> Value {
    let mut origin = json!({ "name": name, "bucket": "films" });
    for kind in kinds {
        origin[kind] = match *kind {
            "file" => json!({ "claimName": "films" }),
            _ => json!({ "url": "https://example.org/films" }),
        };
    }
    origin
}

fn with_secret(mut origin: Value) -> Value {
    origin["credentialsSecret"] = json!({ "name": "films" });
    origin
}

/// For every rule, by its message: a resource that breaks it, and no other.
fn wrong_when_created() -> Vec<(&'static str, Value)> {
    let name = |name: &str| resource(name, &[]);
    let one = |path: &'static str, value: Value| resource("bad", &[(path, value)]);
    vec![
        ("metadata.name: at most 40", name(&"n".repeat(41))),
        ("metadata.name: lower-case", name("1store")),
        ("spec.storage: required when", one("persistence", json!("Aof"))),
        ("spec.storage: only with", one("storage", json!({ "size": "1Gi" }))),
        (
            "spec.hygiene.ladder: with mode Auto",
            resource("bad", &[("replicas", json!(0)), ("hygiene.mode", json!("Auto"))]),
        ),
        ("spec.sidecar.cache.maxBytes: must be below", one("sidecar.cache.maxBytes", json!("192Mi"))),
        ("spec.partitions: must be a power", one("partitions", json!(3))),
        ("spec.memory.maxmemoryPercent: must be 10", one("memory.maxmemoryPercent", json!(91))),
        ("spec.sidecar.cache.maxEntryBytes: must not", one("sidecar.cache.maxEntryBytes", json!("33Mi"))),
        ("spec.engine.config: option names", one("engine.config", json!({ "HZ 1": "50" }))),
        ("spec.engine.config: holds an option", one("engine.config", json!({ "maxmemory": "1gb" }))),
        ("spec.sidecar.s3.domains", one("sidecar.s3", json!({ "domains": ["Upper.example:9000"] }))),
        ("spec.origins: each must have exactly one", one("origins", json!([origin("a", &["http", "file"])]))),
        (
            "spec.origins: two of them",
            one("origins", json!([origin("a", &["http"]), origin("b", &["file"])])),
        ),
        (
            "spec.origins: a file origin needs no",
            one("origins", json!([with_secret(origin("a", &["file"]))])),
        ),
    ]
}

/// As above, against a store of one shard with a volume of 1Gi.
fn wrong_when_changed() -> Vec<(&'static str, Value)> {
    let storage = |size: &str, class: &str| json!({ "size": size, "className": class });
    let kept = |changes: &[(&str, Value)]| {
        let mut all = vec![("persistence", json!("Aof")), ("storage", storage("1Gi", "standard"))];
        all.extend(changes.iter().cloned());
        resource("held", &all)
    };
    vec![
        ("spec.shards: immutable", kept(&[("shards", json!(2))])),
        ("spec.partitions: immutable", kept(&[("partitions", json!(128))])),
        ("spec.persistence: immutable", kept(&[("persistence", json!("None")), ("storage", Value::Null)])),
        ("spec.storage.size: a volume can grow", kept(&[("storage", storage("900Mi", "standard"))])),
        ("spec.storage.className: immutable", kept(&[("storage", storage("1Gi", "other"))])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_the_schema_refuses_with_its_own_sentence() {
    namespace::with_operator("rules", |scope| async move {
        let held = resource(
            "held",
            &[
                ("persistence", json!("Aof")),
                ("storage", json!({ "size": "1Gi", "className": "standard" })),
                // No pods: only the rules are looked at.
                ("lifecycle.paused", json!(true)),
            ],
        );
        let api: Api<BlobStore> = scope.api();
        let typed: BlobStore = serde_json::from_value(held).map_err(Error::other("describe a store"))?;
        api.create(&PostParams::default(), &typed).await.map_err(Error::kube("create a store"))?;
        let mut refused: BTreeMap<&str, bool> =
            cel_rules().iter().map(|rule| (rule.message, false)).collect();
        for (start, bad) in wrong_when_created().into_iter().chain(wrong_when_changed()) {
            let rules = refused.iter().filter(|(message, _)| message.starts_with(start));
            let messages: Vec<&str> = rules.map(|(message, _)| *message).collect();
            let [message] = messages[..] else { panic!("{start} is the start of {messages:?}") };
            let sentence = refusal(&scope, &bad).await?;
            assert!(sentence.contains(message), "{message} is not in: {sentence}");
            refused.insert(message, true);
        }
        let untried: Vec<&&str> =
            refused.iter().filter(|(_, tried)| !**tried).map(|(rule, _)| rule).collect();
        assert!(untried.is_empty(), "rules without a case: {untried:?}");
        progress::say(&format!("{} rules refuse with their sentences", refused.len()));
        Ok(())
    })
    .await
    .expect("rules that hold");
}
