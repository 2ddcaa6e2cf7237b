//! A client that goes through the rest of the S3 API round after round: multipart, range, listing, deletion. Every
//! answer is checked; what failed for a moment is tried again at the next pod.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blobstore_e2e::{
    error::{Error, Result},
    http::{Answer, Contents, Http},
    payload::{self, Payload},
    store::Store,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::task::JoinSet;

/// The least that S3 allows for a part that is not the last.
const PART: u64 = 5 * 1024 * 1024;
const LAST_PART: u64 = 300_000;
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// One step of a round, over however many tries.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What the client did.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    rounds: u64,
    retried: u64,
    longest_step: Duration,
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, retried, longest_step } = self;
        let seconds = longest_step.as_secs_f64();
        write!(
            out,
            "{rounds} rounds of multipart, range, list and delete: {retried} retried, longest step {seconds:.2} s"
        )
    }
}

pub(crate) struct Mixed {
    stop: Arc<AtomicBool>,
    client: JoinSet<Result<Seen>>,
}

impl Mixed {
    pub(crate) async fn of(store: &Store, bucket: &str) -> Result<Self> {
        store.make_bucket(bucket).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let round = Round {
            http: store.s3().await?,
            store: store.clone(),
            bucket: bucket.to_owned(),
            seen: Seen::default(),
        };
        let mut client = JoinSet::new();
        client.spawn(run(round, Arc::clone(&stop)));
        Ok(Self { stop, client })
    }

    pub(crate) async fn finish(mut self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        match self.client.join_next().await {
            Some(Ok(outcome)) => outcome,
            other => Err(Error::Wrong(format!("the mixed client ended with {other:?}"))),
        }
    }
}

async fn run(mut round: Round, stop: Arc<AtomicBool>) -> Result<Seen> {
    while !stop.load(Ordering::Relaxed) || round.seen.rounds == 0 {
        round.go().await?;
        round.seen.rounds += 1;
    }
    Ok(round.seen)
}

struct Round {
    http: Http,
    store: Store,
    bucket: String,
    seen: Seen,
}

impl Round {
    async fn go(&mut self) -> Result<()> {
        let key = format!("round/{}", self.seen.rounds);
        let first = Payload { seed: rand::random(), size: PART };
        let last = Payload { seed: rand::random(), size: LAST_PART };
        let upload = self.create(&key).await?;
        let mut list = String::new();
        for (number, part) in [(1, first), (2, last)] {
            let target = format!("{key}?partNumber={number}&uploadId={upload}");
            let answer = self.step(&Method::PUT, &target, None, Contents::Payload(part), &[]).await?;
            let etag = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
            let etag = etag.ok_or_else(|| Error::Wrong(format!("part {number} of {key} has no ETag")))?;
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let target = format!("{key}?uploadId={upload}");
        let done = self.step(&Method::POST, &target, None, Contents::Bytes(body.into()), &[]).await?;
        let text = text(done).await?;
        expect(text.contains("<ETag>"), &format!("completing {key} answered {text}"))?;
        self.read_back(&key, first, last).await?;
        self.list_and_delete(&key).await
    }

    async fn create(&mut self, key: &str) -> Result<String> {
        let answer = self.step(&Method::POST, &format!("{key}?uploads="), None, Contents::None, &[]).await?;
        let text = text(answer).await?;
        let id = text.split("<UploadId>").nth(1).and_then(|rest| rest.split("</UploadId>").next());
        id.map(str::to_owned).ok_or_else(|| Error::Wrong(format!("creating {key} answered {text}")))
    }

    /// Whole, and over the seam of the parts.
    async fn read_back(&mut self, key: &str, first: Payload, last: Payload) -> Result<()> {
        let whole = [first.bytes(), last.bytes()].concat();
        let found = self.body(key, None).await?;
        expect(payload::checksum(&found) == payload::checksum(&whole), &format!("{key} came back altered"))?;
        let (from, to) = (whole.len() - 2 * LAST_PART as usize, whole.len() - 10);
        let part = self.body(key, Some(format!("bytes={from}-{}", to - 1))).await?;
        expect(part == whole[from..to], &format!("bytes {from} to {to} of {key} came back altered"))
    }

    async fn body(&mut self, key: &str, range: Option<String>) -> Result<Bytes> {
        let start = Instant::now();
        loop {
            let answer = self.step(&Method::GET, key, range.clone(), Contents::None, &[]).await?;
            match answer.bytes().await {
                Ok(bytes) => return Ok(bytes),
                // Cut on its way: the pod was killed.
                Err(error) if start.elapsed() > STEP_LIMIT => return Err(error),
                Err(_) => self.seen.retried += 1,
            }
        }
    }

    async fn list_and_delete(&mut self, key: &str) -> Result<()> {
        let target = format!("?list-type=2&prefix={}", key.replace('/', "%2F"));
        let listed = text(self.step(&Method::GET, &target, None, Contents::None, &[]).await?).await?;
        expect(listed.contains(&format!("<Key>{key}</Key>")), &format!("{key} is not listed: {listed}"))?;
        self.step(&Method::DELETE, key, None, Contents::None, &[]).await?;
        let gone = self.step(&Method::GET, key, None, Contents::None, &[StatusCode::NOT_FOUND]).await?;
        expect(
            gone.status == StatusCode::NOT_FOUND,
            &format!("{key} is deleted and answered {}", gone.status),
        )
    }

    /// One request until it is answered with success, or with one of the statuses that are right as well.
    async fn step(
        &mut self,
        method: &Method,
        target: &str,
        range: Option<String>,
        contents: Contents,
        right: &[StatusCode],
    ) -> Result<Answer> {
        let start = Instant::now();
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            headers
                .insert(header::RANGE, HeaderValue::from_str(&range).map_err(Error::other("use a range"))?);
        }
        for turn in 0_usize.. {
            let last = match self.url(turn, target).await {
                Err(error) => error.chain(),
                Ok(url) => {
                    match self.http.send(method.clone(), &url, headers.clone(), contents.clone()).await {
                        Ok(answer) if answer.status.is_success() || right.contains(&answer.status) => {
                            self.seen.longest_step = self.seen.longest_step.max(start.elapsed());
                            return Ok(answer);
                        }
                        Ok(answer) => {
                            let status = answer.status;
                            format!("{status} {}", text(answer).await.unwrap_or_default())
                        }
                        Err(error) => error.chain(),
                    }
                }
            };
            if start.elapsed() > STEP_LIMIT {
                let what = format!("{method} {target}");
                return Err(Error::Deadline { what, limit: STEP_LIMIT, last });
            }
            self.seen.retried += 1;
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Err(Error::Wrong("no turn is left".to_owned()))
    }

    async fn url(&self, turn: usize, target: &str) -> Result<String> {
        let urls = self.store.urls().await?;
        let base =
            urls.get(turn % urls.len().max(1)).ok_or_else(|| Error::Wrong("no pod is ready".to_owned()))?;
        let slash = if target.starts_with('?') { "" } else { "/" };
        Ok(format!("{base}/{}{slash}{target}", self.bucket))
    }
}

async fn text(answer: Answer) -> Result<String> {
    Ok(String::from_utf8_lossy(&answer.bytes().await?).into_owned())
}

fn expect(held: bool, otherwise: &str) -> Result<()> {
    if held { Ok(()) } else { Err(Error::Wrong(otherwise.to_owned())) }
}
