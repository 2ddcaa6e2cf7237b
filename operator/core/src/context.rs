//! What the operator itself brings along: its own settings and fresh random values. Never part of the spec.

use std::collections::BTreeMap;

/// Settings of the running operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Image of `blobstore-sidecar`, for the init container, the sidecar and (by copy) the launcher.
    pub sidecar_image: String,
    /// Namespace the operator runs in: its pods may reach the admin port.
    pub operator_namespace: String,
    /// Namespace of the monitoring, if it differs: its pods may scrape.
    pub monitoring_namespace: Option<String>,
    /// `Always` or `Never` for every container of a store's pods. `None` leaves it to Kubernetes and out of the pod
    /// template: whoever sets it rolls all stores.
    pub image_pull_policy: Option<String>,
}

/// Values for whatever the store's Secret does not hold yet: at least 32 characters of hex each, new for every
/// call. Values that exist are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Fresh {
    pub admin_token: String,
    pub peer_token: String,
    pub engine_password: String,
    pub replication_password: String,
    pub access_key: String,
    pub secret_key: String,
    pub user_token: String,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh")
    }
}

/// Data of the store's Secret, complete.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(pub BTreeMap<String, String>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
