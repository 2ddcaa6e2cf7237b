//! What the schema lets in and the cluster cannot run is named with its cause on the resource within 30 s.

use std::time::{Duration, Instant};

use blobstore_e2e::{
    client,
    error::Result,
    namespace::{self, Scope},
    progress,
    store::{self, Store},
};
use blobstore_operator_api::status::reason;
use serde_json::{Value, json};

const READY_LIMIT: Duration = Duration::from_secs(180);
/// Bytes: above the engine's limit of 256Mi, below what one value may have.
const LARGE: &str = "400000000";
/// What the documentation promises.
const NAMED_LIMIT: Duration = Duration::from_secs(30);

/// A store that the schema lets in and the cluster cannot run, and what its conditions must say about it.
struct Wrong {
    name: &'static str,
    changes: Vec<(&'static str, Value)>,
    condition: (&'static str, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
}

fn wrong_on_the_cluster() -> Vec<Wrong> {
    let degraded = ("Degraded", "True");
    vec![
        Wrong {
            name: "option",
            changes: vec![("engine.config", json!({ "hz-of-nothing": "50" }))],
            condition: degraded,
            reason: reason::ENGINE_CONFIG_REJECTED,
            words: &["spec.engine.config", "hz-of-nothing"],
        },
        Wrong {
            name: "image",
            changes: vec![("engine.image", json!("localhost/no-such-engine:1"))],
            condition: degraded,
            reason: reason::IMAGE_PULL_FAILED,
            words: &["spec.engine.image", "localhost/no-such-engine:1"],
        },
        Wrong {
            name: "memory",
            changes: vec![("sidecar.cache.maxBytes", json!("120Mi"))],
            condition: ("Reconcilable", "False"),
            reason: reason::SPEC_INVALID,
            words: &["spec.resources.sidecar.limits.memory", "raise the limit to 216 MiB"],
        },
        Wrong {
            name: "large",
            changes: vec![("resources.engine.limits.memory", json!("4Ti"))],
            condition: degraded,
            reason: reason::POD_UNSCHEDULABLE,
            words: &["Insufficient memory"],
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_cluster_can_know_is_named_on_the_resource_within_30_s() {
    namespace::with_operator("wrong", |scope| async move {
        let all = wrong_on_the_cluster();
        futures::future::try_join_all(all.iter().map(|wrong| named(&scope, wrong))).await.map(drop)
    })
    .await
    .expect("causes that are named");
}

async fn named(scope: &Scope, wrong: &Wrong) -> Result<()> {
    let start = Instant::now();
    let store = Store::create(scope, wrong.name, &store::spec_with(&wrong.changes)).await?;
    let (name, status) = wrong.condition;
    let message = store
        .wait_until(&format!("{name} is {status} with {}", wrong.reason), NAMED_LIMIT, |resource| {
            let found = client::condition(resource, name)?;
            let is_it = found["status"] == status && found["reason"] == wrong.reason;
            is_it.then(|| found["message"].as_str().unwrap_or_default().to_owned())
        })
        .await?;
    for word in wrong.words {
        assert!(message.contains(word), "{word} is not in: {message}");
    }
    progress::say(&format!("{}: named after {:.1} s: {message}", wrong.name, start.elapsed().as_secs_f64()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_killed_for_memory_is_named_within_30_s() {
    namespace::with_operator("oom", |scope| async move {
        let store = Store::create(&scope, "oom", &store::spec(1, 0)).await?;
        store.wait_ready(READY_LIMIT).await?;
        let primary = store.primary(0).await?;
        let start = Instant::now();
        // One value larger than the container may hold: the engine looks at maxmemory before a command, not in it.
        let cut = store.engine(&primary, &["SETRANGE", "b:{cv}:large", LARGE, "x"]).await;
        assert!(cut.is_err(), "the engine lived through it: {cut:?}");
        let found = store
            .wait_until("the kill is named", NAMED_LIMIT, |resource| {
                let degraded = client::condition(resource, "Degraded")?;
                (degraded["reason"] == reason::ENGINE_OOM_KILLED).then(|| degraded["message"].clone())
            })
            .await?;
        let message = found.as_str().unwrap_or_default();
        assert!(
            message.contains("spec.resources.engine.limits.memory") && message.contains("256"),
            "{message}"
        );
        progress::say(&format!("oom: named after {:.1} s: {message}", start.elapsed().as_secs_f64()));
        Ok(())
    })
    .await
    .expect("a kill that is named");
}
