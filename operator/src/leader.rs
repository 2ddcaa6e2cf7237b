//! Leader election on a Lease, as client-go does it: expiry is judged by our own monotonic clock from the moment
//! we saw the record change, never by comparing clocks. Who cannot renew in time must stop writing: the caller
//! ends the process.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use crate::error::chain;

/// Times of the election. A leader that cannot write stops `duration - renew_deadline` before anyone may follow it.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Others take the Lease when it has not changed for this long.
    pub duration: Duration,
    /// The leader gives up when its last success is this old.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
    /// Bound of one request: two fit between a failure and the deadline.
    pub request: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            request: Duration::from_secs(4),
        }
    }
}

/// After a failure the leader tries this much sooner: between one lost answer and the deadline lie many tries.
const HASTE: u32 = 4;

/// How a leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We stopped and gave the Lease back.
    Released,
    /// Not renewed in time, or another holds it: write nothing any more.
    Lost,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("the API server did not answer in time")]
    Timeout,
    #[error("lease request")]
    Api(#[source] kube::Error),
}

/// One candidate of one Lease.
#[derive(Debug)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    times: Times,
    /// The last record seen and when it last changed, on our clock.
    seen: Option<(LeaseSpec, Instant)>,
    /// The Lease as our last write left it: renewing it needs no look, because the version travels with the write.
    held: Option<Lease>,
}

impl Elector {
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, times: Times) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity: identity.to_owned(), times, seen: None, held: None }
    }

    /// Waits until this candidate leads. Cancel by dropping.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(error = %chain(&error), lease = self.name, "try to lead"),
            }
            sleep(self.times.retry).await;
        }
    }

    /// Renews until `stop` resolves (then gives the Lease back) or the leadership is lost.
    pub async fn keep(mut self, stop: impl Future<Output = ()>) -> Ended {
        let mut stop = std::pin::pin!(stop);
        let mut renewed = Instant::now();
        let mut pause = self.times.retry;
        loop {
            tokio::select! {
                () = &mut stop => {
                    self.release().await;
                    return Ended::Released;
                }
                () = sleep(pause) => {}
            }
            // The success counts from before the request was sent: that is when the Lease was surely ours.
            let asked = Instant::now();
            let left = self.times.renew_deadline.saturating_sub(renewed.elapsed());
            match timeout(left, self.try_hold()).await {
                Ok(Ok(true)) => (renewed, pause) = (asked, self.times.retry),
                Ok(Ok(false)) => return Ended::Lost,
                Ok(Err(error)) => {
                    pause = self.times.retry / HASTE;
                    tracing::warn!(error = %chain(&error), lease = self.name, "renew the lease");
                }
                Err(_) => return Ended::Lost,
            }
            if renewed.elapsed() >= self.times.renew_deadline {
                return Ended::Lost;
            }
        }
    }

    /// At most one look and one write: true when the Lease is ours afterwards. After a failed renewal the next try
    /// looks first.
    async fn try_hold(&mut self) -> Result<bool, LeaseError> {
        if let Some(lease) = self.held.take() {
            let next = self.held(&lease.spec.clone().unwrap_or_default(), true);
            return self.replace(lease, next).await;
        }
        let Some(lease) = self.get().await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.remember(&spec);
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let free = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        if !ours && !free && !self.expired(&spec) {
            return Ok(false);
        }
        let next = self.held(&spec, ours);
        self.replace(lease, next).await
    }

    fn remember(&mut self, spec: &LeaseSpec) {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
    }

    fn expired(&self, spec: &LeaseSpec) -> bool {
        let stated = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = stated.map_or(self.times.duration, Duration::from_secs);
        self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= duration)
    }

    fn held(&self, before: &LeaseSpec, ours: bool) -> LeaseSpec {
        let now = MicroTime(k8s_openapi::jiff::Timestamp::now());
        let transitions = before.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.times.duration.as_secs()).ok(),
            acquire_time: if ours { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    async fn get(&self) -> Result<Option<Lease>, LeaseError> {
        self.request(self.api.get_opt(&self.name)).await
    }

    async fn create(&mut self) -> Result<bool, LeaseError> {
        let spec = self.held(&LeaseSpec::default(), false);
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        let made = self.request(self.api.create(&PostParams::default(), &lease)).await;
        self.won(made)
    }

    /// Compare and swap: the resource version of what we looked at travels with the write.
    async fn replace(&mut self, lease: Lease, spec: LeaseSpec) -> Result<bool, LeaseError> {
        let next = Lease { spec: Some(spec), ..lease };
        let made = self.request(self.api.replace(&self.name, &PostParams::default(), &next)).await;
        self.won(made)
    }

    /// A conflict is an error like any other: the next try looks again and sees whose success it was.
    fn won(&mut self, made: Result<Lease, LeaseError>) -> Result<bool, LeaseError> {
        let lease = made?;
        self.remember(&lease.spec.clone().unwrap_or_default());
        self.held = Some(lease);
        Ok(true)
    }

    /// Best effort: an empty holder lets the next candidate start at once.
    async fn release(&mut self) {
        let released: Result<(), LeaseError> = async {
            let Some(lease) = self.get().await? else { return Ok(()) };
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            let next = LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..spec };
            self.replace(lease, next).await.map(|_| ())
        }
        .await;
        if let Err(error) = released {
            tracing::warn!(error = %chain(&error), lease = self.name, "give the lease back");
        }
    }

    async fn request<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        match timeout(self.times.request, request).await {
            Ok(answer) => answer.map_err(LeaseError::Api),
            Err(_) => Err(LeaseError::Timeout),
        }
    }
}
