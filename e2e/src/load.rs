//! Clients that write and read while something is broken: every acknowledged write goes into a ledger,
//! every read is judged by it, and the longest silence and all errors are counted.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ::kube::runtime::{WatchStreamExt, watcher};
use blobstore_operator_api::names;
use futures::StreamExt;
use http::StatusCode;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    error::{Error, Result},
    http::{Contents, Http},
    ledger::{Judgement, Ledger},
    payload::{Checksum, Payload},
    progress,
    store::Store,
};

/// A client that was refused tries again after this: what a patient HTTP client does.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// A key is given up after this, and left out of what must be right: nobody knows whether it was written.
const GIVE_UP: Duration = Duration::from_secs(120);
/// A client of a load gives a silent pod this long: one that lost its power never answers. Longer than
/// anything the store waits for by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Reads at once when all is verified: two per core of a small machine.
const VERIFY_AT_ONCE: usize = 4;
/// Wrong answers that are kept in words; more say nothing new.
const WRONG_SHOWN_MAX: usize = 20;

#[derive(Debug, Clone)]
pub struct Plan {
    pub bucket: String,
    pub writers: usize,
    pub readers: usize,
    /// Sizes in turn.
    pub sizes: Vec<u64>,
    /// Keys per writer before it starts to overwrite them.
    pub keys_per_writer: u64,
    /// Through the S3 API instead of the plain lane.
    pub s3: bool,
}

impl Default for Plan {
    /// Inline, one chunk, several chunks; 8 clients.
    fn default() -> Self {
        Self {
            bucket: "load".to_owned(),
            writers: 8,
            readers: 2,
            sizes: vec![0, 1_000, 16_384, 65_536, 262_080, 600_000],
            keys_per_writer: 40,
            s3: false,
        }
    }
}

/// What one kind of client saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub done: u64,
    /// Requests that failed and were tried again, by cause.
    pub retried: BTreeMap<String, u64>,
    /// Requests that were given up after retries.
    pub failed: u64,
    /// Longest time in which no client of the kind succeeded.
    pub longest_pause: Duration,
    last: Option<Instant>,
}

#[derive(Debug, Default, Clone)]
pub struct Report {
    pub writes: Seen,
    pub reads: Seen,
    /// Answers that broke a promise, in words. Must be empty.
    pub wrong: Vec<String>,
    pub elapsed: Duration,
}

#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Keeps the list of pods up to date; ends with the load.
    followers: JoinSet<()>,
    start: Instant,
}

#[derive(Debug)]
struct Shared {
    http: Http,
    urls: watch::Sender<Vec<String>>,
    plan: Plan,
    stop: AtomicBool,
    ledger: Mutex<Ledger>,
    excused: Mutex<Option<RangeInclusive<Instant>>>,
    report: Mutex<Report>,
    acknowledged: watch::Sender<u64>,
}

/// No code panics while it holds one of these; if it did, the figures are still the figures.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    pub fn start(http: &Http, urls: Vec<String>, plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            http: http.clone(),
            urls: watch::Sender::new(urls),
            stop: AtomicBool::new(false),
            ledger: Mutex::default(),
            excused: Mutex::default(),
            report: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            plan,
        });
        let mut tasks = JoinSet::new();
        for writer in 0..shared.plan.writers {
            tasks.spawn(write(Arc::clone(&shared), writer));
        }
        for reader in 0..shared.plan.readers {
            tasks.spawn(read(Arc::clone(&shared), reader));
        }
        Self { shared, tasks, followers: JoinSet::new(), start: Instant::now() }
    }

    /// Load on a store, at whichever pods it has: the bucket is made, pods that come and go are followed.
    pub async fn of(store: &Store, plan: Plan) -> Result<Self> {
        store.make_bucket(&plan.bucket).await?;
        let mut http = if plan.s3 { store.s3().await? } else { store.http().await? };
        http.head_limit = ANSWER_LIMIT;
        let mut load = Self::start(&http, store.urls().await?, plan);
        load.followers.spawn(follow(Arc::clone(&load.shared), store.clone()));
        Ok(load)
    }

    /// What was acknowledged at these times may be missing.
    pub fn excuse(&self, times: RangeInclusive<Instant>) {
        *lock(&self.shared.excused) = Some(times);
    }

    /// Pods have come or gone.
    pub fn use_urls(&self, urls: Vec<String>) {
        self.shared.urls.send_replace(urls);
    }

    /// Waits until so many more writes are acknowledged: the load runs, or runs again.
    pub async fn wait_writes(&self, more: u64, limit: Duration) -> Result<()> {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let goal = *acknowledged.borrow() + more;
        let reached = tokio::time::timeout(limit, acknowledged.wait_for(|count| *count >= goal)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Wrong("the load has ended".to_owned())),
            Err(_) => Err(Error::Deadline {
                what: format!("{more} more acknowledged writes"),
                limit,
                last: format!("{:?}", lock(&self.shared.report).writes),
            }),
        }
    }

    pub fn report(&self) -> Report {
        let mut report = lock(&self.shared.report).clone();
        report.elapsed = self.start.elapsed();
        report
    }

    /// Ends the clients after their current request and reads back everything that was acknowledged.
    pub async fn finish(mut self) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(Error::other("a client of the load panicked"))?;
        }
        let elapsed = self.start.elapsed();
        let keys = lock(&self.shared.ledger).acknowledged();
        let checks = keys.into_iter().map(|key| verify(Arc::clone(&self.shared), key));
        futures::stream::iter(checks).buffer_unordered(VERIFY_AT_ONCE).collect::<Vec<()>>().await;
        self.followers.abort_all();
        let mut report = lock(&self.shared.report).clone();
        report.elapsed = elapsed;
        Ok(report)
    }
}

