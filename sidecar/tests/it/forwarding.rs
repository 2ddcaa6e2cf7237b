//! Two sidecars of one store, each with an engine, in this process: what one does not own goes to the other,
//! streaming; a wrong map is answered before a body moves; listings cover both.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use blobstore_sidecar::auth::Users;
use blobstore_sidecar::control::{Control, Readiness};
use blobstore_sidecar::peers::{Peering, PeeringConfig};
use blobstore_sidecar::ports::{self, Ports, Running};
use blobstore_sidecar::shell::Shell;
use blobstore_sidecar::telemetry::{self, Format};
use blobstore_sidecar_api::action::{ActionRequest, ActionResult};
use blobstore_sidecar_api::config::{ClientsConfig, LimitsConfig};
use blobstore_sidecar_api::memory::MemoryView;
use blobstore_sidecar_api::origins::OriginConfig;
use blobstore_sidecar_api::report::LeakReport;
use blobstore_sidecar_api::topology::PodTopology;
use blobstore_sidecar_core::ledger::NoLedger;
use blobstore_sidecar_runtime::authority::{Authority, Owner, Tenure, Withheld};
use blobstore_sidecar_shard::{Identity, PeerAnswer, PeerRequest};
use blobstore_sidecar_store::{EngineAddress, Store, StoreOptions};
use futures::future::{BoxFuture, ready};

use crate::engine::Engine;
use crate::http::{Client, Connection};
use crate::process::{assert_status, metric_in, pattern, wait_for};
use crate::signer::digest;

mod ends;
mod versions;

const PARTITIONS: u32 = 16;
const PEER_TOKEN: &str = "peer-secret";
const HALF: u16 = 8_192;

/// What one of the two believes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Belief {
    /// Lower half here, upper half there (or the other way round).
    Split { lower_is_here: bool },
    /// Everything is the other's.
    AllThere,
}

#[derive(Debug)]
pub(crate) struct TwoHalves {
    tenure: Tenure,
    belief: RwLock<Belief>,
    other: RwLock<String>,
    /// Who holds copies of what is here.
    copies: RwLock<Vec<String>>,
}

impl TwoHalves {
    fn new(run_id: &str, lower_is_here: bool) -> Arc<Self> {
        let tenure = Tenure { epoch: 1, run_id: run_id.into() };
        let belief = RwLock::new(Belief::Split { lower_is_here });
        Arc::new(Self { tenure, belief, other: RwLock::default(), copies: RwLock::default() })
    }

    pub(crate) fn copied_to(&self, address: &str) {
        self.copies.write().unwrap_or_else(PoisonError::into_inner).push(address.to_owned());
    }

    fn believe(&self, belief: Belief) {
        *self.belief.write().unwrap_or_else(PoisonError::into_inner) = belief;
    }
}

impl Authority for TwoHalves {
    fn owner(&self, slot: u16) -> Owner {
        let here = match *self.belief.read().unwrap_or_else(PoisonError::into_inner) {
            Belief::Split { lower_is_here } => (slot < HALF) == lower_is_here,
            Belief::AllThere => false,
        };
        if here {
            return Owner::Here(self.tenure.clone());
        }
        let address = self.other.read().unwrap_or_else(PoisonError::into_inner).clone();
        Owner::Peer { address, epoch: Some(1) }
    }
    fn tenure(&self) -> Option<Tenure> {
        Some(self.tenure.clone())
    }
    fn acknowledged<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(ready(Ok(())))
    }
    fn may_read<'a>(&'a self, _: &'a Tenure) -> BoxFuture<'a, Result<(), Withheld>> {
        Box::pin(ready(Ok(())))
    }
    fn copies(&self) -> Vec<String> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct NoControl;

