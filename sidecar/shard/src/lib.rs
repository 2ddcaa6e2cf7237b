//! The shard protocol at work: record, ownership, acknowledging, promotion, the boot protocol and the launcher.
//! Decisions are in `blobstore_sidecar_core::shard`; here are sockets, engines and clocks.

mod acker;
mod actions;
mod actor;
mod authority;
mod boot;
mod commander;
pub mod config;
mod engine;
pub mod handle;
pub mod install;
pub mod launcher;
mod metrics;
mod observe;
pub mod peer;
mod peers;
pub mod register;
mod shared;
mod view;

pub use actor::StartError;
pub use config::ShardConfig;
pub use handle::{EngineState, ShardHandle};
pub use peer::{Identity, PeerAnswer, PeerRequest};
pub use register::{CasError, LeaseRegister, MemoryRegister, Register, RegisterError, Versioned};
