//! The HTTP client of the tests: straight to pod addresses, bodies streamed both ways, every wait bounded.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, Error as PoolError, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{
    error::{Error, Result},
    payload::{Checksum, Payload, Summer},
    signature::Signer,
    wait::{self, Seen},
};

/// Pods are on this machine: who does not accept within a second is gone.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// From the request to the head of the answer. The store's own limits are shorter.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// A patient client's request, over however many tries: every hand-over is over by then.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two frames of an answer.
const FRAME_LIMIT: Duration = Duration::from_secs(30);
/// An answer that is read as text: reports and metrics stay below a few hundred KiB.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

type Body = BoxBody<Bytes, std::convert::Infallible>;

#[derive(Debug, Clone)]
pub struct Http {
    pool: Pool<HttpConnector, Body>,
    /// Sent with every request: tokens.
    pub headers: HeaderMap,
    pub head_limit: Duration,
    /// Requests go to the S3 API, as this user's.
    pub signer: Option<Signer>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
}

/// An answer to its last byte.
#[derive(Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What to send.
#[derive(Debug, Clone)]
pub enum Contents {
    None,
    Bytes(Bytes),
    Payload(Payload),
}

impl Contents {
    fn body(self) -> Body {
        match self {
            Self::None => Empty::new().boxed(),
            Self::Bytes(bytes) => Full::new(bytes).boxed(),
            Self::Payload(payload) => payload.body().boxed(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Self { pool, headers: HeaderMap::new(), head_limit: HEAD_LIMIT, signer: None }
    }
}

impl Http {
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        contents: Contents,
    ) -> Result<Answer> {
        let doing = || format!("{method} {url}");
        let body = contents.body();
        let empty = body.size_hint().exact() == Some(0);
        let mut request =
            Request::builder().method(method.clone()).uri(url).body(body).map_err(Error::other(doing()))?;
        if let Some(signer) = &self.signer {
            let signed = signer.headers(&method, request.uri())?;
            request.headers_mut().extend(signed);
        }
        request.headers_mut().extend(self.headers.clone());
        request.headers_mut().extend(headers);
        // hyper says nothing of an empty body, and S3 wants every upload's length.
        if empty && method == Method::PUT {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let answer = tokio::time::timeout(self.head_limit, self.pool.request(request))
            .await
            .map_err(|_| late(doing(), self.head_limit))?
            .map_err(Error::other(doing()))?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.send(Method::GET, url, HeaderMap::new(), Contents::None).await
    }

    pub async fn put(&self, url: &str, contents: Contents) -> Result<Answer> {
        self.send(Method::PUT, url, HeaderMap::new(), contents).await
    }

    /// What a patient client does: tries again while nobody answers, or with 503, which is legal in any hand-over. Every
    /// other answer is the test's to judge.
    pub async fn ask(
        &self,
        method: &Method,
        url: &str,
        headers: &HeaderMap,
        contents: &Contents,
    ) -> Result<Whole> {
        wait::until_slow(format!("{method} {url} is answered"), PATIENCE, HEAD_LIMIT, || async {
            let answer = self.send(method.clone(), url, headers.clone(), contents.clone()).await?;
            let (status, headers) = (answer.status, answer.headers.clone());
            let body = answer.bytes().await?;
            let is_busy = status == StatusCode::SERVICE_UNAVAILABLE;
            Ok(Seen::when(!is_busy, Whole { status, headers, body }, || status.to_string()))
        })
        .await
    }

    pub async fn ask_get(&self, url: &str) -> Result<Whole> {
        self.ask(&Method::GET, url, &HeaderMap::new(), &Contents::None).await
    }

    pub async fn ask_put(&self, url: &str, contents: &Contents) -> Result<Whole> {
        self.ask(&Method::PUT, url, &HeaderMap::new(), contents).await
    }

    /// The request found no connection, so nobody has seen it.
    pub fn never_sent(error: &Error) -> bool {
        let Error::Other { source, .. } = error else { return false };
        source.downcast_ref::<PoolError>().is_some_and(PoolError::is_connect)
    }

    /// The text of a 2xx answer; any other is an error that shows it.
    pub async fn text(&self, url: &str) -> Result<String> {
        let answer = self.get(url).await?;
        let status = answer.status;
        let text = String::from_utf8_lossy(&answer.bytes().await?).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        Err(Error::Wrong(format!("GET {url} answered {status}: {text}")))
    }

    pub async fn json(&self, url: &str) -> Result<serde_json::Value> {
        let text = self.text(url).await?;
        serde_json::from_str(&text).map_err(Error::other(format!("read JSON of {url}")))
    }
}

fn late(what: String, limit: Duration) -> Error {
    Error::Deadline { what, limit, last: "no answer".to_owned() }
}

impl Answer {
    async fn frame(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(FRAME_LIMIT, self.body.frame())
                .await
                .map_err(|_| late("the next part of an answer".to_owned(), FRAME_LIMIT))?;
            match frame {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(Error::other("read an answer"))?;
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads all of it without keeping it.
    pub async fn checksum(mut self) -> Result<Checksum> {
        let mut summer = Summer::default();
        while let Some(data) = self.frame().await? {
            summer.update(&data);
        }
        Ok(summer.finish())
    }

    pub async fn bytes(mut self) -> Result<Bytes> {
        let mut all = Vec::new();
        while let Some(data) = self.frame().await? {
            if all.len() + data.len() > TEXT_BYTES_MAX {
                return Err(Error::Wrong(format!("an answer of more than {TEXT_BYTES_MAX} bytes")));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.into())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn request_without_a_connection_was_never_sent_and_one_without_an_answer_may_have_been() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/", listener.local_addr().expect("it listens"));
        let http = Http::default();
        let silent = async {
            let (mut stream, _) = listener.accept().await.expect("a client comes");
            stream.read_u8().await.expect("it asks");
        };
        let (answer, ()) = tokio::join!(http.get(&url), silent);
        assert!(!Http::never_sent(&answer.expect_err("nobody answered")));
        drop(listener);
        // A client of its own: the first may have kept a connection that nobody had accepted yet.
        let refused = Http::default().get(&url).await.expect_err("nobody listens");
        assert!(Http::never_sent(&refused), "{refused:?}");
    }
}
