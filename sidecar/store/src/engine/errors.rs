//! The engine's errors in the store's words.

use std::io;

use redis::RedisError;

use crate::{ErrorKind, StoreError};

pub(crate) fn io(doing: &str, error: io::Error) -> StoreError {
    StoreError::new(ErrorKind::EngineDown, format!("the engine does not answer ({doing})")).caused_by(error)
}

pub(crate) fn timeout(doing: &str) -> StoreError {
    StoreError::new(ErrorKind::EngineDown, format!("the engine did not answer in time ({doing})"))
}

pub(crate) fn closed() -> StoreError {
    StoreError::new(ErrorKind::EngineDown, "the engine closed the connection")
}

pub(crate) fn garbage() -> StoreError {
    StoreError::new(ErrorKind::Protocol, "the engine's answer does not follow its protocol")
}

pub(crate) fn full() -> StoreError {
    StoreError::new(
        ErrorKind::EngineFull,
        "the engine's memory is used up: delete objects, or raise the engine's memory limit",
    )
}

/// Error replies that mean the engine cannot serve right now.
const DOWN: &[&str] = &["LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "MISCONF"];
/// Error replies that mean the slot is served by another engine.
const MOVED: &[&str] = &["MOVED", "ASK", "READONLY"];

/// An error reply on a lane.
pub(crate) fn reply(doing: &str, text: &str) -> StoreError {
    let code = text.split(' ').next().unwrap_or_default();
    coded(doing, code, text)
}

fn coded(doing: &str, code: &str, text: &str) -> StoreError {
    // A script that is not allowed to run out of memory is refused with its own sentence.
    if code == "OOM" || text.contains("when used memory > 'maxmemory'") {
        return full();
    }
    if MOVED.contains(&code) {
        let kind = ErrorKind::NotOwner { address: None, epoch: None };
        return StoreError::new(kind, format!("another engine serves this slot: {text}"));
    }
    if DOWN.contains(&code) {
        return StoreError::new(ErrorKind::EngineDown, format!("the engine cannot serve now: {text}"));
    }
    StoreError::new(ErrorKind::Protocol, format!("the engine refused ({doing}): {text}"))
}

/// An error of the `redis` crate.
pub(crate) fn redis(doing: &str, error: RedisError) -> StoreError {
    let lost = error.is_io_error() || error.is_connection_dropped() || error.is_timeout();
    if lost || error.is_connection_refusal() {
        return StoreError::new(ErrorKind::EngineDown, format!("the engine does not answer ({doing})"))
            .caused_by(error);
    }
    let text = error.to_string();
    let code = error.code().map(str::to_owned).unwrap_or_default();
    coded(doing, &code, &text)
}
