//! When an object will end by the rules of its bucket, as `x-amz-expiration` tells it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::lifecycle::{LIFECYCLE_DOCUMENT, Lifecycle, Subject};
use blobstore_sidecar_core::precondition::{http_date, parse_http_date};
use blobstore_sidecar_s3::names::url_encoded;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::lane::HEADER_TAGS;
use crate::route;
use crate::shell::Shell;

const HEADER: HeaderName = HeaderName::from_static("x-amz-expiration");
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// The first rule that ends this object, and when: at the midnight that follows, as S3 counts.
fn first<'a>(lifecycle: &'a Lifecycle, object: &Subject<'_>, modified_ms: u64) -> Option<(u64, &'a str)> {
    let rules = lifecycle.rules.iter().filter(|rule| rule.expires_objects() && rule.covers(object));
    let ends = rules.flat_map(|rule| {
        let by_age = rule.expire_after_seconds.map(|seconds| {
            let end = modified_ms.saturating_add(seconds.saturating_mul(1_000));
            end.div_ceil(DAY_MS).saturating_mul(DAY_MS)
        });
        by_age.into_iter().chain(rule.expire_at_ms).map(|at| (at, rule.id.as_str()))
    });
    ends.min_by_key(|(at, _)| *at)
}

/// The whole object's size, as the answer to a read or a write tells it.
fn size(headers: &HeaderMap) -> u64 {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let whole =
        text(CONTENT_RANGE).and_then(|range| range.rsplit('/').next()).or_else(|| text(CONTENT_LENGTH));
    whole.and_then(|size| size.parse().ok()).unwrap_or_default()
}

/// Tells when the object ends, if it does. `found`: what a read told of it, or what was written just now, which has
/// no date.
pub(super) async fn tell(
    shell: &Arc<Shell>,
    bucket: &str,
    key: &str,
    found: &HeaderMap,
    headers: &mut HeaderMap,
) {
    let Ok(bucket) = BucketName::parse(bucket) else { return };
    let Ok(info) = shell.store.bucket_last_known(&bucket).await else { return };
    let Some(lifecycle) = info.document(LIFECYCLE_DOCUMENT).and_then(Lifecycle::parse) else { return };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let modified = found.get(LAST_MODIFIED).and_then(|at| at.to_str().ok()).and_then(parse_http_date);
    let modified_ms = match modified.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => seconds.saturating_mul(1_000),
        None => u64::try_from(now()).unwrap_or_default(),
    };
    let tags = found.get(HEADER_TAGS).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let tags = route::parameters(tags).unwrap_or_default();
    let object = Subject { name: key, size: size(found), tags: Some(&tags) };
    let Some((at, rule)) = first(&lifecycle, &object, modified_ms) else { return };
    let text = format!("expiry-date=\"{}\", rule-id=\"{}\"", http_date(at), url_encoded(rule));
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::lifecycle::LifecycleRule;

    use super::*;

    #[test]
    fn the_earliest_end_counts_and_days_end_at_midnight() {
        let rule = |id: &str, prefix: &str, seconds, at| LifecycleRule {
            id: id.to_owned(),
            enabled: true,
            prefix: prefix.to_owned(),
            expire_after_seconds: seconds,
            expire_at_ms: at,
            ..LifecycleRule::default()
        };
        let rules = vec![
            rule("month", "", Some(30 * 86_400), None),
            rule("day", "log/", Some(86_400), None),
            rule("then", "old/", None, Some(5 * DAY_MS)),
        ];
        let lifecycle = Lifecycle { rules };
        let of = |name| Subject { name, size: 0, tags: Some(&[]) };
        assert_eq!(first(&lifecycle, &of("log/a"), 1), Some((2 * DAY_MS, "day")));
        assert_eq!(first(&lifecycle, &of("a"), DAY_MS), Some((31 * DAY_MS, "month")));
        assert_eq!(first(&lifecycle, &of("old/a"), 0), Some((5 * DAY_MS, "then")));
        assert_eq!(first(&Lifecycle::default(), &of("a"), 0), None);
    }
}
