//! The record in a Lease: get, watch by name, and replace with its resourceVersion. Nothing is listed, and a steady
//! store costs one open watch.

use std::time::Duration;

use blobstore_sidecar_api::record::{RECORD_ANNOTATION, ShardRecord};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client, Error,
    api::{PostParams, WatchEvent, WatchParams},
};
use tokio::{sync::mpsc, time::sleep};

use blobstore_sidecar_runtime::tasks;

use crate::register::{CasError, Register, RegisterError, Versioned};

/// The first pause after a lost watch, doubled up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// When the API is away nothing changes for a live pod, but a failover waits for it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The server ends a watch after this; kube refuses five minutes and more.
const WATCH_SECONDS: u32 = 290;
/// The version to watch from: any. The server sends the Lease as its cache has it, then what changes. The Lease's own
/// version would be refused (410 Gone) as soon as it is older than what the server remembers, five minutes in a store at
/// rest.
const ANY: &str = "0";
/// Records on their way to the actor: each replaces the one before, so a few suffice.
const QUEUE: usize = 8;

/// The Lease `<store>-shard-<i>` of the pod's namespace.
#[derive(Clone)]
pub struct LeaseRegister {
    leases: Api<Lease>,
    name: String,
}

impl std::fmt::Debug for LeaseRegister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseRegister({})", self.name)
    }
}

fn version(lease: &Lease) -> Result<u64, RegisterError> {
    let version = lease.metadata.resource_version.as_deref().unwrap_or_default();
    version.parse().map_err(|_| RegisterError::Malformed(format!("resourceVersion {version}")))
}

fn versioned(lease: &Lease) -> Result<Versioned, RegisterError> {
    let text = lease.metadata.annotations.as_ref().and_then(|notes| notes.get(RECORD_ANNOTATION));
    let record = match text {
        Some(text) => {
            serde_json::from_str(text).map_err(|error| RegisterError::Malformed(error.to_string()))?
        }
        None => ShardRecord::default(),
    };
    Ok(Versioned { version: version(lease)?, record })
}

/// The record written into a Lease as it was read, with what people see in kubectl.
fn with_record(mut lease: Lease, record: &ShardRecord) -> Result<Lease, serde_json::Error> {
    let text = serde_json::to_string(record)?;
    lease.metadata.annotations.get_or_insert_default().insert(RECORD_ANNOTATION.to_owned(), text);
    lease.metadata.managed_fields = None;
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = record.primary.as_ref().map(|primary| primary.pod.clone());
    // The operator stands back while a record is young.
    spec.renew_time = Some(MicroTime(jiff::Timestamp::now()));
    spec.lease_transitions = Some(i32::try_from(record.epoch).unwrap_or(i32::MAX));
    Ok(lease)
}

impl LeaseRegister {
    pub fn new(client: Client, namespace: &str, store: &str, shard: u32) -> Self {
        Self { leases: Api::namespaced(client, namespace), name: format!("{store}-shard-{shard}") }
    }

    async fn get(&self) -> Result<Lease, RegisterError> {
        let found = self.leases.get_opt(&self.name).await;
        found.map_err(|error| RegisterError::Away(error.to_string()))?.ok_or(RegisterError::Absent)
    }

