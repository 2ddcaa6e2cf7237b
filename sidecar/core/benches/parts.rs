//! Criterion benches of what every request passes and no socket is needed for. `make bench-parts` prints them.

use std::hint::black_box;

use blobstore_sidecar_core::{
    chunk::Layout,
    etag::{ETag, TagSet},
    generation::Generation,
    key,
    manifest::{Manifest, crc64},
    partition::{partition_of, tag_of},
    range::ByteRange,
    record::{Attributes, Head, Record},
    tar,
};
use bytes::Bytes;
use criterion::{Criterion, Throughput};

const GENERATION: Generation = Generation([7; 16]);
const NAME: &str = "folder/with/some/depth/picture-000123.jpg";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    keys(&mut criterion);
    headers(&mut criterion);
    records(&mut criterion);
    checksums(&mut criterion);
    archives(&mut criterion);
    criterion.final_summary();
}

fn keys(criterion: &mut Criterion) {
    let tag = tag_of(partition_of("photos", NAME, 256), 256);
    criterion.bench_function("key/partition", |b| b.iter(|| partition_of(black_box("photos"), NAME, 256)));
    criterion.bench_function("key/record", |b| b.iter(|| key::record(tag, black_box("photos"), NAME)));
    criterion.bench_function("key/chunk", |b| b.iter(|| key::chunk(tag, black_box(GENERATION), 190)));
    let text = key::chunk(tag, GENERATION, 190);
    criterion.bench_function("key/parse", |b| {
        b.iter(|| key::parse(black_box(text.as_bytes())).is_some());
    });
}

fn headers(criterion: &mut Criterion) {
    let (layout, size) = (Layout::of(50_000_000), 50_000_000);
    criterion.bench_function("range/parse", |b| b.iter(|| ByteRange::parse(black_box("bytes=1000-1999"))));
    criterion.bench_function("range/pieces of 50 MB", |b| {
        let range = ByteRange::parse("bytes=0-").and_then(|range| range.resolve(size)).unwrap_or_default();
        b.iter(|| layout.map(|layout| layout.pieces(black_box(range.clone())).count()));
    });
    let text = format!("\"{GENERATION}-1\", \"{}\"", "ab".repeat(16));
    criterion.bench_function("etag/parse a list", |b| b.iter(|| TagSet::parse(black_box(&text))));
}

fn head(headers: &[u8]) -> Head {
    Head {
        generation: GENERATION,
        layout: Layout::inline(4_096),
        created_ms: 1_700_000_000_000,
        modified_ms: 1_700_000_000_000,
        expires_ms: 0,
        etag: ETag::Opaque([3; 16]),
        crc64: 0,
        tail_crc64: 0,
        first_crc64: 0,
        manifest_len: 0,
        headers_len: u16::try_from(headers.len()).unwrap_or(u16::MAX),
        headers_crc: blobstore_sidecar_core::manifest::crc32c(&[headers]),
        access_hour: 0,
        versioned: false,
        delete_marker: false,
    }
}

fn records(criterion: &mut Criterion) {
    let attributes = Attributes {
        content_type: Some("image/jpeg".to_owned()),
        user: vec![("origin".to_owned(), "camera 7".to_owned())],
        ..Attributes::default()
    };
    let headers = attributes.encode().unwrap_or_default();
    let head = head(&headers);
    let value = Bytes::from([&head.encode()[..], &headers, &[9; 4_096]].concat());
    criterion.bench_function("record/encode head", |b| b.iter(|| black_box(&head).encode()));
    criterion.bench_function("record/decode head", |b| b.iter(|| Head::decode(black_box(&value)).is_ok()));
    criterion.bench_function("record/decode 4 KiB", |b| b.iter(|| Record::decode(black_box(&value)).is_ok()));
    let manifest = Manifest {
        generation: GENERATION,
        bucket: "photos".to_owned(),
        name: NAME.to_owned(),
        upload: None,
        declared_len: Some(50_000_000),
        crcs: Some(vec![5; 191]),
        pack: None,
    };
    let bytes = manifest.encode();
    criterion.bench_function("manifest/encode 50 MB", |b| b.iter(|| black_box(&manifest).encode()));
    criterion.bench_function("manifest/decode 50 MB", |b| {
        b.iter(|| Manifest::decode(black_box(&bytes)).is_ok());
    });
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for len in [4_096, 262_080] {
        let bytes = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("crc64 of {len}"), |b| b.iter(|| crc64(black_box(&bytes))));
    }
    group.finish();
}

fn archives(criterion: &mut Criterion) {
    let mut block = [0; tar::BLOCK_BYTES];
    block[..NAME.len()].copy_from_slice(NAME.as_bytes());
    block[124..135].copy_from_slice(b"00000010000");
    block[148..156].copy_from_slice(b"        ");
    block[156] = b'0';
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    criterion.bench_function("tar/header", |b| b.iter(|| tar::header(black_box(&block)).is_ok()));
}
