//! Reads of one part, and HEAD of a range: which bytes they are about.

use std::ops::Range;

use blobstore_sidecar_core::checksum::Checksum;
use blobstore_sidecar_core::range::ByteRange;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, RANGE};
use http::{HeaderMap, StatusCode};
use s3s::{S3Error, S3Result, s3_error};

use super::call::Call;
use super::error::custom;
use super::multipart::part_number;
use super::sums::{describe_sum, kept_sum, shown_sum};
use super::versions;
use crate::wire::ask::{Ask, ObjectParts, Place, Told};

const PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");
/// Tries of a read whose object is replaced between the look at its parts and the read itself.
pub(super) const PART_TRIES_MAX: u32 = 4;

/// One part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// `None`: whatever the object is.
    etag: Option<String>,
    range: Range<u64>,
    /// 0: the object was not uploaded in parts.
    count: u16,
    /// Of the part, where the upload was opened with an algorithm.
    checksum: Option<Checksum>,
}

impl Call<'_> {
    /// Parts of an object above a number.
    pub(super) async fn object_parts(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        after: u16,
        max: usize,
    ) -> S3Result<ObjectParts> {
        let (place, version) = (Place::new(bucket, key), versions::checked(version)?);
        match self.owner(Ask::ObjectParts { place, version, after, max }).await {
            Ok(Told::ObjectParts(parts)) => Ok(parts),
            Ok(_) => Err(s3_error!(InternalError)),
            Err(error) => Err(self.hidden(error, bucket).await),
        }
    }

    /// What `partNumber` asks for; `None`: nothing, or all of it.
    pub(super) async fn slice(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        number: Option<i32>,
        headers: &HeaderMap,
    ) -> S3Result<Option<Slice>> {
        let Some(number) = number else { return Ok(None) };
        let number = part_number(number)?;
        if headers.contains_key(RANGE) {
            let message = "Cannot specify both Range header and partNumber query parameter";
            return Err(s3_error!(InvalidRequest, "{message}"));
        }
        let found = self.object_parts(bucket, key, version, number.saturating_sub(1), 1).await?;
        slice_of(found, number).map(Some)
    }
}

fn slice_of(found: ObjectParts, number: u16) -> S3Result<Slice> {
    let ObjectParts { etag, size, count, parts, truncated: _ } = found;
    let etag = (!etag.is_empty()).then_some(etag);
    match parts.first().filter(|part| part.number == number) {
        Some(part) => Ok(Slice {
            etag,
            range: part.start..part.start + part.size,
            count,
            checksum: part.checksum.as_deref().and_then(Checksum::decode),
        }),
        // What was uploaded at once is its only part.
        None if count == 0 && number == 1 => Ok(Slice { etag, range: 0..size, count, checksum: None }),
        None => Err(not_satisfiable()),
    }
}

fn not_satisfiable() -> S3Error {
    let message = "The requested partnumber is not satisfiable";
    custom("InvalidPartNumber", StatusCode::RANGE_NOT_SATISFIABLE, message)
}

impl Slice {
    /// As a range of the plain lane's read. `None`: there are no bytes to ask for, or all of them.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let last = self.range.end.checked_sub(1).filter(|last| *last >= self.range.start)?;
        HeaderValue::from_str(&format!("bytes={}-{last}", self.range.start)).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Is the answer about the object whose parts these are?
    pub(super) fn is_of(&self, answer: &HeaderMap) -> bool {
        let etag = answer.get(http::header::ETAG).and_then(|value| value.to_str().ok());
        self.etag.is_none() || self.etag.as_deref() == etag
    }

    pub(super) fn count(&self, headers: &mut HeaderMap) {
        if self.count > 0 {
            headers.insert(PARTS_COUNT, HeaderValue::from(self.count));
        }
    }

    /// The checksum of what it is. `found`: what is known of the object.
    pub(super) fn describe_sum(&self, found: &HeaderMap, headers: &mut HeaderMap) {
        let whole = kept_sum(found);
        let (algorithm, sum, kind) = match (&self.checksum, whole) {
            (Some(sum), whole) => {
                let (algorithm, text, own) = shown_sum(sum);
                (algorithm, text, whole.map_or(own, |(_, _, kind)| kind))
            }
            (None, Some(whole)) if self.count == 0 => whole,
            (None, _) => return,
        };
        describe_sum(headers, Some((algorithm, sum)), Some(kind));
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

/// The bytes of a HEAD with a range. `None`: all of them.
pub(super) fn head_range(asked: &HeaderMap, size: u64) -> S3Result<Option<Range<u64>>> {
    let range = asked.get(RANGE).and_then(|value| value.to_str().ok()).and_then(ByteRange::parse);
    let Some(range) = range else { return Ok(None) };
    range.resolve(size).map(Some).ok_or_else(|| s3_error!(InvalidRange))
}

/// Makes the headers of a whole object those of some of its bytes.
pub(super) fn cut(headers: &mut HeaderMap, range: &Range<u64>, size: u64) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start)
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", range.start))
    {
        headers.insert(CONTENT_RANGE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ask::ObjectPart;

    fn check(count: u16, part: Option<ObjectPart>, number: u16, want: Option<Range<u64>>) {
        let found =
            ObjectParts { size: 9, count, parts: part.into_iter().collect(), ..ObjectParts::default() };
        assert_eq!(slice_of(found, number).ok().map(|slice| slice.range), want);
    }

    #[test]
    fn a_part_is_what_was_uploaded_under_its_number() {
        let third = ObjectPart { number: 3, start: 5, size: 4, checksum: None };
        check(2, Some(third.clone()), 3, Some(5..9));
        check(2, Some(third), 2, None);
        check(2, None, 4, None);
        check(0, None, 1, Some(0..9));
        check(0, None, 2, None);
    }
}
