//! The blob store over one engine: uploads, downloads, listings, buckets, quota, caches and the sweeper.
//! HTTP is the caller's business; who owns what is the authority's.

mod api;
mod body;
mod buckets;
mod cache;
mod changing;
mod checks;
mod clock;
mod cold;
mod commit;
mod context;
mod copies;
mod damage;
mod delete;
mod documents;
mod doomed;
mod engine;
mod error;
mod evict;
mod expiry;
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod list;
mod memory;
mod metrics;
mod multipart;
mod options;
mod pack;
mod progress;
mod put;
mod quota;
mod readers;
mod record_entry;
mod repair;
mod scripts;
mod scrub;
mod sending;
mod store;
mod stream;
mod sweep;
mod update;
mod uploads;
mod versions;
mod walk;

pub use api::{
    BlobStream, BucketInfo, BucketUsage, CacheStats, DeleteOutcome, DeleteRequest, GetOutcome, GetRequest,
    HeadRequest, LeaseAsk, ListRequest, NoPeers, ObjectMeta, Peers, PutOutcome, PutRequest,
};
pub use blobstore_sidecar_core::record::{ATTRIBUTES_BYTES_MAX, Attributes};
pub use blobstore_sidecar_core::version::{Version, VersionMarker, Versioning};
pub use checks::{BodyChecks, LateChecksum};
pub use clock::{Clock, SystemClock};
pub use cold::PackReport;
pub use damage::DamagedObject;
pub use documents::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX};
pub use error::{ErrorKind, StoreError};
pub use multipart::{
    CompleteUpload, CreateUpload, ListPartsRequest, ListUploadsRequest, ObjectPart, ObjectParts,
    PART_BYTES_MIN, PartCopyRequest, PartInfo, PartRef, PartRequest, PartsPage, UploadChecksum, UploadId,
    UploadInfo, UploadItem, UploadRef, UploadsPage,
};
pub use options::{CrashPoint, EngineAddress, EngineAuth, StoreOptions, StoreTiming};
pub use progress::UploadProgress;
pub use repair::{ChunkAsk, NoSpare, Spare};
pub use scrub::ScrubReport;
pub use store::Store;
pub use update::{Change, UpdateRequest, check_tags};
pub use versions::list::{ListVersionsRequest, ListedVersion, VersionItem, VersionsPage};
