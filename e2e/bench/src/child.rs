//! A child process that never outlives its owner: ended by pid, waited for, its memory and CPU read from /proc.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, Result};

/// A clean stop drains its connections first; ours are idle by then.
const STOP_WAIT_MAX: Duration = Duration::from_secs(15);
/// Short against every wait here, long against the cost of looking.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Ticks per second of `/proc/PID/stat`: fixed by the kernel's ABI on every Linux architecture that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) name: &'static str,
    child: Child,
}

impl Owned {
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().map_err(Error::io(format!("start {name}")))?;
        Ok(Self { name, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// None while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{} ended: {status}", self.name)),
            Err(error) => Some(format!("{} is lost: {error}", self.name)),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.ended().is_none() {
            // A pid always fits: the kernel's limit is 2^22.
            let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap_or(i32::MAX));
            let _ = kill(pid, Signal::SIGTERM);
            let stopped = wait_until(STOP_WAIT_MAX, || self.ended().map(|_| ()));
            if stopped.is_none() {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

/// Calls `look` until it gives something or the time is over.
pub(crate) fn wait_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// A process and all that descend from it.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat_field(pid, 3)?.parse().ok()?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// CPU seconds, user and system, that these processes have used.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let field = |index| stat_field(*pid, index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        field(13) + field(14)
    };
    pids.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// Field of `/proc/PID/stat`, counted from 0. The second field may hold spaces, so the count starts behind it.
fn stat_field(pid: u32, index: usize) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split_whitespace().nth(index.checked_sub(2)?).map(str::to_owned)
}

/// Resident memory now, and its peak since `reset_peak`.
pub(crate) fn resident_bytes(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let bytes = |name| field(name).unwrap_or(0) * 1024;
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// Makes the kernel forget the peak, so that each measure has its own.
pub(crate) fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}
