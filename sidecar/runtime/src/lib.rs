//! What every effectful crate of the sidecar shares: counted tasks, and the one metrics registry.
//! Nothing here knows blobs, engines or Kubernetes.

pub mod authority;
pub mod metrics;
pub mod tasks;
