//! Asking: the request, its errors turned into failures with a sentence, and the breaker told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use blobstore_sidecar_core::key::ObjectName;
use blobstore_sidecar_core::precondition::http_date;
use blobstore_sidecar_core::range::ByteRange;
use http::StatusCode;
use http::header::HeaderValue;
use object_store::{
    Error, Extensions, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt, path::Path,
};

use super::{Answer, Call, Info, Origin, Want, answer};
use crate::breaker::Ended;
use crate::client::{IfModifiedSince, Witness};
use crate::failure::{Failure, FailureKind};
use crate::mark::Mark;

impl Origin {
    /// One question. The answer's body is still to be read.
    pub(crate) async fn ask(self: &Arc<Self>, name: &ObjectName, want: Want) -> Result<Answer, Failure> {
        let path = self.path(name)?;
        let (place, mut call) = self.admitted().await?;
        let client = self.client().await?;
        let witness = Arc::new(Witness::default());
        let asked = self.get(client.store.as_ref(), &path, want, &witness).await;
        let got = self.judged(asked, &mut call)?;
        let info = answer::info(self, &got);
        Ok(answer::answer(got, info, answer::Held { call, witness, _place: place, _client: client }))
    }

    /// What there is, without a body.
    pub(crate) async fn head(self: &Arc<Self>, name: &ObjectName) -> Result<Info, Failure> {
        let path = self.path(name)?;
        let (_place, mut call) = self.admitted().await?;
        let client = self.client().await?;
        let witness = Arc::new(Witness::default());
        self.count("head");
        let options = GetOptions { head: true, ..options(&witness) };
        let asked = client.store.get_opts(&path, options).await;
        let asked = asked.map_err(|error| self.failure(error, &witness));
        let got = self.judged(asked, &mut call)?;
        call.end(Ended::Answered);
        Ok(answer::info(self, &got))
    }

    /// Tells the breaker what is known at the header. A body that follows well is one more good sign; one that
    /// breaks off is a bad one.
    fn judged<T>(&self, asked: Result<T, Failure>, call: &mut Call) -> Result<T, Failure> {
        match asked {
            Ok(got) => {
                // A probe has found out what it was for: the others need not wait for its body.
                if self.is_probing() {
                    self.end(Ended::Answered);
                }
                Ok(got)
            }
            Err(failure) => {
                call.end(self.failed(&failure));
                Err(failure)
            }
        }
    }

    fn is_probing(&self) -> bool {
        super::lock(&self.breaker).state() == crate::breaker::State::HalfOpen
    }

    async fn get(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        want: Want,
        witness: &Arc<Witness>,
    ) -> Result<GetResult, Failure> {
        let mut options = options(witness);
        let ranged = matches!(want, Want::Part { .. });
        match want {
            Want::Whole { known: Some(known) } => {
                self.count("revalidate");
                options = unless_known(options, &known);
            }
            Want::Whole { known: None } => self.count("get"),
            Want::Part { range, tag } => {
                options.range = Some(self.range(store, path, range, witness).await?);
                options.if_match = tag;
                self.count("range");
            }
        }
        store.get_opts(path, options).await.map_err(|error| {
            if ranged && matches!(error, Error::NotSupported { .. }) {
                self.whole_only.store(true, Ordering::Relaxed);
            }
            self.failure(error, witness)
        })
    }

    /// The range in the origin's terms; `Unsatisfiable` when it is known to be that.
    async fn range(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        range: ByteRange,
        witness: &Arc<Witness>,
    ) -> Result<GetRange, Failure> {
        if self.needs_size_for(range) {
            self.count("head");
            let size = store.head(path).await.map_err(|error| self.failure(error, witness))?.size;
            return match range.resolve(size) {
                Some(range) => Ok(GetRange::Bounded(range)),
                None => Err(self.unsatisfiable(size)),
            };
        }
        Ok(match range {
            ByteRange::Between { first, last } => GetRange::Bounded(first..last.saturating_add(1)),
            ByteRange::From { first } => GetRange::Offset(first),
            ByteRange::Last { len } => GetRange::Suffix(len),
        })
    }

    fn unsatisfiable(&self, size: u64) -> Failure {
        let message = format!("the range begins behind the end: the object has {size} bytes");
        Failure::new(FailureKind::Unsatisfiable(size), message)
    }

    /// What the crate's error and the witness say together.
    pub(super) fn failure(&self, error: Error, witness: &Witness) -> Failure {
        let seen = witness.seen();
        let name = &self.name;
        let kind = match (&error, seen.status) {
            (Error::NotFound { .. }, _) => FailureKind::NotFound,
            (Error::NotModified { .. }, _) => FailureKind::NotModified,
            (Error::Precondition { .. }, _) => FailureKind::Changed,
            (Error::NotSupported { .. }, _) => FailureKind::NoRanges,
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => FailureKind::Refused,
            _ if seen.timed_out => FailureKind::Timeout,
            (_, Some(StatusCode::RANGE_NOT_SATISFIABLE)) => {
                return self.unsatisfiable(seen.size.unwrap_or_default());
            }
            (_, Some(StatusCode::TOO_MANY_REQUESTS)) => FailureKind::Down,
            (_, Some(status)) if status.is_client_error() || status.is_redirection() => FailureKind::Refused,
            _ => FailureKind::Down,
        };
        let said = seen.status.map(|status| status.to_string()).unwrap_or_default();
        let message = match kind {
            FailureKind::NotFound => format!("the origin {name} has no such object"),
            FailureKind::NotModified => format!("the copy of the origin {name} is current"),
            FailureKind::Changed => {
                format!("the object changed at the origin {name} while it was read: retry")
            }
            FailureKind::NoRanges => format!("the origin {name} answers a range with everything"),
            FailureKind::Timeout => format!("the origin {name} is too slow: {}", root(&error)),
            FailureKind::Refused => match seen.location {
                Some(to) => {
                    format!("the origin {name} answers {said}, to {to}: name that place in the resource")
                }
                None => format!("the origin {name} refuses the request: {said} {}", root(&error)),
            },
            _ => format!("the origin {name} fails: {said} {}", root(&error)),
        };
        Failure::new(kind, message.replace("  ", " "))
    }
}

fn options(witness: &Arc<Witness>) -> GetOptions {
    let mut extensions = Extensions::new();
    extensions.insert(Arc::clone(witness));
    GetOptions { extensions, ..GetOptions::default() }
}

/// Asks for the body only if it is another one.
fn unless_known(mut options: GetOptions, known: &Mark) -> GetOptions {
    if known.etag.is_some() {
        options.if_none_match.clone_from(&known.etag);
    } else if known.modified_ms > 0
        && let Ok(date) = HeaderValue::from_str(&http_date(known.modified_ms))
    {
        options.extensions.insert(IfModifiedSince(date));
    }
    options
}

/// The innermost cause: the outer ones repeat it, and carry addresses that are none of a client's business.
fn root(error: &dyn std::error::Error) -> String {
    /// A server's error page may be long; a sentence is enough.
    const CHARS_MAX: usize = 200;
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(CHARS_MAX).collect()
}