impl Control for NoControl {
    fn readiness(&self) -> BoxFuture<'_, Readiness> {
        Box::pin(ready(Ok(())))
    }
    fn topology(&self) -> BoxFuture<'_, Option<PodTopology>> {
        Box::pin(ready(None))
    }
    fn report(&self) -> BoxFuture<'_, Option<LeakReport>> {
        Box::pin(ready(None))
    }
    fn memory(&self) -> BoxFuture<'_, Result<MemoryView, String>> {
        Box::pin(ready(Err("no engine".to_owned())))
    }
    fn act(&self, _: String, _: ActionRequest) -> BoxFuture<'_, Option<ActionResult>> {
        Box::pin(ready(None))
    }
    fn hand_over(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
    fn identity(&self, _: String) -> BoxFuture<'_, Option<Identity>> {
        Box::pin(ready(None))
    }
    fn peer(&self, _: PeerRequest) -> BoxFuture<'_, Option<PeerAnswer>> {
        Box::pin(ready(None))
    }
}

pub(crate) struct Sidecar {
    pub(crate) client: Client,
    pub(crate) peer: SocketAddr,
    shell: Arc<Shell>,
    running: Running,
    pub(crate) authority: Arc<TwoHalves>,
    pub(crate) engine: Engine,
}

fn sidecar(pod: &str, lower_is_here: bool, origins: Vec<OriginConfig>) -> Sidecar {
    let engine = Engine::start();
    let authority = TwoHalves::new(pod, lower_is_here);
    let limits = LimitsConfig { drain_seconds: 1, ..LimitsConfig::default() };
    let config = PeeringConfig {
        pod: pod.to_owned(),
        token: PEER_TOKEN.to_owned(),
        partitions: PARTITIONS,
        clients: &ClientsConfig::default(),
        limits: &limits,
    };
    let peering = Arc::new(Peering::new(config, Arc::clone(&authority) as _));
    let options = StoreOptions {
        partitions: PARTITIONS,
        peers: Arc::clone(&peering) as _,
        spare: Arc::clone(&peering) as _,
        ..StoreOptions::default()
    };
    let address = EngineAddress::Unix(engine.socket());
    let store = Store::open(address, options, Arc::clone(&authority) as _, Arc::new(NoLedger));
    let users = Users::new(Vec::new(), true).expect("no users");
    let origins = blobstore_sidecar::origins::open(origins, &ClientsConfig::default(), &limits, &store);
    let shell = Arc::new(Shell::new(store, origins, Arc::clone(&authority) as _, peering, limits, users));
    let bind = || blobstore_sidecar::server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let (client, admin, peer) = (bind(), bind(), bind());
    let local = |listener: &tokio::net::TcpListener| listener.local_addr().expect("an address");
    let (client_address, peer_address) = (local(&client), local(&peer));
    let tokens = |token: &str| token.to_owned();
    let ports = Ports {
        client,
        admin,
        peer: Some(peer),
        admin_token: String::new(),
        peer_token: tokens(PEER_TOKEN),
        tls: None,
    };
    let running =
        ports::start(Arc::clone(&shell), Arc::new(NoControl), telemetry::start(Format::Text), ports);
    Sidecar {
        client: Client { address: client_address, token: None },
        peer: peer_address,
        shell,
        running,
        authority,
        engine,
    }
}

pub(crate) fn pair() -> (Sidecar, Sidecar) {
    pair_with(Vec::new())
}

fn pair_with(origins: Vec<OriginConfig>) -> (Sidecar, Sidecar) {
    let (lower, upper) = (sidecar("lower", true, origins.clone()), sidecar("upper", false, origins));
    let set = |of: &Sidecar, other: &Sidecar| {
        *of.authority.other.write().unwrap_or_else(PoisonError::into_inner) = other.peer.to_string();
    };
    set(&lower, &upper);
    set(&upper, &lower);
    (lower, upper)
}

pub(crate) async fn stop(sidecars: [Sidecar; 2]) {
    for sidecar in sidecars {
        sidecar.running.stop(&sidecar.shell).await;
    }
}

