//! Desired children from a valid store and a plan. One child per file; each is written as the document it becomes.
//! Nothing here looks at what exists: the same store gives byte-identical pods whichever operator builds them.

mod config_map;
mod disruption_budget;
mod lease;
mod network_policy;
mod pod;
mod rbac;
mod secret;
mod service;
mod stateful_set;

use std::collections::BTreeMap;

use blobstore_operator_api::names;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use secret::credentials;

use crate::action::Plan;
use crate::children::Children;
use crate::context::{Context, Credentials};
use crate::validate::ValidStore;

/// A child is not the document its type wants: a bug of ours.
#[derive(Debug, thiserror::Error)]
#[error("build {child}")]
pub struct BuildError {
    pub child: &'static str,
    #[source]
    pub source: serde_json::Error,
}

/// Everything the store should own.
pub fn build(
    store: &ValidStore,
    plan: &Plan,
    context: &Context,
    credentials: Option<&Credentials>,
) -> Result<Children, BuildError> {
    let shards = 0..store.shards;
    Ok(Children {
        service_account: rbac::service_account(store)?,
        role: rbac::role(store)?,
        role_binding: rbac::role_binding(store)?,
        auth_secret: credentials.map(|credentials| secret::secret(store, credentials)).transpose()?,
        config_map: config_map::config_map(store)?,
        services: vec![service::client(store)?, service::peers(store)?],
        network_policy: network_policy::network_policy(store, context)?,
        disruption_budgets: shards
            .clone()
            .map(|shard| disruption_budget::disruption_budget(store, shard))
            .collect::<Result<_, _>>()?,
        leases: shards.clone().map(|shard| lease::lease(store, shard)).collect::<Result<_, _>>()?,
        stateful_sets: shards
            .map(|shard| stateful_set::stateful_set(store, plan, context, shard))
            .collect::<Result<_, _>>()?,
    })
}

/// What a shard's pods must be restarted for: a hash over the pod template and the configuration documents,
/// without the number of replicas, so that scaling restarts nothing.
pub fn revision(store: &ValidStore, context: &Context, shard: u32) -> String {
    let template = pod::template(store, context, shard);
    short_hash(&format!("{template}{}", config_map::checksum(store)))
}

/// Sixteen hexadecimal digits: unique enough for a name, short enough for an eye.
fn short_hash(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text.as_bytes()));
    digits.truncate(16);
    digits
}

fn typed<T: DeserializeOwned>(child: &'static str, document: Value) -> Result<T, BuildError> {
    serde_json::from_value(document).map_err(|source| BuildError { child, source })
}

/// Labels of every child.
fn labels(store: &ValidStore) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (names::LABEL_NAME, names::APP.to_owned()),
        (names::LABEL_INSTANCE, store.name.clone()),
        (names::LABEL_PART_OF, names::APP.to_owned()),
        (names::LABEL_MANAGED_BY, names::MANAGED_BY.to_owned()),
        (names::LABEL_STORE, store.name.clone()),
    ])
}

fn shard_labels(store: &ValidStore, shard: u32) -> BTreeMap<&'static str, String> {
    let mut labels = labels(store);
    labels.insert(names::LABEL_SHARD, shard.to_string());
    labels
}

/// What selects the pods of a store, and of one shard. Never changed: selectors are immutable.
fn selector(store: &ValidStore) -> Value {
    json!({ names::LABEL_NAME: names::APP, names::LABEL_STORE: store.name })
}

fn shard_selector(store: &ValidStore, shard: u32) -> Value {
    json!({ names::LABEL_NAME: names::APP, names::LABEL_STORE: store.name, names::LABEL_SHARD: shard.to_string() })
}

/// Metadata of a child. No `blockOwnerDeletion`: it needs a right that we do not want.
fn metadata(store: &ValidStore, name: &str, labels: &BTreeMap<&'static str, String>) -> Value {
    json!({
        "name": name,
        "namespace": store.namespace,
        "labels": labels,
        "ownerReferences": [{
            "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
            "kind": "BlobStore",
            "name": store.name,
            "uid": store.uid,
            "controller": true,
        }],
    })
}
