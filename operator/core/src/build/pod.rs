//! The pod template of a shard, without its revision annotation. Changing one byte here rolls every store:
//! the golden in `tests/golden/` must change in the same commit, and the change must be worth it.

use blobstore_operator_api::names;
use blobstore_operator_api::spec::{Spread, Toleration};
use blobstore_sidecar_api::ports;
use serde_json::{Value, json};

use super::{shard_labels, shard_selector};
use crate::context::Context;
use crate::validate::{Container, ValidStore};

mod origins;

/// The user of every container: `nonroot` of distroless images, unused on nodes.
const USER: i64 = 65_532;
/// Beyond the drain time: the launcher ends the engine 5 s before the end, an AOF needs a moment to close.
const GRACE_EXTRA_SECONDS: u64 = 20;
/// Three unix sockets; nothing else is written there.
const RUN_BYTES: &str = "16Mi";
/// The static binary, with room to grow.
const BIN_BYTES: &str = "128Mi";

pub(super) const ENGINE: &str = "engine";
pub(super) const SIDECAR: &str = "sidecar";
pub(super) const INSTALL: &str = "install";

/// Metadata and spec, as Kubernetes' `PodTemplateSpec`.
pub(super) fn template(store: &ValidStore, context: &Context, shard: u32) -> Value {
    json!({
        "metadata": {
            "labels": shard_labels(store, shard),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": ports::ADMIN_PORT.to_string(),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": spec(store, context, shard),
    })
}

fn spec(store: &ValidStore, context: &Context, shard: u32) -> Value {
    let mut spec = json!({
        "serviceAccountName": names::sidecar_account(&store.name),
        // The token is mounted into the sidecar alone, by a projected volume.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": store.sidecar.limits.drain_seconds + GRACE_EXTRA_SECONDS,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "initContainers": [install(context), sidecar(store, context, shard)],
        "containers": [engine(store, shard)],
        "volumes": volumes(store),
    });
    if let Some(policy) = &context.image_pull_policy {
        for kind in ["initContainers", "containers"] {
            for container in spec[kind].as_array_mut().into_iter().flatten() {
                container["imagePullPolicy"] = json!(policy);
            }
        }
    }
    let scheduling = &store.scheduling;
    let optional = [
        ("nodeSelector", (!scheduling.node_selector.is_empty()).then(|| json!(scheduling.node_selector))),
        (
            "tolerations",
            (!scheduling.tolerations.is_empty())
                .then(|| scheduling.tolerations.iter().map(toleration).collect::<Value>()),
        ),
        ("priorityClassName", scheduling.priority_class_name.as_ref().map(|name| json!(name))),
        ("topologySpreadConstraints", spread(store, shard)),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            spec[field] = value;
        }
    }
    spec
}

fn toleration(toleration: &Toleration) -> Value {
    serde_json::to_value(toleration).unwrap_or_default()
}

/// Pods of one shard apart from each other: a node or a zone lost must not take both copies.
fn spread(store: &ValidStore, shard: u32) -> Option<Value> {
    let rules = [
        ("kubernetes.io/hostname", store.scheduling.spread.node),
        ("topology.kubernetes.io/zone", store.scheduling.spread.zone),
    ];
    let constraints: Vec<Value> = rules
        .into_iter()
        .filter_map(|(key, strength)| {
            let when = match strength {
                Spread::Off => return None,
                Spread::Preferred => "ScheduleAnyway",
                Spread::Required => "DoNotSchedule",
            };
            Some(json!({
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": when,
                "labelSelector": { "matchLabels": shard_selector(store, shard) },
            }))
        })
        .collect();
    (!constraints.is_empty()).then(|| json!(constraints))
}

/// Copies the static binary, so that any engine image can run the launcher.
fn install(context: &Context) -> Value {
    json!({
        "name": INSTALL,
        "image": context.sidecar_image,
        "args": ["install"],
        "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
        "securityContext": restricted(),
        "volumeMounts": [{ "name": "bin", "mountPath": ports::BIN_DIR }],
    })
}

