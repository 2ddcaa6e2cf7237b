//! Parts on their way in, and the uploads that are open.

use std::sync::Arc;

use blobstore_sidecar_core::checksum::Checksum;
use blobstore_sidecar_core::key::{BucketName, ObjectName};
use blobstore_sidecar_core::precondition::http_date;
use blobstore_sidecar_store::{ErrorKind, ListUploadsRequest, PartRequest, StoreError, UploadId, UploadRef};
use http::Response;
use http::header::{ETAG, LAST_MODIFIED};

use super::headers::{self, HEADER_CHECKSUM, HEADER_CHECKSUM_SENT, HEADER_CRC64};
use super::listing::{everywhere, of_bucket, steady};
use super::object::set;
use super::{Exchange, Refused};
use crate::body::{Body, RequestBody};
use crate::error::ApiError;
use crate::shell::Shell;
use crate::wire::ask::OpenItem;
use crate::wire::{Items, ItemsAsk, UPLOADS_PATH};

/// Stores one part of an upload.
pub(super) async fn put_part(
    exchange: &Exchange<'_>,
    place: (&BucketName, &ObjectName),
    part: (UploadId, u16),
    body: &mut RequestBody,
) -> Result<Response<Body>, Refused> {
    super::object::writable(exchange, place.0, place.1)?;
    let given = &exchange.head.headers;
    let to = UploadRef { bucket: place.0.clone(), name: place.1.clone(), upload: part.0 };
    let request = PartRequest {
        content_md5: headers::content_md5(given)?,
        want_md5_etag: super::etags::wanted(exchange.shell, place.0, given).await?.md5,
        checks: headers::checks(given)?,
        sent: given.get(HEADER_CHECKSUM_SENT).and_then(|name| name.to_str().ok()).map(str::to_owned),
        ..PartRequest::new(to, part.1, body.length())
    };
    let stored = Box::pin(exchange.shell.store.put_part(request, body)).await?;
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    set(out, ETAG, &stored.etag.quoted());
    set(out, LAST_MODIFIED, &http_date(stored.modified_ms));
    out.insert(HEADER_CRC64, headers::crc64(stored.crc64));
    if let Some(checksum) = &stored.checksum {
        set(out, HEADER_CHECKSUM, &Checksum::encode(checksum));
    }
    Ok(response)
}

/// Open uploads of everything that this pod serves.
pub async fn uploads_here(shell: &Shell, ask: &ItemsAsk) -> Result<Items<OpenItem>, StoreError> {
    steady(shell, async |partitions| {
        let request = ListUploadsRequest {
            bucket: BucketName::parse(ask.bucket.clone())?,
            prefix: ask.prefix.clone(),
            delimiter: ask.delimiter.clone(),
            after: ask.after.clone(),
            after_upload: ask.after_item.as_deref().and_then(UploadId::parse),
            max: ask.max,
        };
        let page = shell.store.list_uploads(request).await?;
        let items = page.items.into_iter().map(OpenItem::from).collect();
        Ok(Items { partitions, items, truncated: page.truncated })
    })
    .await
}

/// One page of a bucket's open uploads, over all pods.
pub async fn open_uploads(
    shell: &Arc<Shell>,
    request_id: &str,
    ask: &ItemsAsk,
) -> Result<Items<OpenItem>, ApiError> {
    let pages = || async {
        let pages = everywhere(shell, UPLOADS_PATH, Some(ask), uploads_here(shell, ask)).await?;
        Ok(merge(pages, ask.max))
    };
    of_bucket(shell, request_id, &ask.bucket, pages).await
}

/// Pages in order become one in order. A page that was cut bounds what may be told: behind its end it may have more.
fn merge(pages: Vec<Items<OpenItem>>, max: usize) -> Items<OpenItem> {
    let mut truncated = false;
    let mut end: Option<(String, String)> = None;
    let mut items = Vec::new();
    for page in pages {
        if page.truncated {
            truncated = true;
            let last = page.items.last().map(|item| {
                let (name, upload) = item.key();
                (name.to_owned(), upload.to_owned())
            });
            end = match (end, last) {
                (Some(end), Some(last)) => Some(end.min(last)),
                (end, last) => end.or(last),
            };
        }
        items.extend(page.items);
    }
    items.sort_by(|a, b| a.key().cmp(&b.key()));
    items.dedup_by(|a, b| a.key() == b.key());
    if let Some((name, upload)) = &end {
        items.retain(|item| item.key() <= (name.as_str(), upload.as_str()));
    }
    truncated |= items.len() > max;
    items.truncate(max);
    Items { partitions: Vec::new(), items, truncated }
}

/// A part that the store has no upload for is refused before its body is read.
pub(super) fn not_a_part() -> ApiError {
    let error = StoreError::new(ErrorKind::NoSuchUpload, "no upload has this id");
    super::failure::from_store(error, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(prefixes: &[&str], truncated: bool) -> Items<OpenItem> {
        let items = prefixes.iter().map(|prefix| OpenItem::Prefix((*prefix).to_owned())).collect();
        Items { partitions: Vec::new(), items, truncated }
    }

    fn check(pages: Vec<Items<OpenItem>>, max: usize, want: (&[&str], bool)) {
        let merged = merge(pages, max);
        let names: Vec<&str> = merged.items.iter().map(|item| item.key().0).collect();
        assert_eq!((names.as_slice(), merged.truncated), want);
    }

    #[test]
    fn nothing_is_told_behind_the_end_of_a_cut_page() {
        check(vec![page(&["a", "c"], false), page(&["b", "c"], false)], 9, (&["a", "b", "c"], false));
        check(vec![page(&["a", "z"], false), page(&["b", "c"], true)], 9, (&["a", "b", "c"], true));
        check(vec![page(&["a", "b"], false), page(&["c"], false)], 2, (&["a", "b"], true));
    }
}
