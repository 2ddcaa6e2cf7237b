//! Tags of objects: the header of an upload, and the documents of the tagging operations.

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use s3s::dto::{GetObjectTaggingInput, GetObjectTaggingOutput, Tag};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, object_name};
use super::error::{self, custom};
use super::versions;
use crate::lane::HEADER_TAGS;
use crate::route;
use crate::wire::ask::{Ask, Place, Told};

/// S3's own limits.
const TAGS_COUNT_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;
/// Tags that AWS sets itself.
const SYSTEM: &str = "aws:";

/// `a=b&c=d`, as uploads carry it.
pub(super) fn check_header(value: &HeaderValue) -> S3Result<()> {
    let text = value.to_str().map_err(|_| malformed())?;
    let tags = route::parameters(text).map_err(|_| malformed())?;
    let again = |(index, (key, _)): (usize, &(String, String))| {
        tags.iter().take(index).any(|(known, _)| known == key)
    };
    if tags.iter().enumerate().any(again) {
        return Err(malformed());
    }
    check(&tags)
}

/// Letters, numbers and spaces of any language, and a few signs.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c))
}

fn malformed() -> s3s::S3Error {
    s3_error!(
        InvalidArgument,
        "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    )
}

/// Of an object: ten.
pub(super) fn check(tags: &[(String, String)]) -> S3Result<()> {
    if tags.len() > TAGS_COUNT_MAX {
        return Err(custom("BadRequest", StatusCode::BAD_REQUEST, "Object tags cannot be greater than 10"));
    }
    check_each(tags)
}

pub(super) fn check_each(tags: &[(String, String)]) -> S3Result<()> {
    for (index, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || !is_plain(key) {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if value.chars().count() > VALUE_CHARS_MAX || !is_plain(value) {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if key.to_ascii_lowercase().starts_with(SYSTEM) {
            return Err(s3_error!(InvalidTag, "System tags cannot be added/updated by requester"));
        }
        if tags.iter().take(index).any(|(known, _)| known == key) {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(())
}

/// Pairs of a document, which must be pairs.
pub(super) fn pairs(tags: &[Tag]) -> S3Result<Vec<(String, String)>> {
    let pair = |tag: &Tag| tag.key.clone().zip(tag.value.clone());
    tags.iter().map(|tag| pair(tag).ok_or_else(|| s3_error!(MalformedXML))).collect()
}

/// The tags of a form's document, as the header of an upload carries them.
pub(super) fn of_document(text: &str) -> S3Result<String> {
    let malformed = || s3_error!(MalformedXML);
    let inner = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
    };
    let plain = |text: String| {
        let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
        pairs.iter().fold(text, |text, (from, to)| text.replace(from, to))
    };
    let set = inner(text, "TagSet").or_else(|| text.contains("<TagSet/>").then(String::new));
    let set = set.filter(|_| text.contains("<Tagging")).ok_or_else(malformed)?;
    let mut pairs = Vec::new();
    for tag in set.split_inclusive("</Tag>").filter(|tag| !tag.trim().is_empty()) {
        let tag = inner(tag, "Tag").ok_or_else(malformed)?;
        let value = inner(&tag, "Value").or_else(|| tag.contains("<Value/>").then(String::new));
        let (key, value) = inner(&tag, "Key").zip(value).ok_or_else(malformed)?;
        pairs.push(format!("{}={}", encoded(&plain(key)), encoded(&plain(value))));
    }
    Ok(pairs.join("&"))
}

pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

pub(super) async fn get(
    call: Call<'_>,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let input = request.input;
    object_name(&input.key)?;
    let found = call
        .find(Method::HEAD, &input.bucket, &input.key, input.version_id.as_deref(), HeaderMap::new())
        .await?;
    let text = found.headers().get(HEADER_TAGS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let tags = route::parameters(text).map_err(error::from_api)?;
    let tag_set = tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
    let version_id = versions::version_of(found.headers());
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
}

pub(super) async fn set<T: Default>(
    call: Call<'_>,
    (bucket, key, version): (&str, &str, Option<&str>),
    tags: Vec<(String, String)>,
) -> S3Result<S3Response<T>> {
    object_name(key)?;
    check(&tags)?;
    let version = versions::checked(version)?;
    let told = call.owner(Ask::SetTags { place: Place::new(bucket, key), version, tags }).await?;
    let mut response = S3Response::new(T::default());
    if let Told::Tagged { version } = told {
        versions::tell(&call, bucket, &version, &mut response.headers).await;
    }
    Ok(response)
}