/// A native sidecar: it starts before the engine and ends after it, but its preStop runs at once.
fn sidecar(store: &ValidStore, context: &Context, shard: u32) -> Value {
    let mut mounts = shared_mounts();
    mounts.push(json!({ "name": "bin", "mountPath": ports::BIN_DIR, "readOnly": true }));
    mounts.push(json!({
        "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true,
    }));
    mounts.extend(origins::mounts(store));
    json!({
        "name": SIDECAR,
        "image": context.sidecar_image,
        "args": ["serve"],
        "restartPolicy": "Always",
        "ports": [
            { "name": "http", "containerPort": ports::CLIENT_PORT },
            { "name": "admin", "containerPort": ports::ADMIN_PORT },
            { "name": "peer", "containerPort": ports::PEER_PORT },
        ],
        "env": sidecar_env(store, shard),
        "resources": resources(&store.sidecar_pod),
        "readinessProbe": {
            "httpGet": { "path": "/readyz", "port": "admin" },
            "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2,
        },
        // Slow to anger: a restart of the sidecar interrupts the data path.
        "livenessProbe": {
            "httpGet": { "path": "/healthz", "port": "admin" },
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "lifecycle": { "preStop": { "exec": { "command": [ports::LAUNCHER, "prestop"] } } },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": restricted(),
        "volumeMounts": mounts,
    })
}

/// The user's image under our launcher. No probe: a launcher that waits for its sidecar's word must be left alone.
fn engine(store: &ValidStore, shard: u32) -> Value {
    let mut mounts = shared_mounts();
    mounts.push(json!({ "name": "bin", "mountPath": ports::BIN_DIR, "readOnly": true }));
    mounts.push(json!({ "name": "data", "mountPath": ports::DATA_DIR }));
    json!({
        "name": ENGINE,
        "image": store.engine.image,
        "command": [ports::LAUNCHER, "engine"],
        "ports": [
            { "name": "engine", "containerPort": ports::ENGINE_PORT },
            { "name": "bus", "containerPort": ports::ENGINE_BUS_PORT },
        ],
        "env": env(shard),
        "resources": resources(&store.engine.container),
        // The launcher writes the engine's last words to the termination log.
        "terminationMessagePolicy": "File",
        "securityContext": restricted(),
        "volumeMounts": mounts,
    })
}

fn shared_mounts() -> Vec<Value> {
    vec![
        json!({ "name": "run", "mountPath": ports::RUN_DIR }),
        json!({ "name": "config", "mountPath": ports::CONFIG_DIR, "readOnly": true }),
        json!({ "name": "secret", "mountPath": ports::SECRET_DIR, "readOnly": true }),
    ]
}

fn env(shard: u32) -> Value {
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    json!([
        field(ports::ENV_POD_NAME, "metadata.name"),
        field(ports::ENV_POD_UID, "metadata.uid"),
        field(ports::ENV_POD_NAMESPACE, "metadata.namespace"),
        field(ports::ENV_POD_IP, "status.podIP"),
        field(ports::ENV_NODE_NAME, "spec.nodeName"),
        { "name": ports::ENV_SHARD, "value": shard.to_string() },
        {
            "name": ports::ENV_ENGINE_MEMORY_LIMIT,
            "valueFrom": { "resourceFieldRef": { "containerName": ENGINE, "resource": "limits.memory" } },
        },
    ])
}

fn sidecar_env(store: &ValidStore, shard: u32) -> Value {
    let mut all = env(shard);
    if let (true, Some(all)) = (store.heap_profiles, all.as_array_mut()) {
        all.push(json!({ "name": ports::ENV_ALLOCATOR, "value": ports::ALLOCATOR }));
    }
    all
}

fn resources(container: &Container) -> Value {
    let mut resources = json!({ "limits": container.limits });
    if !container.requests.is_empty() {
        resources["requests"] = json!(container.requests);
    }
    resources
}

fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

fn volumes(store: &ValidStore) -> Value {
    let mut volumes = vec![
        json!({ "name": "run", "emptyDir": { "medium": "Memory", "sizeLimit": RUN_BYTES } }),
        json!({ "name": "bin", "emptyDir": { "sizeLimit": BIN_BYTES } }),
        json!({ "name": "config", "configMap": { "name": names::config_map(&store.name) } }),
        json!({ "name": "secret", "projected": { "defaultMode": 0o440, "sources": secret_sources(store) } }),
        json!({ "name": "token", "projected": { "defaultMode": 0o440, "sources": [
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "fieldPath": "metadata.namespace" } },
            ] } },
        ] } }),
    ];
    if store.storage.is_none() {
        // A replica may spool a full copy before it loads it: as large as the engine's memory can get.
        let size = store.engine.container.limits.get("memory");
        volumes.push(json!({ "name": "data", "emptyDir": { "sizeLimit": size } }));
    }
    volumes.extend(origins::volumes(store));
    json!(volumes)
}

/// One folder: generated values from our Secret, the users from it or from the user's own, the certificate if there
/// is one.
fn secret_sources(store: &ValidStore) -> Value {
    let mut ours = vec![
        ports::SECRET_ADMIN_TOKEN,
        ports::SECRET_PEER_TOKEN,
        ports::SECRET_ENGINE_PASSWORD,
        ports::SECRET_REPLICATION_PASSWORD,
    ];
    if store.users_secret.is_none() {
        ours.push(ports::SECRET_USERS);
    }
    let items = |keys: &[&str]| keys.iter().map(|key| json!({ "key": key, "path": key })).collect::<Value>();
    let mut sources =
        vec![json!({ "secret": { "name": names::auth_secret(&store.name), "items": items(&ours) } })];
    if let Some(name) = &store.users_secret {
        sources.push(json!({ "secret": { "name": name, "items": items(&[ports::SECRET_USERS]) } }));
    }
    if let Some(name) = &store.tls_secret {
        let pair = items(&[ports::SECRET_TLS_CERTIFICATE, ports::SECRET_TLS_KEY]);
        sources.push(json!({ "secret": { "name": name, "items": pair } }));
    }
    json!(sources)
}
