//! What the figures were measured on, in one sentence's worth of facts.

use std::fs;
use std::process::Command;

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// Engine and peers with their versions.
    pub(crate) programs: Vec<String>,
    /// Load average of the last minute before the run: another's work shows here.
    pub(crate) load_before: String,
}

pub(crate) fn describe() -> Machine {
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory_kib: u64 = after(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    Machine {
        cpu: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".to_owned()),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_gib: memory_kib >> 20,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        programs: [("redis-server", "--version"), ("nginx", "-v"), ("varnishd", "-V")]
            .map(|(program, flag)| version(program, flag))
            .to_vec(),
        load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// The first line that the program says about itself, on either stream.
fn version(program: &str, flag: &str) -> String {
    let Ok(output) = Command::new(crate::servers::program(program)).arg(flag).output() else {
        return format!("{program} is not there");
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // The first words: a version line carries build hashes that nobody reads.
    text.lines().next().unwrap_or_default().split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
