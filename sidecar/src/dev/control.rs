//! One engine without replicas, as the data path and the admin port see it: the owner of everything while the
//! engine runs, and of nothing while it does not.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::memory::MemoryView;
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use blobstore_sidecar_hygiene::Hygiene;
use blobstore_sidecar_runtime::authority::{Authority, Owner, Tenure, Withheld};
use blobstore_sidecar_shard::{Identity, PeerAnswer, PeerRequest};
use futures::future::{BoxFuture, ready};

use crate::control::{Control, Readiness};

/// A new tenure with every engine.
#[derive(Debug, Default)]
pub(super) struct DevAuthority(RwLock<Option<Tenure>>);

impl DevAuthority {
    pub(super) fn set(&self, tenure: Option<Tenure>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tenure;
    }

    fn check(&self, tenure: &Tenure) -> Result<(), Withheld> {
        if self.tenure().as_ref() == Some(tenure) { Ok(()) } else { Err(Withheld::Deposed) }
    }
}

impl Authority for DevAuthority {
    fn owner(&self, _slot: u16) -> Owner {
        self.tenure().map_or(Owner::Nobody, Owner::Here)
    }
    fn tenure(&self) -> Option<Tenure> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn acknowledged<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(ready(self.check(tenure)))
    }
    fn may_read<'a>(&'a self, tenure: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(ready(self.check(tenure)))
    }
}

/// No shard, so no topology and nobody to hand over to.
#[derive(Debug)]
pub(super) struct DevControl {
    authority: Arc<DevAuthority>,
    hygiene: Hygiene,
}

impl DevControl {
    pub(super) fn new(authority: Arc<DevAuthority>, hygiene: Hygiene) -> Self {
        Self { authority, hygiene }
    }
}

impl Control for DevControl {
    fn readiness(&self) -> BoxFuture<'_, Readiness> {
        let up = self.authority.tenure().is_some();
        Box::pin(ready(if up { Ok(()) } else { Err("the engine does not run".to_owned()) }))
    }
    fn topology(&self) -> BoxFuture<'_, Option<PodTopology>> {
        Box::pin(ready(None))
    }
    fn report(&self) -> BoxFuture<'_, Option<LeakReport>> {
        Box::pin(ready(Some(self.hygiene.report())))
    }
    fn memory(&self) -> BoxFuture<'_, Result<MemoryView, String>> {
        Box::pin(async { self.hygiene.memory().await.map_err(|error| error.chain()) })
    }
    fn act(&self, name: String, request: ActionRequest) -> BoxFuture<'_, Option<ActionResult>> {
        Box::pin(async move {
            if !blobstore_sidecar_hygiene::is_ours(&name) {
                return None;
            }
            Some(self.hygiene.act(&name, &request).await)
        })
    }
    fn hand_over(&self, _deadline: Duration) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
    fn identity(&self, _nonce: String) -> BoxFuture<'_, Option<Identity>> {
        Box::pin(ready(None))
    }
    fn peer(&self, _request: PeerRequest) -> BoxFuture<'_, Option<PeerAnswer>> {
        Box::pin(ready(None))
    }
}
