//! A fake API server for one test: keeps objects, answers as Kubernetes does where the operator looks, logs every
//! write in order, and fails or hangs where a test says so. In memory, so that time can be paused.

#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(clippy::expect_used, reason = "a test says what should hold")]

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
        state.objects.insert(path.to_owned(), object);
    }

    /// Changes an object behind the operator's back.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let mut object = state.objects.remove(path).expect("the object exists");
        change(&mut object);
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) -> Option<Value> {
        self.state().objects.remove(path)
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
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.version));
        }
        object
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
        let prefix = format!("{path}/");
        let items: Vec<Value> = self
            .objects
            .iter()
            .filter(|(at, _)| at.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')))
            .map(|(_, object)| object.clone())
            .filter(|object| {
                wanted.iter().all(|(key, value)| object["metadata"]["labels"][key] == json!(value))
            })
            .collect();
        let list = json!({"kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items});
        (200, list)
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
        self.objects.insert(path, object.clone());
        (201, object)
    }

    fn replace(&mut self, path: &str, body: Value) -> (u16, Value) {
        let Some(old) = self.objects.get(path) else { return failure(404, "NotFound", "not found") };
        let offered = &body["metadata"]["resourceVersion"];
        if !offered.is_null() && *offered != old["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "changed meanwhile");
        }
        let object = self.stamped(path, body);
        self.objects.insert(path.to_owned(), object.clone());
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
        }
        self.objects.insert(target, next.clone());
        (200, next)
    }

    fn delete(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(old) = self.objects.get(path) else { return failure(404, "NotFound", "not found") };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return failure(409, "Conflict", "another uid");
        }
        self.objects.remove(path);
        (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}))
    }
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
