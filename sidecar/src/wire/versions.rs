//! Listings of versions between sidecars.

use blobstore_sidecar_store::{ListedVersion, VersionItem};
use serde::{Deserialize, Serialize};

/// Path on the peer port.
pub const VERSIONS_PATH: &str = "/v1/versions";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    Version(Shown),
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub name: String,
    pub version: String,
    /// Where a listing goes on behind it.
    pub marker: String,
    pub latest: bool,
    pub delete_marker: bool,
    pub size: u64,
    pub etag: String,
    pub modified_ms: u64,
}

impl Item {
    /// What orders items.
    pub fn key(&self) -> &str {
        match self {
            Self::Version(shown) => &shown.name,
            Self::Prefix(prefix) => prefix,
        }
    }

    /// A version of an object without content, for tests.
    #[cfg(test)]
    pub fn of(name: &str, version: &str) -> Self {
        Self::Version(Shown {
            name: name.to_owned(),
            version: version.to_owned(),
            marker: version.to_owned(),
            latest: false,
            delete_marker: false,
            size: 0,
            etag: String::new(),
            modified_ms: 0,
        })
    }
}

impl From<VersionItem> for Item {
    fn from(item: VersionItem) -> Self {
        match item {
            VersionItem::Prefix(prefix) => Self::Prefix(prefix),
            VersionItem::Version(version) => {
                let ListedVersion { name, marker, latest, delete_marker, size, etag, modified_ms } = version;
                Self::Version(Shown {
                    name,
                    version: marker.version.to_string(),
                    marker: marker.to_string(),
                    latest,
                    delete_marker,
                    size,
                    etag: etag.to_string(),
                    modified_ms,
                })
            }
        }
    }
}
