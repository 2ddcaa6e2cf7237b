//! The peer port (9002): forwarded data requests and the small calls between sidecars of one store. Everything but
//! the identity proof needs the store's peer token.

use std::sync::Arc;

use blobstore_sidecar_api::ports::HEADER_FORWARDED;
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_shard::PeerRequest;
use blobstore_sidecar_shard::peer::{IDENTITY_PATH, SHARD_PATH};
use blobstore_sidecar_store::{ErrorKind, StoreError};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::admin::{json, read_json, read_json_within};
use crate::auth::bearer_is;
use crate::body::Body;
use crate::control::Control;
use crate::error::{ApiError, Notation};
use crate::io::Busy;
use crate::lane::{self, Side};
use crate::route::parameters;
use crate::server::{Answer, Service, later};
use crate::shell::Shell;
use crate::wire;

/// The peer port.
#[derive(Debug)]
pub struct PeerPort {
    pub shell: Arc<Shell>,
    pub control: Arc<dyn Control>,
    pub token: String,
}

impl Service for PeerPort {
    fn answer(self: Arc<Self>, request: Request<Incoming>, busy: Busy) -> Answer {
        later(async move {
            let known = bearer_is(request.headers(), &self.token);
            if known && request.headers().contains_key(HEADER_FORWARDED) {
                return lane::answer(&self.shell, Side::Peer, request, busy).await;
            }
            let _busy = busy.enter();
            let answer = if known || request.uri().path() == IDENTITY_PATH {
                self.handle(request).await
            } else {
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", "the peer token is another one"))
            };
            answer.unwrap_or_else(|error| error.into_response(Notation::Json, "", false))
        })
    }
}

impl PeerPort {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let parameter = |wanted: &str| -> Result<String, ApiError> {
            let found = parameters(&query)?.into_iter().find(|(name, _)| name == wanted);
            Ok(found.map(|(_, value)| value).unwrap_or_default())
        };
        match (request.method(), path.as_str()) {
            (&Method::GET, IDENTITY_PATH) => match self.control.identity(parameter("nonce")?).await {
                Some(identity) => json(&identity),
                None => Err(ApiError::unavailable("no engine answers here, or the nonce is not one")),
            },
            (&Method::GET, wire::HEALTH_PATH) => json(&self.health()),
            (&Method::POST, SHARD_PATH) => {
                let ask: PeerRequest = read_json(request).await?;
                match self.control.peer(ask).await {
                    Some(answer) => json(&answer),
                    None => Err(ApiError::unavailable("the shard protocol is not running")),
                }
            }
            (&Method::GET, wire::BUCKETS_PATH) => answer(lane::buckets_here(&self.shell).await),
            (&Method::GET, wire::BUCKET_PATH) => {
                let name = bucket(parameter("name")?)?;
                answer(self.shell.store.bucket_here(&name).await.map(|info| info.map(wire::Bucket::from)))
            }
            (&Method::POST, wire::LIST_PATH) => {
                let ask: wire::ListAsk = read_json(request).await?;
                answer(lane::page_here(&self.shell, &ask).await)
            }
            (&Method::POST, wire::CHUNK_PATH) => {
                let ask: wire::Chunk = read_json(request).await?;
                match self.shell.store.chunk_here(&ask.key, ask.len).await {
                    Ok(Some(bytes)) => Ok(Response::new(Body::full(bytes))),
                    Ok(None) => Err(ApiError::new(StatusCode::NOT_FOUND, "NoSuchChunk", "it is not here")),
                    Err(error) => Err(ApiError::unavailable(error.message)),
                }
            }
            (&Method::POST, wire::ASK_PATH) => {
                let ask: wire::ask::Ask = read_json_within(request, wire::ASK_BYTES_MAX).await?;
                answer(lane::answer_here(&self.shell, &ask).await)
            }
            (&Method::POST, wire::UPLOADS_PATH) => {
                let ask: wire::ItemsAsk = read_json(request).await?;
                answer(lane::uploads_here(&self.shell, &ask).await)
            }
            (&Method::POST, wire::versions::VERSIONS_PATH) => {
                let ask: wire::ItemsAsk = read_json(request).await?;
                answer(lane::versions_here(&self.shell, &ask).await)
            }
            (&Method::POST, wire::LEASE_PATH) => {
                let lease: wire::Lease = read_json(request).await?;
                let ask =
                    lease.into_ask().ok_or_else(|| ApiError::bad_request("InvalidBucketName", "a lease"))?;
                answer(self.shell.store.lease_here(&ask).await)
            }
            (&Method::POST, wire::SEAL_PATH) => {
                let seal: wire::Seal = read_json(request).await?;
                answer(self.shell.store.seal_here(&bucket(seal.bucket)?, seal.epoch).await)
            }
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", "the peer port has no such path")),
        }
    }

    fn health(&self) -> wire::Health {
        let tenure = self.shell.authority.tenure();
        wire::Health {
            pod: self.shell.peering.pod().to_owned(),
            epoch: tenure.as_ref().map(|tenure| tenure.epoch),
            run_id: tenure.map(|tenure| tenure.run_id.to_string()),
            client: self.shell.client_port.get().copied(),
        }
    }
}

fn bucket(name: String) -> Result<BucketName, ApiError> {
    BucketName::parse(name).map_err(|error| ApiError::bad_request("InvalidBucketName", error.to_string()))
}

fn answer<T: serde::Serialize>(outcome: Result<T, StoreError>) -> Result<Response<Body>, ApiError> {
    match outcome {
        Ok(value) => json(&value),
        Err(error) => Err(match &error.kind {
            ErrorKind::NotOwner { address, epoch } => crate::forward::misdirected(address.as_deref(), *epoch),
            ErrorKind::NoSuchBucket => ApiError::new(StatusCode::NOT_FOUND, "NoSuchBucket", error.message),
            _ => ApiError::unavailable(error.message),
        }),
    }
}
