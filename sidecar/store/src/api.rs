//! The nouns of the store: requests and answers. What the HTTP and S3 lanes code against.

use std::{
    collections::BTreeMap,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use blobstore_sidecar_core::{
    checksum::Checksum,
    etag::ETag,
    generation::Generation,
    glob::Pattern,
    key::{BucketName, ObjectName},
    precondition::{Conditions, IfRange},
    range::ByteRange,
    record::{Attributes, Head},
    version::Version,
};
use bytes::Bytes;
use futures::{Stream, future::BoxFuture, stream::BoxStream};

use crate::{BodyChecks, error::StoreError, progress::UploadProgress};

/// The other shards, as far as buckets need them. With one shard nothing is ever asked.
///
/// A shell with several shards answers the same questions for its peers by [`crate::Store::bucket_here`],
/// [`crate::Store::lease_here`] and [`crate::Store::seal_here`].
pub trait Peers: Send + Sync + std::fmt::Debug + 'static {
    /// Configuration of a bucket whose home is elsewhere.
    fn bucket<'a>(&'a self, name: &'a BucketName) -> BoxFuture<'a, Result<Option<BucketInfo>, StoreError>>;
    /// Ask the home of `ask.bucket` for quota; the answer is the partition's whole lease in bytes.
    fn lease<'a>(&'a self, ask: &'a LeaseAsk) -> BoxFuture<'a, Result<u64, StoreError>>;
    /// Ask every *other* shard to refuse writes under `epoch` and older, and whether all of them are empty.
    fn seal<'a>(&'a self, name: &'a BucketName, epoch: u64) -> BoxFuture<'a, Result<bool, StoreError>>;
}

/// A store of one shard.
#[derive(Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn bucket<'a>(&'a self, _: &'a BucketName) -> BoxFuture<'a, Result<Option<BucketInfo>, StoreError>> {
        Box::pin(async { Ok(None) })
    }
    fn lease<'a>(&'a self, _: &'a LeaseAsk) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }
    fn seal<'a>(&'a self, _: &'a BucketName, _: u64) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async { Ok(true) })
    }
}

/// A partition's need of quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    pub bucket: BucketName,
    pub partition: u32,
    /// The lease must reach this many bytes to let the write through.
    pub needed: u64,
    /// What the partition uses and has reserved: the home may take the rest back.
    pub used: u64,
}

/// What a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    pub name: BucketName,
    pub created_ms: u64,
    /// Grows when the bucket is deleted and made again: an old upload cannot land in the new bucket.
    pub epoch: u64,
    pub quota_bytes: Option<u64>,
    /// Small documents that the lanes keep with the bucket: see [`crate::Store::set_document`].
    pub documents: Arc<BTreeMap<String, String>>,
}

/// Bytes and objects of a bucket in the partitions that this store serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketUsage {
    pub bytes: u64,
    pub objects: u64,
}

/// One upload.
#[derive(Clone, Debug)]
pub struct PutRequest {
    pub bucket: BucketName,
    pub name: ObjectName,
    /// `Content-Length`, if there is one. The body must then have exactly this length.
    pub declared_len: Option<u64>,
    pub attributes: Attributes,
    pub conditions: Conditions,
    /// `Content-MD5`: the body is refused when it does not match.
    pub content_md5: Option<[u8; 16]>,
    /// Give the object its MD5 as ETag (dropped when an upload of unknown length passes 8 MiB).
    pub want_md5_etag: bool,
    /// And even of an upload of unknown length.
    pub md5_always: bool,
    /// The ETag is known beforehand: the body comes from an origin that has one.
    pub etag: Option<ETag>,
    /// For readers that follow the upload while it runs.
    pub progress: Option<Arc<UploadProgress>>,
    pub checks: BodyChecks,
    /// When the object ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
}

impl PutRequest {
    pub fn new(bucket: BucketName, name: ObjectName, declared_len: Option<u64>) -> Self {
        Self {
            bucket,
            name,
            declared_len,
            attributes: Attributes::default(),
            conditions: Conditions::default(),
            content_md5: None,
            want_md5_etag: false,
            md5_always: false,
            etag: None,
            progress: None,
            checks: BodyChecks::default(),
            expires_ms: 0,
        }
    }
}

/// A stored and acknowledged upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    pub etag: ETag,
    pub generation: Generation,
    pub size: u64,
    pub modified_ms: u64,
    /// CRC64-NVME of the whole body.
    pub crc64: u64,
    /// What the request asked to compute.
    pub checksum: Option<Checksum>,
    /// False: an older object of this name was replaced.
    pub created: bool,
    /// In a bucket that keeps versions, which one this is.
    pub version: Option<Version>,
}

