//! The client side of the peer port: one short HTTP/1 connection per call, with a deadline.

use std::time::Duration;

use blobstore_sidecar_api::record::Member;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::{net::TcpStream, time::timeout};

use blobstore_sidecar_runtime::tasks;

use crate::{
    Identity, PeerAnswer, PeerRequest,
    peer::{IDENTITY_PATH, SHARD_PATH},
};

/// A peer answers from memory: an answer that takes longer is as good as none to a protocol of 2 s.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Answers are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the peer did not answer in time")]
    Silent,
    #[error("call the peer: {0}")]
    Call(String),
    #[error("the peer at this address is not of this store")]
    Foreign,
}

fn call_error(error: impl std::fmt::Display) -> PeerError {
    PeerError::Call(error.to_string())
}

#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) token: String,
    pub(crate) store_uid: String,
    pub(crate) port: u16,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peers(:{})", self.port)
    }
}

impl Peers {
    /// Proof that whoever knows the peer token stands behind this member, for this nonce only.
    pub(crate) fn proof(&self, nonce: &str, member: &Member) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.token.as_bytes()) else { return String::new() };
        for part in [nonce, &self.store_uid, &member.node_id, &member.run_id] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        hex::encode(mac.finalize().into_bytes())
    }

    /// The member at this address, if it is of our store.
    pub(crate) async fn identity(&self, ip: &str) -> Result<Identity, PeerError> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let request = Request::get(format!("{IDENTITY_PATH}?nonce={nonce}"));
        let request = request.header(header::HOST, ip).body(Full::default()).map_err(call_error)?;
        let body = self.send(ip, request).await?;
        let identity: Identity = serde_json::from_slice(&body).map_err(call_error)?;
        let wanted = self.proof(&nonce, &identity.member);
        let proved = !wanted.is_empty() && bool::from(wanted.as_bytes().ct_eq(identity.proof.as_bytes()));
        if proved { Ok(identity) } else { Err(PeerError::Foreign) }
    }

    pub(crate) async fn ask(&self, ip: &str, question: &PeerRequest) -> Result<PeerAnswer, PeerError> {
        let body = serde_json::to_vec(question).map_err(call_error)?;
        let request = Request::post(SHARD_PATH)
            .header(header::HOST, ip)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(call_error)?;
        serde_json::from_slice(&self.send(ip, request).await?).map_err(call_error)
    }

    async fn send(&self, ip: &str, request: Request<Full<Bytes>>) -> Result<Bytes, PeerError> {
        timeout(ANSWER_WITHIN, self.exchange(ip, request)).await.map_err(|_| PeerError::Silent)?
    }

    async fn exchange(&self, ip: &str, request: Request<Full<Bytes>>) -> Result<Bytes, PeerError> {
        let host =
            if ip.contains(':') { format!("[{ip}]:{}", self.port) } else { format!("{ip}:{}", self.port) };
        let stream = TcpStream::connect(host).await.map_err(call_error)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(call_error)?;
        let driver = tasks::spawn("shard-peer-call", connection);
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(call_error)?;
            if !answer.status().is_success() {
                return Err(PeerError::Call(format!("status {}", answer.status())));
            }
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(call_error)
        };
        let got = exchange.await;
        drop(sender);
        driver.abort();
        got
    }
}
