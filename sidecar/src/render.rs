//! Listings as documents: JSON for programs that ask for it, S3's XML for all others. Pure.

use blobstore_sidecar_core::glob::Pattern;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::list::{ListItem, ListPage};
use blobstore_sidecar_store::BucketInfo;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::route::ListQuery;
use crate::xml::element;

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'*');
const XML_HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// `2026-11-21T12:00:00.000Z`.
fn rfc3339(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{at:.3}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    bucket: &'a str,
    prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delimiter: Option<&'a str>,
    keys: Vec<Key<'a>>,
    prefixes: Vec<&'a str>,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Key<'a> {
    key: &'a str,
    size: u64,
    etag: String,
    last_modified: String,
}

pub fn page_json(bucket: &BucketName, query: &ListQuery, page: &ListPage) -> String {
    let mut document = Page {
        bucket: bucket.as_str(),
        prefix: &query.prefix,
        pattern: query.pattern.as_ref().map(Pattern::as_str),
        delimiter: query.delimiter.as_deref(),
        keys: Vec::new(),
        prefixes: Vec::new(),
        truncated: page.next.is_some(),
        next_token: page.next.as_deref(),
    };
    for item in &page.items {
        match item {
            ListItem::Prefix(prefix) => document.prefixes.push(prefix),
            ListItem::Object(entry) => document.keys.push(Key {
                key: &entry.name,
                size: entry.size,
                etag: entry.etag.to_string(),
                last_modified: rfc3339(entry.modified_ms),
            }),
        }
    }
    serde_json::to_string(&document).unwrap_or_default()
}

/// S3's ListBucketResult, version 2.
pub fn page_xml(bucket: &BucketName, query: &ListQuery, page: &ListPage) -> String {
    let name = |text: &str| match query.encode_url {
        true => utf8_percent_encode(text, PLAIN).to_string(),
        false => text.to_owned(),
    };
    let mut out = format!("{XML_HEAD}<ListBucketResult xmlns=\"{NAMESPACE}\">");
    element(&mut out, "Name", bucket.as_str());
    element(&mut out, "Prefix", &name(&query.prefix));
    if let Some(pattern) = &query.pattern {
        element(&mut out, "Pattern", &name(pattern.as_str()));
    }
    if let Some(delimiter) = &query.delimiter {
        element(&mut out, "Delimiter", &name(delimiter));
    }
    element(&mut out, "MaxKeys", &query.keys_max.to_string());
    element(&mut out, "KeyCount", &page.items.len().to_string());
    element(&mut out, "IsTruncated", if page.next.is_some() { "true" } else { "false" });
    if query.encode_url {
        element(&mut out, "EncodingType", "url");
    }
    let optional = [("ContinuationToken", &query.continuation_token), ("NextContinuationToken", &page.next)];
    for (tag, token) in optional {
        if let Some(token) = token {
            element(&mut out, tag, token);
        }
    }
    if let Some(after) = &query.start_after {
        element(&mut out, "StartAfter", &name(after));
    }
    for item in &page.items {
        match item {
            ListItem::Object(entry) => {
                out.push_str("<Contents>");
                element(&mut out, "Key", &name(&entry.name));
                element(&mut out, "LastModified", &rfc3339(entry.modified_ms));
                element(&mut out, "ETag", &entry.etag.quoted());
                element(&mut out, "Size", &entry.size.to_string());
                element(&mut out, "StorageClass", "STANDARD");
                out.push_str("</Contents>");
            }
            ListItem::Prefix(prefix) => {
                out.push_str("<CommonPrefixes>");
                element(&mut out, "Prefix", &name(prefix));
                out.push_str("</CommonPrefixes>");
            }
        }
    }
    out.push_str("</ListBucketResult>");
    out
}

pub fn buckets_json(buckets: &[BucketInfo]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Bucket<'a> {
        name: &'a str,
        created: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        quota_bytes: Option<u64>,
    }
    #[derive(Serialize)]
    struct Document<'a> {
        buckets: Vec<Bucket<'a>>,
    }
    let bucket = |info: &'_ BucketInfo| (rfc3339(info.created_ms), info.quota_bytes);
    let buckets = buckets
        .iter()
        .map(|info| {
            let (created, quota_bytes) = bucket(info);
            Bucket { name: info.name.as_str(), created, quota_bytes }
        })
        .collect();
    serde_json::to_string(&Document { buckets }).unwrap_or_default()
}

/// S3's ListAllMyBucketsResult.
pub fn buckets_xml(buckets: &[BucketInfo]) -> String {
    let mut out = format!("{XML_HEAD}<ListAllMyBucketsResult xmlns=\"{NAMESPACE}\"><Buckets>");
    for info in buckets {
        out.push_str("<Bucket>");
        element(&mut out, "Name", info.name.as_str());
        element(&mut out, "CreationDate", &rfc3339(info.created_ms));
        out.push_str("</Bucket>");
    }
    out.push_str("</Buckets></ListAllMyBucketsResult>");
    out
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_core::etag::ETag;
    use blobstore_sidecar_core::list::ListEntry;

    use super::*;

    fn page() -> (BucketName, ListQuery, ListPage) {
        let bucket = BucketName::parse("photos").expect("a bucket's name");
        let query = ListQuery {
            prefix: "a&".to_owned(),
            delimiter: Some("/".to_owned()),
            keys_max: 2,
            ..ListQuery::default()
        };
        let entry = ListEntry {
            name: "a&b ü".to_owned(),
            size: 3,
            etag: ETag::Opaque([0xab; 16]),
            modified_ms: 1_500,
        };
        let items = vec![ListItem::Object(entry), ListItem::Prefix("a&c/".to_owned())];
        (bucket, query, ListPage { items, next: Some("p61".to_owned()) })
    }

    #[test]
    fn json_page() {
        let (bucket, query, page) = page();
        assert_eq!(
            page_json(&bucket, &query, &page),
            format!(
                r#"{{"bucket":"photos","prefix":"a&","delimiter":"/","keys":[{{"key":"a&b ü","size":3,"etag":"{}-1","lastModified":"1970-01-01T00:00:01.500Z"}}],"prefixes":["a&c/"],"truncated":true,"nextToken":"p61"}}"#,
                "ab".repeat(16)
            )
        );
    }

    #[test]
    fn xml_page_with_and_without_encoding() {
        let (bucket, mut query, page) = page();
        let text = page_xml(&bucket, &query, &page);
        assert!(text.contains("<Key>a&amp;b ü</Key><LastModified>1970-01-01T00:00:01.500Z</LastModified>"));
        assert!(text.contains("<CommonPrefixes><Prefix>a&amp;c/</Prefix></CommonPrefixes>"));
        assert!(text.contains("<IsTruncated>true</IsTruncated><NextContinuationToken>p61<"));
        query.encode_url = true;
        assert!(page_xml(&bucket, &query, &page).contains("<Key>a%26b%20%C3%BC</Key>"));
    }
}
