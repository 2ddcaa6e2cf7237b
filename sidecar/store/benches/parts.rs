//! Criterion benches of the store's hot parts that need no engine: its protocol, and the lookup in the cache.

use std::hint::black_box;

use blobstore_sidecar_store::fuzzing::{self, WarmCache};
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let header = b"$262080\r\n";
    criterion
        .bench_function("resp/header of a value", |b| b.iter(|| fuzzing::bulk_header(black_box(header))));
    let reply = b"*4\r\n$2\r\nOK\r\n:1\r\n$-1\r\n$16\r\n0123456789abcdef\r\n";
    criterion.bench_function("resp/reply of a script", |b| b.iter(|| fuzzing::reply(black_box(reply))));
    let key = b"c:{ab}:07070707070707070707070707070707:190";
    criterion.bench_function("resp/command", |b| b.iter(|| fuzzing::command(black_box(&[b"GET", key]))));
    let cache = WarmCache::new(1_000);
    criterion.bench_function("cache/hit", |b| b.iter(|| cache.has(black_box(500))));
    criterion.bench_function("cache/miss", |b| b.iter(|| cache.has(black_box(5_000))));
    criterion.final_summary();
}
