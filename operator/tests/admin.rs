//! The admin port over a real socket: health, metrics, and webhooks with their limits.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blobstore_operator::admin::{self, Surface};
use blobstore_operator::metrics::Metrics;
use blobstore_operator::tasks;
use blobstore_operator::telemetry::Filter;
use blobstore_operator::webhook::{Credentials, Hint, QUEUE_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Port {
    address: SocketAddr,
    surface: Arc<Surface>,
    hints: mpsc::Receiver<Hint>,
}

async fn port(queue: usize) -> Port {
    let (sender, hints) = mpsc::channel(queue);
    let (filter, _layer) = Filter::detached();
    let credentials = Credentials::new(Some("secret".to_owned()), None);
    let metrics = Metrics::new().expect("metrics register");
    let surface = Arc::new(Surface::new(metrics, filter, credentials, sender));
    surface.leading.store(true, Ordering::Release);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tasks::spawn("test_admin", admin::serve(listener, Arc::clone(&surface)));
    Port { address, surface, hints }
}

/// Sends head and body, and returns status line and body of the answer.
async fn call(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sends the head");
    // The other side may have answered and closed before the body is through.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn hook(port: &Port, token: &str, body: &[u8]) -> String {
    let head = format!(
        "POST /v1/webhooks/alertmanager HTTP/1.1\r\nauthorization: Bearer {token}\r\ncontent-length: {}",
        body.len()
    );
    let answer = call(port.address, &head, body).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

fn alert(store: &str) -> Vec<u8> {
    let alert = serde_json::json!({"status": "firing", "fingerprint": store, "startsAt": "t",
        "labels": {"namespace": "shop", "store": store}});
    serde_json::json!({"version": "4", "alerts": [alert]}).to_string().into_bytes()
}

#[tokio::test]
async fn verified_alert_is_accepted_and_hints_once() {
    let mut port = port(QUEUE_MAX).await;
    for _ in 0..2 {
        assert_eq!(hook(&port, "secret", &alert("cart")).await, "HTTP/1.1 202 Accepted");
    }
    let wanted = Hint::Store { namespace: "shop".to_owned(), name: "cart".to_owned() };
    assert_eq!(port.hints.try_recv(), Ok(wanted));
    assert!(port.hints.try_recv().is_err(), "the repetition hints nothing");
}

#[tokio::test]
async fn strangers_and_garbage_are_refused() {
    let mut port = port(QUEUE_MAX).await;
    assert_eq!(hook(&port, "guess", &alert("cart")).await, "HTTP/1.1 401 Unauthorized");
    assert_eq!(hook(&port, "secret", b"{").await, "HTTP/1.1 400 Bad Request");
    let none = call(port.address, "POST /v1/webhooks/grafana HTTP/1.1\r\ncontent-length: 0", b"").await;
    assert!(none.starts_with("HTTP/1.1 401"), "{none}");
    assert!(port.hints.try_recv().is_err());
}

#[tokio::test]
async fn body_over_the_limit_is_refused() {
    let port = port(QUEUE_MAX).await;
    let edge = vec![b' '; 256 * 1024];
    assert_eq!(hook(&port, "secret", &edge).await, "HTTP/1.1 400 Bad Request");
    let large = vec![b' '; 256 * 1024 + 1];
    assert_eq!(hook(&port, "secret", &large).await, "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn body_that_does_not_come_is_cut() {
    let port = port(QUEUE_MAX).await;
    let head = "POST /v1/webhooks/grafana HTTP/1.1\r\nauthorization: Bearer secret\r\ncontent-length: 10";
    // Its own limit is below a second; a machine under load is slow to notice.
    let cut = timeout(Duration::from_secs(30), call(port.address, head, b"{"));
    let answer = cut.await.expect("nobody waits for the rest");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn full_queue_and_standby_ask_the_sender_to_repeat() {
    let mut port = port(1).await;
    assert_eq!(hook(&port, "secret", &alert("a")).await, "HTTP/1.1 202 Accepted");
    assert_eq!(hook(&port, "secret", &alert("b")).await, "HTTP/1.1 503 Service Unavailable");
    assert!(port.hints.recv().await.is_some());
    assert_eq!(hook(&port, "secret", &alert("b")).await, "HTTP/1.1 202 Accepted", "the repetition is new");
    port.surface.leading.store(false, Ordering::Release);
    assert_eq!(hook(&port, "secret", &alert("c")).await, "HTTP/1.1 503 Service Unavailable");
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let port = port(1).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1");
    assert!(call(port.address, &get("/healthz"), b"").await.starts_with("HTTP/1.1 200"));
    assert!(call(port.address, &get("/readyz"), b"").await.starts_with("HTTP/1.1 503"));
    port.surface.ready.store(true, Ordering::Release);
    assert!(call(port.address, &get("/readyz"), b"").await.starts_with("HTTP/1.1 200"));
    let metrics = call(port.address, &get("/metrics"), b"").await;
    assert!(metrics.contains("blobstore_operator_build_info{version="), "{metrics}");
    assert!(call(port.address, &get("/nothing"), b"").await.starts_with("HTTP/1.1 404"));
}
