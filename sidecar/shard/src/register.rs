//! The record's home: a compare-and-swap register that can be watched. Kubernetes in a pod, memory in tests and `dev`.

use std::sync::Arc;

use blobstore_sidecar_api::record::ShardRecord;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::sync::mpsc;

use crate::actor::Told;

mod kube;
mod memory;

pub use kube::LeaseRegister;
pub use memory::MemoryRegister;

/// A record and the version to compare with when it is replaced. Versions grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    pub version: u64,
    pub record: ShardRecord,
}

/// The register cannot be reached, or holds what we do not understand.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the record does not exist yet")]
    Absent,
    #[error("the register is away: {0}")]
    Away(String),
    #[error("the record cannot be read: {0}")]
    Malformed(String),
}

/// Why a swap did not certainly happen.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// Somebody else wrote first: nothing was changed by us.
    #[error("another writer was first")]
    Conflict,
    /// It may have happened, or happen yet.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// The shard record as a register.
pub trait Register: Send + Sync + std::fmt::Debug + 'static {
    fn read(&self) -> BoxFuture<'_, Result<Versioned, RegisterError>>;
    /// Replaces the record if its version still is `expected`; answers the new version.
    fn cas(&self, expected: u64, record: ShardRecord) -> BoxFuture<'_, Result<u64, CasError>>;
    /// The record now and after each change. `Err` means the view may be stale; the stream goes on by itself.
    fn watch(&self) -> BoxStream<'static, Result<Versioned, RegisterError>>;
}

/// Tells the actor each record that the watch shows.
pub(crate) async fn follow(register: Arc<dyn Register>, told: mpsc::Sender<Told>) {
    let mut seen = register.watch();
    loop {
        let next = tokio::select! {
            next = seen.next() => next,
            () = told.closed() => return,
        };
        let Some(next) = next else { return };
        if told.send(Told::Register(next)).await.is_err() {
            return;
        }
    }
}
