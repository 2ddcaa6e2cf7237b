//! One origin: its breaker, its line, its client out of the LRU, and one request from the question to the answer.

use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blobstore_sidecar_api::origins::{OriginConfig, OriginSource};
use blobstore_sidecar_core::etag::ETag;
use blobstore_sidecar_core::key::ObjectName;
use blobstore_sidecar_core::range::ByteRange;
use blobstore_sidecar_runtime::clients::{Clients, Handle};
use blobstore_sidecar_store::Attributes;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;

use crate::breaker::{Breaker, Ended};
use crate::client::{Client, ClientKey, Credentials};
use crate::failure::{Failure, FailureKind};
use crate::line::{Line, Place};
use crate::mark::Mark;
use crate::metrics::{BREAKER, FAILURES, REQUESTS};

mod answer;
mod ask;

/// A rotated Secret takes effect within this time; reading eight small files more often would gain nothing.
const CREDENTIALS_TTL: Duration = Duration::from_secs(10);

/// What the origin says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// `None`: it comes in chunks, and its end tells.
    pub(crate) size: Option<u64>,
    /// As clients of this store see it.
    pub(crate) etag: ETag,
    pub(crate) mark: Mark,
    /// What is stored with the copy, the mark included.
    pub(crate) attributes: Attributes,
}

/// The question.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    /// The whole body, unless it is still what `known` says.
    Whole { known: Option<Mark> },
    /// Some of it; with a tag, only of the version that has it.
    Part { range: ByteRange, tag: Option<String> },
}

pub(crate) type Body = BoxStream<'static, Result<Bytes, Failure>>;

/// The answer.
pub(crate) struct Answer {
    pub(crate) info: Info,
    pub(crate) range: Range<u64>,
    /// Ends well only after all of `range`. Holds the place in line and the client.
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) config: OriginConfig,
    pub(crate) name: Arc<str>,
    breaker: Mutex<Breaker>,
    /// What went wrong last, for those who are turned away without asking.
    trouble: Mutex<String>,
    line: Line,
    clients: Arc<Clients<ClientKey, Client>>,
    credentials: Mutex<Option<(Instant, Credentials)>>,
    /// It answered a range with everything, once.
    whole_only: AtomicBool,
}

/// A request that the breaker let through; reports its end, whichever way it ends.
struct Call {
    origin: Arc<Origin>,
    ended: bool,
}

impl Call {
    fn end(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.ended, true) {
            self.origin.end(ended);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Ended::Cancelled);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origin {
    pub(crate) fn new(config: OriginConfig, line: Line, clients: Arc<Clients<ClientKey, Client>>) -> Self {
        Self {
            name: config.name.as_str().into(),
            config,
            breaker: Mutex::new(Breaker::new()),
            trouble: Mutex::default(),
            line,
            clients,
            credentials: Mutex::default(),
            whole_only: AtomicBool::new(false),
        }
    }

    pub(crate) fn whole_only(&self) -> bool {
        self.whole_only.load(Ordering::Relaxed)
    }

    /// Background work may ask without keeping anyone waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.line.has_room()
    }

    /// The object behind a name, if the origin can have one of this name.
    fn path(&self, name: &ObjectName) -> Result<Path, Failure> {
        let rest = name.as_str().strip_prefix(&self.config.prefix).unwrap_or(name.as_str());
        let full = format!("{}{rest}", self.config.origin_prefix);
        // `object_store` drops slashes at the ends: that would be another object.
        let plain = !full.is_empty() && !full.starts_with('/') && !full.ends_with('/');
        let path = plain.then(|| Path::parse(&full).ok()).flatten();
        path.ok_or_else(|| {
            let message = format!("the origin {} cannot have an object of this name", self.name);
            Failure::new(FailureKind::NotFound, message)
        })
    }

    /// Through the line and past the breaker.
    async fn admitted(self: &Arc<Self>) -> Result<(Place, Call), Failure> {
        let left = lock(&self.breaker).left(Instant::now());
        if !left.is_zero() {
            return Err(self.paused(left));
        }
        let place = self.line.enter(&self.name).await?;
        let admitted = lock(&self.breaker).admit(Instant::now());
        self.show_breaker();
        match admitted {
            Ok(()) => Ok((place, Call { origin: Arc::clone(self), ended: false })),
            Err(left) => Err(self.paused(left)),
        }
    }

    fn paused(&self, left: Duration) -> Failure {
        let message = format!(
            "the origin {} is not asked for {:.1} s after a row of failures: {}",
            self.name,
            left.as_secs_f64(),
            lock(&self.trouble)
        );
        FAILURES.with_label_values(&[&*self.name, "paused"]).inc();
        Failure::new(FailureKind::Paused, message)
    }

    fn end(&self, ended: Ended) {
        let mut breaker = lock(&self.breaker);
        let before = breaker.state();
        breaker.end(ended, Instant::now(), rand::random());
        let after = breaker.state();
        drop(breaker);
        self.show_breaker();
        if before != after {
            tracing::warn!(origin = &*self.name, ?before, ?after, trouble = %lock(&self.trouble), "breaker");
        }
    }

    fn show_breaker(&self) {
        BREAKER.with_label_values(&[&*self.name]).set(lock(&self.breaker).state().gauge());
    }

    /// Counts a failure and says whether the breaker should know.
    fn failed(&self, failure: &Failure) -> Ended {
        if failure.kind != FailureKind::NotModified {
            FAILURES.with_label_values(&[&*self.name, failure.kind.category()]).inc();
        }
        if !failure.kind.is_outage() {
            return Ended::Answered;
        }
        lock(&self.trouble).clone_from(&failure.message);
        Ended::Failed
    }

    fn count(&self, method: &str) {
        REQUESTS.with_label_values(&[&*self.name, method]).inc();
    }

    /// The client, opened with the credentials as they are now.
    async fn client(&self) -> Result<Arc<Handle<Client>>, Failure> {
        let credentials = match &self.config.credentials {
            None => Credentials::default(),
            Some(folder) => self.credentials(folder).await?,
        };
        let key = ClientKey { origin: Arc::clone(&self.name), credentials };
        self.clients.get_or_open(&key, Instant::now(), || Client::open(&self.config, &key.credentials))
    }

    async fn credentials(&self, folder: &FsPath) -> Result<Credentials, Failure> {
        if let Some((read, credentials)) = &*lock(&self.credentials)
            && read.elapsed() < CREDENTIALS_TTL
        {
            return Ok(credentials.clone());
        }
        let credentials = Credentials::read(folder).await.map_err(|error| {
            let message = format!("the credentials of the origin {} cannot be read: {error}", self.name);
            Failure::new(FailureKind::Refused, message)
        })?;
        *lock(&self.credentials) = Some((Instant::now(), credentials.clone()));
        Ok(credentials)
    }

    /// The backend knows neither suffixes nor what lies behind the end: its size is asked first.
    fn needs_size_for(&self, range: ByteRange) -> bool {
        match self.config.source {
            OriginSource::File { .. } => true,
            OriginSource::Azure { .. } => matches!(range, ByteRange::Last { .. }),
            _ => matches!(range, ByteRange::Last { len: 0 }),
        }
    }
}