impl Shared {
    fn url(&self, turn: usize, key: &str) -> String {
        let urls = self.urls.borrow();
        let base = if urls.is_empty() { "http://198.18.0.1:9" } else { urls[turn % urls.len()].as_str() };
        format!("{base}/{}/{key}", self.plan.bucket)
    }

    fn mark(&self, key: &str) -> crate::ledger::Mark {
        let excused = lock(&self.excused).clone();
        lock(&self.ledger).mark(key, excused.as_ref())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn judge(&self, key: &str, mark: crate::ledger::Mark, found: Option<Checksum>, url: &str) {
        let judgement = lock(&self.ledger).judge(key, mark, found);
        let mut report = lock(&self.report);
        if judgement != Judgement::Right && report.wrong.len() < WRONG_SHOWN_MAX {
            report.wrong.push(format!("{key} from {url}: {judgement:?}, {found:?}"));
        }
    }
}

impl Report {
    /// The figures in one line, for a person.
    pub fn show(&self, what: &str) {
        let kind = |name: &str, seen: &Seen| {
            let pause = seen.longest_pause.as_secs_f64();
            let retried: u64 = seen.retried.values().sum();
            format!(
                "{} {name} (longest pause {pause:.2} s, {retried} retried {:?}, {} failed)",
                seen.done, seen.retried, seen.failed
            )
        };
        let seconds = self.elapsed.as_secs_f64();
        let (writes, reads) = (kind("writes", &self.writes), kind("reads", &self.reads));
        progress::say(&format!("{what}: {seconds:.1} s, {writes}, {reads}, {} wrong", self.wrong.len()));
    }

    /// Nothing acknowledged was lost or altered, and nothing failed for good.
    pub fn check(&self) -> Result<()> {
        let failed = self.writes.failed + self.reads.failed;
        if self.wrong.is_empty() && failed == 0 && self.writes.done > 0 {
            return Ok(());
        }
        let Seen { done, retried, .. } = &self.writes;
        Err(Error::Wrong(format!(
            "{done} writes, {failed} requests failed, retried {retried:?}, wrong: {:#?}",
            self.wrong
        )))
    }
}

impl Seen {
    fn success(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last {
            self.longest_pause = self.longest_pause.max(now - last);
        }
        self.last = Some(now);
        self.done += 1;
    }

