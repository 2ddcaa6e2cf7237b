//! The pass's error: one variant per step. `category` is the only metric label an error gives; `retry` says when to
//! look again.

use std::error::Error as StdError;
use std::time::Duration;

use blobstore_operator_core::build::BuildError;

use crate::apply::ApplyError;
use crate::observe::ObserveError;
use crate::report::ReportError;
use crate::shared::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the BlobStore")]
    Read(#[source] ApiError),
    #[error("observe")]
    Observe(#[from] ObserveError),
    #[error("build the children")]
    Build(#[from] BuildError),
    #[error("apply")]
    Apply(#[from] ApplyError),
    #[error("report")]
    Report(#[from] ReportError),
    #[error("{0} reads failed: nothing is applied without them")]
    Incomplete(usize),
    #[error("the pass took longer than {0:?}")]
    TooLong(Duration),
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Somebody else was faster: look again, then decide.
    AtOnce,
    /// Later each time.
    Backoff,
    /// Not before the object changes.
    OnChange,
}

impl Error {
    fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Read(source)
            | Self::Observe(ObserveError::List { source, .. })
            | Self::Apply(ApplyError::Write { source, .. })
            | Self::Report(ReportError::Status(source)) => Some(source),
            Self::Apply(ApplyError::Document { .. } | ApplyError::RecordUnknown(_))
            | Self::Build(_)
            | Self::Incomplete(_)
            | Self::TooLong(_) => None,
        }
    }

    /// Metric label: a bounded set.
    pub fn category(&self) -> &'static str {
        if let Some(api) = self.api() {
            return api.category();
        }
        match self {
            Self::Apply(ApplyError::RecordUnknown(_)) => "record_unknown",
            Self::TooLong(_) => "timeout",
            Self::Incomplete(_) => "incomplete",
            _ => "bug",
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            // A stored object that our types do not take: only a change or a new operator helps.
            Self::Read(error) if error.undecodable() => Retry::OnChange,
            _ if self.category() == "conflict" => Retry::AtOnce,
            _ => Retry::Backoff,
        }
    }
}

/// The whole chain on one line: what we were doing, then why it failed. A source that repeats its parent's text
/// (kube's errors do) is left out.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
