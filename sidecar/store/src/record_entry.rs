//! A record in memory: parsed once, with the tenure under which it was read and the checksums of its chunks.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use blobstore_sidecar_core::{
    chunk::Piece,
    generation::Generation,
    parts::PartList,
    record::{Attributes, Record},
};
use blobstore_sidecar_runtime::{authority::Tenure, pool::Pooled};

use crate::ObjectMeta;

/// What is known of a body's chunks.
#[derive(Debug)]
pub(crate) enum Chunks {
    /// All but the last of one length: a checksum for each.
    Alike(Vec<u64>),
    InParts(PartList),
    /// In one generation, whatever their lengths: the last field is how many bytes of each the engine holds.
    Packed(Vec<u64>, Option<PartList>, Vec<u32>),
}

#[derive(Debug)]
pub(crate) struct RecordEntry {
    pub(crate) record: Record,
    pub(crate) attributes: Arc<Attributes>,
    /// The buffer that `record.tail` lies in.
    pub(crate) value: Pooled,
    /// One per chunk.
    pub(crate) crcs: Vec<u64>,
    /// Where the chunks lie, if the object was uploaded in parts.
    pub(crate) parts: Option<PartList>,
    /// Of a packed body: what the engine holds of each chunk.
    stored_lens: Option<Vec<u32>>,
    pub(crate) tenure: Tenure,
    accessed: AtomicU32,
    attributes_bytes: u64,
}

impl RecordEntry {
    pub(crate) fn new(mut record: Record, value: Pooled, chunks: Chunks, tenure: Tenure) -> Self {
        let (crcs, parts, stored_lens) = match chunks {
            Chunks::Alike(crcs) => (crcs, None, None),
            Chunks::InParts(list) => (Vec::new(), Some(list), None),
            Chunks::Packed(crcs, list, lens) => (crcs, list, Some(lens)),
        };
        let attributes = Arc::new(std::mem::take(&mut record.attributes));
        let accessed = AtomicU32::new(record.head.access_hour);
        let attributes_bytes = u64::from(record.head.headers_len) * 2;
        Self { record, attributes, value, crcs, parts, stored_lens, tenure, accessed, attributes_bytes }
    }

    /// Bytes in memory.
    pub(crate) fn weight(&self) -> u64 {
        let parts = self.parts.as_ref().map_or(0, PartList::weight);
        let lens = 4 * self.stored_lens.as_ref().map_or(0, Vec::len) as u64;
        self.value.state.capacity() as u64 + self.attributes_bytes + 8 * self.crcs.len() as u64 + parts + lens
    }

    /// The piece that holds byte `at`, up to `end`.
    pub(crate) fn piece_at(&self, at: u64, end: u64) -> Option<Piece> {
        match &self.parts {
            None => self.record.head.layout.piece_at(at, end),
            Some(list) => list.piece_at(at, end),
        }
    }

    /// Chunk `index` of the body: whose it is, its index there, its length.
    pub(crate) fn locate(&self, index: u32) -> Option<(Generation, u32, u32)> {
        match &self.parts {
            None => {
                let head = &self.record.head;
                (index < head.layout.chunks).then(|| (head.generation, index, head.layout.chunk_len(index)))
            }
            Some(list) => list.locate(index),
        }
    }

    /// What the engine holds of chunk `index` of `len` bytes: fewer, if it is packed.
    pub(crate) fn stored_len(&self, index: u32, len: u32) -> u32 {
        let lens = self.stored_lens.as_deref().unwrap_or_default();
        lens.get(index as usize).copied().unwrap_or(len)
    }

    pub(crate) fn crc(&self, index: u32) -> Option<u64> {
        let crcs = self.parts.as_ref().map_or(&*self.crcs, PartList::crcs);
        crcs.get(index as usize).copied()
    }

    pub(crate) fn meta(&self) -> ObjectMeta {
        ObjectMeta::of(&self.record.head, Arc::clone(&self.attributes))
    }

    /// True once an hour: the access time in the engine is out of date.
    pub(crate) fn touch(&self, hour: u32) -> bool {
        self.accessed.fetch_max(hour, Ordering::Relaxed) < hour
    }
}
