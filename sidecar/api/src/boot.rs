//! The launcher's protocol with its sidecar: one JSON document per line over [`crate::ports::BOOT_SOCKET`].
//! The launcher speaks first; it never starts an engine without the sidecar's word.

use serde::{Deserialize, Serialize};

/// Launcher to sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum LauncherSays {
    /// First line of every connection. `has_data`: the data folder holds what an earlier engine saved.
    Boot { has_data: bool, engine_version: Option<String> },
    /// The engine process runs (it may still be loading).
    Started { pid: u32 },
    /// SIGTERM arrived; the launcher holds it until `Stop`, or 5 s before the grace period ends.
    Terminating,
    /// The engine ended; the launcher exits after this line.
    Exited { code: Option<i32>, signal: Option<i32>, oom_killed: bool, last_lines: Vec<String> },
}

/// Sidecar to launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum SidecarSays {
    /// Do not start yet; the reason is logged. Followed by another line when it changes.
    Wait { reason: String },
    /// Start the engine, isolated (replication user off). `keep_cluster_state: false` removes `nodes.conf` first.
    Start { keep_cluster_state: bool },
    /// A replica has taken over, or none is needed: end the engine now.
    Stop,
}
