//! The shard protocol at work: record, ownership, acknowledging, promotion, the boot protocol and the launcher.
//! Decisions are in `blobstore_sidecar_core::shard`; here are sockets, engines and clocks.

pub mod config;
pub mod handle;
pub mod peer;
pub mod register;

pub use config::ShardConfig;
pub use handle::{EngineState, ShardHandle};
pub use peer::{Identity, PeerAnswer, PeerRequest};
pub use register::{CasError, MemoryRegister, Register, RegisterError, Versioned};
