//! What can go wrong at an origin, and how it reads to a client.

use std::fmt;

use blobstore_sidecar_store::{ErrorKind, StoreError};

/// What happened, as far as it decides what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    NotFound,
    /// The copy that we asked about is current.
    NotModified,
    /// The object changed under a read that began.
    Changed,
    /// The range begins behind the end of an object of this size.
    Unsatisfiable(u64),
    /// The origin sends whole objects only.
    NoRanges,
    /// It refuses us: credentials, or a request that it does not like.
    Refused,
    /// Connect, first byte or idle time is over.
    Timeout,
    /// It does not answer, answers with a server's error, or broke off.
    Down,
    /// The breaker is open.
    Paused,
    /// A limit of this pod.
    Busy,
    /// Nobody wants it any more.
    Abandoned,
}

impl FailureKind {
    pub(crate) fn category(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotModified => "not_modified",
            Self::Changed => "changed",
            Self::Unsatisfiable(_) => "unsatisfiable",
            Self::NoRanges => "no_ranges",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Busy => "busy",
            Self::Abandoned => "abandoned",
        }
    }

    /// The origin is not as it should be: counts for the breaker.
    pub(crate) fn is_outage(self) -> bool {
        matches!(self, Self::Timeout | Self::Down)
    }

    /// A stale copy may stand in.
    pub(crate) fn may_be_stale(self) -> bool {
        matches!(self, Self::Timeout | Self::Down | Self::Paused | Self::Refused | Self::Busy)
    }
}

/// A failure with a sentence. Shared by all readers of a fill, hence `Clone` and text only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// Lower case, no full stop; names the origin.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::NotFound => ErrorKind::NotFound,
            FailureKind::NotModified => ErrorKind::NotModified,
            FailureKind::Unsatisfiable(size) => ErrorKind::RangeNotSatisfiable { size },
            FailureKind::Timeout => ErrorKind::OriginTimeout,
            FailureKind::Busy | FailureKind::Abandoned => ErrorKind::Busy,
            FailureKind::Changed
            | FailureKind::NoRanges
            | FailureKind::Refused
            | FailureKind::Down
            | FailureKind::Paused => ErrorKind::OriginDown,
        };
        Self::new(kind, failure.message)
    }
}
