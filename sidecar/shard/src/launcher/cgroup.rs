//! The container's memory limit and OOM kills, from cgroup v2 or v1.

use std::path::Path;

/// Where the container sees its cgroup.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Version 1 says "no limit" with a number close to 2^63.
const NO_LIMIT: u64 = 1 << 60;

fn read(root: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok()
}

/// Bytes, when there is a limit.
pub fn memory_limit(root: &Path) -> Option<u64> {
    let text = read(root, "memory.max").or_else(|| read(root, "memory/memory.limit_in_bytes"))?;
    text.trim().parse().ok().filter(|limit| *limit > 0 && *limit < NO_LIMIT)
}

/// Processes of the container that the kernel has killed for memory so far.
pub fn oom_kills(root: &Path) -> u64 {
    let text = read(root, "memory.events").or_else(|| read(root, "memory/memory.oom_control"));
    let line =
        |text: String| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    text.and_then(line).unwrap_or_default()
}
