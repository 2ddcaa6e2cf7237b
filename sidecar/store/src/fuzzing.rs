//! Inner parts of this crate for what measures them from outside: parsers of foreign bytes for the fuzz targets, the
//! protocol and the cache for benches and counts of allocations.

use std::io::IoSlice;
use std::sync::Arc;

use blobstore_sidecar_api::config::CacheConfig;
use blobstore_sidecar_core::generation::Generation;
use blobstore_sidecar_runtime::{budget::Budget, pool::Pool};
use bytes::Bytes;

use crate::{
    cache::Cache,
    doomed::Doomed,
    engine::{
        Outgoing,
        resp::{self, Parsed},
    },
    uploads::JournalEntry,
};

/// Length of the first whole answer of an engine.
pub fn reply(bytes: &[u8]) -> Option<usize> {
    match resp::parse(bytes) {
        Parsed::Whole(_, len) => Some(len),
        Parsed::More | Parsed::Garbage => None,
    }
}

/// Length of a value, and of the header that tells it.
pub fn bulk_header(bytes: &[u8]) -> Option<(usize, usize)> {
    resp::bulk_header(bytes).ok().flatten()
}

/// An entry of the journal, written as it was read.
pub fn journal_entry(text: &str) -> Option<String> {
    JournalEntry::parse(text).map(|entry| entry.member())
}

/// An entry of the list of generations to free, written as it was read.
pub fn doomed_entry(text: &str) -> Option<String> {
    let tag = blobstore_sidecar_core::partition::tag_of(0, 1);
    Doomed::parse(tag, text).map(|doomed| doomed.entry())
}

/// Whether these are the packed bytes of exactly `len` plain ones.
pub fn unpack(packed: &[u8], len: usize) -> bool {
    crate::pack::unpack(packed, &mut vec![0; len])
}

/// Bytes of a command on its way to the engine.
pub fn command(args: &[&[u8]]) -> usize {
    let mut out = Outgoing::default();
    out.command(args);
    out.slices().map(<[u8]>::len).sum()
}

/// A value on its way to the engine, in the frames in which it came.
#[derive(Debug)]
pub struct Sent(Outgoing);

impl Sent {
    pub fn value(key: &str, frames: &[Bytes]) -> Self {
        let mut out = Outgoing::default();
        out.set(key, frames, None);
        Self(out)
    }

    /// What a socket is given, piece by piece.
    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.0.slices().map(IoSlice::new).collect()
    }
}

/// The pool that a store reads into.
pub fn pool() -> Pool {
    crate::context::pool()
}

/// A cache that holds chunks 0 to `chunks`, each of a kilobyte.
#[derive(Debug)]
pub struct WarmCache(Cache);

impl WarmCache {
    const GENERATION: Generation = Generation([1; 16]);
    const CHUNK_BYTES: usize = 1_024;

    pub fn new(chunks: u32) -> Self {
        let budget = Budget::new(u64::MAX >> 1);
        let config = CacheConfig { max_bytes: 1 << 30, max_entry_bytes: 1 << 30, tenant_share_percent: 100 };
        let (cache, pool) = (Cache::new(config, budget.clone()), Pool::new([Self::CHUNK_BYTES], 1 << 30));
        for index in 0..chunks {
            let permit = budget.try_permit(Self::CHUNK_BYTES as u64);
            let chunk = pool.lease(Self::CHUNK_BYTES, "warm", permit).freeze();
            cache.insert_chunk(Self::GENERATION, index, &Arc::from("b"), chunk);
        }
        Self(cache)
    }

    pub fn has(&self, index: u32) -> bool {
        self.0.chunk(Self::GENERATION, index).is_some()
    }
}
