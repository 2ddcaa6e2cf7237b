//! Listings ask one owner per shard for a page and merge them. An answer is given only when the pages together cover
//! every partition: a listing that silently misses a shard is a wrong answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use blobstore_sidecar_core::glob::Pattern;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::list::{Cursor, ListPage, merge_pages};
use blobstore_sidecar_store::{BucketInfo, ErrorKind, ListRequest, StoreError};
use futures::future::try_join_all;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exchange, Side, TRIES_MAX, TRY_PAUSE};
use crate::body::Body;
use crate::error::ApiError;
use crate::io::Caller;
use crate::peers::Peering;
use crate::render;
use crate::route::ListQuery;
use crate::shell::Shell;
use crate::wire;

pub(super) async fn objects(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    query: &ListQuery,
) -> Result<Response<Body>, ApiError> {
    if query.continuation_token.as_deref().is_some_and(|token| Cursor::parse(token).is_none()) {
        return Err(ApiError::bad_request(
            "InvalidArgument",
            "the continuation token is not one of this store: start again without it",
        ));
    }
    let page = page(exchange, bucket, query).await?;
    let text = if wants_json(exchange) {
        render::page_json(bucket, query, &page)
    } else {
        render::page_xml(bucket, query, &page)
    };
    Ok(answer(exchange, text))
}

async fn page(exchange: &Exchange<'_>, bucket: &BucketName, query: &ListQuery) -> Result<ListPage, ApiError> {
    let shell = exchange.shell;
    // Nothing can match: only the bucket is looked for.
    let Some(prefix) = query.reach() else {
        return of_known(exchange, bucket, || std::future::ready(Ok(ListPage::default()))).await;
    };
    let ask = wire::ListAsk {
        bucket: bucket.as_str().to_owned(),
        prefix: prefix.to_owned(),
        pattern: query.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
        delimiter: query.delimiter.clone(),
        after: query.start_after.clone(),
        token: query.continuation_token.clone(),
        max: query.keys_max,
    };
    let mut page = of_known(exchange, bucket, || pages(shell, &ask)).await?;
    if let Some(pattern) = &query.pattern {
        page.items.retain(|item| pattern.matches(item.key()));
    }
    Ok(page)
}

/// A page for this pod's own S3 side.
pub async fn page_inside(
    shell: &Arc<Shell>,
    request_id: &str,
    bucket: &BucketName,
    query: &ListQuery,
) -> Result<ListPage, ApiError> {
    let head = bucket_head(bucket.as_str());
    page(
        &Exchange { shell, side: Side::Inside, head: &head, request_id, caller: Caller::default() },
        bucket,
        query,
    )
    .await
}

/// Asks about a bucket, which must be there, for this pod's own S3 side.
pub(super) async fn of_bucket<T, F>(
    shell: &Arc<Shell>,
    request_id: &str,
    bucket: &str,
    ask: impl Fn() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let head = bucket_head(bucket);
    let exchange = Exchange { shell, side: Side::Inside, head: &head, request_id, caller: Caller::default() };
    let bucket = BucketName::parse(bucket)
        .map_err(|error| ApiError::bad_request("InvalidBucketName", error.to_string()))?;
    of_known(&exchange, &bucket, ask).await
}

async fn of_known<T, F>(
    exchange: &Exchange<'_>,
    bucket: &BucketName,
    ask: impl Fn() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    exchange.shell.store.get_bucket(bucket).await.map_err(|error| exchange.fail(error))?;
    whole(exchange, ask).await
}

/// Errors find the bucket's name in the path.
fn bucket_head(bucket: &str) -> request::Parts {
    let mut request = Request::new(());
    *request.uri_mut() = format!("/{bucket}").parse().unwrap_or_default();
    request.into_parts().0
}

/// All buckets, for this pod's own S3 side.
pub async fn all_buckets_inside(shell: &Arc<Shell>, request_id: &str) -> Result<Vec<BucketInfo>, ApiError> {
    let (head, ()) = Request::new(()).into_parts();
    let exchange = Exchange { shell, side: Side::Inside, head: &head, request_id, caller: Caller::default() };
    whole(&exchange, || all_buckets(shell)).await
}

pub(super) async fn buckets(exchange: &Exchange<'_>) -> Result<Response<Body>, ApiError> {
    let shell = exchange.shell;
    let buckets = whole(exchange, || all_buckets(shell)).await?;
    let text =
        if wants_json(exchange) { render::buckets_json(&buckets) } else { render::buckets_xml(&buckets) };
    Ok(answer(exchange, text))
}

