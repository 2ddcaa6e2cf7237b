//! Bounds on connections, times and tasks: nothing that a client does, or fails to do, leaves anything behind.

use std::net::Shutdown;

use crate::http::Connection;
use crate::process::{ADMIN_TOKEN, Dev, assert_status, pattern, wait_for, wait_for_tasks};

const MIB: usize = 1 << 20;

#[test]
fn over_the_connection_limit_is_503_and_the_limit_recovers() {
    let dev = Dev::start(&["--connections-max", "8"]);
    let mut held: Vec<Connection> =
        (0..8).map(|_| Connection::open(dev.client.address).expect("connect")).collect();
    wait_for("eight connections are open", || {
        dev.metric("blobstore_sidecar_connections_opened_total{port=\"client\"}") >= 8.0
    });
    let mut ninth = Connection::open(dev.client.address).expect("connect");
    let answer = ninth.read_answer(false).expect("an answer without a question");
    assert_status(&answer, 503, "over the limit");
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("SlowDown", Some("1")));
    assert!(ninth.closed());
    held.pop();
    wait_for("a place is free again", || {
        dev.client.try_send("GET", "/", &[], b"").is_ok_and(|answer| answer.status == 200)
    });
    dev.stop();
}

#[test]
fn slow_headers_slow_bodies_and_slow_readers_are_cut() {
    let dev = Dev::with_bucket("slow", &["--header-seconds", "1", "--body-idle-seconds", "1"]);
    let bearer = dev.client.bearer();
    let big = pattern(16 * MIB, 4);
    assert_status(&dev.client.put("/slow/big", &big), 200, "a big object");

    // Idle between requests is not slow: this one is used again after the others were cut.
    let mut kept = Connection::open(dev.client.address).expect("connect");
    let small = [("authorization", bearer.as_str()), ("range", "bytes=0-9")];
    kept.head("GET", "/slow/big", &small).expect("a header");
    assert_status(&kept.read_answer(false).expect("an answer"), 206, "a kept connection");

    let mut header = Connection::open(dev.client.address).expect("connect");
    header.write(b"GET /slow/big HTTP/1.1\r\nhost").expect("half a header");
    assert!(header.closed(), "a header that never ends");

    kept.head("GET", "/slow/big", &small).expect("a header");
    assert_status(&kept.read_answer(false).expect("an answer"), 206, "the kept connection again");

    let mut body = Connection::open(dev.client.address).expect("connect");
    body.head("PUT", "/slow/never", &[("authorization", &bearer), ("content-length", "1000000")])
        .expect("a header");
    body.write(&big[..500_000]).expect("half a body");
    assert_status(&body.read_answer(false).expect("an answer"), 408, "a body that stops");
    assert_status(&dev.client.get("/slow/never"), 404, "nothing half-written");

    let mut reader = Connection::open(dev.client.address).expect("connect");
    reader.head("GET", "/slow/big", &[("authorization", &bearer)]).expect("a header");
    wait_for("the slow reader is cut", || {
        dev.metric("blobstore_sidecar_rejected_total{reason=\"slow_reader\"}") >= 1.0
    });
    drop(reader);
    wait_for("no request is left", || dev.metric("blobstore_sidecar_requests_in_flight") == 0.0);
    assert!(dev.metric("blobstore_sidecar_rejected_total{reason=\"header_timeout\"}") >= 1.0);
    assert!(dev.metric("blobstore_sidecar_rejected_total{reason=\"body_timeout\"}") >= 1.0);
    dev.stop();
}

/// R002-2, R002-3, R002-11, R002-14, R002-20: 360 requests cancelled in the question, in the answer, or after an error.
#[test]
fn cancelled_requests_leave_no_task_and_no_buffer() {
    let dev = Dev::with_bucket("cancel", &["--cache-bytes", "0"]);
    let bearer = dev.client.bearer();
    assert_status(&dev.client.put("/cancel/big", &pattern(8 * MIB, 4)), 200, "a big object");
    wait_for("the set-up has ended", || settled(&dev));
    let before = dev.settled_tasks();
    for round in 0..120 {
        let connect = || Connection::open(dev.client.address).expect("connect");
        let mut reader = connect();
        reader.head("GET", "/cancel/big", &[("authorization", &bearer)]).expect("a header");
        if round % 2 == 0 {
            reader.discard(100_000, |_| {}).expect("the beginning");
        }
        let mut writer = connect();
        let headers = [("authorization", bearer.as_str()), ("content-length", "8388608")];
        writer.head("PUT", &format!("/cancel/{round}"), &headers).expect("a header");
        writer.write(&pattern(400_000, round)).expect("the beginning");
        let mut refused = connect();
        let headers = [("authorization", "Bearer wrong"), ("content-length", "8388608")];
        refused.head("PUT", "/cancel/x", &headers).expect("a header");
        let _ = refused.stream().shutdown(Shutdown::Both);
    }
    leaves_nothing(&dev, &before);
    dev.stop();
}

