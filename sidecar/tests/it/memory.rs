//! R000-1, R000-2, R000-4, R001-1: memory of the sidecar stays within a fixed budget, for uploads of 1, 10 and 50 MB by
//! themselves and for a hundred uploads and downloads of 50 MB at once, and everything leased goes back. By themselves,
//! uploads are not copied on their way, and the engine's memory grows by each payload once.

use std::sync::Arc;
use std::thread;

use crate::http::Connection;
use crate::limits::pool_outstanding;
use crate::process::{Dev, assert_status, pattern, wait_for, wait_for_tasks};

const MIB: u64 = 1 << 20;
/// The uploads of the requirement: 1, 10 and 50 MB.
const SIZES: [usize; 3] = [1_000_000, 10_000_000, 50_000_000];
const BODY_BYTES: usize = 50_000_000;
/// Of the payload: size classes, keys and records make two per cent. The rest is for the buffers that the engine has for
/// each connection, which come and go.
const ENGINE_OVERHEAD_MAX: f64 = 0.04;
const CONCURRENT: usize = 100;
/// Over idle: one body, and a hundred at once. Of those the budget is 40 MiB; the rest is what connections read ahead of
/// it and pages that were just given back.
const ONE_MAX: u64 = 8 * MIB;
const HUNDRED_MAX: u64 = 88 * MIB;

/// A full pod answers 503 before it reads: try again, as the header says. What it has begun to read it keeps.
fn put(dev: &Dev, path: &str, body: &[u8]) {
    let (bearer, length) = (dev.client.bearer(), body.len().to_string());
    let headers =
        [("authorization", bearer.as_str()), ("content-length", &length), ("expect", "100-continue")];
    wait_for("the upload is taken", || {
        let mut connection = Connection::open(dev.client.address).expect("connect");
        connection.head("PUT", path, &headers).expect("a header");
        let first = connection.read_head().expect("an answer");
        if first.status != 100 {
            assert_status(&first, 503, path);
            return false;
        }
        let sent = connection.write(body);
        let answer = connection.read_answer(false).expect("an answer");
        assert_status(&answer, 200, &format!("{path}, body {sent:?}"));
        true
    });
}

fn get(dev: &Dev, path: &str, body: &[u8]) {
    let bearer = dev.client.bearer();
    let mut answer = None;
    let mut connection = Connection::open(dev.client.address).expect("connect");
    wait_for("the download is let in", || {
        connection = Connection::open(dev.client.address).expect("connect");
        connection.head("GET", path, &[("authorization", &bearer)]).expect("a header");
        let head = connection.read_head().expect("an answer");
        let let_in = head.status != 503;
        answer = Some(head);
        let_in
    });
    assert_status(&answer.expect("an answer"), 200, path);
    let mut at = 0;
    let check = |piece: &[u8]| {
        assert!(piece == &body[at..at + piece.len()], "{path}: other bytes near {at}");
        at += piece.len();
    };
    connection.discard(body.len() as u64, check).expect("the whole body");
}

/// Peak while `work` runs, over what the sidecar held before any of it.
fn peak_over_idle(dev: &Dev, idle: u64, what: &str, work: impl FnOnce()) -> u64 {
    dev.reset_peak();
    work();
    let over = dev.peak_rss().saturating_sub(idle);
    println!("{what}: idle {:.1} MiB, peak over idle {:.1} MiB", mib(idle), mib(over));
    over
}

/// What the engine uses, asked now.
fn engine_used(dev: &Dev) -> f64 {
    let memory = dev.admin.get("/v1/memory");
    assert_status(&memory, 200, "the engine's memory");
    memory.json()["used"].as_f64().expect("a number")
}

/// Payload bytes that were copied on their way into the engine.
fn copied(dev: &Dev) -> f64 {
    dev.metric("blobstore_sidecar_bytes_copied_total ")
}

