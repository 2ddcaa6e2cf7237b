//! What can go wrong between us and the engine. Nothing here is fatal: the next sample tries again.

use blobstore_sidecar_core::hygiene::calibrate::Misfit;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum HygieneError {
    #[error("{doing}")]
    Engine { doing: &'static str, source: redis::RedisError },
    #[error("{doing}: no answer in time")]
    Slow { doing: &'static str },
    #[error("{0}: the engine's answer makes no sense")]
    Answer(&'static str),
    #[error("the engine is not calibrated: {0}")]
    Misfit(Misfit),
    #[error("the engine is not calibrated: {0}")]
    Unsupported(String),
    #[error("the pass was given up: {0}")]
    PassGivenUp(String),
}

impl HygieneError {
    /// Bounded label for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Engine { .. } => "engine",
            Self::Slow { .. } => "slow",
            Self::Answer(_) => "answer",
            Self::Misfit(_) | Self::Unsupported(_) => "calibration",
            Self::PassGivenUp(_) => "pass",
        }
    }

    /// The whole chain in one line.
    pub fn chain(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