/// Everything about an object but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    pub size: u64,
    pub etag: ETag,
    pub generation: Generation,
    /// What its version is called in a bucket that keeps versions.
    pub version: Version,
    pub created_ms: u64,
    pub modified_ms: u64,
    /// CRC64-NVME of the whole body.
    pub crc64: u64,
    /// When the object ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
    pub attributes: Arc<Attributes>,
}

impl ObjectMeta {
    pub(crate) fn of(head: &Head, attributes: Arc<Attributes>) -> Self {
        Self {
            size: head.layout.size(),
            etag: head.etag,
            generation: head.generation,
            version: head.version(),
            created_ms: head.created_ms,
            modified_ms: head.modified_ms,
            crc64: head.crc64,
            expires_ms: head.expires_ms,
            attributes,
        }
    }
}

#[derive(Clone, Debug)]
pub struct HeadRequest {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub conditions: Conditions,
}

#[derive(Clone, Debug)]
pub struct GetRequest {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub conditions: Conditions,
    pub range: Option<ByteRange>,
    /// The range applies only if this holds; else the whole body is sent.
    pub if_range: Option<IfRange>,
}

impl GetRequest {
    pub fn new(bucket: BucketName, name: ObjectName) -> Self {
        Self { bucket, name, conditions: Conditions::default(), range: None, if_range: None }
    }
}

/// An object on its way out. The first bytes are in hand and may be sent.
#[derive(Debug)]
pub struct GetOutcome {
    pub meta: ObjectMeta,
    /// The bytes that `body` yields. Whole body: `0..meta.size`.
    pub range: Range<u64>,
    /// A range was asked for and applies (206).
    pub partial: bool,
    pub body: BlobStream,
}

/// The bytes of a GET, in order. Ends early only with an error: then the connection has to be cut.
pub struct BlobStream {
    remaining: u64,
    /// In hand already: of a whole body its last chunk and the tail behind it.
    first: Option<Bytes>,
    second: Option<Bytes>,
    /// `None`: nothing follows what is in hand.
    rest: Option<BoxStream<'static, Result<Bytes, StoreError>>>,
}

impl BlobStream {
    /// Exactly `remaining` bytes, or an error.
    pub fn new(
        remaining: u64,
        source: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
    ) -> Self {
        Self { remaining, first: None, second: None, rest: Some(Box::pin(source)) }
    }

    /// Bytes that are all in hand.
    pub(crate) fn whole(first: Option<Bytes>, second: Option<Bytes>) -> Self {
        let remaining = first.iter().chain(&second).map(|bytes| bytes.len() as u64).sum();
        Self { remaining, first, second, rest: None }
    }

    /// With these bytes before all others.
    pub(crate) fn behind(mut self, first: Option<Bytes>) -> Self {
        self.remaining += first.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.first = first;
        self
    }

    /// All that is still to come, if it is in hand: there is nothing to wait for then.
    pub fn into_whole(self) -> Result<[Bytes; 2], Self> {
        match self.rest {
            None => Ok([self.first, self.second].map(Option::unwrap_or_default)),
            Some(_) => Err(self),
        }
    }

    /// Exactly as many bytes are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let in_hand = self.first.take().or_else(|| self.second.take());
        let polled = match (in_hand, &mut self.rest) {
            (Some(bytes), _) => Poll::Ready(Some(Ok(bytes))),
            (None, Some(rest)) => rest.as_mut().poll_next(context),
            (None, None) => Poll::Ready(None),
        };
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.remaining = self.remaining.saturating_sub(len);
        }
        polled
    }
}

impl std::fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobStream").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct DeleteRequest {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub conditions: Conditions,
}

/// A deletion. Deleting what is not there succeeds, as S3 wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteOutcome {
    pub existed: bool,
    /// In a bucket that keeps versions: the delete marker that was made, or the version that is gone.
    pub version: Option<Version>,
    /// It is a delete marker that was made, or is gone.
    pub marker: bool,
}

/// A page of names over the partitions that this store serves; pages of several shards are merged with
/// [`blobstore_sidecar_core::list::merge_pages`].
#[derive(Clone, Debug)]
pub struct ListRequest {
    pub bucket: BucketName,
    pub prefix: String,
    /// Only names that it matches; not folded at a delimiter. The prefix should be no shorter than its head.
    pub pattern: Option<Pattern>,
    pub delimiter: Option<String>,
    /// `start-after` or the marker: names above this one. Ignored when there is a token.
    pub after: Option<String>,
    /// `next` of the page before.
    pub token: Option<String>,
    /// At most [`blobstore_sidecar_core::list::PAGE_ITEMS_MAX`].
    pub max: usize,
}

/// What the caches hold and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub bytes: u64,
    pub bytes_max: u64,
    pub entries: u64,
    pub records: u64,
    pub hits: u64,
    pub misses: u64,
    pub inserted: u64,
    pub evicted: u64,
}
