//! The provisioner behind the storage class `local`: a folder of the claim's node per claim, as a local
//! PersistentVolume; the folder goes with the volume. Part of the agent.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ::kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::{
    client,
    error::{Error, Result},
    paths::{self, Paths},
};

const CLASS: &str = "local";
const NAME: &str = "cachehygiene.io/e2e-local";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

enum Change {
    Claim(Box<PersistentVolumeClaim>),
    Volume(Box<PersistentVolume>),
}

/// Serves until it is ended; a watch that breaks (API server away) is taken up again with backoff.
pub async fn serve(paths: &Paths, client: Client) -> Result<()> {
    let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .map_ok(|claim| Change::Claim(Box::new(claim)));
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .map_ok(|volume| Change::Volume(Box::new(volume)));
    let mut changes = futures::stream::select(claims.boxed(), volumes.boxed());
    while let Some(change) = changes.next().await {
        let done = match change {
            Ok(Change::Claim(claim)) => provision(paths, &client, &claim).await,
            Ok(Change::Volume(volume)) => reclaim(paths, &client, &volume).await,
            Err(error) => Err(Error::other("watch claims and volumes")(error)),
        };
        if let Err(error) = done {
            tracing::warn!(error = error.chain(), "a claim or volume waits for its next change");
        }
    }
    Ok(())
}

async fn provision(paths: &Paths, client: &Client, claim: &PersistentVolumeClaim) -> Result<()> {
    let Some(spec) = claim.spec.as_ref() else { return Ok(()) };
    let ours = spec.storage_class_name.as_deref() == Some(CLASS) && spec.volume_name.is_none();
    let (Some(node), Some(uid)) = (claim.annotations().get(SELECTED_NODE), claim.uid()) else {
        return Ok(());
    };
    if !ours {
        return Ok(());
    }
    let name = format!("pvc-{uid}");
    let folder = folder(paths, node, &name);
    paths::make_folder(&folder)?;
    // Any user of a pod may write; the kubelet hands it to the pod's fsGroup on top of that.
    let open_to_all = Permissions::from_mode(0o777);
    std::fs::set_permissions(&folder, open_to_all).map_err(Error::io("open to all", &folder))?;
    let size = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name, "annotations": { "pv.kubernetes.io/provisioned-by": NAME } },
        "spec": {
            "capacity": { "storage": size.and_then(|requests| requests.get("storage")) },
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": { "path": folder },
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(), "name": claim.name_any(), "uid": uid,
            },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] },
            ]}]}},
        },
    });
    let volume: PersistentVolume =
        serde_json::from_value(volume).map_err(Error::other(format!("describe volume {name}")))?;
    match Api::all(client.clone()).create(&PostParams::default(), &volume).await {
        Ok(_) => Ok(()),
        Err(::kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::kube(format!("create volume {name}"))(error)),
    }
}

fn folder(paths: &Paths, node: &str, name: &str) -> PathBuf {
    paths.state.join(node).join("volumes").join(name)
}

async fn reclaim(paths: &Paths, client: &Client, volume: &PersistentVolume) -> Result<()> {
    let ours = volume.annotations().get("pv.kubernetes.io/provisioned-by").is_some_and(|by| by == NAME);
    let released = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released");
    let spec = volume.spec.as_ref();
    let kept = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Retain");
    let path = spec.and_then(|spec| spec.local.as_ref()).map(|local| Path::new(&local.path));
    let Some(path) = path.filter(|path| path.starts_with(&paths.state)) else { return Ok(()) };
    if !ours || !released || kept || volume.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove volume folder", path)(error));
        }
        _ => {}
    }
    client::delete(
        &Api::<PersistentVolume>::all(client.clone()),
        &volume.name_any(),
        &DeleteParams::default(),
    )
    .await
}