/// An upload in frames so small that the store joins them: what shows that copies are counted.
fn put_dust(dev: &Dev) {
    let mut body = Vec::new();
    for _ in 0..64 {
        body.extend_from_slice(b"3e8\r\n");
        body.extend_from_slice(&[7; 1_000]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let bearer = dev.client.bearer();
    let mut connection = Connection::open(dev.client.address).expect("connect");
    let headers = [("authorization", bearer.as_str()), ("transfer-encoding", "chunked")];
    connection.head("PUT", "/memory/dust", &headers).expect("a header");
    connection.write(&body).expect("sent");
    assert_status(&connection.read_answer(false).expect("an answer"), 200, "dust");
}

/// One upload at a time, 50 MB of each size: the sidecar's memory is a constant, the engine's grows by the payload.
fn puts_by_themselves(dev: &Dev, idle: u64, body: &[u8]) {
    for size in SIZES {
        let what = format!("{} PUTs of {} MB by themselves", BODY_BYTES / size, size / 1_000_000);
        let (used, before) = (engine_used(dev), copied(dev));
        let over = peak_over_idle(dev, idle, &what, || {
            for index in 0..BODY_BYTES / size {
                put(dev, &format!("/memory/{size}-{index}"), &body[..size]);
            }
        });
        assert!(over <= ONE_MAX, "{what} took {:.1} MiB over idle", mib(over));
        let payloads = (engine_used(dev) - used) / BODY_BYTES as f64;
        println!("{what}: the engine holds {payloads:.3} payloads more");
        assert!(
            (payloads - 1.0).abs() <= ENGINE_OVERHEAD_MAX,
            "{what}: {payloads:.3} payloads in the engine"
        );
        assert_eq!(copied(dev) - before, 0.0, "{what}: passed on as they came");
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

fn all_at_once(dev: &Dev, work: impl Fn(&Dev, usize) + Sync) {
    thread::scope(|scope| {
        for index in 0..CONCURRENT {
            let work = &work;
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || work(dev, index))
                .expect("a thread");
        }
    });
}

#[test]
fn memory_stays_within_its_budget_for_one_and_for_a_hundred() {
    // Without a cache: what it holds is a budget of its own.
    let dev = Dev::with_bucket("memory", &["--cache-bytes", "0"]);
    let body = Arc::new(pattern(BODY_BYTES, 11));
    // Warm: code pages and connections are not what this measures.
    put(&dev, "/memory/warm", &body[..2 << 20]);
    get(&dev, "/memory/warm", &body[..2 << 20]);
    put_dust(&dev);
    assert!(copied(&dev) > 0.0, "copies are counted");
    wait_for("the warm-up has ended", || dev.metric("blobstore_sidecar_requests_in_flight") == 0.0);
    let (tasks, idle) = (dev.settled_tasks(), dev.rss());

    puts_by_themselves(&dev, idle, &body);
    let one = format!("/memory/{BODY_BYTES}-0");
    let over = peak_over_idle(&dev, idle, "one GET of 50 MB", || get(&dev, &one, &body));
    assert!(over <= ONE_MAX, "one GET took {:.1} MiB over idle", mib(over));

    let path = |index: usize| format!("/memory/{index}");
    let over = peak_over_idle(&dev, idle, "100 PUTs of 50 MB at once", || {
        all_at_once(&dev, |dev, index| put(dev, &path(index), &body));
    });
    assert!(over <= HUNDRED_MAX, "100 PUTs took {:.1} MiB over idle", mib(over));
    let over = peak_over_idle(&dev, idle, "100 GETs of 50 MB at once", || {
        all_at_once(&dev, |dev, index| get(dev, &path(index), &body));
    });
    assert!(over <= HUNDRED_MAX, "100 GETs took {:.1} MiB over idle", mib(over));

    wait_for("no buffer is out", || pool_outstanding(&dev) == 0.0);
    wait_for_tasks(&dev, &tasks);
    dev.stop();
}
