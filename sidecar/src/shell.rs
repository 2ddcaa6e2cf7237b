//! What every request needs, in one place, shared by the three ports.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use blobstore_sidecar_api::config::LimitsConfig;
use blobstore_sidecar_api::domains::Domains;
use blobstore_sidecar_origins::Origins;
use blobstore_sidecar_runtime::authority::Authority;
use blobstore_sidecar_store::Store;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, request};
use tokio::sync::{Semaphore, watch};

use crate::auth::Users;
use crate::io::Patience;
use crate::lane::{BULKS_CONCURRENT_MAX, COPIES_CONCURRENT_MAX};
use crate::peers::Peering;
use crate::wire::ClientPort;

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
    /// Bounds the requests for many objects.
    pub bulks: Arc<Semaphore>,
    /// Where clients of this pod find it; unset until its ports are open.
    pub client_port: OnceLock<ClientPort>,
    /// Domains before which a bucket may stand.
    pub domains: Domains,
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
        let bulks = Arc::new(Semaphore::new(BULKS_CONCURRENT_MAX));
        let (client_port, domains) = (OnceLock::new(), Domains::default());
        let drain = watch::Sender::new(false);
        Self { copies, bulks, client_port, store, origins, authority, peering, limits, domains, users, drain }
    }

    /// With buckets in host names.
    pub fn with_domains(mut self, domains: Domains) -> Self {
        self.domains = domains;
        self
    }

    /// The bucket that a request's host names.
    pub fn hosted(&self, headers: &HeaderMap) -> Option<String> {
        self.domains.bucket(headers.get(HOST)?.to_str().ok()?)
    }

    /// `bucket.domain/key` as `/bucket/key`. `None`: it is that already.
    pub fn by_path(&self, head: &request::Parts) -> Option<Uri> {
        let bucket = self.hosted(&head.headers)?;
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        format!("/{bucket}{path}").parse().ok()
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
