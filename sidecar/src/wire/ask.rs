//! Small operations of one object's owner, between the pod that a client came to and the pod that has the object.

use blobstore_sidecar_core::checksum::{Algorithm, Checksum};
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_store as store;
use blobstore_sidecar_store::{
    Attributes, PartInfo, StoreError, UploadChecksum, UploadId, UploadInfo, UploadItem, UploadRef,
};
use serde::{Deserialize, Serialize};

/// An object by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub bucket: String,
    pub name: String,
}

/// `POST /v1/ask`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ask {
    CreateUpload {
        place: Place,
        attributes: Packed,
        checksum: Option<Sum>,
    },
    ListParts {
        place: Place,
        upload: String,
        after: u16,
        max: usize,
    },
    CompleteUpload {
        place: Place,
        upload: String,
        list: Box<Completion>,
    },
    AbortUpload {
        place: Place,
        upload: String,
    },
    /// `None` removes it.
    SetDocument {
        bucket: String,
        name: String,
        text: Option<String>,
    },
    /// What the bucket keeps of objects: `Enabled` or `Suspended`.
    SetVersioning {
        bucket: String,
        keeps: String,
    },
    SetTags {
        place: Place,
        version: Option<String>,
        tags: Vec<(String, String)>,
    },
    /// The parts that an object was uploaded in.
    ObjectParts {
        place: Place,
        version: Option<String>,
        after: u16,
        max: usize,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    Upload(Upload),
    Parts { upload: Upload, parts: Vec<Part>, next: Option<u16> },
    Stored(Stored),
    ObjectParts(ObjectParts),
    Tagged { version: String },
    Done,
}

/// Parts of a completed object; `count` 0: it was not uploaded in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectParts {
    pub etag: String,
    pub size: u64,
    pub count: u16,
    pub parts: Vec<ObjectPart>,
    pub truncated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectPart {
    pub number: u16,
    pub start: u64,
    pub size: u64,
    /// As `Checksum::encode` writes it.
    #[serde(default)]
    pub checksum: Option<String>,
}

/// The answer of an owner, which may be a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Told(Told),
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

/// Headers, metadata and tags of an object, as its record holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed(String);

/// The checksum that an upload's parts carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    pub algorithm: String,
    pub composite: bool,
}

/// An upload under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    pub name: String,
    pub upload: String,
    pub initiated_ms: u64,
    pub storage_class: Option<String>,
    pub checksum: Option<Sum>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub number: u16,
    pub etag: String,
    pub size: u64,
    pub modified_ms: u64,
    /// As `Checksum::encode` writes it.
    pub checksum: Option<String>,
}

/// The list that makes an upload an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    pub parts: Vec<ListedPart>,
    pub if_match: Option<String>,
    pub if_none_match: Option<String>,
    pub checksum: Option<String>,
    pub size: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedPart {
    pub number: u16,
    pub etag: Option<String>,
    pub checksum: Option<String>,
}

/// An object that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub etag: String,
    pub modified_ms: u64,
    pub size: u64,
    pub crc64: u64,
    pub checksum: Option<String>,
    pub version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OpenItem {
    Upload(Upload),
    Prefix(String),
}

impl OpenItem {
    /// What orders items: the name, then the upload.
    pub fn key(&self) -> (&str, &str) {
        match self {
            Self::Upload(upload) => (&upload.name, &upload.upload),
            Self::Prefix(prefix) => (prefix, ""),
        }
    }
}

impl Place {
    pub fn new(bucket: &str, name: &str) -> Self {
        Self { bucket: bucket.to_owned(), name: name.to_owned() }
    }

    pub fn parse(&self) -> Result<(BucketName, ObjectName), StoreError> {
        Ok((BucketName::parse(self.bucket.clone())?, ObjectName::parse(self.name.clone())?))
    }

    /// `None`: no upload has such an id.
    pub fn upload(&self, upload: &str) -> Result<Option<UploadRef>, StoreError> {
        let (bucket, name) = self.parse()?;
        Ok(UploadId::parse(upload).map(|upload| UploadRef { bucket, name, upload }))
    }
}

impl Packed {
    /// `None`: larger than a record may carry.
    pub fn pack(attributes: &Attributes) -> Option<Self> {
        attributes.encode().map(|bytes| Self(hex::encode(bytes)))
    }

    pub fn unpack(&self) -> Option<Attributes> {
        Attributes::decode(&hex::decode(&self.0).ok()?)
    }
}

impl From<UploadChecksum> for Sum {
    fn from(sum: UploadChecksum) -> Self {
        Self { algorithm: sum.algorithm.name().to_owned(), composite: sum.composite }
    }
}

impl Sum {
    pub fn parse(&self) -> Option<UploadChecksum> {
        let algorithm = Algorithm::parse(&self.algorithm)?;
        Some(UploadChecksum { algorithm, composite: self.composite })
    }
}

impl From<UploadInfo> for Upload {
    fn from(info: UploadInfo) -> Self {
        let UploadInfo { name, upload, initiated_ms, attributes, checksum } = info;
        Self {
            name,
            upload: upload.to_string(),
            initiated_ms,
            storage_class: attributes.storage_class,
            checksum: checksum.map(Sum::from),
        }
    }
}

impl From<store::ObjectParts> for ObjectParts {
    fn from(parts: store::ObjectParts) -> Self {
        let store::ObjectParts { etag, size, count, parts, truncated } = parts;
        let shown = |part: store::ObjectPart| {
            let store::ObjectPart { number, start, size, checksum } = part;
            ObjectPart { number, start, size, checksum: checksum.as_ref().map(Checksum::encode) }
        };
        Self { etag: etag.quoted(), size, count, parts: parts.into_iter().map(shown).collect(), truncated }
    }
}

impl From<PartInfo> for Part {
    fn from(part: PartInfo) -> Self {
        let PartInfo { number, etag, size, modified_ms, crc64: _, checksum } = part;
        let checksum = checksum.as_ref().map(Checksum::encode);
        Self { number, etag: etag.to_string(), size, modified_ms, checksum }
    }
}

impl From<UploadItem> for OpenItem {
    fn from(item: UploadItem) -> Self {
        match item {
            UploadItem::Upload(upload) => Self::Upload((*upload).into()),
            UploadItem::Prefix(prefix) => Self::Prefix(prefix),
        }
    }
}