    fn retry(&mut self, cause: String) {
        *self.retried.entry(cause).or_default() += 1;
    }
}

/// Ready pods are where clients go; while the API server is away, or no pod is ready, the old list stands.
async fn follow(shared: Arc<Shared>, store: Store) {
    let selected = watcher::Config::default().labels(&names::store_selector(&store.name));
    let mut changes = watcher(store.scope.pods(), selected).default_backoff().boxed();
    while let Some(change) = changes.next().await {
        if change.is_ok()
            && let Ok(urls) = store.urls().await
            && !urls.is_empty()
        {
            shared.urls.send_replace(urls);
        }
    }
}

#[derive(Clone, Copy)]
struct Upload {
    acknowledged: bool,
    /// An attempt had no answer, or one that leaves its outcome open, as a 503 does.
    in_doubt: bool,
}

async fn write(shared: Arc<Shared>, writer: usize) {
    // By key, how often it was left for a new one.
    let mut left = BTreeMap::<u64, u64>::new();
    for turn in 0_u64.. {
        if shared.is_over() {
            return;
        }
        let number = turn % shared.plan.keys_per_writer;
        let left = left.entry(number).or_default();
        let key = format!("w{writer}/{left}/{number}");
        let sizes = &shared.plan.sizes;
        let size = sizes[usize::try_from(turn).unwrap_or_default() % sizes.len()];
        let payload = Payload { seed: rand::random::<u64>(), size };
        lock(&shared.ledger).try_write(&key, payload);
        let upload = put(&shared, &key, payload, writer).await;
        // An attempt that stands still in a pod may arrive long after the one that was acknowledged, and would undo what
        // was written over it since. So nothing is: the key is never used again.
        *left += u64::from(upload.in_doubt || !upload.acknowledged);
        if upload.acknowledged {
            lock(&shared.ledger).acknowledge(&key, Instant::now());
            lock(&shared.report).writes.success();
            shared.acknowledged.send_modify(|count| *count += 1);
        } else {
            lock(&shared.report).writes.failed += 1;
        }
    }
}

/// Tries again until it is acknowledged, at the next pod each time; a retry of a PUT is idempotent.
async fn put(shared: &Shared, key: &str, payload: Payload, first: usize) -> Upload {
    let start = Instant::now();
    let mut upload = Upload { acknowledged: false, in_doubt: false };
    for attempt in 0.. {
        let url = shared.url(first + attempt, key);
        let (cause, in_doubt) = match shared.http.put(&url, Contents::Payload(payload)).await {
            Ok(answer) if answer.status.is_success() => return Upload { acknowledged: true, ..upload },
            Ok(answer) => (answer.status.to_string(), answer.status.is_server_error()),
            Err(error) => (cause(&error), !Http::never_sent(&error)),
        };
        upload.in_doubt |= in_doubt;
        lock(&shared.report).writes.retry(cause);
        if start.elapsed() > GIVE_UP {
            break;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    upload
}

async fn read(shared: Arc<Shared>, reader: usize) {
    for turn in reader.. {
        if shared.is_over() {
            return;
        }
        let keys = lock(&shared.ledger).acknowledged();
        let Some(key) = keys.get(rand::random_range(0..keys.len().max(1))) else {
            tokio::time::sleep(RETRY_AFTER).await;
            continue;
        };
        if get(&shared, key, turn).await {
            lock(&shared.report).reads.success();
        } else {
            lock(&shared.report).reads.failed += 1;
        }
    }
}

/// Reads until an answer came that can be judged.
async fn get(shared: &Shared, key: &str, first: usize) -> bool {
    let start = Instant::now();
    for attempt in 0.. {
        let url = shared.url(first + attempt, key);
        let mark = shared.mark(key);
        match fetch(&shared.http, &url).await {
            Ok(found) => {
                shared.judge(key, mark, found, &url);
                return true;
            }
            Err(cause) => lock(&shared.report).reads.retry(cause),
        }
        if start.elapsed() > GIVE_UP {
            return false;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    false
}

/// What is there; `None` for a 404. A cut answer is an error to retry, never contents.
async fn fetch(http: &Http, url: &str) -> std::result::Result<Option<Checksum>, String> {
    let answer = http.get(url).await.map_err(|error| cause(&error))?;
    match answer.status {
        StatusCode::OK => answer.checksum().await.map(Some).map_err(|error| cause(&error)),
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(status.to_string()),
    }
}

async fn verify(shared: Arc<Shared>, key: String) {
    if !get(&shared, &key, 0).await {
        lock(&shared.report).wrong.push(format!("{key} could not be read"));
    }
}

/// The innermost words of an error, without addresses: they are counted.
fn cause(error: &Error) -> String {
    match error {
        Error::Deadline { .. } => "no answer".to_owned(),
        other => other.chain().rsplit(": ").next().unwrap_or_default().to_owned(),
    }
}
