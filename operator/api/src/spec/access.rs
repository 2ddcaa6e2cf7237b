//! Who may use the store, where its pods run, and the switches of its life.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may use the store.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthSpec {
    /// True: everything is allowed without credentials. Default false.
    pub anonymous: bool,
    /// Secret in the same namespace with the users, under the key `users.yaml`: a list of name, accessKey,
    /// secretKey, token and rights. Without it the operator makes one user; its keys are in Secret `<store>-auth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_secret: Option<SecretRef>,
    /// Secret of type kubernetes.io/tls in the same namespace: with it the client port speaks TLS only. A renewed
    /// certificate is in use within a minute or two, without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<SecretRef>,
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where pods run.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingSpec {
    /// Labels a node must have.
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods tolerate.
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// How pods of one shard keep apart.
    pub spread: SpreadSpec,
    /// PriorityClass of the pods. Default: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
}

/// How pods of one shard keep apart. Required means: rather not run than run together.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpreadSpec {
    /// Over nodes. Default Preferred.
    pub node: Spread,
    /// Over zones (topology.kubernetes.io/zone). Default Preferred.
    pub zone: Spread,
}

/// Strength of a spread rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    Off,
    #[default]
    Preferred,
    Required,
}

/// As in a pod's `tolerations`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Taint key; none with operator Exists tolerates all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// Exists or Equal. Default Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Exists|Equal)$"))]
    pub operator: Option<String>,
    /// Taint value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; none matches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: Option<String>,
    /// With NoExecute: seconds the pod stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// Switches of the object's life.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LifecycleSpec {
    /// True: the operator observes and reports, and changes nothing. Default false.
    pub paused: bool,
}

impl Default for SpreadSpec {
    fn default() -> Self {
        Self { node: Spread::Preferred, zone: Spread::Preferred }
    }
}
