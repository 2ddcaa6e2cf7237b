//! Listings over S3: both versions of ListObjects, and the buckets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blobstore_sidecar_core::list::{Cursor, ListEntry, ListItem, ListPage, PAGE_ITEMS_MAX};
use blobstore_sidecar_s3::names::shown;
use s3s::dto::{
    Bucket, CommonPrefix, ETag, EncodingType, ListBucketsInput, ListBucketsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass, Owner, Timestamp,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::call::{Call, bucket_name};
use super::error;
use crate::lane;
use crate::route::ListQuery;

/// The one owner of everything: rights come from the users document, not from owners.
pub(super) const OWNER_ID: &str = "75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a";

pub(super) fn owner(name: Option<String>) -> Owner {
    Owner {
        display_name: Some(name.unwrap_or_else(|| "blobstore".to_owned())),
        id: Some(OWNER_ID.to_owned()),
    }
}

pub(super) fn timestamp(ms: u64) -> Timestamp {
    let time: SystemTime = UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH);
    Timestamp::from(time)
}

pub(super) fn is_url(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None | Some("") => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
    }
}

pub(super) fn keys_max(asked: Option<i32>) -> usize {
    asked.and_then(|count| usize::try_from(count).ok()).unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX)
}

/// How names are shown.
struct Show {
    url: bool,
    owner: Option<Owner>,
}

impl Show {
    fn text(&self, text: &str) -> String {
        shown(text, self.url)
    }

    fn object(&self, entry: ListEntry) -> Object {
        let ListEntry { name, size, etag, modified_ms } = entry;
        Object {
            e_tag: Some(ETag::Strong(etag.to_string())),
            key: Some(self.text(&name)),
            last_modified: Some(timestamp(modified_ms)),
            owner: self.owner.clone(),
            size: i64::try_from(size).ok(),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        }
    }

    fn split(&self, page: ListPage) -> (Vec<Object>, Vec<CommonPrefix>) {
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        for item in page.items {
            match item {
                ListItem::Object(entry) => objects.push(self.object(entry)),
                ListItem::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(self.text(&prefix)) }),
            }
        }
        (objects, prefixes)
    }
}

async fn page(call: &Call<'_>, bucket: &str, query: &ListQuery) -> S3Result<ListPage> {
    let bucket = bucket_name(bucket)?;
    lane::page_inside(call.shell, &call.request_id, &bucket, query).await.map_err(error::from_api)
}

pub(super) async fn v1(
    call: Call<'_>,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = request.input;
    let show = Show { url: is_url(input.encoding_type.as_ref())?, owner: Some(owner(None)) };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|text| !text.is_empty()),
        start_after: input.marker.clone().filter(|text| !text.is_empty()),
        keys_max: keys_max(input.max_keys),
        ..ListQuery::default()
    };
    // A marker that is one of our prefixes means: behind all of it.
    let query = past_prefix(query);
    let page = page(&call, &input.bucket, &query).await?;
    let truncated = page.next.is_some();
    let last = page.items.last().map(|item| item.key().to_owned());
    let (objects, prefixes) = show.split(page);
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(show.text(&query.prefix)),
        marker: Some(show.text(input.marker.as_deref().unwrap_or_default())),
        max_keys: i32::try_from(query.keys_max).ok(),
        is_truncated: Some(truncated),
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        delimiter: query.delimiter.as_deref().map(|text| show.text(text)),
        next_marker: last.filter(|_| truncated && query.delimiter.is_some()).map(|last| show.text(&last)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }))
}

/// With a delimiter, a page may end in a common prefix; its name as a marker skips what lies below.
fn past_prefix(mut query: ListQuery) -> ListQuery {
    if let (Some(delimiter), Some(marker)) = (&query.delimiter, &query.start_after)
        && marker.starts_with(&query.prefix)
        && marker.len() > query.prefix.len()
        && marker.ends_with(delimiter.as_str())
    {
        query.continuation_token = Some(Cursor::AfterPrefix(marker.clone()).token());
    }
    query
}

pub(super) async fn v2(
    call: Call<'_>,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = request.input;
    let owner = input.fetch_owner.unwrap_or_default().then(|| owner(None));
    let show = Show { url: is_url(input.encoding_type.as_ref())?, owner };
    let token = input.continuation_token.clone();
    if token.as_deref().is_some_and(|token| Cursor::parse(token).is_none()) {
        return Err(s3_error!(InvalidArgument, "The continuation token provided is incorrect"));
    }
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().filter(|text| !text.is_empty()),
        start_after: input.start_after.clone().filter(|text| !text.is_empty()),
        continuation_token: token,
        keys_max: keys_max(input.max_keys),
        ..ListQuery::default()
    };
    let page = page(&call, &input.bucket, &query).await?;
    let next = page.next.clone();
    let count = page.items.len();
    let (objects, prefixes) = show.split(page);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(show.text(&query.prefix)),
        max_keys: i32::try_from(query.keys_max).ok(),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(next.is_some()),
        next_continuation_token: next,
        contents: Some(objects),
        common_prefixes: Some(prefixes),
        delimiter: query.delimiter.as_deref().map(|text| show.text(text)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|text| show.text(&text)),
        ..Default::default()
    }))
}

/// Most buckets of a page: S3's own limit.
const BUCKETS_MAX: usize = 10_000;

/// The name that a page ended with; opaque to clients, so that they do not make their own.
fn bucket_token(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("b:{name}"))
}

fn parse_bucket_token(token: &str) -> S3Result<String> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name = text.as_deref().and_then(|text| text.strip_prefix("b:")).map(str::to_owned);
    name.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

pub(super) async fn buckets(
    call: Call<'_>,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let users = call.shell.users();
    if call.who.is_none() && !users.key_knows(None, "") {
        return Err(s3_error!(AccessDenied));
    }
    let input = request.input;
    let all = lane::all_buckets_inside(call.shell, &call.request_id).await.map_err(error::from_api)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.as_deref().map(parse_bucket_token).transpose()?.unwrap_or_default();
    let max = match input.max_buckets.map(usize::try_from) {
        None => usize::MAX,
        Some(Ok(max)) if (1..=BUCKETS_MAX).contains(&max) => max,
        Some(_) => {
            return Err(s3_error!(
                InvalidArgument,
                "Argument max-buckets must be an integer between 1 and 10000"
            ));
        }
    };
    let mut names = all
        .into_iter()
        .filter(|info| info.name.as_str().starts_with(&prefix) && info.name.as_str() > after.as_str())
        .filter(|info| users.key_knows(call.who.as_deref(), info.name.as_str()));
    let buckets: Vec<Bucket> = names
        .by_ref()
        .take(max)
        .map(|info| Bucket {
            name: Some(info.name.as_str().to_owned()),
            creation_date: Some(timestamp(info.created_ms)),
            ..Default::default()
        })
        .collect();
    let more = names.next().is_some();
    let next = buckets.last().and_then(|last| last.name.as_deref()).filter(|_| more).map(bucket_token);
    let name = call.who.as_deref().and_then(|who| users.name_of(who)).map(str::to_owned);
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets),
        continuation_token: next,
        owner: Some(owner(name)),
        prefix: input.prefix,
    }))
}