    async fn swap(&self, expected: u64, record: ShardRecord) -> Result<u64, CasError> {
        let unknown = |error: String| CasError::Unknown(error);
        // Labels and owner of the Lease are the operator's: they are carried over, under the same version.
        let lease = self.get().await.map_err(|error| unknown(error.to_string()))?;
        if version(&lease).map_err(|error| unknown(error.to_string()))? != expected {
            return Err(CasError::Conflict);
        }
        let lease = with_record(lease, &record).map_err(|error| unknown(error.to_string()))?;
        match self.leases.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => version(&lease).map_err(|error| unknown(error.to_string())),
            Err(Error::Api(status)) if status.code == 409 => Err(CasError::Conflict),
            Err(error) => Err(unknown(error.to_string())),
        }
    }

    /// One watch until it ends: the record now, then each change.
    async fn watch_once(
        &self,
        seen: &mpsc::Sender<Result<Versioned, RegisterError>>,
    ) -> Result<(), RegisterError> {
        let away = |error: Error| RegisterError::Away(error.to_string());
        let first = versioned(&self.get().await?)?;
        if seen.send(Ok(first)).await.is_err() {
            return Ok(());
        }
        // With bookmarks the server would end what it has by one, which takes a newer etcd than some have.
        let named = format!("metadata.name={}", self.name);
        let params = WatchParams::default().fields(&named).timeout(WATCH_SECONDS).disable_bookmarks();
        let mut events = self.leases.watch(&params, ANY).await.map_err(away)?.boxed();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = seen.closed() => return Ok(()),
            };
            let item = match event {
                None => return Ok(()),
                Some(Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease))) => versioned(&lease),
                Some(Ok(WatchEvent::Deleted(_))) => Err(RegisterError::Absent),
                Some(Ok(WatchEvent::Bookmark(_))) => continue,
                Some(Ok(WatchEvent::Error(status))) => return Err(RegisterError::Away(status.to_string())),
                Some(Err(error)) => return Err(away(error)),
            };
            if seen.send(item).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn watch_for_ever(self, seen: mpsc::Sender<Result<Versioned, RegisterError>>) {
        let mut pause = BACKOFF_MIN;
        while !seen.is_closed() {
            match self.watch_once(&seen).await {
                Ok(()) => pause = BACKOFF_MIN,
                Err(error) => {
                    if seen.send(Err(error)).await.is_err() {
                        return;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

impl Register for LeaseRegister {
    fn read(&self) -> BoxFuture<'_, Result<Versioned, RegisterError>> {
        Box::pin(async move { versioned(&self.get().await?) })
    }

    fn cas(&self, expected: u64, record: ShardRecord) -> BoxFuture<'_, Result<u64, CasError>> {
        Box::pin(self.swap(expected, record))
    }

    fn watch(&self) -> BoxStream<'static, Result<Versioned, RegisterError>> {
        let (seen, sees) = mpsc::channel(QUEUE);
        tasks::spawn("shard-watch", self.clone().watch_for_ever(seen));
        stream::unfold(sees, |mut sees| async move { Some((sees.recv().await?, sees)) }).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;

    use super::*;

    /// As an API server that remembers nothing older than now.
    async fn forgetful(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some("42".to_owned());
        let query = request.uri().query().unwrap_or_default();
        let body = if !query.contains("watch=true") {
            serde_json::to_vec(&lease)
        } else if query.split('&').any(|pair| pair == "resourceVersion=0") {
            lease.metadata.resource_version = Some("43".to_owned());
            serde_json::to_vec(&serde_json::json!({ "type": "ADDED", "object": lease }))
        } else {
            let gone = serde_json::json!({
                "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version: 42 (1042)",
            });
            serde_json::to_vec(&serde_json::json!({ "type": "ERROR", "object": gone }))
        };
        Ok(http::Response::new(Body::from(body.expect("a document"))))
    }

    #[tokio::test]
    async fn a_record_older_than_what_the_server_remembers_is_watched() {
        let client = Client::new(tower::service_fn(forgetful), "default");
        let mut seen = LeaseRegister::new(client, "default", "media", 0).watch();
        let versions = [seen.next().await, seen.next().await];
        let versions = versions.map(|next| next.expect("it goes on").expect("a record").version);
        assert_eq!(versions, [42, 43]);
    }

    #[test]
    fn a_record_survives_its_lease_and_a_bare_lease_is_a_fresh_shard() {
        let mut lease = Lease::default();
        lease.metadata.resource_version = Some("42".to_owned());
        assert_eq!(versioned(&lease).expect("a record").record, ShardRecord::default());
        let record = ShardRecord { epoch: 7, losses: 1, ..ShardRecord::default() };
        let lease = with_record(lease, &record).expect("a lease");
        assert_eq!(versioned(&lease).expect("a record"), Versioned { version: 42, record });
        assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(7));
    }
}
