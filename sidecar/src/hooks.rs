//! What the leak detector may ask of this process: its counter pairs, and the memory that it can give back.

use std::sync::Arc;

use blobstore_sidecar_core::hygiene::sample::{CacheFigures, PoolFigures};
use blobstore_sidecar_hygiene::{StoreHooks, Trimmable, Trimmed};
use blobstore_sidecar_runtime::tasks;

use crate::metrics::{CONNECTIONS_CLOSED, CONNECTIONS_OPENED, IN_FLIGHT};
use crate::shell::Shell;

/// Tasks that live as long as the process: ports, sweepers, the shard member's loops, hygiene's two; with room.
const FIXED_TASKS_MAX: u64 = 32;
/// Connections that one peer's handle may hold: its requests at once and its idle ones.
const PEER_CONNECTIONS_MAX: u64 = 288;
const PORTS: &[&str] = &["client", "admin", "peer"];

/// The shell as hygiene sees it.
#[derive(Debug)]
pub struct ShellHooks {
    store: StoreHooks,
    shell: Arc<Shell>,
}

fn open_connections() -> u64 {
    let count = |port: &&str| {
        let opened = CONNECTIONS_OPENED.with_label_values(&[*port]).get();
        opened.saturating_sub(CONNECTIONS_CLOSED.with_label_values(&[*port]).get())
    };
    PORTS.iter().map(count).sum()
}

impl ShellHooks {
    pub fn new(shell: Arc<Shell>) -> Self {
        Self { store: StoreHooks::new(shell.store.clone(), None), shell }
    }
}

impl Trimmable for ShellHooks {
    fn pool(&self) -> Option<PoolFigures> {
        self.store.pool()
    }

    fn caches(&self) -> Vec<CacheFigures> {
        self.store.caches()
    }

    /// Each open connection explains one task, each request one more (a commit or a delete outlives its client).
    fn expected_tasks(&self) -> Option<u64> {
        let requests = u64::try_from(IN_FLIGHT.get()).unwrap_or(0);
        let peers = (self.shell.peering.clients().count() as u64).saturating_mul(PEER_CONNECTIONS_MAX);
        let peers = peers.min(alive("peer_connection"));
        // Fills are bounded by the line in front of the origins; each has one connection, and some are idle.
        let origins = alive("origin-fill").saturating_add(alive("origin-connection"));
        let origins = origins.min(self.shell.origins.tasks_max());
        Some(FIXED_TASKS_MAX + open_connections() + requests + peers + origins)
    }

    fn trim(&self, percent: u32) -> Trimmed {
        let trimmed = self.store.trim(percent);
        let handles = self.shell.peering.clients().trim_idle() + self.shell.origins.trim();
        Trimmed { handles, ..trimmed }
    }
}

fn alive(name: &str) -> u64 {
    tasks::alive().iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count)
}
