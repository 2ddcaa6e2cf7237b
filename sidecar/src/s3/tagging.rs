//! Tags of objects: the header of an upload, and the documents of the tagging operations.

use http::{HeaderValue, StatusCode};
use s3s::{S3Result, s3_error};

use super::error::custom;
use crate::route;

/// S3's own limits.
const TAGS_COUNT_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// `a=b&c=d`, as uploads carry it.
pub(super) fn check_header(value: &HeaderValue) -> S3Result<()> {
    let text = value.to_str().map_err(|_| malformed())?;
    let tags = route::parameters(text).map_err(|_| malformed())?;
    check(&tags)
}

fn malformed() -> s3s::S3Error {
    s3_error!(
        InvalidArgument,
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    )
}

pub(super) fn check(tags: &[(String, String)]) -> S3Result<()> {
    if tags.len() > TAGS_COUNT_MAX {
        return Err(custom("BadRequest", StatusCode::BAD_REQUEST, "Object tags cannot be greater than 10"));
    }
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags.iter().take(index).any(|(known, _)| known == key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}
