//! What every request needs, in one place, shared by the three ports.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use blobstore_sidecar_api::config::LimitsConfig;
use blobstore_sidecar_origins::Origins;
use blobstore_sidecar_runtime::authority::Authority;
use blobstore_sidecar_store::Store;
use tokio::sync::{Semaphore, watch};

use crate::auth::Users;
use crate::io::Patience;
use crate::lane::COPIES_CONCURRENT_MAX;
use crate::peers::Peering;

/// The sidecar as its lanes see it.
#[derive(Debug)]
pub struct Shell {
    pub store: Store,
    /// What buckets with an origin show beyond the store.
    pub origins: Origins,
    pub authority: Arc<dyn Authority>,
    pub peering: Arc<Peering>,
    pub limits: LimitsConfig,
    /// Bounds the copies under way.
    pub copies: Arc<Semaphore>,
    users: RwLock<Arc<Users>>,
    /// True from SIGTERM on: not ready, and no new connections.
    pub drain: watch::Sender<bool>,
}

impl Shell {
    pub fn new(
        store: Store,
        origins: Origins,
        authority: Arc<dyn Authority>,
        peering: Arc<Peering>,
        limits: LimitsConfig,
        users: Users,
    ) -> Self {
        let users = RwLock::new(Arc::new(users));
        let copies = Arc::new(Semaphore::new(COPIES_CONCURRENT_MAX));
        Self { copies, store, origins, authority, peering, limits, users, drain: watch::Sender::new(false) }
    }

    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A rotated Secret takes effect for the next request.
    pub fn set_users(&self, users: Users) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
    }

    pub fn draining(&self) -> bool {
        *self.drain.borrow()
    }

    pub fn body_idle(&self) -> Duration {
        Duration::from_secs(self.limits.body_idle_seconds)
    }

    pub fn patience(&self) -> Patience {
        Patience { header: Duration::from_secs(self.limits.header_seconds), stalled: self.body_idle() }
    }
}
