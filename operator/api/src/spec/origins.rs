//! Read-through origins: where a bucket's blobs come from when the store does not have them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::units::Period;

/// A sidecar keeps at most 100 clients open; half of them leaves room for rotated credentials.
pub const ORIGINS_MAX: usize = 50;

/// One origin, mapped to a bucket, or to the names of a bucket that begin with a prefix. Exactly one of s3, gcs, azure,
/// http and file says what it is. The first reader gets the bytes while they are stored; concurrent readers follow.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginSpec {
    /// Names the origin in metrics and messages: lower-case letters, digits and '-'.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Bucket of the store that shows it; made by the sidecars, and made again when it is deleted.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub bucket: String,
    /// Only names that begin with this come from the origin; the longest prefix wins. Default: all.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// Put before the name, less prefix, at the origin. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub origin_prefix: String,
    /// A bucket of AWS S3 or of anything that speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Origin>,
    /// A bucket of Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsOrigin>,
    /// A container of Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureOrigin>,
    /// A web server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpOrigin>,
    /// A folder of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileOrigin>,
    /// Secret in the same namespace, mounted as files into the sidecar alone. Keys: accessKey, secretKey and sessionToken
    /// (S3); serviceAccount (GCS); accountKey or sasToken (Azure); authorization, the header's value (HTTP); ca.crt,
    /// certificates to trust beside the public ones. Default: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretRef>,
    /// True: a copy is never asked about again, ttl has no meaning. Default false.
    #[serde(default)]
    pub immutable: bool,
    /// A copy is served for this long before the origin is asked whether it is current (by ETag). Default 1h.
    #[serde(default = "ttl")]
    pub ttl: Period,
    /// After the TTL a copy is served for this long at once, and revalidated in the background. Default 30s.
    #[serde(default = "stale_while_revalidate")]
    pub stale_while_revalidate: Period,
    /// After the TTL a copy is served for this long when the origin fails; then the answer is 502 or 504. Default 1h.
    #[serde(default = "stale_if_error")]
    pub stale_if_error: Period,
    /// That the origin has no such object is believed for this long; 0 switches it off. Default 10s.
    #[serde(default = "negative_ttl")]
    pub negative_ttl: Period,
    /// What becomes of writes and deletes under the prefix: Refuse (405), or Local (the store changes, the origin never
    /// learns of it). Default Refuse.
    #[serde(default)]
    pub writes: OriginWrites,
    /// Patience with the origin.
    #[serde(default)]
    pub timeouts: OriginTimeouts,
}

/// What becomes of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OriginWrites {
    #[default]
    Refuse,
    Local,
}

/// A bucket of AWS S3 or of anything that speaks it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Origin {
    /// Bucket at the origin.
    #[schemars(length(min = 1, max = 255))]
    pub bucket: String,
    /// Region for the signature. Default us-east-1.
    #[serde(default = "region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// URL of the server. Default: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// True: the bucket is in the host name; false: in the path, which every server understands. Default false.
    #[serde(default)]
    pub virtual_hosted: bool,
}

/// A bucket of Google Cloud Storage.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcsOrigin {
    /// Bucket at the origin.
    #[schemars(length(min = 1, max = 255))]
    pub bucket: String,
    /// URL of the server. Default: Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
}

/// A container of Azure Blob Storage.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AzureOrigin {
    /// Storage account.
    #[schemars(length(min = 1, max = 64))]
    pub account: String,
    /// Container of the account.
    #[schemars(length(min = 1, max = 255))]
    pub container: String,
    /// URL of the server. Default: Azure's, by the account's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
}

/// A web server.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpOrigin {
    /// What the name is put behind: `https://example.org/files`.
    #[schemars(length(min = 8, max = 512), regex(pattern = "^https?://"))]
    pub url: String,
}

/// A folder of a volume, mounted read-only into every pod's sidecar.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOrigin {
    /// PersistentVolumeClaim in the same namespace that many pods may mount (ReadOnlyMany or ReadWriteMany).
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Folder in it. Default: all of it.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub path: String,
}

/// Patience with an origin.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OriginTimeouts {
    /// For a connection. Default 3s.
    pub connect: Period,
    /// From the request to the first byte of the answer; at most 20s, because a forwarded read waits 30s. Default 10s.
    pub first_byte: Period,
    /// A body that moves nothing for this long is given up. Default 15s.
    pub idle: Period,
}

impl Default for OriginTimeouts {
    fn default() -> Self {
        Self { connect: "3s".into(), first_byte: "10s".into(), idle: "15s".into() }
    }
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn ttl() -> Period {
    "1h".into()
}

fn stale_while_revalidate() -> Period {
    "30s".into()
}

fn stale_if_error() -> Period {
    "1h".into()
}

fn negative_ttl() -> Period {
    "10s".into()
}
