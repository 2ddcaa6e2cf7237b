//! What this pod's engine holds for another: a chunk as it lies there, for an owner whose own engine has lost it. The
//! engine may be a replica, which says so to everybody who does not ask for reading only.

use blobstore_sidecar_core::{
    chunk::CHUNK_BYTES,
    key::{self, ParsedKey},
};
use bytes::Bytes;

use crate::{
    ErrorKind, Store, StoreError,
    engine::{Expected, Lane, Outgoing, Value},
    stream::busy,
};

impl Store {
    /// The value of a chunk's key, if it is there with this length. A connection of its own: this is rare.
    pub async fn chunk_here(&self, key: &str, len: u32) -> Result<Option<Bytes>, StoreError> {
        let inner = &self.inner;
        let chunk = matches!(key::parse(key.as_bytes()), Some(ParsedKey::Chunk { .. }));
        if !chunk || len > CHUNK_BYTES {
            return Err(StoreError::new(ErrorKind::Protocol, "this is not the key of a chunk"));
        }
        let wait = std::time::Duration::from_millis(inner.options.limits.admission_wait_ms);
        let permit = inner.budget.permit(u64::from(len), wait).await.map_err(busy)?;
        let mut lane = inner.connect().await?;
        let mut out = Outgoing::default();
        out.command(&[b"READONLY"]);
        lane.send(&mut out).await?;
        // An engine outside of a cluster refuses the word, and needs none.
        let _said = lane.reply().await?;
        let mut out = Outgoing::default();
        out.command(&[b"GET", key.as_bytes()]);
        lane.send(&mut out).await?;
        let expected = Expected { len: len as usize, permit: Some(permit) };
        Ok(match lane.value(Some(expected), &inner.pool, "copy").await? {
            Value::Present(lease) => Some(lease.freeze().bytes),
            Value::Absent | Value::Wrong => None,
        })
    }
}

impl crate::context::Inner {
    async fn connect(&self) -> Result<Lane, StoreError> {
        Lane::connect(&self.address, self.options.auth.as_ref(), self.options.timing.engine_timeout).await
    }
}