pub(crate) async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("the checks hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sidecar_serves_every_key() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        assert_status(&clients[0].put("/both", b""), 200, "a bucket");
        for index in 0..24 {
            let body = pattern(index * 40_000, index as u64);
            let path = format!("/both/{index}");
            assert_status(&clients[index % 2].put(&path, &body), 200, &path);
            for client in &clients {
                let got = client.get(&path);
                assert_status(&got, 200, &path);
                assert!(got.body == body, "{path}: other bytes");
                let head = client.send("HEAD", &path, &[], b"");
                assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
            }
        }
        for client in &clients {
            let page = client.send("GET", "/both?list-type=2", &[("accept", "application/json")], b"").json();
            assert_eq!(page["keys"].as_array().map(Vec::len), Some(24), "{page}");
            assert!(client.get("/").text().contains("<Name>both</Name>"));
            let range = client.send("GET", "/both/9", &[("range", "bytes=5-9")], b"");
            assert_status(&range, 206, "a range through a peer");
        }
        assert_status(&clients[1].send("DELETE", "/both", &[], b""), 409, "not empty");
        for index in 0..24 {
            assert_status(&clients[0].send("DELETE", &format!("/both/{index}"), &[], b""), 204, "a delete");
        }
        assert_status(&clients[1].send("DELETE", "/both", &[], b""), 204, "empty on both");
    })
    .await;
    stop([lower, upper]).await;
}

/// Only the owner asks the origin: whoever is asked, each object is fetched once for the whole store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_is_asked_by_the_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let bodies: Vec<Vec<u8>> = (0..12).map(|index| pattern(index * 100_000, index as u64)).collect();
    for (index, body) in bodies.iter().enumerate() {
        std::fs::write(folder.path().join(index.to_string()), body).expect("a file");
    }
    let text = format!(
        "{{name: two-pods, bucket: shown, source: {{type: file, path: {}}}, ttlSeconds: 60, negativeTtlSeconds: 0}}",
        folder.path().display()
    );
    let (lower, upper) = pair_with(vec![serde_yaml_ng::from_str(&text).expect("an origin")]);
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        wait_for("the bucket", || {
            clients.iter().all(|one| one.send("HEAD", "/shown", &[], b"").status == 200)
        });
        for (index, body) in bodies.iter().enumerate() {
            let path = format!("/shown/{index}");
            let answers: Vec<_> = std::thread::scope(|scope| {
                let readers: Vec<_> = (0..4)
                    .map(|at| {
                        scope.spawn({
                            let (client, path) = (&clients[at % 2], &path);
                            move || client.get(path)
                        })
                    })
                    .collect();
                readers.into_iter().map(|reader| reader.join().expect("no panic")).collect()
            });
            for answer in answers {
                assert_status(&answer, 200, &path);
                assert!(answer.body == *body, "{path}: other bytes");
            }
        }
        assert_status(&clients[0].put("/shown/new", b"x"), 405, "refused wherever it comes in");
        assert_status(&clients[1].put("/shown/new", b"x"), 405, "refused wherever it comes in");
    })
    .await;
    let families = blobstore_sidecar_runtime::metrics::registry().gather();
    let shown = prometheus::TextEncoder::new().encode_to_string(&families).expect("metrics are text");
    let requests = "blobstore_sidecar_origin_requests_total{method=\"get\",origin=\"two-pods\"}";
    assert_eq!(metric_in(&shown, requests), 12.0, "one request per object");
    stop([lower, upper]).await;
}

