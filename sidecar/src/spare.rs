//! Chunks that this pod's engine has lost, from the engines of its replicas: over the peer port, one after the other.
//! What comes is checked by whoever asked.

use std::time::{Duration, Instant};

use blobstore_sidecar_store::{ChunkAsk, Spare};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};

use crate::peers::Peering;
use crate::wire;

/// One chunk from one replica.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);
/// A reader waits meanwhile; a shard has rarely more copies.
const COPIES_ASKED_MAX: usize = 3;

impl Spare for Peering {
    fn chunk<'a>(&'a self, ask: &'a ChunkAsk) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            for address in self.copies().into_iter().take(COPIES_ASKED_MAX) {
                match tokio::time::timeout(CHUNK_TIMEOUT, self.chunk_of(&address, ask)).await {
                    Ok(Some(bytes)) => return Some(bytes),
                    Ok(None) => {}
                    Err(_) => tracing::debug!(address, key = ask.key, "a replica did not answer in time"),
                }
            }
            None
        })
    }
}

impl Peering {
    async fn chunk_of(&self, address: &str, ask: &ChunkAsk) -> Option<Bytes> {
        let question = wire::Chunk { key: ask.key.clone(), len: ask.len };
        let request = self.request(address, wire::CHUNK_PATH, Some(&question)).ok()?;
        let handle = self.handle(address, Instant::now());
        let (response, _permit) = handle.send(request, self.admission_wait()).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = Limited::new(response.into_body(), ask.len as usize).collect().await.ok()?.to_bytes();
        (body.len() == ask.len as usize).then_some(body)
    }
}
