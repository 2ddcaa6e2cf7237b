//! What a pod mounts for its origins: credentials as files of one projected volume, into the sidecar alone, and the
//! volumes of file origins. A store without origins has none of it, so its pods stay as they are.

use blobstore_sidecar_api::ports;
use serde_json::{Value, json};

use crate::validate::{OriginMount, ValidStore};

const CREDENTIALS: &str = "origins";
/// Keys of a Secret that an origin knows; whatever else it holds stays out of the pod.
const KEYS: &[&str] = &[
    ports::ORIGIN_ACCESS_KEY,
    ports::ORIGIN_SECRET_KEY,
    ports::ORIGIN_SESSION_TOKEN,
    ports::ORIGIN_SERVICE_ACCOUNT,
    ports::ORIGIN_ACCOUNT_KEY,
    ports::ORIGIN_SAS_TOKEN,
    ports::ORIGIN_AUTHORIZATION,
    ports::ORIGIN_CA,
];

pub(super) fn volumes(store: &ValidStore) -> Vec<Value> {
    let sources: Vec<Value> = store.origins.iter().filter_map(credentials).collect();
    let mut volumes = Vec::new();
    if !sources.is_empty() {
        let projected = json!({ "defaultMode": 0o440, "sources": sources });
        volumes.push(json!({ "name": CREDENTIALS, "projected": projected }));
    }
    let claims = store.origins.iter().filter_map(|origin| Some((origin, origin.claim.as_ref()?)));
    volumes.extend(claims.map(|(origin, claim)| {
        json!({
            "name": volume(origin),
            "persistentVolumeClaim": { "claimName": claim, "readOnly": true },
        })
    }));
    volumes
}

pub(super) fn mounts(store: &ValidStore) -> Vec<Value> {
    let mut mounts = Vec::new();
    if store.origins.iter().any(|origin| origin.secret.is_some()) {
        mounts.push(json!({ "name": CREDENTIALS, "mountPath": ports::ORIGINS_DIR, "readOnly": true }));
    }
    let folders = store.origins.iter().filter(|origin| origin.claim.is_some());
    mounts.extend(folders.map(|origin| {
        let path = format!("{}/{}", ports::ORIGIN_VOLUMES_DIR, origin.name);
        json!({ "name": volume(origin), "mountPath": path, "readOnly": true })
    }));
    mounts
}

fn volume(origin: &OriginMount) -> String {
    format!("origin-{}", origin.name)
}

/// Optional: a Secret that is missing is that origin's trouble, which its readers are told; the pod starts.
fn credentials(origin: &OriginMount) -> Option<Value> {
    let secret = origin.secret.as_ref()?;
    let items: Vec<Value> =
        KEYS.iter().map(|key| json!({ "key": key, "path": format!("{}/{key}", origin.name) })).collect();
    Some(json!({ "secret": { "name": secret, "optional": true, "items": items } }))
}
