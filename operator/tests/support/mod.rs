//! A fake API server for one test: keeps objects, answers as Kubernetes does where the operator looks, logs every
//! write in order, and fails or hangs where a test says so. In memory, so that time can be paused.

#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::expect_used, reason = "a test says what should hold")]

pub(crate) mod fleet;
pub(crate) mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// What to answer instead of the truth.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    Hang,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<Write>,
    reads: u64,
    version: u64,
    faults: Vec<(Method, String, Fault, u32)>,
    /// What watches tell: version, what happened, path, object. Kept only while a server tells it.
    log: Vec<(u64, &'static str, String, Value)>,
    told: Option<tokio::sync::watch::Sender<u64>>,
    /// Bytes of `managedFields` that every object carries, as real ones do.
    managed_fields: usize,
}

#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

impl FakeApi {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.serve(request).await) }
        });
        Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics inside the fake")
    }

    /// Puts an object in place, as if somebody else had made it.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        let object = state.stamped(path, object);
        state.keep(path.to_owned(), object);
    }

    /// Changes an object behind the operator's back.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let mut object = state.objects.get(path).cloned().expect("the object exists");
        change(&mut object);
        let object = state.stamped(path, object);
        state.keep(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) -> Option<Value> {
        self.state().gone(path)
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// The next `times` requests of this method whose path ends so are answered with the fault.
    pub(crate) fn fail(&self, method: Method, path_end: &str, fault: Fault, times: u32) {
        self.state().faults.push((method, path_end.to_owned(), fault, times));
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn take_writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.state().writes)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.state().reads
    }

    async fn serve(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let fault = self.state().fault(&head.method, &path);
        let (status, answer) = match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Status(code, reason)) => failure(code, reason, "scripted"),
            None => {
                let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                self.state().answer(&head.method, &path, &query, body)
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        response
    }
}

fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message});
    (code, status)
}

/// Objects are owned by their path; a collection is what objects lie directly under.
const PLURALS: &[&str] = &[
    "statefulsets",
    "services",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "poddisruptionbudgets",
    "networkpolicies",
    "leases",
    "pods",
    "nodes",
    "events",
    "blobstores",
    "persistentvolumeclaims",
    "customresourcedefinitions",
];

impl State {
    fn fault(&mut self, method: &Method, path: &str) -> Option<Fault> {
        let (_, _, fault, times) = self
            .faults
            .iter_mut()
            .find(|(on, end, _, times)| on == method && path.ends_with(end.as_str()) && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
    }

    fn stamped(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split('/').next());
        let meta = &mut object["metadata"];
        if !meta.is_object() {
            *meta = json!({});
        }
        meta["name"] = json!(name);
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(namespace);
        }
        meta["resourceVersion"] = json!(self.version.to_string());
        if self.managed_fields > 0 && meta["managedFields"].is_null() {
            meta["managedFields"] = json!([{"manager": "test", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:x": "x".repeat(self.managed_fields)}}}]);
        }
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.version));
        }
        object
    }

    fn keep(&mut self, path: String, object: Value) {
        let what = if self.objects.contains_key(&path) { "MODIFIED" } else { "ADDED" };
        self.objects.insert(path.clone(), object.clone());
        self.tell(what, path, object);
    }

    fn gone(&mut self, path: &str) -> Option<Value> {
        let mut object = self.objects.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell("DELETED", path.to_owned(), object.clone());
        Some(object)
    }

    fn tell(&mut self, what: &'static str, path: String, object: Value) {
        if let Some(told) = &self.told {
            self.log.push((self.version, what, path, object));
            told.send_replace(self.version);
        }
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        if method == Method::GET {
            self.reads += 1;
            return self.read(path, query);
        }
        let verb = method.as_str().to_lowercase();
        self.writes.push(Write { verb, path: path.to_owned(), query: query.to_owned(), body: body.clone() });
        match method.as_str() {
            "POST" if path.ends_with("/eviction") => {
                self.delete(path.trim_end_matches("/eviction"), &body["deleteOptions"])
            }
            "POST" => self.create(path, body),
            "PUT" => self.replace(path, body),
            "PATCH" => self.patch(path, body),
            "DELETE" => self.delete(path, &body),
            _ => failure(405, "MethodNotAllowed", "no such method"),
        }
    }

    fn read(&self, path: &str, query: &str) -> (u16, Value) {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        if !PLURALS.contains(&last) {
            return failure(404, "NotFound", "not found");
        }
        let wanted = selector(query);
        let all = self.objects.iter().filter(|(at, object)| lies_under(path, at) && carries(object, &wanted));
        let (skip, limit) = (number(query, "continue").unwrap_or(0), number(query, "limit"));
        let mut rest = all.map(|(_, object)| object.clone()).skip(skip);
        let items: Vec<Value> = rest.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if rest.next().is_some() {
            metadata["continue"] = json!((skip + items.len()).to_string());
        }
        (200, json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    fn create(&mut self, path: &str, body: Value) -> (u16, Value) {
        let Some(name) = body["metadata"]["name"].as_str() else {
            return failure(422, "Invalid", "no name");
        };
        let path = format!("{path}/{name}");
        if self.objects.contains_key(&path) {
            return failure(409, "AlreadyExists", "exists");
        }
        let object = self.stamped(&path, body);
        self.keep(path, object.clone());
        (201, object)
    }

    fn replace(&mut self, path: &str, body: Value) -> (u16, Value) {
        let Some(old) = self.objects.get(path) else { return failure(404, "NotFound", "not found") };
        let offered = &body["metadata"]["resourceVersion"];
        if !offered.is_null() && *offered != old["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "changed meanwhile");
        }
        let object = self.stamped(path, body);
        self.keep(path.to_owned(), object.clone());
        (200, object)
    }

    /// Apply and merge patches alike: what is named is set, null removes. Unchanged objects keep their version.
    fn patch(&mut self, path: &str, body: Value) -> (u16, Value) {
        let target = path.trim_end_matches("/status").trim_end_matches("/scale").to_owned();
        let old = self.objects.get(&target).cloned();
        if old.is_none() && target != path {
            return failure(404, "NotFound", "not found");
        }
        if let Some(old) = &old {
            let offered = &body["metadata"]["resourceVersion"];
            if !offered.is_null() && *offered != old["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", "changed meanwhile");
            }
        }
        let mut next = old.clone().unwrap_or_else(|| json!({}));
        merge(&mut next, &body);
        if Some(&next) != old.as_ref() {
            next = self.stamped(&target, next);
            self.keep(target, next.clone());
        }
        (200, next)
    }

    fn delete(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(old) = self.objects.get(path) else { return failure(404, "NotFound", "not found") };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return failure(409, "Conflict", "another uid");
        }
        self.gone(path);
        (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}))
    }
}

/// In the collection, or with a collection of the whole cluster in any namespace's.
fn lies_under(collection: &str, path: &str) -> bool {
    if let Some(rest) = path.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')) {
        return !rest.contains('/');
    }
    let Some((base, plural)) = collection.rsplit_once('/') else { return false };
    let Some(rest) = path.strip_prefix(base).and_then(|rest| rest.strip_prefix("/namespaces/")) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    parts.len() == 3 && parts[1] == plural
}

fn carries(object: &Value, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(key, value)| object["metadata"]["labels"][key] == json!(value))
}

fn number(query: &str, name: &str) -> Option<usize> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn selector(query: &str) -> Vec<(String, String)> {
    let Some(text) = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector=")) else {
        return Vec::new();
    };
    let text = text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
