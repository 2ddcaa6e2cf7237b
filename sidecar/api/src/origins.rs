//! Read-through origins in `sidecar.json`: where a bucket's blobs come from when the store does not have them.
//! Credentials are files in a folder; the document only names it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One origin, mapped to a bucket or to the names of a bucket that begin with `prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginConfig {
    /// Names the origin in metrics, messages and the credentials' folder.
    pub name: String,
    pub bucket: String,
    #[serde(default)]
    pub prefix: String,
    /// Put before the name, less `prefix`, at the origin.
    #[serde(default)]
    pub origin_prefix: String,
    pub source: OriginSource,
    /// Folder with the credentials' files (`ports::ORIGIN_*`). None: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// A copy is served without asking for this long. None: for good.
    pub ttl_seconds: Option<u64>,
    /// After that, it is served for this long while it is revalidated in the background.
    #[serde(default)]
    pub stale_while_revalidate_seconds: u64,
    /// After the TTL, it is served for this long when the origin fails.
    #[serde(default)]
    pub stale_if_error_seconds: u64,
    /// "Not there" is believed for this long; 0: never.
    pub negative_ttl_seconds: u64,
    #[serde(default)]
    pub writes: OriginWrites,
    #[serde(default)]
    pub timeouts: OriginTimeouts,
}

/// What kind of place it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OriginSource {
    S3 {
        bucket: String,
        region: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
        /// False: the bucket is in the path, which every server understands.
        #[serde(default)]
        virtual_hosted: bool,
    },
    Gcs {
        bucket: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
    },
    Azure {
        account: String,
        container: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
    },
    Http {
        url: String,
    },
    /// A folder in the sidecar's container.
    File {
        path: PathBuf,
    },
}

/// What becomes of a PUT or DELETE to such a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OriginWrites {
    /// 405.
    #[default]
    Refuse,
    /// It changes the store only; the origin never learns of it.
    Local,
}

/// Patience with the origin, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginTimeouts {
    pub connect_ms: u64,
    pub first_byte_ms: u64,
    /// A body that moves nothing for this long is given up.
    pub idle_ms: u64,
}

/// A forwarded read waits 30 s for the owner's answer: line, connect and first byte must fit into that.
impl Default for OriginTimeouts {
    fn default() -> Self {
        Self { connect_ms: 3_000, first_byte_ms: 10_000, idle_ms: 15_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_document_is_enough() {
        let text = r#"{"name": "images", "bucket": "img", "source": {"type": "http", "url": "http://o/"},
            "ttlSeconds": 60, "negativeTtlSeconds": 5}"#;
        let origin: OriginConfig = serde_json::from_str(text).expect("a document");
        assert_eq!((origin.writes, origin.timeouts), (OriginWrites::Refuse, OriginTimeouts::default()));
        assert_eq!(origin.source, OriginSource::Http { url: "http://o/".into() });
        let unknown = text.replace("\"url\"", "\"uri\"");
        assert!(serde_json::from_str::<OriginConfig>(&unknown).is_err());
    }
}
