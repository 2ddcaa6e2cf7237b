//! The nouns of multipart uploads.

use std::fmt;

use blobstore_sidecar_core::{
    checksum::{Algorithm, Checksum},
    etag::ETag,
    generation::Generation,
    key::{BucketName, ObjectName},
    precondition::Conditions,
};

use crate::{Attributes, BodyChecks, GetRequest};

/// Smallest part of S3, the last one excepted.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// Names an open upload; later the generation of the object it became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub Generation);

impl UploadId {
    pub fn parse(text: &str) -> Option<Self> {
        Generation::parse(text).map(Self)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The checksum that an upload's parts carry and its object gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadChecksum {
    pub algorithm: Algorithm,
    /// Of the parts' checksums, instead of the whole body. The SHAs can only be this.
    pub composite: bool,
}

#[derive(Clone, Debug)]
pub struct CreateUpload {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub attributes: Attributes,
    pub checksum: Option<UploadChecksum>,
    /// When the object ends, milliseconds since 1970; 0: never.
    pub expires_ms: u64,
}

impl CreateUpload {
    pub fn new(bucket: BucketName, name: ObjectName) -> Self {
        Self { bucket, name, attributes: Attributes::default(), checksum: None, expires_ms: 0 }
    }
}

/// Which upload of which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRef {
    pub bucket: BucketName,
    pub name: ObjectName,
    pub upload: UploadId,
}

/// An open upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    pub name: String,
    pub upload: UploadId,
    pub initiated_ms: u64,
    pub attributes: Attributes,
    pub checksum: Option<UploadChecksum>,
}

/// One part on its way in.
#[derive(Clone, Debug)]
pub struct PartRequest {
    pub to: UploadRef,
    /// 1 to 10,000.
    pub number: u16,
    /// `Content-Length`, if there is one.
    pub declared_len: Option<u64>,
    pub content_md5: Option<[u8; 16]>,
    /// Give the part its MD5 as ETag.
    pub want_md5_etag: bool,
    /// Without an algorithm the one of the upload is taken.
    pub checks: BodyChecks,
    /// The algorithm of the checksum that the client sent, in lower case, or `null`; it must be that of the upload.
    /// `None`: no client sent this part.
    pub sent: Option<String>,
}

impl PartRequest {
    pub fn new(to: UploadRef, number: u16, declared_len: Option<u64>) -> Self {
        Self {
            to,
            number,
            declared_len,
            content_md5: None,
            want_md5_etag: false,
            checks: BodyChecks::default(),
            sent: None,
        }
    }
}

/// A part taken from an object, or from a range of it, that this store serves.
#[derive(Clone, Debug)]
pub struct PartCopyRequest {
    pub part: PartRequest,
    pub source: GetRequest,
}

/// A part that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    pub number: u16,
    pub etag: ETag,
    pub size: u64,
    pub modified_ms: u64,
    pub crc64: u64,
    pub checksum: Option<Checksum>,
}

#[derive(Clone, Debug)]
pub struct ListPartsRequest {
    pub to: UploadRef,
    /// Parts above this number.
    pub after: u16,
    pub max: usize,
}

/// Parts in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsPage {
    pub upload: UploadInfo,
    pub parts: Vec<PartInfo>,
    /// `Some`: there are more; the `after` of the next page.
    pub next: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct ListUploadsRequest {
    pub bucket: BucketName,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Uploads of names above this one.
    pub after: Option<String>,
    /// And of this very name, if `after` is given, those above this id.
    pub after_upload: Option<UploadId>,
    pub max: usize,
}

/// An open upload, or everything below one common prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadItem {
    Upload(Box<UploadInfo>),
    Prefix(String),
}

/// Open uploads of the partitions served here, by name, then by age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadsPage {
    pub items: Vec<UploadItem>,
    /// There is more behind the last item.
    pub truncated: bool,
}

/// A part as the client's list has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRef {
    pub number: u16,
    /// With or without quotes. `None`: whatever is stored.
    pub etag: Option<String>,
    pub checksum: Option<Checksum>,
}

#[derive(Clone, Debug)]
pub struct CompleteUpload {
    pub to: UploadRef,
    pub parts: Vec<PartRef>,
    pub conditions: Conditions,
    /// What the whole object's checksum has to be.
    pub checksum: Option<Checksum>,
    /// What the whole object's size has to be.
    pub size: Option<u64>,
}
