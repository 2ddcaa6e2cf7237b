//! What the admin and peer ports ask of the pod's other parts: shard protocol, leak detector, remedies. A pod and
//! `dev` answer differently; the ports do not know which they talk to.

use std::time::Duration;

use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::memory::MemoryView;
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use blobstore_sidecar_shard::{Identity, PeerAnswer, PeerRequest};
use futures::future::BoxFuture;

/// Ready, or why not, in one sentence.
pub type Readiness = Result<(), String>;

/// The pod behind the ports.
pub trait Control: Send + Sync + std::fmt::Debug + 'static {
    /// May clients be sent here?
    fn readiness(&self) -> BoxFuture<'_, Readiness>;
    /// `None`: nothing here knows (`dev` has no shard).
    fn topology(&self) -> BoxFuture<'_, Option<PodTopology>>;
    fn report(&self) -> BoxFuture<'_, Option<LeakReport>>;
    /// The engine's own evidence, explained. `Err`: why it cannot be read, in one sentence.
    fn memory(&self) -> BoxFuture<'_, Result<MemoryView, String>>;
    /// `None`: no such action.
    fn act(&self, name: String, request: ActionRequest) -> BoxFuture<'_, Option<ActionResult>>;
    /// preStop: returns when a replica has taken over, or none is needed, or the deadline has come.
    fn hand_over(&self, deadline: Duration) -> BoxFuture<'_, ()>;
    fn identity(&self, nonce: String) -> BoxFuture<'_, Option<Identity>>;
    fn peer(&self, request: PeerRequest) -> BoxFuture<'_, Option<PeerAnswer>>;
}