/// S3 at any pod: bodies stream through to the owner, and what does not match its checksum is not stored there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_is_served_by_any_sidecar() {
    let (lower, upper) = pair();
    let clients = [lower.client.clone(), upper.client.clone()];
    blocking(move || {
        let s3 = [("x-amz-acl", "private")];
        let wrong = [("x-amz-checksum-crc32", "AAAAAA==")];
        assert_status(&clients[0].send("PUT", "/both-s3", &s3, b""), 200, "a bucket");
        for index in 0..16 {
            let body = pattern(index * 50_000, index as u64);
            let path = format!("/both-s3/{index}");
            let client = &clients[index % 2];
            assert_status(&client.send("PUT", &path, &s3, &body), 200, &path);
            if index > 0 {
                let refused = client.send("PUT", &format!("{path}-bad"), &wrong, &body);
                assert_status(&refused, 400, "a sum that does not hold");
                assert!(refused.text().contains("<Code>BadDigest</Code>"), "{}", refused.text());
            }
            for client in &clients {
                let got = client.send("GET", &path, &s3, b"");
                assert_status(&got, 200, &path);
                assert!(got.body == body, "{path}: other bytes");
                let refused = client.send("GET", &format!("{path}-bad"), &s3, b"");
                assert_status(&refused, 404, "never stored");
                assert!(refused.text().contains("<Code>NoSuchKey</Code>"), "{}", refused.text());
                let current = got.header("etag").expect("an ETag").to_owned();
                let headers = [("x-amz-acl", "private"), ("if-none-match", current.as_str())];
                assert_status(&client.send("GET", &path, &headers, b""), 304, "not modified");
            }
        }
        let page = clients[1].send("GET", "/both-s3?list-type=2", &s3, b"");
        assert!(page.text().contains("<KeyCount>16</KeyCount>"), "{}", page.text());
        let keys: String = (0..16).map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
        let document = format!("<Delete>{keys}</Delete>");
        let digest = digest(document.as_bytes());
        let headers = [&s3[..], &[("x-amz-checksum-sha256", digest.as_str())]].concat();
        let deleted = clients[1].send("POST", "/both-s3?delete", &headers, document.as_bytes());
        assert_eq!(deleted.text().matches("<Deleted>").count(), 16, "{}", deleted.text());
        assert_status(&clients[0].send("DELETE", "/both-s3", &s3, b""), 204, "empty on both");
    })
    .await;
    stop([lower, upper]).await;
}

/// The owner says 421 with its epoch before it reads a body; the first sidecar says 503 after its second try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_map_is_answered_before_the_body_moves() {
    let (lower, upper) = pair();
    let (client, peer) = (lower.client.clone(), upper.peer);
    let beliefs = (Arc::clone(&lower.authority), Arc::clone(&upper.authority));
    blocking(move || {
        assert_status(&client.put("/wrong", b""), 200, "a bucket");
        beliefs.0.believe(Belief::AllThere);
        beliefs.1.believe(Belief::AllThere);
        // Straight to the peer port, as a sidecar would.
        let mut connection = Connection::open(peer).expect("connect");
        let bearer = format!("Bearer {PEER_TOKEN}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-blobstore-forwarded", "lower"),
            ("content-length", "1000000"),
            ("expect", "100-continue"),
        ];
        connection.head("PUT", "/wrong/key", &headers).expect("a header");
        let refused = connection.read_answer(false).expect("an answer");
        assert_status(&refused, 421, "not the owner");
        assert!(refused.header("x-blobstore-owner").is_some(), "{:?}", refused.headers);
        assert_eq!(refused.header("x-blobstore-epoch"), Some("1"));

        let mut connection = Connection::open(client.address).expect("connect");
        let headers = [("content-length", "1000000"), ("expect", "100-continue")];
        connection.head("PUT", "/wrong/key", &headers).expect("a header");
        let refused = connection.read_head().expect("an answer");
        assert_status(&refused, 503, "nobody owns it");
        assert!(refused.header("retry-after").is_some());

        // Once the maps agree, the same request works.
        beliefs.0.believe(Belief::Split { lower_is_here: true });
        beliefs.1.believe(Belief::Split { lower_is_here: false });
        wait_for("uploads go on", || client.put("/wrong/key", &pattern(300_000, 1)).status == 200);

        let mut stranger = Connection::open(peer).expect("connect");
        let headers =
            [("authorization", "Bearer wrong"), ("x-blobstore-forwarded", "x"), ("connection", "close")];
        stranger.head("GET", "/wrong/key", &headers).expect("a header");
        assert_status(&stranger.read_answer(false).expect("an answer"), 401, "a stranger");
    })
    .await;
    stop([lower, upper]).await;
}
