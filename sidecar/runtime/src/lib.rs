//! What every effectful crate of the sidecar shares: counted tasks, and the one metrics registry.
//! Nothing here knows blobs, engines or Kubernetes.

pub mod authority;
pub mod budget;
pub mod metrics;
pub mod pool;
pub mod tasks;
