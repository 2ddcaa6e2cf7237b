//! What every effectful crate of the sidecar shares: counted tasks, the one metrics registry, memory figures.
//! Nothing here knows blobs, engines or Kubernetes.

pub mod authority;
pub mod background;
pub mod budget;
pub mod clients;
pub mod memory;
pub mod metrics;
pub mod pool;
pub mod tasks;
