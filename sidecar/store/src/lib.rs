//! The blob store over one engine: uploads, downloads, listings, buckets, quota, caches and the sweeper.
//! HTTP is the caller's business; who owns what is the authority's.

mod api;
mod error;
mod store;

pub use api::{
    Attributes, BlobStream, BucketInfo, BucketUsage, CacheStats, DeleteOutcome, DeleteRequest, EngineAddress,
    EngineAuth, GetOutcome, GetRequest, HeadRequest, LeaseAsk, ListRequest, NoPeers, ObjectMeta, Peers,
    PutOutcome, PutRequest, StoreOptions, StoreTiming,
};
pub use error::{ErrorKind, StoreError};
pub use store::Store;

/// Attributes of one object, stored together: four times what S3 allows for user metadata.
pub const ATTRIBUTES_BYTES_MAX: usize = 8 << 10;
