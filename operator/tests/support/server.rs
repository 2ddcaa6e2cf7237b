//! The fake API server over TCP, with watches: for tests that run the operator's own binary.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use blobstore_operator::tasks;
use futures::stream;
use http::header::ACCEPT;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{FakeApi, carries, lies_under, selector};

/// Requests by word (`list pods`, `get nodes`, `watch leases`), as an audit log would count them.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<BTreeMap<String, u64>>>);

impl Requests {
    fn count(&self, word: String) {
        *self.0.lock().expect("no panic inside").entry(word).or_default() += 1;
    }

    pub(crate) fn now(&self) -> BTreeMap<String, u64> {
        self.0.lock().expect("no panic inside").clone()
    }

    /// What was asked since `before`.
    pub(crate) fn since(&self, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let more = |(word, count): (String, u64)| {
            let more = count - before.get(&word).copied().unwrap_or(0);
            (more > 0).then_some((word, more))
        };
        self.now().into_iter().filter_map(more).collect()
    }
}

impl FakeApi {
    /// Serves on the listener until the test's runtime ends. From now on watches are told of every change.
    pub(crate) fn listen(&self, listener: TcpListener, managed_fields: usize) -> Requests {
        let (told, changes) = watch::channel(0);
        let mut state = self.state();
        (state.told, state.managed_fields) = (Some(told), managed_fields);
        drop(state);
        let requests = Requests::default();
        let (api, counted) = (self.clone(), requests.clone());
        tasks::spawn("scripted", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (api, changes, requests) = (api.clone(), changes.clone(), counted.clone());
                let service = service_fn(move |request| {
                    let (api, changes, requests) = (api.clone(), changes.clone(), requests.clone());
                    async move { Ok::<_, Infallible>(answer(&api, changes, &requests, request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tasks::spawn("scripted", async move {
                    // A client that goes away is no failure of the server.
                    drop(connection.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        requests
    }

    /// The version of the last change, to wait for the next.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.state().told.as_ref().expect("the server listens").subscribe()
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    api: &FakeApi,
    changes: watch::Receiver<u64>,
    requests: &Requests,
    request: Request<Incoming>,
) -> Response<Body> {
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let partial = request
        .headers()
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
    let watching = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
    requests.count(word(request.method(), &path, watching));
    if watching {
        return Response::new(events(api, changes, path, &query, partial));
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let response = api.serve(Request::from_parts(parts, kube::client::Body::from(body.to_vec()))).await;
    let (parts, body) = response.into_parts();
    let body = if partial && parts.status.is_success() {
        let bytes = body.collect().await.expect("a body in memory").to_bytes();
        let document: Value = serde_json::from_slice(&bytes).expect("our own JSON");
        http_body_util::Full::new(Bytes::from(projected(document).to_string()))
    } else {
        body
    };
    Response::from_parts(parts, body.boxed_unsync())
}

fn word(method: &Method, path: &str, watching: bool) -> String {
    let mut parts = path.trim_start_matches('/').split('/').rev();
    let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let collection = super::PLURALS.contains(&last);
    let kind = if collection || ["status", "eviction", "scale"].contains(&last) { last } else { before };
    let verb = match (method.as_str(), watching, collection) {
        (_, true, _) => "watch",
        ("GET", _, true) => "list",
        ("GET", ..) => "get",
        (other, ..) => other,
    };
    format!("{} {kind}", verb.to_lowercase())
}

/// Metadata only, of an object or of a list.
fn projected(document: Value) -> Value {
    let one = |object: &Value| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
    match document["items"].as_array() {
        Some(items) => json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
            "metadata": document["metadata"], "items": items.iter().map(one).collect::<Vec<_>>()}),
        None => one(&document),
    }
}

/// One line per change from the version asked for, for ever.
fn events(api: &FakeApi, changes: watch::Receiver<u64>, path: String, query: &str, partial: bool) -> Body {
    let from = super::number(query, "resourceVersion").unwrap_or(0) as u64;
    let wanted = selector(query);
    let state = (api.clone(), changes, from);
    let lines = stream::unfold(state, move |(api, mut changes, mut seen)| {
        let (path, wanted) = (path.clone(), wanted.clone());
        async move {
            loop {
                let lines = api.lines_after(&mut seen, &path, &wanted, partial);
                if !lines.is_empty() {
                    let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(lines)));
                    return Some((frame, (api, changes, seen)));
                }
                let before = seen;
                changes.wait_for(|version| *version > before).await.ok()?;
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(lines))
}

impl FakeApi {
    fn lines_after(&self, seen: &mut u64, path: &str, wanted: &[(String, String)], partial: bool) -> String {
        let state = self.state();
        let from = state.log.partition_point(|(version, ..)| *version <= *seen);
        let mut lines = String::new();
        for (_, what, at, object) in &state.log[from..] {
            if lies_under(path, at) && carries(object, wanted) {
                let object = if partial { projected(object.clone()) } else { object.clone() };
                lines.push_str(&json!({"type": what, "object": object}).to_string());
                lines.push('\n');
            }
        }
        *seen = state.version.max(*seen);
        lines
    }
}
