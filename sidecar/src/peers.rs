//! The other sidecars of the store: who owns which partition, handles from the client LRU, and the small JSON calls
//! that buckets and listings need. Payload goes through `forward.rs`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blobstore_sidecar_api::config::{ClientsConfig, LimitsConfig};
use blobstore_sidecar_core::key::BucketName;
use blobstore_sidecar_core::partition::{home_of, tag_of};
use blobstore_sidecar_runtime::authority::{Authority, Owner};
use blobstore_sidecar_runtime::clients::{Clients, Handle};
use blobstore_sidecar_store::{BucketInfo, ErrorKind, LeaseAsk, Peers, StoreError};
use bytes::Bytes;
use futures::future::{BoxFuture, try_join_all};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::peer::{Peer, PeerBody, PeerKey};
use crate::wire;

/// One JSON call, its answer included.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A page of 1,000 names of 1,024 bytes, escaped, with room.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// `clients.max` 0 would mean no forwarding at all.
const CLIENTS_COUNT_MIN: NonZeroUsize = NonZeroUsize::MIN;

/// Everything needed to talk to the store's other sidecars.
#[derive(Debug)]
pub struct Peering {
    authority: Arc<dyn Authority>,
    clients: Clients<PeerKey, Peer>,
    token: Arc<str>,
    authorization: HeaderValue,
    pod: String,
    partitions: u32,
    idle: Duration,
    admission_wait: Duration,
}

/// Partitions by who serves them now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    pub here: Vec<u32>,
    pub peers: BTreeMap<String, Vec<u32>>,
    pub nobody: Vec<u32>,
}

/// Who this sidecar is among its peers.
#[derive(Clone, Debug)]
pub struct PeeringConfig<'a> {
    pub pod: String,
    pub token: String,
    pub partitions: u32,
    pub clients: &'a ClientsConfig,
    pub limits: &'a LimitsConfig,
}

impl Peering {
    pub fn new(config: PeeringConfig<'_>, authority: Arc<dyn Authority>) -> Self {
        let PeeringConfig { pod, token, partitions, clients, limits } = config;
        let max = usize::try_from(clients.max).ok().and_then(NonZeroUsize::new).unwrap_or(CLIENTS_COUNT_MIN);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        authorization.set_sensitive(true);
        Self {
            authority,
            clients: Clients::new(max, Duration::from_secs(clients.ttl_seconds)),
            token: token.into(),
            authorization,
            pod,
            partitions,
            idle: Duration::from_secs(limits.body_idle_seconds),
            admission_wait: Duration::from_millis(limits.admission_wait_ms),
        }
    }

    pub fn handle(&self, address: &str, now: Instant) -> Arc<Handle<Peer>> {
        let key = PeerKey { address: address.to_owned(), token: Arc::clone(&self.token) };
        let opened = self.clients.get_or_open(&key, now, || Ok::<_, std::convert::Infallible>(Peer::open()));
        match opened {
            Ok(handle) => handle,
            Err(never) => match never {},
        }
    }

    pub fn clients(&self) -> &Clients<PeerKey, Peer> {
        &self.clients
    }

    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }

    pub fn pod(&self) -> &str {
        &self.pod
    }

    pub fn idle(&self) -> Duration {
        self.idle
    }

    pub fn admission_wait(&self) -> Duration {
        self.admission_wait
    }

    /// Who serves which partition, as this pod knows it now.
    pub fn owners(&self) -> Owners {
        let mut owners = Owners::default();
        for partition in 0..self.partitions {
            match self.authority.owner(tag_of(partition, self.partitions).slot()) {
                Owner::Here(_) => owners.here.push(partition),
                Owner::Peer { address, epoch: _ } => owners.peers.entry(address).or_default().push(partition),
                Owner::Nobody => owners.nobody.push(partition),
            }
        }
        owners
    }

    /// One JSON call: `None` as the ask is a GET.
    pub async fn call<A: Serialize + Sync, T: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        ask: Option<&A>,
    ) -> Result<T, StoreError> {
        let request =
            self.request(address, path, ask).map_err(|error| broken(address, path).caused_by(error))?;
        let handle = self.handle(address, Instant::now());
        let exchange = async {
            let (response, permit) = handle
                .send(request, self.admission_wait)
                .await
                .map_err(|error| broken(address, path).caused_by(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            drop(permit);
            let body = body.map_err(|error| broken(address, path).caused_by(error))?.to_bytes();
            read_answer(address, path, status, &body)
        };
        match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(late) => Err(broken(address, path).caused_by(late)),
        }
    }

    /// Peer ports of the pods that hold what this one serves.
    pub(crate) fn copies(&self) -> Vec<String> {
        self.authority.copies()
    }

    pub(crate) fn request<A: Serialize>(
        &self,
        address: &str,
        path: &str,
        ask: Option<&A>,
    ) -> Result<Request<PeerBody>, Box<dyn std::error::Error + Send + Sync>> {
        let (method, body) = match ask {
            None => (Method::GET, PeerBody::Empty),
            Some(ask) => (Method::POST, PeerBody::Full(Bytes::from(serde_json::to_vec(ask)?))),
        };
        Ok(Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(AUTHORIZATION, self.authorization())
            .header(CONTENT_TYPE, "application/json")
            .body(body)?)
    }

    /// The home of a bucket, when it is a peer's.
    fn home(&self, bucket: &BucketName) -> Result<String, StoreError> {
        let home = tag_of(home_of(bucket.as_str(), self.partitions), self.partitions);
        match self.authority.owner(home.slot()) {
            Owner::Peer { address, epoch: _ } => Ok(address),
            Owner::Here(_) | Owner::Nobody => Err(StoreError::new(
                ErrorKind::NotOwner { address: None, epoch: None },
                format!("no other pod serves the home of bucket \"{bucket}\" at the moment"),
            )),
        }
    }
}

