//! Everything a store owns, as desired objects in the order of application.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

/// Destructure without `..`: a new kind of child must meet its apply and its prune.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    pub service_account: ServiceAccount,
    pub role: Role,
    pub role_binding: RoleBinding,
    /// `None` while the Secret could not be read: generated values must never be replaced by guessing.
    pub auth_secret: Option<Secret>,
    pub config_map: ConfigMap,
    pub services: Vec<Service>,
    pub network_policy: NetworkPolicy,
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Metadata only: the record in the annotation belongs to the sidecars.
    pub leases: Vec<Lease>,
    /// Last: a pod that mounts what is missing does not start.
    pub stateful_sets: Vec<StatefulSet>,
}
