//! The blob store over one engine: uploads, downloads, listings, buckets, quota, caches and the sweeper.
//! HTTP is the caller's business; who owns what is the authority's.

mod api;
mod body;
mod buckets;
mod cache;
mod changing;
mod commit;
mod context;
mod delete;
mod doomed;
mod engine;
mod error;
mod evict;
mod get;
mod list;
mod memory;
mod metrics;
mod progress;
mod put;
mod quota;
mod readers;
mod record_entry;
mod scripts;
mod sending;
mod store;
mod stream;
mod sweep;
mod uploads;

pub use api::{
    BlobStream, BucketInfo, BucketUsage, CacheStats, CrashPoint, DeleteOutcome, DeleteRequest, EngineAddress,
    EngineAuth, GetOutcome, GetRequest, HeadRequest, LeaseAsk, ListRequest, NoPeers, ObjectMeta, Peers,
    PutOutcome, PutRequest, StoreOptions, StoreTiming,
};
pub use blobstore_sidecar_core::record::{ATTRIBUTES_BYTES_MAX, Attributes};
pub use error::{ErrorKind, StoreError};
pub use progress::UploadProgress;
pub use store::Store;
