//! Versions on the plain lane: which one a request names, how an answer tells of them, and their listing over all pods.

use std::sync::Arc;

use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::precondition::http_date;
use blobstore_sidecar_store::{
    DeleteOutcome, ErrorKind, ListVersionsRequest, ObjectMeta, StoreError, Version, VersionMarker,
};
use http::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use http::{Method, Uri};

use super::listing::{everywhere, of_bucket, steady};
use super::object::set;
use crate::error::ApiError;
use crate::route;
use crate::shell::Shell;
use crate::wire::versions::{Item, VERSIONS_PATH};
use crate::wire::{Items, ItemsAsk};

/// The version that an answer is about; only in buckets that keep versions.
pub const HEADER_VERSION: HeaderName = HeaderName::from_static("x-amz-version-id");
/// `true`: it is a delete marker.
pub const HEADER_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
/// Selects one version of an object.
pub const VERSION_PARAMETER: &str = "versionId";

/// GET, HEAD and DELETE of one version are the plain lane's.
pub fn takes_version(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
}

/// The version that a request names.
pub(super) fn asked(uri: &Uri) -> Result<Option<Version>, ApiError> {
    let query = route::parameters(uri.query().unwrap_or_default())?;
    let Some((_, text)) = query.iter().find(|(name, _)| name == VERSION_PARAMETER) else { return Ok(None) };
    let version = Version::parse(text);
    version.map(Some).ok_or_else(|| ApiError::bad_request("InvalidArgument", "Invalid version id specified"))
}

/// The version that an answer tells of an object.
pub(super) async fn described(shell: &Shell, bucket: &BucketName, meta: &ObjectMeta) -> Option<Version> {
    // An id says itself that the bucket keeps versions; `null` only means something where it does.
    let keeps = match meta.version == Version::Null {
        true => match shell.store.keeps_versions_at_hand(bucket) {
            Some(keeps) => keeps,
            None => Box::pin(shell.store.keeps_versions(bucket)).await,
        },
        false => true,
    };
    described_where(keeps, meta)
}

/// The same where it is known whether the bucket keeps versions.
pub(super) fn described_where(keeps: bool, meta: &ObjectMeta) -> Option<Version> {
    (keeps || meta.version != Version::Null).then_some(meta.version)
}

pub(super) fn tell(out: &mut HeaderMap, version: Option<Version>) {
    if let Some(version) = version {
        set(out, HEADER_VERSION, &version.to_string());
    }
}

pub(super) fn tell_deleted(out: &mut HeaderMap, outcome: &DeleteOutcome) {
    tell(out, outcome.version);
    if outcome.marker {
        out.insert(HEADER_MARKER, HeaderValue::from_static("true"));
    }
}

/// A refusal because of a delete marker tells about it.
pub(super) fn refuse_marker(mut answer: ApiError, kind: &ErrorKind, marker: &ObjectMeta) -> ApiError {
    answer = answer.with(HEADER_MARKER, HeaderValue::from_static("true"));
    if let Ok(id) = HeaderValue::from_str(&marker.version.to_string()) {
        answer = answer.with(HEADER_VERSION, id);
    }
    if *kind == ErrorKind::DeleteMarker {
        answer = answer.with(ALLOW, HeaderValue::from_static("DELETE"));
        if let Ok(modified) = HeaderValue::from_str(&http_date(marker.modified_ms)) {
            answer = answer.with(LAST_MODIFIED, modified);
        }
    }
    answer
}

/// Versions of everything that this pod serves.
pub async fn versions_here(shell: &Shell, ask: &ItemsAsk) -> Result<Items<Item>, StoreError> {
    steady(shell, async |partitions| {
        let request = ListVersionsRequest {
            bucket: BucketName::parse(ask.bucket.clone())?,
            prefix: ask.prefix.clone(),
            delimiter: ask.delimiter.clone(),
            after: ask.after.clone(),
            after_version: ask.after_item.as_deref().and_then(VersionMarker::parse),
            max: ask.max,
        };
        let page = shell.store.list_versions(request).await?;
        let items = page.items.into_iter().map(Item::from).collect();
        Ok(Items { partitions, items, truncated: page.truncated })
    })
    .await
}

/// One page of a bucket's versions, over all pods.
pub async fn versions(shell: &Arc<Shell>, request_id: &str, ask: &ItemsAsk) -> Result<Items<Item>, ApiError> {
    let pages = || async {
        if ask.max == 0 {
            return Ok(Items::default());
        }
        let pages = everywhere(shell, VERSIONS_PATH, Some(ask), versions_here(shell, ask)).await?;
        Ok(merge(pages, ask.max))
    };
    of_bucket(shell, request_id, &ask.bucket, pages).await
}

/// Pages in order become one in order. Versions of a name are all of one page, and stay as they are. A page that was
/// cut bounds what may be told: behind its end it may have more.
fn merge(pages: Vec<Items<Item>>, max: usize) -> Items<Item> {
    let ends = pages.iter().filter(|page| page.truncated).filter_map(|page| page.items.last());
    let end = ends.map(|item| item.key().to_owned()).min();
    let mut truncated = pages.iter().any(|page| page.truncated);
    let mut items: Vec<Item> = pages.into_iter().flat_map(|page| page.items).collect();
    items.sort_by(|a, b| a.key().cmp(b.key()));
    items.dedup_by(|a, b| matches!((a, b), (Item::Prefix(a), Item::Prefix(b)) if a == b));
    let known = items.len();
    if let Some(end) = &end {
        items.retain(|item| item.key() <= end.as_str());
    }
    items.truncate(max);
    truncated |= items.len() < known;
    Items { partitions: Vec::new(), items, truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: &[(&str, &str)], truncated: bool) -> Items<Item> {
        let item = |(name, version): &(&str, &str)| match *version {
            "" => Item::Prefix((*name).to_owned()),
            version => Item::of(name, version),
        };
        Items { partitions: Vec::new(), items: items.iter().map(item).collect(), truncated }
    }

    fn check(pages: Vec<Items<Item>>, max: usize, want: (Items<Item>, bool)) {
        let merged = merge(pages, max);
        assert_eq!((merged.items, merged.truncated), (want.0.items, want.1));
    }

    #[test]
    fn versions_of_a_name_stay_in_their_order_and_nothing_is_told_behind_a_cut() {
        let one = page(&[("a", "9"), ("a", "3"), ("p/", ""), ("z", "1")], false);
        let two = page(&[("b", "2"), ("b", "7"), ("p/", "")], true);
        let both = [("a", "9"), ("a", "3"), ("b", "2"), ("b", "7"), ("p/", "")];
        check(vec![one.clone(), two.clone()], 10, (page(&both, true), true));
        check(vec![two, one], 3, (page(&both[..3], true), true));
        check(
            vec![page(&[("a", "1")], false), page(&[("b", "1")], false)],
            2,
            (page(&[("a", "1"), ("b", "1")], false), false),
        );
    }
}
