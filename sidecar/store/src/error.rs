//! What can go wrong in the store. Every error has a kind that decides the status code, and a message for people.

use std::error::Error;

use blobstore_sidecar_core::key::NameError;
use blobstore_sidecar_runtime::authority::Withheld;

/// What happened, as far as a caller has to tell it apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such object (404).
    NotFound,
    /// No such bucket (404).
    NoSuchBucket,
    /// The bucket to be created exists (409).
    BucketExists,
    /// The bucket to be deleted holds objects or uploads (409).
    BucketNotEmpty,
    /// No such version (404).
    NoSuchVersion,
    /// The version asked for is a delete marker (405).
    DeleteMarker,
    /// A condition of the request does not hold (412).
    Precondition,
    /// The client's copy is current (304).
    NotModified,
    /// 416; the body has this many bytes.
    RangeNotSatisfiable { size: u64 },
    /// The bucket's quota would be exceeded (507, or 403 `QuotaExceeded` over S3).
    QuotaExceeded,
    /// The engine's memory is used up (507).
    EngineFull,
    /// The engine does not answer; for a write the outcome is unknown (503).
    EngineDown,
    /// Another sidecar owns the object (421 for a forwarded request, else forward). `address`: its peer port.
    NotOwner { address: Option<String>, epoch: Option<u64> },
    /// The shard protocol holds the answer back (503).
    Withheld,
    /// What is stored does not match its checksum, or part of it is missing (500).
    Damaged,
    /// The body does not match `Content-MD5` (400).
    BadDigest,
    /// The body ended before its declared length, or its stream broke (400).
    Incomplete,
    /// The body is larger than allowed, or than declared (413).
    TooLarge,
    /// A limit of this pod is reached (503 with Retry-After).
    Busy,
    /// The upload was inactive for so long that it was swept (408).
    Swept,
    /// No such multipart upload: it was completed, aborted or swept (404).
    NoSuchUpload,
    /// A part of the list is not there, or is another one (400).
    InvalidPart,
    /// The list of parts is not in ascending order (400).
    InvalidPartOrder,
    /// A part that is not the last is smaller than allowed (400).
    PartTooSmall,
    /// A part comes with another checksum than its upload was opened for (400).
    ChecksumKind,
    /// A tag is too long, there twice, or one too many (400).
    InvalidTag,
    /// Headers, metadata and tags of an object are too large together (400).
    MetadataTooLarge,
    /// The name or argument is not allowed (400).
    InvalidName,
    /// A reader was too slow to be waited for (the connection is cut).
    Cut,
    /// The origin behind the bucket does not answer, or not as it should (502).
    OriginDown,
    /// The origin behind the bucket is too slow (504).
    OriginTimeout,
    /// The bucket shows an origin and takes no writes (405).
    ReadOnly,
    /// The engine answered something that we do not understand (500).
    Protocol,
}

impl ErrorKind {
    /// Bounded label for metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NoSuchBucket => "no_such_bucket",
            Self::NoSuchVersion => "no_such_version",
            Self::DeleteMarker => "delete_marker",
            Self::BucketExists => "bucket_exists",
            Self::BucketNotEmpty => "bucket_not_empty",
            Self::Precondition => "precondition",
            Self::NotModified => "not_modified",
            Self::RangeNotSatisfiable { .. } => "range_not_satisfiable",
            Self::QuotaExceeded => "quota_exceeded",
            Self::EngineFull => "engine_full",
            Self::EngineDown => "engine_down",
            Self::NotOwner { .. } => "not_owner",
            Self::Withheld => "withheld",
            Self::Damaged => "damaged",
            Self::BadDigest => "bad_digest",
            Self::Incomplete => "incomplete",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Swept => "swept",
            Self::NoSuchUpload => "no_such_upload",
            Self::InvalidPart => "invalid_part",
            Self::InvalidPartOrder => "invalid_part_order",
            Self::PartTooSmall => "part_too_small",
            Self::ChecksumKind => "checksum_kind",
            Self::InvalidTag => "invalid_tag",
            Self::MetadataTooLarge => "metadata_too_large",
            Self::InvalidName => "invalid_name",
            Self::Cut => "cut",
            Self::OriginDown => "origin_down",
            Self::OriginTimeout => "origin_timeout",
            Self::ReadOnly => "read_only",
            Self::Protocol => "protocol",
        }
    }

    /// The same request may succeed a moment later.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Self::EngineDown
                | Self::NotOwner { .. }
                | Self::Withheld
                | Self::Busy
                | Self::Swept
                | Self::Cut
                | Self::OriginDown
                | Self::OriginTimeout
        )
    }
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    pub kind: ErrorKind,
    /// Lower case, no full stop; fit for a client.
    pub message: String,
    /// `NotModified` and `Precondition`: what is stored now, for the headers of the answer. `NotFound` and
    /// `DeleteMarker`: the delete marker.
    pub current: Option<Box<crate::ObjectMeta>>,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), current: None, source: None }
    }

    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn category(&self) -> &'static str {
        self.kind.category()
    }

    pub fn retryable(&self) -> bool {
        self.kind.retryable()
    }
}

impl From<NameError> for StoreError {
    fn from(error: NameError) -> Self {
        Self::new(ErrorKind::InvalidName, error.to_string())
    }
}

impl From<Withheld> for StoreError {
    fn from(withheld: Withheld) -> Self {
        Self::new(ErrorKind::Withheld, withheld.to_string())
    }
}