fn broken(address: &str, path: &str) -> StoreError {
    StoreError::new(ErrorKind::Withheld, format!("the peer {address} did not answer {path}"))
}

fn read_answer<T: DeserializeOwned>(
    address: &str,
    path: &str,
    status: StatusCode,
    body: &[u8],
) -> Result<T, StoreError> {
    if status == StatusCode::MISDIRECTED_REQUEST {
        let kind = ErrorKind::NotOwner { address: None, epoch: None };
        return Err(StoreError::new(kind, format!("the peer {address} is not the owner any more")));
    }
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        return Err(broken(address, path).caused_by(format!("{status}: {text}")));
    }
    serde_json::from_slice(body).map_err(|error| broken(address, path).caused_by(error))
}

impl Peers for Peering {
    fn bucket<'a>(&'a self, name: &'a BucketName) -> BoxFuture<'a, Result<Option<BucketInfo>, StoreError>> {
        Box::pin(async move {
            let home = self.home(name)?;
            let path = format!("{}?name={name}", wire::BUCKET_PATH);
            let bucket: Option<wire::Bucket> = self.call::<(), _>(&home, &path, None).await?;
            Ok(bucket.and_then(wire::Bucket::into_info))
        })
    }

    fn lease<'a>(&'a self, ask: &'a LeaseAsk) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let home = self.home(&ask.bucket)?;
            self.call(&home, wire::LEASE_PATH, Some(&wire::Lease::of(ask))).await
        })
    }

    fn seal<'a>(&'a self, name: &'a BucketName, epoch: u64) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let owners = self.owners();
            if !owners.nobody.is_empty() {
                let message = "a shard has no primary at the moment: its objects cannot be counted";
                return Err(StoreError::new(ErrorKind::Withheld, message));
            }
            let ask = wire::Seal { bucket: name.as_str().to_owned(), epoch };
            let asks = owners.peers.keys().map(|peer| self.call(peer, wire::SEAL_PATH, Some(&ask)));
            let empty: Vec<bool> = try_join_all(asks).await?;
            Ok(empty.into_iter().all(|empty| empty))
        })
    }
}

#[cfg(test)]
mod tests {
    use blobstore_sidecar_runtime::authority::{Alone, Tenure};

    use super::*;

    /// R002-1: a thousand peers leave at most a hundred handles, and an answer in hand keeps its own alive.
    #[tokio::test]
    async fn a_thousand_peers_leave_a_hundred_handles() {
        let authority = Arc::new(Alone(Tenure { epoch: 1, run_id: "r".into() }));
        let config = PeeringConfig {
            pod: "p".to_owned(),
            token: "t".to_owned(),
            partitions: 4,
            clients: &ClientsConfig::default(),
            limits: &LimitsConfig::default(),
        };
        let peering = Peering::new(config, authority);
        let now = Instant::now();
        let held = peering.handle("198.18.0.1:9002", now);
        for peer in 0..1_000 {
            let _ = peering.handle(&format!("198.18.{}.{}:9002", peer / 250 + 1, peer % 250), now);
        }
        assert_eq!(peering.clients().count(), 100);
        assert_eq!(Arc::strong_count(&held), 1, "evicted, and alive in our hands");
        assert_eq!(peering.owners(), Owners { here: vec![0, 1, 2, 3], ..Owners::default() });
    }
}
