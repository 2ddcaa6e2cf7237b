//! A record in memory: parsed once, with the tenure under which it was read and the checksums of its chunks.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use blobstore_sidecar_core::record::{Attributes, Record};
use blobstore_sidecar_runtime::{authority::Tenure, pool::Pooled};

use crate::ObjectMeta;

#[derive(Debug)]
pub(crate) struct RecordEntry {
    pub(crate) record: Record,
    pub(crate) attributes: Arc<Attributes>,
    /// The buffer that `record.tail` lies in.
    pub(crate) value: Pooled,
    /// One per chunk.
    pub(crate) crcs: Vec<u64>,
    pub(crate) tenure: Tenure,
    accessed: AtomicU32,
    attributes_bytes: u64,
}

impl RecordEntry {
    pub(crate) fn new(mut record: Record, value: Pooled, crcs: Vec<u64>, tenure: Tenure) -> Self {
        let attributes = Arc::new(std::mem::take(&mut record.attributes));
        let accessed = AtomicU32::new(record.head.access_hour);
        let attributes_bytes = u64::from(record.head.headers_len) * 2;
        Self { record, attributes, value, crcs, tenure, accessed, attributes_bytes }
    }

    /// Bytes in memory.
    pub(crate) fn weight(&self) -> u64 {
        self.value.state.capacity() as u64 + self.attributes_bytes + 8 * self.crcs.len() as u64
    }

    pub(crate) fn meta(&self) -> ObjectMeta {
        ObjectMeta::of(&self.record.head, Arc::clone(&self.attributes))
    }

    /// True once an hour: the access time in the engine is out of date.
    pub(crate) fn touch(&self, hour: u32) -> bool {
        self.accessed.fetch_max(hour, Ordering::Relaxed) < hour
    }
}
