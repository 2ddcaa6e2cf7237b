//! Which kind of ETag an upload gets: what it asks for, unless its bucket says it for all.

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_store::{BucketInfo, ErrorKind, StoreError};
use http::HeaderMap;

use super::headers::HEADER_ETAG;
use crate::error::ApiError;
use crate::shell::Shell;

/// Name of the bucket's document.
const DOCUMENT: &str = "etag";

/// What the ETag of an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The MD5 of the body, of each part in an upload of parts.
    Md5,
    Opaque,
}

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "md5" => Some(Self::Md5),
            "opaque" => Some(Self::Opaque),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Opaque => "opaque",
        }
    }
}

fn asked(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER_ETAG).map(|value| value.to_str().unwrap_or_default())
}

/// The kind that holds for all of a bucket, by name.
pub(super) fn of_bucket(info: &BucketInfo) -> Option<&'static str> {
    info.document(DOCUMENT).and_then(Kind::parse).map(Kind::name)
}

/// Does this upload get its MD5, and does it get it however long it is?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) md5: bool,
    pub(super) always: bool,
}

pub(super) async fn wanted(
    shell: &Shell,
    bucket: &BucketName,
    headers: &HeaderMap,
) -> Result<Wanted, StoreError> {
    let info = match shell.store.bucket_last_known(bucket).await {
        Ok(info) => info,
        // The write itself says so.
        Err(error) if error.kind == ErrorKind::NoSuchBucket => return Ok(Wanted::default()),
        Err(error) => return Err(error),
    };
    Ok(decide(info.document(DOCUMENT).and_then(Kind::parse), asked(headers)))
}

fn decide(bucket: Option<Kind>, asked: Option<&str>) -> Wanted {
    match bucket {
        Some(Kind::Md5) => Wanted { md5: true, always: true },
        Some(Kind::Opaque) => Wanted::default(),
        None => Wanted { md5: asked == Some("md5"), always: false },
    }
}

/// What a request for a bucket wants to set: nothing, or a kind, or none for all (`default`).
pub(super) fn setting(headers: &HeaderMap) -> Result<Option<Option<Kind>>, ApiError> {
    match asked(headers) {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(text) => Kind::parse(text).map(|kind| Some(Some(kind))).ok_or_else(|| {
            let message = format!("{HEADER_ETAG} is none of md5, opaque and default");
            ApiError::bad_request("InvalidArgument", message)
        }),
    }
}

/// Sets it. At the bucket's home.
pub(super) async fn set(
    shell: &Shell,
    bucket: &BucketName,
    kind: Option<Kind>,
) -> Result<BucketInfo, StoreError> {
    shell.store.set_document(bucket, DOCUMENT, kind.map(Kind::name)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_decides_before_the_upload() {
        let check = |bucket, asked, md5, always| {
            assert_eq!(decide(bucket, asked), Wanted { md5, always }, "{bucket:?} {asked:?}");
        };
        check(None, None, false, false);
        check(None, Some("md5"), true, false);
        check(None, Some("opaque"), false, false);
        check(Some(Kind::Md5), Some("opaque"), true, true);
        check(Some(Kind::Opaque), Some("md5"), false, false);
    }
}
