//! The fills under way: one per object, started by the first who needs it, run as a task of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blobstore_sidecar_core::etag::{ETag, TagSet};
use blobstore_sidecar_core::precondition::Conditions;
use blobstore_sidecar_runtime::{budget::Permit, tasks};
use blobstore_sidecar_store::{DeleteRequest, ErrorKind, PutRequest, StoreError};
use futures::StreamExt;
use futures::stream;

use crate::blobs::{Key, PutBody, SharedBlobs};
use crate::failure::{Failure, FailureKind};
use crate::fill::{Ended, Fill, Member, WINDOW_BYTES};
use crate::mark::Mark;
use crate::memory::Memory;
use crate::metrics::{FILLS_ENDED, FILLS_NOW, FILLS_STARTED, FOLLOWERS, REVALIDATIONS};
use crate::origin::{Answer, Body, Origin, Want};
use crate::reader::only;

/// After the store has refused an object, its readers pass through for this long before it is offered again: a full
/// store does not become empty in a second, and each offer would be one more request to the origin.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Ended fills that are remembered by name, for readers who looked into the store before. Past them a reader looks again
/// in any case.
const LATELY_MAX: usize = 64;

/// The fills that run, and the last that ended.
#[derive(Debug, Default)]
struct Running {
    fills: HashMap<Key, Arc<Fill>>,
    /// How many have ended, and of which objects the last of them were.
    ended: u64,
    lately: VecDeque<Key>,
}

impl Running {
    fn remember(&mut self, key: Key) {
        self.ended += 1;
        self.lately.truncate(LATELY_MAX - 1);
        self.lately.push_front(key);
    }

    /// The fill that runs, with one reader more.
    fn followed(&self, origin: &Origin, key: &Key) -> Option<Member> {
        let member = self.fills.get(key)?.join()?;
        FOLLOWERS.with_label_values(&[&*origin.name]).inc();
        Some(member)
    }

    /// A fill of this object, which nobody can follow now, has ended since so many had, or may have. One that is still on
    /// the list has just ended.
    fn may_have_ended(&self, key: &Key, since: Moment) -> bool {
        let new = usize::try_from(self.ended - since.0).unwrap_or(usize::MAX);
        self.fills.contains_key(key)
            || new > self.lately.len()
            || self.lately.iter().take(new).any(|ended| ended == key)
    }
}

/// When somebody looked into the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(u64);

/// The copy that a fill may replace.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    pub(crate) etag: ETag,
    /// What the origin is asked about; `None`: it is another origin's.
    pub(crate) mark: Option<Mark>,
}

/// What all fills share.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) blobs: SharedBlobs,
    pub(crate) memory: Memory,
    running: Mutex<Running>,
}

