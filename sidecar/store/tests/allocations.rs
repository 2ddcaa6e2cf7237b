//! What the hot pure parts take from the heap, each by itself, counted by the allocator: a part that begins to allocate
//! is seen here, not in a benchmark of the whole. A program of its own, for its allocator.
#![expect(clippy::expect_used, reason = "helpers of tests: a broken fixture ends the test")]

use std::hint::black_box;

use blobstore_sidecar_core::{
    chunk::Layout,
    etag::{ETag, TagSet},
    generation::Generation,
    key::{self, BucketName},
    manifest::{Manifest, crc32c, crc64},
    partition::{partition_of, tag_of},
    precondition::{Access, Conditions, Current},
    range::ByteRange,
    record::{Attributes, Head, Record},
    tar,
};
use blobstore_sidecar_store::fuzzing::{self, WarmCache};
use bytes::Bytes;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: u64 = 1_000;
const GENERATION: Generation = Generation([7; 16]);
const NAME: &str = "folder/with/some/depth/picture-000123.jpg";

/// Bytes that this thread was given, freed or not.
fn handed_out() -> u64 {
    tikv_jemalloc_ctl::thread::allocatedp::read().expect("jemalloc counts").get()
}

/// Bytes per call. The first one may make what is kept: a metric, a table.
fn allocated<T>(mut work: impl FnMut() -> T) -> u64 {
    drop(black_box(work()));
    let before = handed_out();
    for _ in 0..ROUNDS {
        drop(black_box(work()));
    }
    (handed_out() - before).div_ceil(ROUNDS)
}

#[track_caller]
fn check<T>(what: &str, bytes_max: u64, work: impl FnMut() -> T) {
    let bytes = allocated(work);
    assert!(bytes <= bytes_max, "{what}: {bytes} bytes a call, {bytes_max} expected");
}

#[test]
fn the_count_sees_every_byte() {
    assert_eq!(allocated(|| ()), 0);
    assert_eq!(allocated(|| Box::new([0_u8; 64])), 64);
    assert_eq!(allocated(|| Vec::<u8>::with_capacity(4_096)), 4_096);
}

/// R001-4, R002-12, R002-15, R002-16, R002-22, R003-4: what can be borrowed is not allocated, by count.
#[test]
fn names_ranges_and_conditions_take_nothing_but_the_keys_themselves() {
    let tag = tag_of(9, 256);
    check("partition", 0, || partition_of("photos", NAME, 256));
    check("generation", 0, || Generation::parse("07070707070707070707070707070707"));
    // A chunk's key stays within the allocator's class of 48 bytes, here and in the engine.
    check("chunk key", 48, || key::chunk(tag, GENERATION, 190));
    check("record key", 96, || key::record(tag, "photos", NAME));
    let text = key::chunk(tag, GENERATION, 190);
    check("key, parsed", 0, || key::parse(text.as_bytes()).is_some());
    check("range", 0, || ByteRange::parse("bytes=1000-1999").and_then(|range| range.resolve(5_000)));
    let layout = Layout::of(50_000_000).expect("a size that can be");
    check("pieces", 0, || layout.pieces(0..50_000_000).count());
    let conditions = Conditions { if_none_match: TagSet::parse("\"a\", \"b\""), ..Conditions::default() };
    let etag = ETag::Opaque([1; 16]);
    let current = Current { etag: &etag, modified_ms: 5 };
    check("conditions", 0, || conditions.evaluate(Access::Read, Some(current)));
    // The name and the two counts of who shares it.
    check("bucket", 32, || BucketName::parse("photos"));
}

#[test]
fn records_and_checksums_are_read_where_they_lie() {
    let headers = Attributes { content_type: Some("image/jpeg".to_owned()), ..Attributes::default() };
    let headers = headers.encode().expect("it fits");
    let body = [9; 4_096];
    let head = Head {
        generation: GENERATION,
        layout: Layout::inline(4_096),
        created_ms: 1,
        modified_ms: 1,
        expires_ms: 0,
        etag: ETag::Opaque([3; 16]),
        crc64: crc64(&body),
        tail_crc64: crc64(&body),
        first_crc64: 0,
        manifest_len: 0,
        headers_len: u16::try_from(headers.len()).expect("small"),
        headers_crc: crc32c(&[&headers]),
        access_hour: 0,
        versioned: false,
        delete_marker: false,
    };
    let value = Bytes::from([&head.encode()[..], &headers, &body].concat());
    assert!(Record::decode(&value).is_ok());
    check("head, written", 0, || head.encode());
    check("head", 0, || Head::decode(&value).is_ok());
    // The content type, as text.
    check("record of 4 KiB", 64, || Record::decode(&value).is_ok());
    let large = vec![7; 262_080];
    check("checksum", 0, || crc64(&large));
    let manifest = Manifest {
        generation: GENERATION,
        bucket: "photos".to_owned(),
        name: NAME.to_owned(),
        upload: None,
        declared_len: Some(50_000_000),
        crcs: Some(vec![5; 191]),
        pack: None,
    };
    // Eight bytes per chunk, and the names.
    let bytes = manifest.encode();
    check("manifest, written", 2_048, || manifest.encode());
    check("manifest", 2_048, || Manifest::decode(&bytes).is_ok());
    let mut block = [0; tar::BLOCK_BYTES];
    block[..4].copy_from_slice(b"name");
    block[148..156].copy_from_slice(b"000773\0 ");
    check("tar header", 16, || tar::header(&block).is_ok());
}

#[test]
fn the_engines_protocol_and_a_hit_in_the_cache_take_next_to_nothing() {
    check("header of a value", 0, || fuzzing::bulk_header(b"$262080\r\n"));
    let reply = b"*4\r\n$2\r\nOK\r\n:1\r\n$-1\r\n$16\r\n0123456789abcdef\r\n";
    check("reply of a script", 512, || fuzzing::reply(reply));
    check("command", 512, || fuzzing::command(&[b"GET", b"c:{ab}:07070707070707070707070707070707:190"]));
    let cache = WarmCache::new(100);
    assert!(cache.has(50) && !cache.has(5_000));
    check("hit", 0, || cache.has(50));
    check("miss", 0, || cache.has(5_000));
}
