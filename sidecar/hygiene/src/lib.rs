//! Hygiene's effects: samples the engine and this process, audits the keyspace, reports what the detector says, and
//! carries out the soft rungs of the ladder. Every judgement is made in `blobstore-sidecar-core::hygiene`.

mod actions;
mod auditor;
mod engine;
mod error;
mod explain;
mod hooks;
mod metrics;
mod probe;
mod reclaim;
mod references;
mod remedies;
mod report;
mod sampler;
mod service;

pub use actions::{ACTIONS, is_ours};
pub use error::HygieneError;
pub use hooks::{NoHooks, StoreHooks, Trimmable, Trimmed};
pub use service::{Hygiene, HygieneOptions};
