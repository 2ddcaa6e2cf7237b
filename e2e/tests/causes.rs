//! What the schema lets in and the cluster cannot run is named with its cause on the resource within 30 s: from the
//! creation where the spec and Secrets tell it, else from when Kubernetes itself says so of a pod.

use std::time::{Duration, Instant};

use ::kube::api::ListParams;
use blobstore_e2e::{
    client,
    error::{Error, Result},
    namespace::{self, Scope},
    paths, process, progress,
    store::{self, Store},
    wait::{self, Seen},
};
use blobstore_operator_api::status::reason;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use serde_json::{Value, json};

const READY_LIMIT: Duration = Duration::from_secs(180);
/// Bytes: above the engine's limit of 256Mi, below what one value may have.
const LARGE: &str = "400000000";
/// What the documentation promises.
const NAMED_LIMIT: Duration = Duration::from_secs(30);
/// Until Kubernetes shows the fault on a pod: many stores come at once, and each of their pods must first be scheduled
/// and started. Nobody promises how long that takes.
const SHOWN_LIMIT: Duration = Duration::from_secs(180);
/// Events are written beside the status, and nobody promises when.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// A store that the schema lets in and the cluster cannot run, and what its conditions must say about it.
struct Wrong {
    name: &'static str,
    changes: Vec<(&'static str, Value)>,
    /// Made beforehand, under the same name.
    secret: Option<Value>,
    condition: (&'static str, &'static str),
    reason: &'static str,
    words: &'static [&'static str],
    /// What a pod's own status shows of it, and the 30 s begin with that; none where they begin with the creation.
    sign: Option<fn(&Pod) -> bool>,
}

/// The engine's image cannot be had.
fn no_image(pod: &Pod) -> bool {
    const REASONS: &[&str] = &["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];
    let waiting = engine(pod).and_then(|engine| engine.state.as_ref()?.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.as_deref()).is_some_and(|reason| REASONS.contains(&reason))
}

fn no_node(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|one| one.type_ == "PodScheduled")
        .any(|one| one.status == "False" && one.reason.as_deref() == Some("Unschedulable"))
}

fn engine(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.find(|one| one.name == "engine")
}

/// The container of the engine that ended last: its own state until it is restarted, its last one from then on.
fn engine_end(pod: &Pod) -> Option<String> {
    let status = engine(pod)?;
    let states = [&status.state, &status.last_state];
    let end = states.into_iter().find_map(|state| state.as_ref()?.terminated.as_ref())?;
    end.container_id.clone()
}

/// Waits until a pod of the store shows the fault: from then on the operator can know.
async fn wait_sign(store: &Store, what: &str, sign: impl Fn(&Pod) -> bool) -> Result<Instant> {
    wait::until(format!("a pod of {} shows: {what}", store.name), SHOWN_LIMIT, || async {
        let pods = store.pods().await?;
        let shown = pods.iter().any(&sign);
        Ok(Seen::when(shown, Instant::now(), || {
            format!("{:?}", pods.iter().map(|one| &one.status).collect::<Vec<_>>())
        }))
    })
    .await
}

fn wrong_on_the_cluster() -> Vec<Wrong> {
    let degraded = ("Degraded", "True");
    vec![
        Wrong {
            name: "option",
            changes: vec![("engine.config", json!({ "hz-of-nothing": "50" }))],
            secret: None,
            condition: degraded,
            reason: reason::ENGINE_CONFIG_REJECTED,
            words: &["spec.engine.config", "hz-of-nothing"],
            sign: Some(|pod| engine_end(pod).is_some()),
        },
        Wrong {
            name: "image",
            changes: vec![("engine.image", json!("localhost/no-such-engine:1"))],
            secret: None,
            condition: degraded,
            reason: reason::IMAGE_PULL_FAILED,
            words: &["spec.engine.image", "localhost/no-such-engine:1"],
            sign: Some(no_image),
        },
        Wrong {
            name: "memory",
            changes: vec![("sidecar.cache.maxBytes", json!("120Mi"))],
            secret: None,
            condition: ("Reconcilable", "False"),
            reason: reason::SPEC_INVALID,
            words: &["spec.resources.sidecar.limits.memory", "raise the limit to 216 MiB"],
            sign: None,
        },
        Wrong {
            name: "large",
            changes: vec![("resources.engine.limits.memory", json!("4Ti"))],
            secret: None,
            condition: degraded,
            reason: reason::POD_UNSCHEDULABLE,
            words: &["Insufficient memory"],
            sign: Some(no_node),
        },
    ]
}

