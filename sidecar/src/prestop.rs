//! `prestop`: the preStop hook. A native sidecar gets SIGTERM only after the engine's container has ended, so the
//! hand-over has to start here; the hook returns when a replica has taken over.

use std::fs;
use std::path::Path;
use std::time::Duration;

use blobstore_sidecar_api::ports::{SECRET_ADMIN_TOKEN, SECRET_DIR};
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};

use crate::peer::{Peer, PeerBody, PeerError};

/// Beyond the hand-over's own deadline, for the answer to come back.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum PrestopError {
    #[error("read the admin token")]
    Token(#[source] std::io::Error),
    #[error("write the request")]
    Request(#[from] http::Error),
    #[error("ask the sidecar to hand over")]
    Ask(#[from] PeerError),
    #[error("the sidecar answered {0}")]
    Refused(StatusCode),
    #[error("the sidecar did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

pub async fn prestop(port: u16, seconds: u64) -> Result<(), PrestopError> {
    let path = Path::new(SECRET_DIR).join(SECRET_ADMIN_TOKEN);
    let token = fs::read_to_string(path).map_err(PrestopError::Token)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://127.0.0.1:{port}/v1/hand-over?seconds={seconds}"))
        .header(AUTHORIZATION, format!("Bearer {}", token.trim()))
        .body(PeerBody::Empty)?;
    let deadline = Duration::from_secs(seconds) + SLACK;
    let peer = Peer::open();
    let (response, _permit) = tokio::time::timeout(deadline, peer.send(request, SLACK)).await??;
    if response.status().is_success() { Ok(()) } else { Err(PrestopError::Refused(response.status())) }
}
