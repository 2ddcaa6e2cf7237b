//! What the leak detector may ask of this process: its counter pairs, and the memory that it can give back.

use std::sync::Arc;

use blobstore_sidecar_core::hygiene::sample::{CacheFigures, PoolFigures};
use blobstore_sidecar_hygiene::{Trimmable, Trimmed};
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
pub struct ShellHooks(pub Arc<Shell>);

fn open_connections() -> u64 {
    let count = |port: &&str| {
        let opened = CONNECTIONS_OPENED.with_label_values(&[*port]).get();
        opened.saturating_sub(CONNECTIONS_CLOSED.with_label_values(&[*port]).get())
    };
    PORTS.iter().map(count).sum()
}

impl Trimmable for ShellHooks {
    fn pool(&self) -> Option<PoolFigures> {
        let stats = self.0.store.pool().stats();
        let oldest = self.0.store.pool().oldest();
        Some(PoolFigures {
            taken: stats.taken,
            returned: stats.returned,
            // What a cache keeps has been taken and not returned either.
            outstanding: stats.outstanding.saturating_add(stats.kept),
            outstanding_bytes: self.0.store.budget().used(),
            oldest_lease_seconds: oldest.as_ref().map_or(0, |lease| lease.age.as_secs()),
            oldest_lease: oldest.map_or_else(|| "none".to_owned(), |lease| lease.name.to_owned()),
        })
    }

    fn caches(&self) -> Vec<CacheFigures> {
        let stats = self.0.store.cache_stats();
        vec![CacheFigures {
            name: "chunks".to_owned(),
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            inserted: stats.inserted,
            removed: stats.evicted,
            entries: stats.entries,
        }]
    }

    /// Each open connection explains one task, each request one more (a commit or a delete outlives its client).
    fn expected_tasks(&self) -> Option<u64> {
        let requests = u64::try_from(IN_FLIGHT.get()).unwrap_or(0);
        let peers = (self.0.peering.clients().count() as u64).saturating_mul(PEER_CONNECTIONS_MAX);
        let peers = peers.min(alive("peer_connection"));
        Some(FIXED_TASKS_MAX + open_connections() + requests + peers)
    }

    fn trim(&self, percent: u32) -> Trimmed {
        let held = self.0.store.cache_stats().bytes;
        let cached = self.0.store.trim_cache(held / 100 * u64::from(percent.min(100)));
        let idle = self.0.store.trim_idle();
        Trimmed { bytes: cached.saturating_add(idle), handles: self.0.peering.clients().trim_idle() }
    }
}

fn alive(name: &str) -> u64 {
    tasks::alive().iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count)
}