/// Tries again once when an owner changed under the listing.
async fn whole<T, F>(exchange: &Exchange<'_>, ask: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 1;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.retryable() && tries < TRIES_MAX => tokio::time::sleep(TRY_PAUSE).await,
            Err(error) if matches!(error.kind, ErrorKind::NotOwner { .. }) => {
                return Err(ApiError::unavailable(error.message));
            }
            Err(error) => return Err(exchange.fail(error)),
        }
        tries += 1;
    }
}

/// What this pod serves, read as a whole: refused when that changed while it was read.
pub(super) async fn steady<T: Default>(
    shell: &Shell,
    read: impl AsyncFnOnce(Vec<u32>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let before = shell.peering.owners().here;
    if before.is_empty() {
        return Ok(T::default());
    }
    let found = read(before.clone()).await?;
    if shell.peering.owners().here != before {
        let message = "partitions moved during the listing: repeat it";
        return Err(StoreError::new(ErrorKind::NotOwner { address: None, epoch: None }, message));
    }
    Ok(found)
}

/// What all pods tell, this one first. Together they cover every partition.
pub(super) async fn everywhere<A: Serialize + Sync, T: wire::Part + DeserializeOwned>(
    shell: &Shell,
    path: &str,
    ask: Option<&A>,
    here: impl Future<Output = Result<T, StoreError>>,
) -> Result<Vec<T>, StoreError> {
    let owners = shell.peering.owners();
    let peers = owners.peers.keys().map(|peer| shell.peering.call(peer, path, ask));
    let (here, peers) = futures::try_join!(here, try_join_all(peers))?;
    let parts: Vec<T> = std::iter::once(here).chain(peers).collect();
    covered(&shell.peering, shell.store.options().partitions, &parts)?;
    Ok(parts)
}

/// The page of everything that this pod serves.
pub async fn page_here(shell: &Shell, ask: &wire::ListAsk) -> Result<wire::Page, StoreError> {
    let pattern = ask.pattern.as_deref().map(Pattern::parse).transpose();
    let pattern = pattern.map_err(|error| StoreError::new(ErrorKind::InvalidName, error.to_string()))?;
    steady(shell, async |partitions| {
        let request = ListRequest {
            bucket: BucketName::parse(ask.bucket.clone())?,
            prefix: ask.prefix.clone(),
            pattern,
            delimiter: ask.delimiter.clone(),
            after: ask.after.clone(),
            token: ask.token.clone(),
            max: ask.max,
        };
        Ok(wire::Page::new(partitions, shell.store.list(request).await?))
    })
    .await
}

/// Buckets whose home this pod serves.
pub async fn buckets_here(shell: &Shell) -> Result<wire::Buckets, StoreError> {
    steady(shell, async |partitions| {
        let buckets = shell.store.list_buckets().await?.into_iter().map(wire::Bucket::from);
        Ok(wire::Buckets { partitions, buckets: buckets.collect() })
    })
    .await
}

async fn pages(shell: &Shell, ask: &wire::ListAsk) -> Result<ListPage, StoreError> {
    if ask.max == 0 {
        return Ok(ListPage::default());
    }
    let pages = everywhere(shell, wire::LIST_PATH, Some(ask), page_here(shell, ask)).await?;
    let pages: Option<Vec<ListPage>> = pages.into_iter().map(wire::Page::into_page).collect();
    let pages =
        pages.ok_or_else(|| StoreError::new(ErrorKind::Protocol, "a peer sent a page that is none"))?;
    Ok(merge_pages(pages, ask.max))
}

async fn all_buckets(shell: &Shell) -> Result<Vec<BucketInfo>, StoreError> {
    let parts = everywhere(shell, wire::BUCKETS_PATH, None::<&()>, buckets_here(shell)).await?;
    let mut buckets: Vec<BucketInfo> =
        parts.into_iter().flat_map(|part| part.buckets).filter_map(wire::Bucket::into_info).collect();
    buckets.sort_by(|a, b| a.name.cmp(&b.name));
    buckets.dedup_by(|a, b| a.name == b.name);
    Ok(buckets)
}

/// Every partition is in one of the parts.
fn covered(peering: &Peering, partitions: u32, parts: &[impl wire::Part]) -> Result<(), StoreError> {
    let covered: BTreeSet<u32> = parts.iter().flat_map(wire::Part::partitions).copied().collect();
    let missing = (0..partitions).filter(|partition| !covered.contains(partition)).count();
    if missing == 0 {
        return Ok(());
    }
    let nobody = peering.owners().nobody.len();
    Err(StoreError::new(
        ErrorKind::NotOwner { address: None, epoch: None },
        format!("{missing} of {partitions} partitions did not answer ({nobody} without a primary): retry"),
    ))
}

fn wants_json(exchange: &Exchange<'_>) -> bool {
    let accept = exchange.head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json")
}

fn answer(exchange: &Exchange<'_>, text: String) -> Response<Body> {
    let kind = if wants_json(exchange) { "application/json" } else { "application/xml" };
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