/// Secrets that a resource names and nobody made, or that do not hold what they should.
fn wrong_secrets() -> Vec<Wrong> {
    let named = |name: &'static str, field, secret, reason, words| Wrong {
        name,
        changes: vec![(field, json!({ "name": name }))],
        secret,
        condition: ("Degraded", "True"),
        reason,
        words,
        sign: None,
    };
    let hello = json!({ "tls.crt": "hello", "tls.key": "hello" });
    let origin = json!([{
        "name": "web", "bucket": "web", "http": { "url": "http://web.example" },
        "credentialsSecret": { "name": "origin" },
    }]);
    vec![
        named(
            "users",
            "auth.usersSecret",
            None,
            reason::USERS_SECRET_MISSING,
            &["spec.auth.usersSecret: there is no Secret users in namespace"],
        ),
        named(
            "people",
            "auth.usersSecret",
            Some(json!({ "users.yaml": "hunter2" })),
            reason::USERS_SECRET_INVALID,
            &["spec.auth.usersSecret: Secret people: users.yaml is not a list of users"],
        ),
        named(
            "tls",
            "auth.tlsSecret",
            None,
            reason::TLS_SECRET_MISSING,
            &["spec.auth.tlsSecret: there is no Secret tls in namespace"],
        ),
        named(
            "pem",
            "auth.tlsSecret",
            Some(hello),
            reason::TLS_SECRET_INVALID,
            &["spec.auth.tlsSecret: Secret pem: tls.crt holds no certificate in PEM"],
        ),
        Wrong {
            changes: vec![("origins", origin)],
            ..named(
                "origin",
                "",
                None,
                reason::ORIGIN_SECRET_MISSING,
                &["spec.origins[0].credentialsSecret: there is no Secret origin in namespace"],
            )
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_missing_or_malformed_are_named_on_the_resource_within_30_s() {
    namespace::with_operator("secrets", |scope| async move {
        let all = wrong_secrets();
        futures::future::try_join_all(all.iter().map(|wrong| named(&scope, wrong))).await?;
        // What was missing comes: the store goes on by itself.
        let store = Store { scope: scope.clone(), name: "tls".to_owned() };
        let start = Instant::now();
        secret(&scope, "tls", &certificate().await?).await?;
        store.wait_ready(READY_LIMIT).await?;
        store.wait_redundant(READY_LIMIT).await?;
        let seconds = start.elapsed().as_secs_f64();
        progress::say(&format!("tls: all copies are there {seconds:.1} s after the Secret came"));
        Ok(())
    })
    .await
    .expect("Secrets that are named");
}

async fn secret(scope: &Scope, name: &str, data: &Value) -> Result<()> {
    let resource =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    scope.apply(&resource.to_string()).await
}

/// Signed by itself, as a first try would have it.
async fn certificate() -> Result<Value> {
    let folder = tempfile::tempdir().map_err(Error::other("make a folder"))?;
    let at = |file: &str| folder.path().join(file);
    let (key, certificate) = (at("tls.key").display().to_string(), at("tls.crt").display().to_string());
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let named = ["-days", "2", "-subj", "/CN=tls", "-keyout", &key, "-out", &certificate];
    process::run("openssl", &[new.as_slice(), named.as_slice()].concat()).await?;
    Ok(json!({ "tls.crt": paths::read(&at("tls.crt"))?, "tls.key": paths::read(&at("tls.key"))? }))
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
    if let Some(data) = &wrong.secret {
        secret(scope, wrong.name, data).await?;
    }
    let store = Store::create(scope, wrong.name, &store::spec_with(&wrong.changes)).await?;
    let start = match wrong.sign {
        Some(sign) => wait_sign(&store, wrong.reason, sign).await?,
        None => Instant::now(),
    };
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
    told(&store, wrong.reason).await
}

/// The cause is an event of the resource, too: what `kubectl describe` ends with.
async fn told(store: &Store, reason: &str) -> Result<()> {
    let events = store.scope.api::<Event>();
    wait::until(format!("an event of {} says {reason}", store.name), TOLD_LIMIT, || async {
        let all = events.list(&ListParams::default()).await.map_err(Error::kube("list events"))?;
        let is_it = |event: &&Event| {
            event.involved_object.kind.as_deref() == Some("BlobStore")
                && event.involved_object.name.as_deref() == Some(store.name.as_str())
        };
        let said: Vec<String> = all.iter().filter(is_it).filter_map(|event| event.reason.clone()).collect();
        Ok(Seen::when(said.iter().any(|one| one == reason), (), || said.join(", ")))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_killed_for_memory_is_named_within_30_s() {
    namespace::with_operator("oom", |scope| async move {
        let store = Store::create(&scope, "oom", &store::spec(1, 0)).await?;
        store.wait_ready(READY_LIMIT).await?;
        let primary = store.primary(0).await?;
        let pods = store.scope.pods();
        let before = engine_end(&pods.get(&primary).await.map_err(Error::kube("get the primary"))?);
        // One value larger than the container may hold: the engine looks at maxmemory before a command, not in it.
        let cut = store.engine(&primary, &["SETRANGE", "b:{cv}:large", LARGE, "x"]).await;
        assert!(cut.is_err(), "the engine lived through it: {cut:?}");
        let start = wait_sign(&store, "its engine ended", |pod| {
            let end = engine_end(pod);
            end.is_some() && end != before
        })
        .await?;
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
