//! The crate's face: what the HTTP ports, the data path and `main` call.

use std::{sync::Arc, time::Duration};

use blobstore_sidecar_api::{
    action::{ActionRequest, ActionResult},
    topology::PodTopology,
};
use blobstore_sidecar_runtime::authority::Authority;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Identity, PeerAnswer, PeerRequest};

/// The local engine as the store must know it: a new run id means reopened lanes and an empty ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    Down,
    Up { run_id: Arc<str> },
}

/// Questions to the actor. Each carries where the answer goes.
#[derive(Debug)]
pub enum Ask {
    Topology(oneshot::Sender<PodTopology>),
    Act { name: String, request: ActionRequest, answer: oneshot::Sender<ActionResult> },
    Peer { request: PeerRequest, answer: oneshot::Sender<PeerAnswer> },
    Identity { nonce: String, answer: oneshot::Sender<Option<Identity>> },
    HandOver { deadline: Duration, answer: oneshot::Sender<()> },
}

/// A running shard member. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) engine: watch::Receiver<EngineState>,
}

impl ShardHandle {
    /// What the data path asks before and after each request.
    pub fn authority(&self) -> Arc<dyn Authority> {
        self.authority.clone()
    }

    /// `GET /v1/topology`. `None` when the actor has stopped.
    pub async fn topology(&self) -> Option<PodTopology> {
        self.ask(Ask::Topology).await
    }

    /// `POST /v1/actions/{name}` for `meet`, `forget`, `promote` and `hand-over`. `None`: not an action of the shard.
    pub async fn act(&self, name: &str, request: ActionRequest) -> Option<ActionResult> {
        self.ask(|answer| Ask::Act { name: name.to_owned(), request, answer }).await
    }

    /// `POST /v1/shard` on the peer port, after the bearer token was checked.
    pub async fn peer(&self, request: PeerRequest) -> Option<PeerAnswer> {
        self.ask(|answer| Ask::Peer { request, answer }).await
    }

    /// `GET /v1/identity?nonce=…` on the peer port. `None`: no engine answers, or the nonce is not one (then 503).
    pub async fn identity(&self, nonce: &str) -> Option<Identity> {
        self.ask(|answer| Ask::Identity { nonce: nonce.to_owned(), answer }).await.flatten()
    }

    /// Engine up with its run id, or down. The first value is the present one.
    pub fn engine_events(&self) -> watch::Receiver<EngineState> {
        self.engine.clone()
    }

    /// preStop: stops serving and lets an in-sync replica take over; then the launcher may end the engine.
    /// Returns when that happened, when there is nobody to hand over to, or at the deadline.
    pub async fn hand_over_and_stop(&self, deadline: Duration) {
        self.ask(|answer| Ask::HandOver { deadline, answer }).await.unwrap_or_default();
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, got) = oneshot::channel();
        self.asks.send(ask(answer)).await.ok()?;
        got.await.ok()
    }
}
