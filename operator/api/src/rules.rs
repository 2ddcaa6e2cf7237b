//! Every CEL rule of the CRD as one table: where it sits, what must hold, and the sentence a person reads.
//! A message names the field and the rule; what CEL cannot see (deletes) is an admission policy of the chart.

use crate::spec::ENGINE_KEYS_OWNED;

/// One rule at one place of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CelRule {
    /// Property names from the root, dotted; empty for the object itself.
    pub at: &'static str,
    pub rule: String,
    pub message: &'static str,
}

const RULES: &[(&str, &str, &str)] = &[
    (
        "",
        "size(self.metadata.name) <= 40",
        "metadata.name: at most 40 characters, because pods and Leases are named after the store",
    ),
    (
        "",
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name: lower-case letters, digits and '-', starting with a letter: Services carry the name",
    ),
    (
        "spec",
        "self.persistence == 'None' || has(self.storage)",
        "spec.storage: required when spec.persistence is Aof: the log needs a volume",
    ),
    (
        "spec",
        "self.persistence == 'Aof' || !has(self.storage)",
        "spec.storage: only with spec.persistence Aof; without it nothing would be written to the volume",
    ),
    (
        "spec",
        "self.hygiene.mode != 'Auto' || self.replicas >= 1 || self.hygiene.allowDowntime || \
         !self.hygiene.ladder.exists(r, r == 'RestartReplica' || r == 'FailoverAndRestart')",
        "spec.hygiene.ladder: with mode Auto and no replicas a restart loses the data: set spec.replicas to 1 or \
         more, remove RestartReplica and FailoverAndRestart, or set spec.hygiene.allowDowntime",
    ),
    (
        "spec",
        "!isQuantity(self.resources.sidecar.limits.memory) || !isQuantity(self.sidecar.cache.maxBytes) || \
         quantity(self.sidecar.cache.maxBytes).isLessThan(quantity(self.resources.sidecar.limits.memory))",
        "spec.sidecar.cache.maxBytes: must be below spec.resources.sidecar.limits.memory",
    ),
    (
        "spec.shards",
        "self == oldSelf",
        "spec.shards: immutable until resharding ships; create a store with the wanted number and copy",
    ),
    (
        "spec.partitions",
        "self in [1, 2, 4, 8, 16, 32, 64, 128, 256]",
        "spec.partitions: must be a power of two from 1 to 256",
    ),
    (
        "spec.partitions",
        "self == oldSelf",
        "spec.partitions: immutable: the place of every object depends on it",
    ),
    ("spec.persistence", "self == oldSelf", "spec.persistence: immutable; create a new store and copy"),
    (
        "spec.memory.maxmemoryPercent",
        "self >= 10 && self <= 90",
        "spec.memory.maxmemoryPercent: must be 10 to 90; the rest is for buffers and fragmentation",
    ),
    (
        "spec.storage.size",
        "!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0",
        "spec.storage.size: a volume can grow, never shrink",
    ),
    ("spec.storage.className", "self == oldSelf", "spec.storage.className: immutable"),
    (
        "spec.sidecar.cache",
        // The default `{}` is checked before the fields' own defaults are filled in.
        "!has(self.maxEntryBytes) || !has(self.maxBytes) || !isQuantity(self.maxEntryBytes) || \
         !isQuantity(self.maxBytes) || quantity(self.maxBytes).compareTo(quantity('0')) == 0 || \
         quantity(self.maxEntryBytes).compareTo(quantity(self.maxBytes)) <= 0",
        "spec.sidecar.cache.maxEntryBytes: must not be larger than spec.sidecar.cache.maxBytes",
    ),
    (
        "spec.sidecar.s3.domains",
        "self.all(d, d.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$'))",
        "spec.sidecar.s3.domains: each a name of DNS in lower case, without a port and without the bucket",
    ),
    (
        "spec.origins",
        "self.all(o, [has(o.s3), has(o.gcs), has(o.azure), has(o.http), has(o.file)].filter(x, x).size() == 1)",
        "spec.origins: each must have exactly one of s3, gcs, azure, http and file",
    ),
    (
        "spec.origins",
        "self.all(a, self.exists_one(b, a.bucket == b.bucket && a.prefix == b.prefix))",
        "spec.origins: two of them cannot show the same bucket under the same prefix",
    ),
    (
        "spec.origins",
        "self.all(o, !has(o.file) || !has(o.credentialsSecret))",
        "spec.origins: a file origin needs no credentialsSecret",
    ),
    (
        "spec.engine.config",
        "self.all(key, key.matches('^[a-z][a-z0-9-]{0,63}$'))",
        "spec.engine.config: option names are lower-case letters, digits and '-'",
    ),
];

const OWNED_MESSAGE: &str = "spec.engine.config: holds an option that the operator sets itself: ports, files, users, \
     cluster, replication, TLS, persistence and maxmemory are fixed or have fields of their own";

/// All rules, in the order of the schema.
pub fn cel_rules() -> Vec<CelRule> {
    let owned = CelRule {
        at: "spec.engine.config",
        rule: format!("!self.exists(key, key.matches('{ENGINE_KEYS_OWNED}'))"),
        message: OWNED_MESSAGE,
    };
    RULES
        .iter()
        .map(|(at, rule, message)| CelRule { at, rule: (*rule).to_owned(), message })
        .chain([owned])
        .collect()
}
