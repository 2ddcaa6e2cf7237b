//! Varnish with malloc storage in front of the benchmark's nginx, from which it fetches each blob once.

use std::net::SocketAddr;
use std::process::Command;

use super::{Http, free_address, listening, memory_folder, program};
use crate::Result;
use crate::case::Which;

pub(crate) fn start(backend: SocketAddr) -> Result<Http> {
    let data = memory_folder("varnish")?;
    let address = free_address()?;
    let mut command = Command::new(program("varnishd"));
    command
        .args(["-F", "-j", "none", "-T", "none"])
        .arg("-n")
        .arg(data.path().join("work"))
        .args(["-a", &address.to_string(), "-b", &backend.to_string(), "-s", "malloc,2g"])
        // Threads are there before the load is, and nothing expires during a run.
        .args(["-p", "thread_pool_min=200", "-p", "thread_pools=2", "-p", "default_ttl=86400"])
        .args(["-p", "timeout_idle=300"]);
    listening(Which::Varnish, address, data, &mut command)
}
