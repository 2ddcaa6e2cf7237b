//! Checksums in answers: which one is kept, and how it is shown.

use blobstore_sidecar_core::checksum::{Checksum, Coverage};
use blobstore_sidecar_s3::checksum::Algorithm;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::ChecksumType;

use crate::lane::{HEADER_CHECKSUM, HEADER_CRC64};

/// Shows a checksum, and what it covers.
pub(super) fn describe_sum(
    headers: &mut HeaderMap,
    sum: Option<(Algorithm, String)>,
    kind: Option<&'static str>,
) {
    if let Some((algorithm, sum)) = sum
        && let Ok(value) = HeaderValue::from_str(&sum)
    {
        headers.insert(HeaderName::from_static(algorithm.header()), value);
        if let Some(kind) = kind {
            headers.insert(HeaderName::from_static("x-amz-checksum-type"), HeaderValue::from_static(kind));
        }
    }
}

/// A stored checksum as S3 shows it: algorithm, value, what it covers.
pub(super) fn shown_sum(sum: &Checksum) -> (Algorithm, String, &'static str) {
    let algorithm = Algorithm::parse(sum.algorithm.name()).unwrap_or(Algorithm::Crc64Nvme);
    let kind = match sum.coverage {
        Coverage::FullObject => ChecksumType::FULL_OBJECT,
        Coverage::Composite { .. } => ChecksumType::COMPOSITE,
    };
    (algorithm, sum.to_string(), kind)
}

/// The checksum that an answer of the plain lane tells of: the one that was asked for, or the one that is always kept.
pub(super) fn kept_sum(headers: &HeaderMap) -> Option<(Algorithm, String, &'static str)> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match text(&HEADER_CHECKSUM).and_then(Checksum::decode) {
        Some(sum) => Some(shown_sum(&sum)),
        None => {
            let crc64 = text(&HEADER_CRC64)?.to_owned();
            Some((Algorithm::Crc64Nvme, crc64, ChecksumType::FULL_OBJECT))
        }
    }
}

/// Does whoever reads want to see checksums?
pub(super) fn wants_sums(headers: &HeaderMap) -> bool {
    headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"))
}
