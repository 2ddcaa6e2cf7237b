//! Every name that outside things see: labels, annotations, field manager, names of children.

/// The API group.
pub const GROUP: &str = "cachehygiene.io";
pub const VERSION: &str = "v1alpha1";
/// Field manager of server-side apply.
pub const FIELD_MANAGER: &str = "blobstore-operator";

/// Standard labels.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
pub const LABEL_PART_OF: &str = "app.kubernetes.io/part-of";
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of `LABEL_NAME` and `LABEL_PART_OF`.
pub const APP: &str = "blobstore";
/// Value of `LABEL_MANAGED_BY`: what the operator's watches select.
pub const MANAGED_BY: &str = "blobstore-operator";

/// The store a child belongs to; what prune and the operator's lists select.
pub const LABEL_STORE: &str = "cachehygiene.io/store";
/// The shard's index, on pods, StatefulSets, budgets and Leases.
pub const LABEL_SHARD: &str = "cachehygiene.io/shard";
/// `primary` or `replica`, on pods; for people and selectors, never read back by the operator.
pub const LABEL_ROLE: &str = "cachehygiene.io/role";

/// Hash of what a pod must be restarted for, on pod templates and pods.
pub const ANNOTATION_REVISION: &str = "cachehygiene.io/revision";
/// Hash of the configuration documents, part of the revision.
pub const ANNOTATION_CONFIG: &str = "cachehygiene.io/config-checksum";
/// On a BlobStore: any new value closes an open breaker and clears a freeze.
pub const ANNOTATION_ACKNOWLEDGE: &str = "cachehygiene.io/acknowledge";

/// Label selector of everything that belongs to one store.
pub fn store_selector(store: &str) -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_STORE}={store}")
}

/// Service for clients, port 9000.
pub fn client_service(store: &str) -> String {
    store.to_owned()
}

/// Headless Service of all pods, not-ready ones included.
pub fn peers_service(store: &str) -> String {
    format!("{store}-peers")
}

pub fn config_map(store: &str) -> String {
    format!("{store}-config")
}

/// Secret with generated credentials and tokens.
pub fn auth_secret(store: &str) -> String {
    format!("{store}-auth")
}

/// ServiceAccount, Role and RoleBinding of the sidecars.
pub fn sidecar_account(store: &str) -> String {
    format!("{store}-sidecar")
}

pub fn network_policy(store: &str) -> String {
    store.to_owned()
}

/// StatefulSet and PodDisruptionBudget of a shard.
pub fn shard_set(store: &str, shard: u32) -> String {
    format!("{store}-{shard}")
}

pub fn disruption_budget(store: &str, shard: u32) -> String {
    shard_set(store, shard)
}

/// Pod `ordinal` of a shard.
pub fn pod(store: &str, shard: u32, ordinal: u32) -> String {
    format!("{store}-{shard}-{ordinal}")
}

/// Lease that holds the shard's record.
pub fn shard_lease(store: &str, shard: u32) -> String {
    format!("{store}-shard-{shard}")
}

/// Shard and ordinal of one of the store's pods.
pub fn parse_pod(store: &str, pod: &str) -> Option<(u32, u32)> {
    let (shard, ordinal) = pod.strip_prefix(store)?.strip_prefix('-')?.split_once('-')?;
    Some((canonical(shard)?, canonical(ordinal)?))
}

/// A number as we print it: no sign, no leading zero.
fn canonical(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The longest child name must fit into a label (63): `<store>-<shard>-<ordinal>` plus the 11 characters that a
/// StatefulSet adds as revision hash (`controller-revision-hash`).
pub const STORE_NAME_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_parse_back() {
        assert_eq!(parse_pod("a", &pod("a", 3, 12)), Some((3, 12)));
        assert_eq!(parse_pod("a-1", "a-1-2-0"), Some((2, 0)));
        for foreign in ["b-0-0", "a-0", "a-x-0", "a-0-0-0", "a-01-0", "a--0"] {
            assert_eq!(parse_pod("a", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn longest_names_fit_into_labels() {
        let store = "s".repeat(STORE_NAME_CHARS_MAX);
        let revision = format!("{}-{}", shard_set(&store, 63), "0123456789");
        assert!(revision.len() <= 63, "{revision}");
        assert!(shard_lease(&store, 63).len() <= 63);
        assert!(peers_service(&store).len() <= 63);
    }
}
