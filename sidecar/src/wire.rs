//! JSON between the sidecars of one store on the peer port: listings, buckets, leases. Only sidecars of one
//! version family speak it; nothing outside relies on it.

use blobstore_sidecar_core::etag::ETag;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::list::{Cursor, ListEntry, ListItem, ListPage};
use blobstore_sidecar_store::{BucketInfo, LeaseAsk};
use serde::{Deserialize, Serialize};

pub mod ask;
pub mod versions;

/// Paths on the peer port.
pub const HEALTH_PATH: &str = "/v1/health";
pub const LIST_PATH: &str = "/v1/list";
pub const BUCKETS_PATH: &str = "/v1/buckets";
pub const BUCKET_PATH: &str = "/v1/bucket";
pub const LEASE_PATH: &str = "/v1/lease";
pub const SEAL_PATH: &str = "/v1/seal";
pub const CHUNK_PATH: &str = "/v1/chunk";
pub const ASK_PATH: &str = "/v1/ask";
/// The list of 10,000 parts with a tag and a checksum each.
pub const ASK_BYTES_MAX: usize = 4 << 20;
pub const UPLOADS_PATH: &str = "/v1/uploads";

/// `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub pod: String,
    /// Epoch of the tenure, when this pod serves.
    pub epoch: Option<u64>,
    pub run_id: Option<String>,
    #[serde(default)]
    pub client: Option<ClientPort>,
}

/// Where clients that can follow to a pod find it: at its address, here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientPort {
    pub port: u16,
    pub tls: bool,
}

/// `POST /v1/chunk`: a chunk as the engine of the pod that is asked holds it. Answered with its bytes, or 404.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chunk {
    /// The engine's key.
    pub key: String,
    pub len: u32,
}

/// `POST /v1/list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAsk {
    pub bucket: String,
    pub prefix: String,
    /// A pod that does not know it answers with all names of the prefix: who asks looks at them again.
    #[serde(default)]
    pub pattern: Option<String>,
    pub delimiter: Option<String>,
    pub after: Option<String>,
    pub token: Option<String>,
    pub max: usize,
}

/// A page, and which partitions it covers: all of them, from before the first look until after the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub partitions: Vec<u32>,
    pub items: Vec<Item>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    Prefix(String),
    Object { name: String, size: u64, etag: String, modified_ms: u64 },
}

/// `POST /v1/uploads` and `POST /v1/versions`: items of the partitions that the asked pod serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemsAsk {
    pub bucket: String,
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Goes on behind this name, and of it behind this upload or version.
    pub after: Option<String>,
    pub after_item: Option<String>,
    pub max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Items<T> {
    pub partitions: Vec<u32>,
    pub items: Vec<T>,
    pub truncated: bool,
}

/// What a pod tells of the partitions that it serves.
pub trait Part {
    fn partitions(&self) -> &[u32];
}

/// A bucket between sidecars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    pub name: String,
    pub created_ms: u64,
    pub epoch: u64,
    pub quota_bytes: Option<u64>,
    #[serde(default)]
    pub documents: std::collections::BTreeMap<String, String>,
}

/// `GET /v1/buckets`: those whose home is in `partitions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Buckets {
    pub partitions: Vec<u32>,
    pub buckets: Vec<Bucket>,
}

/// `POST /v1/lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    pub bucket: String,
    pub partition: u32,
    pub needed: u64,
    pub used: u64,
}

/// `POST /v1/seal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    pub bucket: String,
    pub epoch: u64,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { partitions: Vec::new(), items: Vec::new(), truncated: false }
    }
}

impl Part for Page {
    fn partitions(&self) -> &[u32] {
        &self.partitions
    }
}

impl Part for Buckets {
    fn partitions(&self) -> &[u32] {
        &self.partitions
    }
}

impl<T> Part for Items<T> {
    fn partitions(&self) -> &[u32] {
        &self.partitions
    }
}

impl Page {
    pub fn new(partitions: Vec<u32>, page: ListPage) -> Self {
        Self { partitions, items: page.items.into_iter().map(Item::from).collect(), next: page.next }
    }

    /// `None`: a peer sent what is not an ETag, or no place to go on at.
    pub fn into_page(self) -> Option<ListPage> {
        if self.next.as_deref().is_some_and(|token| Cursor::parse(token).is_none()) {
            return None;
        }
        let items: Option<Vec<ListItem>> = self.items.into_iter().map(Item::into_item).collect();
        Some(ListPage { items: items?, next: self.next })
    }
}

impl From<ListItem> for Item {
    fn from(item: ListItem) -> Self {
        match item {
            ListItem::Prefix(prefix) => Self::Prefix(prefix),
            ListItem::Object(ListEntry { name, size, etag, modified_ms }) => {
                Self::Object { name, size, etag: etag.to_string(), modified_ms }
            }
        }
    }
}

impl Item {
    fn into_item(self) -> Option<ListItem> {
        Some(match self {
            Self::Prefix(prefix) => ListItem::Prefix(prefix),
            Self::Object { name, size, etag, modified_ms } => {
                ListItem::Object(ListEntry { name, size, etag: ETag::parse(&etag)?, modified_ms })
            }
        })
    }
}

impl From<BucketInfo> for Bucket {
    fn from(info: BucketInfo) -> Self {
        let BucketInfo { name, created_ms, epoch, quota_bytes, documents } = info;
        let documents = documents.as_ref().clone();
        Self { name: name.as_str().to_owned(), created_ms, epoch, quota_bytes, documents }
    }
}

impl Bucket {
    pub fn into_info(self) -> Option<BucketInfo> {
        let name = BucketName::parse(self.name).ok()?;
        Some(BucketInfo {
            name,
            created_ms: self.created_ms,
            epoch: self.epoch,
            quota_bytes: self.quota_bytes,
            documents: std::sync::Arc::new(self.documents),
        })
    }
}

impl Lease {
    pub fn of(ask: &LeaseAsk) -> Self {
        let LeaseAsk { bucket, partition, needed, used } = ask;
        Self { bucket: bucket.as_str().to_owned(), partition: *partition, needed: *needed, used: *used }
    }

    pub fn into_ask(self) -> Option<LeaseAsk> {
        let bucket = BucketName::parse(self.bucket).ok()?;
        Some(LeaseAsk { bucket, partition: self.partition, needed: self.needed, used: self.used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_survives_the_wire() {
        let object = |etag| ListEntry { name: "ä/b".to_owned(), size: 7, etag, modified_ms: 9 };
        let page = ListPage {
            items: vec![
                ListItem::Object(object(ETag::Md5([1; 16]))),
                ListItem::Object(object(ETag::Opaque([2; 16]))),
                ListItem::Prefix("p/".to_owned()),
            ],
            next: Some("n00".to_owned()),
        };
        let text = serde_json::to_string(&Page::new(vec![3], page.clone())).expect("it renders");
        let back: Page = serde_json::from_str(&text).expect("it parses");
        assert_eq!(back.into_page(), Some(page));
    }
}
