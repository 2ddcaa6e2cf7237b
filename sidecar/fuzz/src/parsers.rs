//! Parsers that are functions: of the engine's answers, of what lies in the engine, of headers and documents. Where a
//! checksum guards the rest, it is made right first, or nothing behind it would ever be reached.

use blobstore_sidecar::{auth::Users, route};
use blobstore_sidecar_core::{
    chunk::CHUNK_BYTES,
    etag::{ETag, TagSet},
    glob::Pattern,
    key::{self, BucketName, ObjectName},
    lifecycle::{Lifecycle, Subject},
    list::Cursor,
    manifest::{Manifest, crc32c, crc64},
    parts::PartList,
    precondition::{IfRange, parse_http_date},
    range::ByteRange,
    record::{Attributes, HEAD_BYTES, Head, Record},
    tar,
};
use blobstore_sidecar_s3::{
    authorization, checksum,
    policy::{Deed, Policy, Verdict},
};
use blobstore_sidecar_store::fuzzing;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The engine's answers.
pub(crate) fn resp(input: &[u8]) {
    if let Some(len) = fuzzing::reply(input) {
        assert!(len > 0 && len <= input.len(), "an answer ends within what came");
        assert_eq!(fuzzing::reply(&input[..len]), Some(len), "what follows does not matter");
    }
    if let Some((_, header)) = fuzzing::bulk_header(input) {
        assert!(header <= input.len());
    }
}

pub(crate) fn range(input: &[u8]) {
    let Some(range) = ByteRange::parse(&text(input)) else { return };
    for size in [0, 1, 1 << 20, u64::MAX] {
        if let Some(bytes) = range.resolve(size) {
            assert!(bytes.start < bytes.end && bytes.end <= size);
        }
    }
}

pub(crate) fn preconditions(input: &[u8]) {
    let text = text(input);
    let (_tags, _range, _date) = (TagSet::parse(&text), IfRange::parse(&text), parse_http_date(&text));
    if let Some(tag) = ETag::parse(&text) {
        assert_eq!(ETag::parse(&tag.quoted()), Some(tag));
    }
    if let Some(cursor) = Cursor::parse(&text) {
        assert_eq!(Cursor::parse(&cursor.token()), Some(cursor));
    }
}

pub(crate) fn keys(input: &[u8]) {
    let _ = key::parse(input);
    let text = text(input);
    if let Ok(bucket) = BucketName::parse(text.as_str()) {
        assert_eq!(bucket.as_str(), text);
    }
    if let Ok(name) = ObjectName::parse(text.as_str()) {
        assert!(name.as_str() == text && !text.contains('\0'));
    }
}