/// R002: 60 requests that time out: in the header, in the question, in the answer.
#[test]
fn requests_that_time_out_leave_no_task_and_no_buffer() {
    const EACH: usize = 20;
    let dev = Dev::with_bucket(
        "late",
        &["--header-seconds", "1", "--body-idle-seconds", "1", "--cache-bytes", "0"],
    );
    let bearer = dev.client.bearer();
    let big = pattern(16 * MIB, 4);
    // The same bounds hold for our own upload, on a machine that may stall.
    wait_for("a big object", || {
        dev.client.try_send("PUT", "/late/big", &[], &big).is_ok_and(|answer| answer.status == 200)
    });
    wait_for("the set-up has ended", || settled(&dev));
    let before = dev.settled_tasks();
    let rejected =
        |reason: &str| dev.metric(&format!("blobstore_sidecar_rejected_total{{reason=\"{reason}\"}}"));
    let reasons = ["header_timeout", "body_timeout", "slow_reader"];
    let already = reasons.map(rejected);
    let connect = || Connection::open(dev.client.address).expect("connect");
    let late: Vec<[Connection; 3]> = (0..EACH)
        .map(|index| {
            let (mut header, mut body, mut reader) = (connect(), connect(), connect());
            header.write(b"GET /late/big HTTP/1.1\r\nhost").expect("half a header");
            let length = [("authorization", bearer.as_str()), ("content-length", "1000000")];
            body.head("PUT", &format!("/late/{index}"), &length).expect("a header");
            // Half a body; where this test itself is late, the answer is out already.
            let _ = body.write(&big[..400_000]);
            reader.head("GET", "/late/big", &[("authorization", &bearer)]).expect("a header");
            [header, body, reader]
        })
        .collect();
    // Their clients are still there: it is the sidecar that ends them.
    for (reason, already) in reasons.into_iter().zip(already) {
        wait_for(reason, || rejected(reason) >= already + EACH as f64);
    }
    leaves_nothing(&dev, &before);
    drop(late);
    for index in 0..EACH {
        assert_status(&dev.client.get(&format!("/late/{index}")), 404, "nothing half-written");
    }
    dev.stop();
}

/// No request under way, and no connection of a client.
fn settled(dev: &Dev) -> bool {
    let in_flight = dev.metric("blobstore_sidecar_requests_in_flight");
    let client =
        |side: &str| dev.metric(&format!("blobstore_sidecar_connections_{side}_total{{port=\"client\"}}"));
    in_flight == 0.0 && client("opened") == client("closed")
}

/// Waits until tasks and buffers are back at what they were.
fn leaves_nothing(dev: &Dev, before: &[(String, i64)]) {
    wait_for("every request has ended", || settled(dev));
    wait_for_tasks(dev, before);
    wait_for("no buffer is out", || pool_outstanding(dev) == 0.0);
    assert_eq!(dev.metric("blobstore_sidecar_panics_total"), 0.0);
}

/// Buffers leased and in use outside the caches.
pub(crate) fn pool_outstanding(dev: &Dev) -> f64 {
    dev.metric("blobstore_sidecar_pool_outstanding")
}

#[test]
fn the_admin_port_tells_health_to_all_and_the_rest_to_who_has_the_token() {
    let dev = Dev::start(&[]);
    let stranger = crate::http::Client { token: None, ..dev.admin.clone() };
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_status(&stranger.get(open), 200, open);
    }
    let closed = [
        "/v1/report",
        "/v1/memory",
        "/v1/heap-profile",
        "/v1/topology",
        "/v1/log-filter",
        "/v1/actions/x",
        "/nowhere",
    ];
    for closed in closed {
        assert_status(&stranger.get(closed), 401, closed);
        let wrong = format!("Bearer {ADMIN_TOKEN}x");
        assert_status(&stranger.send("GET", closed, &[("authorization", &wrong)], b""), 401, closed);
    }
    let metrics = stranger.get("/metrics").text();
    for family in ["requests_in_flight", "panics_total", "clients_opened_total", "clients_closed_total"] {
        assert!(metrics.contains(&format!("blobstore_sidecar_{family} ")), "{family} is registered");
    }
    assert_status(&dev.admin.send("PUT", "/v1/log-filter", &[], b"debug"), 200, "a filter");
    assert_eq!(dev.admin.get("/v1/log-filter").text().trim(), "debug");
    assert_status(&dev.admin.send("PUT", "/v1/log-filter", &[], b"=nonsense="), 400, "no filter");
    assert_status(&dev.admin.get("/v1/actions/never"), 404, "an action of nobody");
    let report = dev.admin.get("/v1/report");
    assert_status(&report, 200, "a report");
    assert_eq!(report.json()["pod"], "dev", "{}", report.text());
    let memory = dev.admin.get("/v1/memory");
    assert_status(&memory, 200, "the engine's own evidence");
    assert!(memory.json()["explained"][0].as_str().is_some_and(|line| line.contains("are allocated")));
    assert_status(&dev.admin.get("/v1/topology"), 404, "dev has no shard");
    let trimmed = dev.admin.send("POST", "/v1/actions/trim", &[], br#"{"id":"t-1"}"#);
    assert_eq!(trimmed.json()["state"], "Done", "{}", trimmed.text());
    assert_status(
        &dev.admin.send("POST", "/v1/hand-over?seconds=1", &[], b""),
        200,
        "nobody to hand over to",
    );
    let ask = br#"{"id":"a-1"}"#;
    let refused = dev.admin.send("POST", "/v1/actions/fly", &[], ask);
    assert_eq!(refused.json()["state"], "Refused", "{}", refused.text());
    assert_eq!(dev.admin.get("/v1/actions/a-1").json()["state"], "Refused");
    dev.stop();
}