impl Filling {
    pub(crate) fn new(blobs: SharedBlobs) -> Self {
        Self { blobs, memory: Memory::new(), running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_running(&self, key: &Key) -> bool {
        self.running().fills.contains_key(key)
    }

    /// A fill runs and will soon be at this byte.
    pub(crate) fn is_near(&self, key: &Key, at: u64) -> bool {
        self.running().fills.get(key).is_some_and(|fill| fill.is_near(at))
    }

    /// For [`Filling::enter_since`]; to be taken before the store is asked.
    pub(crate) fn moment(&self) -> Moment {
        Moment(self.running().ended)
    }

    /// The fill of an object: the one that runs, or a new one.
    pub(crate) fn enter(self: &Arc<Self>, origin: &Arc<Origin>, key: &Key, old: Option<Old>) -> Member {
        let running = self.running();
        match running.followed(origin, key) {
            Some(member) => member,
            None => self.begin(running, origin, key, old),
        }
    }

    /// As [`Filling::enter`], for an object that the store did not have then. `None`: a fill of it has ended since, so the
    /// store may have it by now; who began another would ask the origin twice.
    pub(crate) fn enter_since(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        key: &Key,
        since: Moment,
    ) -> Option<Member> {
        let running = self.running();
        match running.followed(origin, key) {
            Some(member) => Some(member),
            None if running.may_have_ended(key, since) => None,
            None => Some(self.begin(running, origin, key, None)),
        }
    }

    fn begin(
        self: &Arc<Self>,
        mut running: MutexGuard<'_, Running>,
        origin: &Arc<Origin>,
        key: &Key,
        old: Option<Old>,
    ) -> Member {
        let member = Fill::begin(key.clone(), Arc::clone(origin));
        let fill = Arc::clone(&member.0);
        running.fills.insert(key.clone(), Arc::clone(&fill));
        drop(running);
        FILLS_STARTED.with_label_values(&[&*origin.name]).inc();
        FILLS_NOW.inc();
        tasks::spawn("origin-fill", Arc::clone(self).run(fill, old));
        member
    }

    async fn run(self: Arc<Self>, fill: Arc<Fill>, old: Option<Old>) {
        let guard = Guard { filling: Arc::clone(&self), fill: Arc::clone(&fill) };
        let ended = self.fill(&fill, old).await;
        let result = match &ended {
            Ended::Stored => "stored",
            Ended::Unstored { kind, message } => {
                tracing::warn!(origin = &*fill.origin.name, kind = kind.category(), message, "not stored");
                "unstored"
            }
            Ended::Failed(failure) if failure.kind == FailureKind::NotModified => "not_modified",
            Ended::Failed(failure) if failure.kind == FailureKind::NotFound => "not_found",
            Ended::Failed(_) => "failed",
            Ended::Abandoned => "abandoned",
        };
        fill.end(ended);
        drop(guard);
        FILLS_ENDED.with_label_values(&[&*fill.origin.name, result]).inc();
    }

    async fn fill(self: &Arc<Self>, fill: &Arc<Fill>, old: Option<Old>) -> Ended {
        let known = old.as_ref().and_then(|old| old.mark.clone());
        let asked = fill.origin.ask(&fill.key.name, Want::Whole { known });
        let asked = tokio::select! {
            asked = asked => asked,
            () = given_up(fill) => return Ended::Abandoned,
        };
        self.learn(fill, old.as_ref(), asked.as_ref().map(|_| ())).await;
        match asked {
            Ok(answer) => self.store(fill, old, answer).await,
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// What the answer says about the copy there is, and about the object.
    async fn learn(&self, fill: &Fill, old: Option<&Old>, asked: Result<(), &Failure>) {
        let (key, origin) = (&fill.key, &fill.origin);
        let result = match asked.map_err(|failure| failure.kind) {
            Ok(()) => "changed",
            Err(FailureKind::NotModified) => {
                if let Some(old) = old {
                    self.memory.set_validated(key, *old.etag.bytes(), now_ms());
                }
                "unchanged"
            }
            Err(FailureKind::NotFound) => {
                self.gone(origin, key, old.map(|old| &old.etag)).await;
                "gone"
            }
            Err(_) => "failed",
        };
        if old.is_some() {
            REVALIDATIONS.with_label_values(&[&*origin.name, result]).inc();
        }
    }

    /// The origin has no such object: neither has the store from now on.
    pub(crate) async fn gone(&self, origin: &Origin, key: &Key, copy: Option<&ETag>) {
        if let Some(etag) = copy {
            let request =
                DeleteRequest { bucket: key.bucket.clone(), name: key.name.clone(), conditions: only(etag) };
            if let Err(error) = self.blobs.delete(request).await {
                tracing::warn!(origin = &*origin.name, %error, "a copy whose object is gone stays");
            }
        }
        let ttl = Duration::from_secs(origin.config.negative_ttl_seconds);
        self.memory.set_absent(key, ttl, Instant::now());
    }

    async fn store(self: &Arc<Self>, fill: &Arc<Fill>, old: Option<Old>, answer: Answer) -> Ended {
        let Answer { info, range: _, body } = answer;
        let info = Arc::new(info);
        self.memory.set_present(&fill.key);
        fill.open(Arc::clone(&info), self.window(info.size));
        let size_max = self.blobs.body_bytes_max();
        if info.size.is_some_and(|size| size > size_max) {
            let message = format!("it is larger than the {size_max} bytes that are stored");
            return self.refused(fill, StoreError::new(ErrorKind::TooLarge, message));
        }
        // A write of a client that comes in between is newer than what we fetch.
        let conditions = match old {
            Some(old) => only(&old.etag),
            None => Conditions { if_none_match: Some(TagSet::Any), ..Conditions::default() },
        };
        let request = PutRequest {
            attributes: info.attributes.clone(),
            conditions,
            etag: Some(info.etag),
            progress: Some(Arc::clone(&fill.progress)),
            ..PutRequest::new(fill.key.bucket.clone(), fill.key.name.clone(), info.size)
        };
        let failure = Arc::new(Mutex::new(None));
        let put = self.blobs.put(request, tee(Arc::clone(fill), body, Arc::clone(&failure))).await;
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (put, failure) {
            (Ok(_), _) => Ended::Stored,
            (Err(_), Some(Failure { kind: FailureKind::Abandoned, .. })) => Ended::Abandoned,
            (Err(_), Some(failure)) => Ended::Failed(failure),
            (Err(error), None) => self.refused(fill, error),
        }
    }

    /// A convenience, from the lower half of the budget: were windows to use it up, no upload could go on, and no
    /// window would ever be given back.
    fn window(&self, size: Option<u64>) -> Option<Permit> {
        let bytes = size.unwrap_or(WINDOW_BYTES).clamp(1, WINDOW_BYTES);
        let budget = self.blobs.budget();
        (budget.used() + bytes <= budget.limit() / 2).then(|| budget.try_permit(bytes)).flatten()
    }

    fn refused(&self, fill: &Fill, error: StoreError) -> Ended {
        // A write that was faster is no trouble of the store's.
        if error.kind != ErrorKind::Precondition {
            self.memory.set_refused(&fill.key, REFUSED_PAUSE, Instant::now());
        }
        Ended::Unstored { kind: error.kind.clone(), message: error.message }
    }
}

/// Takes the fill off the list, also when its task is cancelled or panics.
struct Guard {
    filling: Arc<Filling>,
    fill: Arc<Fill>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let message = "the fill ended unexpectedly: retry".to_owned();
        self.fill.end(Ended::Failed(Failure { kind: FailureKind::Down, message }));
        let mut running = self.filling.running();
        if running.fills.get(&self.fill.key).is_some_and(|fill| Arc::ptr_eq(fill, &self.fill)) {
            running.fills.remove(&self.fill.key);
        }
        running.remember(self.fill.key.clone());
        drop(running);
        FILLS_NOW.dec();
    }
}

async fn given_up(fill: &Fill) {
    loop {
        fill.unwanted().await;
        if fill.give_up() {
            return;
        }
    }
}

/// The body on its way into the store, shown to the readers in passing. Ends with an error when the origin breaks off,
/// or when nobody wants it: the store then keeps nothing.
fn tee(fill: Arc<Fill>, body: Body, failure: Arc<Mutex<Option<Failure>>>) -> PutBody {
    let fail = move |with: Failure| {
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(with.clone());
        with
    };
    let state = Some((fill, body, fail));
    stream::unfold(state, |state| async move {
        let (fill, mut body, fail) = state?;
        let next = tokio::select! {
            // First: a body that is always ready must not hide that nobody wants it.
            biased;
            () = given_up(&fill) => {
                let message = "every reader has left".to_owned();
                Some(Err(Failure { kind: FailureKind::Abandoned, message }))
            }
            next = body.next() => next,
        };
        match next? {
            Ok(bytes) => {
                fill.push(bytes.clone());
                Some((Ok(bytes), Some((fill, body, fail))))
            }
            Err(error) => Some((Err(fail(error)), None)),
        }
    })
    .boxed()
}

pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
