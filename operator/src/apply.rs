//! Ordered server-side apply of the children, only where a live object differs from the desired one: a steady store
//! costs no write. Safe to repeat and to abort at any await.

mod lease;
mod owned;
mod prune;

pub use lease::{Birth, birth};
pub use owned::{ANNOTATION_APPLIED, difference, marked};

use blobstore_operator_api::names::FIELD_MANAGER;
use blobstore_operator_core::children::Children;
use blobstore_operator_core::observed::Observed;
use blobstore_sidecar_api::record::RECORD_ANNOTATION;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::observe::{Child, Look, key};
use crate::shared::{ApiError, Shared, ask};

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{verb} {kind} {name}")]
    Write { verb: &'static str, kind: String, name: String, source: ApiError },
    #[error("write {kind} {name} as a document")]
    Document { kind: String, name: String, source: serde_json::Error },
    #[error("create Lease: {0}")]
    RecordUnknown(String),
}

/// Applies, then prunes.
pub async fn apply(shared: &Shared, children: Children, look: &Look) -> Result<(), ApplyError> {
    let Children {
        service_account,
        role,
        role_binding,
        auth_secret,
        config_map,
        services,
        network_policy,
        disruption_budgets,
        leases,
        stateful_sets,
    } = children;
    let mut wanted = prune::Wanted::default();
    // Identity and configuration before workloads: a pod that mounts what is missing does not start.
    one(shared, look, &mut wanted, &service_account).await?;
    one(shared, look, &mut wanted, &role).await?;
    one(shared, look, &mut wanted, &role_binding).await?;
    if let Some(auth_secret) = &auth_secret {
        secret(shared, &look.observed, auth_secret).await?;
    }
    one(shared, look, &mut wanted, &config_map).await?;
    all(shared, look, &mut wanted, &services).await?;
    one(shared, look, &mut wanted, &network_policy).await?;
    all(shared, look, &mut wanted, &disruption_budgets).await?;
    for (shard, lease) in (0..).zip(&leases) {
        record(shared, look, shard, lease).await?;
    }
    all(shared, look, &mut wanted, &stateful_sets).await?;
    prune::prune(shared, look, &wanted).await
}

async fn all<K: Child>(
    shared: &Shared,
    look: &Look,
    wanted: &mut prune::Wanted,
    children: &[K],
) -> Result<(), ApplyError> {
    for child in children {
        one(shared, look, wanted, child).await?;
    }
    Ok(())
}

async fn one<K: Child>(
    shared: &Shared,
    look: &Look,
    wanted: &mut prune::Wanted,
    child: &K,
) -> Result<(), ApplyError> {
    let key = key(child);
    let desired = marked(document(child)?);
    let live = look.live.get(&key);
    wanted.insert(key);
    let differs = live.map(|live| difference(&desired, live));
    if differs == Some(None) {
        return Ok(());
    }
    tracing::info!(
        kind = %K::kind(&()),
        child = child.name_any(),
        field = differs.flatten().as_deref().unwrap_or("all: it is not there"),
        "apply"
    );
    write(shared, child, desired).await
}

/// Server-side apply. What comes back should hold what was sent: a field that does not would be written for ever.
async fn write<K: Child>(shared: &Shared, child: &K, desired: Value) -> Result<(), ApplyError> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api = api(shared, child);
    let name = child.name_any();
    let applied = ask(api.patch(&name, &params, &Patch::Apply(&desired))).await;
    let applied = applied.map_err(|source| failed::<K>("apply", &name, source))?;
    shared.metrics.wrote(&K::kind(&()), "apply");
    if let Some(path) = difference(&desired, &document(&applied)?) {
        shared.metrics.api_writes_unsettled.with_label_values(&[&*K::kind(&())]).inc();
        tracing::warn!(kind = %K::kind(&()), child = name, field = path, "applied but not taken over");
    }
    Ok(())
}

/// Created once. What exists is only completed, with the version we read as precondition, never rewritten.
async fn secret(shared: &Shared, observed: &Observed, secret: &Secret) -> Result<(), ApplyError> {
    let name = secret.name_any();
    let Some(existing) = observed.auth.present() else {
        return create(shared, secret).await;
    };
    let wanted = secret.data.iter().flatten();
    let missing: serde_json::Map<String, Value> = wanted
        .filter(|(key, _)| !existing.contains_key(*key))
        .filter_map(|(key, value)| Some((key.clone(), serde_json::to_value(value).ok()?)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    // A merge patch of the missing keys alone cannot touch a value that somebody wrote meanwhile.
    let patch = serde_json::json!({ "data": missing });
    let (api, params) = (api(shared, secret), PatchParams::default());
    let patched = ask(api.patch(&name, &params, &Patch::Merge(&patch))).await;
    patched.map_err(|source| failed::<Secret>("complete", &name, source))?;
    shared.metrics.wrote("Secret", "patch");
    Ok(())
}

/// A Lease that exists belongs to the sidecars, its labels and owner to us.
async fn record(shared: &Shared, look: &Look, shard: u32, lease: &Lease) -> Result<(), ApplyError> {
    let desired = marked(document(lease)?);
    if let Some(live) = look.live.get(&key(lease)) {
        return match difference(&desired, live) {
            None => Ok(()),
            Some(_) => write(shared, lease, desired).await,
        };
    }
    let mut lease = lease.clone();
    let annotations = lease.annotations_mut();
    if let Some(mark) = desired["metadata"]["annotations"][ANNOTATION_APPLIED].as_str() {
        annotations.insert(ANNOTATION_APPLIED.to_owned(), mark.to_owned());
    }
    match birth(&look.observed, shard) {
        Birth::Fresh => {}
        Birth::Recovered(record) => {
            tracing::warn!(
                shard,
                epoch = record.epoch,
                "the shard's record was lost: recovered from its members"
            );
            let text = serde_json::to_string(&record).map_err(|source| ApplyError::Document {
                kind: "Lease".to_owned(),
                name: lease.name_any(),
                source,
            })?;
            lease.annotations_mut().insert(RECORD_ANNOTATION.to_owned(), text);
        }
        Birth::Wait(why) => return Err(ApplyError::RecordUnknown(why)),
    }
    create(shared, &lease).await
}

/// Somebody else's creation is as good as ours: the next pass reads it.
async fn create<K: Child>(shared: &Shared, child: &K) -> Result<(), ApplyError> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let created = ask(api(shared, child).create(&params, child)).await;
    created.map_err(|source| failed::<K>("create", &child.name_any(), source))?;
    shared.metrics.wrote(&K::kind(&()), "create");
    Ok(())
}

fn api<K: Child>(shared: &Shared, child: &K) -> Api<K> {
    Api::namespaced(shared.client.clone(), &child.namespace().unwrap_or_default())
}

fn document<K: Child>(child: &K) -> Result<Value, ApplyError> {
    serde_json::to_value(child).map_err(|source| ApplyError::Document {
        kind: K::kind(&()).into_owned(),
        name: child.name_any(),
        source,
    })
}

fn failed<K: Child>(verb: &'static str, name: &str, source: ApiError) -> ApplyError {
    ApplyError::Write { verb, kind: K::kind(&()).into_owned(), name: name.to_owned(), source }
}