/// Writes a checksum over everything but itself.
fn sealed(input: &[u8], fixed: usize, crc_at: usize) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if bytes.len() >= fixed {
        let crc = crc32c(&[&bytes[..crc_at], &bytes[fixed..]]);
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

pub(crate) fn record(input: &[u8]) {
    let _ = Head::decode(input);
    let mut bytes = input.to_vec();
    bytes.resize(bytes.len().max(HEAD_BYTES), 0);
    bytes[..4].copy_from_slice(b"BSR1");
    let headers = usize::from(u16::from_le_bytes([bytes[114], bytes[115]]));
    let (headers, tail) = bytes[HEAD_BYTES..].split_at(headers.min(bytes.len() - HEAD_BYTES));
    let (crc, tail_crc) = (crc32c(&[headers]), crc64(tail));
    bytes[116..120].copy_from_slice(&crc.to_le_bytes());
    bytes[80..88].copy_from_slice(&tail_crc.to_le_bytes());
    let crc = crc32c(&[&bytes[..120]]);
    bytes[120..124].copy_from_slice(&crc.to_le_bytes());
    if let Ok(record) = Record::decode(&Bytes::from(bytes)) {
        let head = record.head;
        assert_eq!(Head::decode(&head.encode()).as_ref(), Ok(&head));
        // Where the chunks of a body in parts lie, its part list knows.
        let mut pieces = head.layout.pieces(0..head.layout.size()).take(100);
        assert!(head.layout.in_parts() || pieces.all(|piece| piece.take > 0));
    }
}

pub(crate) fn manifest(input: &[u8]) {
    let _ = Manifest::decode(input);
    if let Ok(manifest) = Manifest::decode(&sealed(input, 48, 44)) {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }
}

pub(crate) fn part_list(input: &[u8]) {
    let _ = PartList::decode(input);
    if let Ok(list) = PartList::decode(&sealed(input, 40, 36)) {
        for index in 0..list.chunks().min(100) {
            assert!(list.locate(index).is_none_or(|(_, _, len)| len <= CHUNK_BYTES));
        }
        assert_eq!(PartList::decode(&list.encode()), Ok(list));
    }
}

/// Headers, user metadata and tags of a record.
pub(crate) fn attributes(input: &[u8]) {
    if let Some(attributes) = Attributes::decode(input)
        && let Some(bytes) = attributes.encode()
    {
        assert_eq!(Attributes::decode(&bytes), Some(attributes));
    }
}

/// zstd from the engine: never more than was asked for.
/// Headers of an archive, their checksums made right, and the records that extend them.
pub(crate) fn tar(input: &[u8]) {
    let mut block = [0; tar::BLOCK_BYTES];
    let len = input.len().min(tar::BLOCK_BYTES);
    block[..len].copy_from_slice(&input[..len]);
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    if let Ok(Some(entry)) = tar::header(&block) {
        assert!(entry.name.len() <= 100 + 1 + 155, "a name is within its fields");
        let padding = tar::padding(entry.size);
        assert_eq!(entry.size.wrapping_add(padding) % tar::BLOCK_BYTES as u64, 0);
    }
    let mut extended = tar::Extended::default();
    if tar::records(input, &mut extended).is_ok() {
        assert!(extended.name.is_none_or(|name| name.len() < input.len()));
    }
}

pub(crate) fn packed(input: &[u8]) {
    let (len, packed) = input.split_at(input.len().min(2));
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    fuzzing::unpack(packed, len);
}

/// What the sweeper reads out of its lists.
pub(crate) fn entries(input: &[u8]) {
    let text = text(input);
    for read in [fuzzing::journal_entry, fuzzing::doomed_entry] {
        if let Some(again) = read(&text) {
            assert_eq!(read(&again), Some(again));
        }
    }
}

pub(crate) fn lifecycle(input: &[u8]) {
    if let Some(rules) = Lifecycle::parse(&text(input)) {
        assert!(Lifecycle::parse(&rules.text()).is_some());
        let object = Subject { name: "a/b", size: 1 << 20, tags: None };
        let _ = (rules.expires(&object, 1 << 40, 1 << 41), rules.aborts("a/b", 0, u64::MAX));
    }
}

pub(crate) fn policy(input: &[u8]) {
    let Ok(policy) = Policy::parse(&text(input), "bucket") else { return };
    let fact = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let facts = [
        fact("aws:sourceip", "192.0.2.7"),
        fact("aws:currenttime", "1893456000"),
        fact("s3:prefix", "a/b"),
        fact("s3:max-keys", "10"),
        fact("s3:requestobjecttagkeys", "a"),
    ];
    for user in [None, Some("ann")] {
        for facts in [&facts[..], &[]] {
            let deed = Deed { user, action: "s3:GetObject", bucket: "bucket", key: "a/b", facts };
            let (open, restricted) = (policy.verdict(deed, false), policy.verdict(deed, true));
            assert!(open == restricted || (open, restricted) == (Verdict::Allow, Verdict::Silent));
        }
    }
}

/// First line: `Authorization`; the rest: a query.
pub(crate) fn credentials(input: &[u8]) {
    let (first, query) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let uri = Uri::try_from(format!("/b/k?{}", text(query).trim())).unwrap_or_default();
    let mut headers = HeaderMap::new();
    let _ = authorization::problem(&headers, &uri);
    if let Ok(value) = HeaderValue::from_bytes(first) {
        headers.insert("authorization", value.clone());
        headers.insert("x-amz-checksum-sha256", value.clone());
        headers.insert("x-amz-trailer", value);
        let _ = (authorization::problem(&headers, &uri), checksum::promise(&headers));
        let _ = route::is_signed(&headers, &uri);
    }
}

/// Path and query of a request of the plain lane.
pub(crate) fn query(input: &[u8]) {
    let text = text(input);
    let _ = route::parameters(&text);
    if let Ok(uri) = Uri::try_from(text.as_str()) {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD] {
            let _ = route::operation(&method, &uri, &HeaderMap::new());
        }
        let _ = route::is_s3_query(&uri);
    }
}

/// First line: a pattern of names; the rest: a name.
pub(crate) fn pattern(input: &[u8]) {
    let text = text(input);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(pattern) = Pattern::parse(pattern) {
        assert!(!pattern.matches(name) || name.starts_with(pattern.head()), "a match begins with the head");
        assert_eq!(pattern.head_within(pattern.head()), Some(pattern.head()));
    }
    let literal: String = name.chars().flat_map(|letter| ['\\', letter]).collect();
    if let Ok(pattern) = Pattern::parse(&literal) {
        assert!(pattern.matches(name) && pattern.head() == name, "what is escaped stands for itself");
        assert!(!pattern.matches(&format!("{name}x")));
    }
}

/// The document of a store's users.
pub(crate) fn users(input: &[u8]) {
    let _ = Users::parse(&text(input), false);
}
