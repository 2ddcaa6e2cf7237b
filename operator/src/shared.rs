//! What all passes share: the client, settings, metrics, and bounded memories that hold no decisions (failures per
//! store for the backoff, events already told, what was read
//! last, the sidecars' last words).

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blobstore_operator_core::context::Context;
use kube::Client;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::events::Told;
use crate::kept::Memory;
use crate::metrics::Metrics;
use crate::words::Words;

/// An API server under load answers within seconds; longer, and the pass is better started anew.
const API_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Shared {
    pub client: Client,
    pub context: Context,
    pub metrics: Metrics,
    /// Our name in events.
    pub identity: String,
    pub backoff: Mutex<Backoff>,
    pub told: Mutex<Told>,
    pub kept: Memory,
    pub words: Words,
    /// Why the served CRD is not ours, while it is not.
    pub crd_outdated: Mutex<Option<String>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A request to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the API server did not answer within {API_TIMEOUT:?}")]
    Timeout,
    #[error("API request")]
    Request(#[source] Box<kube::Error>),
}

impl ApiError {
    /// HTTP status, if the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Request(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout => None,
        }
    }

    /// The server answered with what our types do not take.
    pub fn undecodable(&self) -> bool {
        matches!(self, Self::Request(error) if matches!(error.as_ref(), kube::Error::SerdeError(_)))
    }

    /// Metric label.
    pub fn category(&self) -> &'static str {
        match self.code() {
            Some(401 | 403) => "forbidden",
            Some(404) => "not_found",
            Some(409) => "conflict",
            Some(422 | 400) => "invalid",
            Some(429) => "throttled",
            Some(_) => "api",
            None if self.undecodable() => "undecodable",
            None => "unreachable",
        }
    }
}

/// Every request is bounded in time.
pub async fn ask<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match timeout(API_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| ApiError::Request(Box::new(error))),
        Err(_) => Err(ApiError::Timeout),
    }
}

impl Shared {
    pub fn new(client: Client, context: Context, metrics: Metrics, identity: String) -> Self {
        Self {
            client,
            context,
            metrics,
            identity,
            backoff: Mutex::default(),
            told: Mutex::default(),
            kept: Memory::default(),
            words: Words::default(),
            crd_outdated: Mutex::default(),
        }
    }

    /// Why the served CRD is not ours, while it is not.
    pub fn crd_problem(&self) -> Option<String> {
        self.crd_outdated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
