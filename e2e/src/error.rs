//! One error for the harness: what was being done, to what, and why it failed. Nothing here is retried;
//! waiting on a condition is `wait`.

use std::{path::PathBuf, time::Duration};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} ended with {status}\n{output}")]
    Command { command: String, status: String, output: String },
    #[error("{doing}")]
    Kube {
        doing: String,
        #[source]
        source: Box<::kube::Error>,
    },
    #[error("{doing}")]
    Other {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("not within {} s: {what}\nlast seen: {last}", limit.as_secs())]
    Deadline { what: String, limit: Duration, last: String },
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    pub fn kube(doing: impl Into<String>) -> impl FnOnce(::kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kube { doing, source: Box::new(source) }
    }

    pub fn other<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let doing = doing.into();
        move |source| Self::Other { doing, source: Box::new(source) }
    }

    /// The whole chain in one line, outermost first.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
