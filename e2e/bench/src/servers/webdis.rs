//! webdis: the other way to read values of a Redis over HTTP, on the same engine as our sidecar without a cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::{Http, free_address, listening, memory_folder, program};
use crate::case::Which;
use crate::{Error, Result};

/// One loop per core of the machine that the published figures are from.
const THREADS: usize = 2;
/// Connections to the engine per loop: as many as the clients of a run, so that none waits for another's value.
const POOL: usize = 8;

pub(crate) fn start(engine_socket: &Path) -> Result<Http> {
    let data = memory_folder("webdis")?;
    let address = free_address()?;
    let config = data.path().join("webdis.json");
    let settings = json!({
        "redis_host": engine_socket.display().to_string(),
        "redis_port": 0,
        "http_host": "127.0.0.1",
        "http_port": address.port(),
        "threads": THREADS,
        "pool_size": POOL,
        "daemonize": false,
        "websockets": false,
        "database": 0,
        "verbosity": 1,
        "logfile": data.path().join("webdis.log").display().to_string(),
    });
    fs::write(&config, settings.to_string()).map_err(Error::io("write webdis.json"))?;
    let mut command = Command::new(program("webdis"));
    command.arg(&config);
    listening(Which::Webdis, address, data, &mut command)
}

/// The key of a blob: webdis takes the path apart at every slash.
pub(crate) fn key(path: &str) -> String {
    format!("webdis{}", path.replace('/', ":"))
}
