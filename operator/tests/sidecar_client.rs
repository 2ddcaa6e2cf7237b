//! The sidecar client against real sockets: bounded in time and bytes, refusals understood.

#![expect(clippy::expect_used, reason = "a test says what should hold")]

use std::net::SocketAddr;
use std::time::Duration;

use blobstore_operator::sidecar_client::{AdminToken, Sidecar, SidecarError};
use blobstore_operator::tasks;
use blobstore_sidecar_api::action::{ActionRequest, ActionState, name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Its own limit is two seconds; a machine under load is slow to notice.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers one request per connection with `answer`; the requests come out of the channel as text.
async fn server(answer: Vec<u8>) -> (Sidecar, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, requests) = mpsc::unbounded_channel();
    tasks::spawn("test_server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Some(request) = exchange(stream, &answer).await {
                drop(sender.send(request));
            }
        }
    });
    (sidecar(address), requests)
}

async fn exchange(mut stream: TcpStream, answer: &[u8]) -> Option<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.ok()?;
        seen.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap_or(0));
        if read == 0 || body.is_some_and(|body| body >= length) {
            // The client may have gone already: then nobody waits for the rest.
            let _ = stream.write_all(answer).await;
            return Some(text);
        }
    }
}

fn sidecar(address: SocketAddr) -> Sidecar {
    Sidecar { address, token: AdminToken::new("s3cret") }
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn request() -> ActionRequest {
    ActionRequest { id: "a1".to_owned(), expected_epoch: Some(3), params: [].into() }
}

#[tokio::test]
async fn action_carries_token_id_and_epoch() {
    let done = r#"{"id":"a1","state":"Done","message":"12 MiB freed"}"#;
    let (sidecar, mut requests) = server(response("200 OK", done)).await;
    let result = sidecar.action(name::PURGE, &request()).await.expect("an answer");
    assert_eq!(result.state, ActionState::Done);
    let seen = requests.recv().await.expect("a request").to_lowercase();
    assert!(seen.starts_with("post /v1/actions/purge http/1.1"), "{seen}");
    assert!(seen.contains("authorization: bearer s3cret"), "{seen}");
    assert!(seen.contains(r#""expectedepoch":3"#), "{seen}");
}

#[tokio::test]
async fn refusal_under_an_error_status_is_a_result() {
    let refused = r#"{"id":"a1","state":"Refused","message":"the epoch has moved"}"#;
    let (sidecar, _requests) = server(response("409 Conflict", refused)).await;
    let result = sidecar.action(name::PROMOTE, &request()).await.expect("an answer");
    assert_eq!((result.state, result.message.as_str()), (ActionState::Refused, "the epoch has moved"));
}

#[tokio::test]
async fn error_status_is_named_with_what_it_said() {
    let (sidecar, _requests) = server(response("401 Unauthorized", "wrong token")).await;
    let error = sidecar.topology().await.expect_err("a wrong token");
    assert!(error.to_string().contains("401 Unauthorized: wrong token"), "{error}");
}

#[tokio::test]
async fn silent_sidecar_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let sidecar = sidecar(listener.local_addr().expect("an address"));
    let answer = timeout(PATIENCE, sidecar.topology()).await.expect("given up");
    let error = answer.expect_err("nobody answers");
    assert!(matches!(error, SidecarError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn endless_answer_is_cut() {
    let huge = response("200 OK", &"x".repeat((1 << 20) + 1));
    let (sidecar, _requests) = server(huge).await;
    let error = sidecar.report().await.expect_err("too long");
    assert!(matches!(error, SidecarError::Body { .. }), "{error}");
}

#[tokio::test]
async fn closed_port_and_cut_answers_are_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closed = sidecar(listener.local_addr().expect("an address"));
    drop(listener);
    let error = closed.topology().await.expect_err("nobody listens");
    assert!(matches!(error, SidecarError::Connect { .. }), "{error}");
    let (cut, _requests) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{".to_vec()).await;
    assert!(cut.topology().await.is_err());
}

#[tokio::test]
async fn token_is_never_printed() {
    let printed = format!("{:?}", sidecar(([127, 0, 0, 1], 1).into()));
    assert!(!printed.contains("s3cret"), "{printed}");
}
