//! Heap profiles on demand, by jemalloc's own sampler: what was allocated while it ran and is still there, by the stacks
//! that allocated it. A buffer that leaks shows as a stack that grows from one profile to the next. pprof reads the
//! format, the text one of gperftools, beside the binary out of the image.

use std::io::{Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use http::StatusCode;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tikv_jemalloc_ctl::{Access as _, AsName as _};

use crate::error::ApiError;

/// Long enough to see steady traffic.
const SECONDS: u64 = 30;
const SECONDS_MAX: u64 = 600;
/// One allocation in so many bytes is followed, as a power of two: 128 KiB.
const SAMPLE_LOG2: usize = 17;
const ACTIVE: &[u8] = b"prof.active\0";

/// One profile at a time: the sampler is the process's.
#[derive(Debug, Default)]
pub(crate) struct HeapProfiler(tokio::sync::Mutex<Option<Target>>);

/// Where jemalloc writes to: a file in memory, which a read-only root cannot refuse. Kept, with its path, for the life
/// of the process: jemalloc asks for a path that lives as long.
#[derive(Debug)]
struct Target {
    file: std::fs::File,
    path: &'static [u8],
}

/// The sampler runs until this is dropped, whoever leaves early.
struct Active;

impl HeapProfiler {
    /// What was allocated in the next `seconds` (30 if none are given, 600 at most) and not freed by their end.
    ///
    /// # Errors
    /// 501 where the process was started without a sampler, 409 while another profile is taken, 400 for a wrong number.
    pub(crate) async fn profile(&self, seconds: Option<&str>) -> Result<Vec<u8>, ApiError> {
        let seconds = match seconds.map(str::parse::<u64>) {
            None => SECONDS,
            Some(Ok(seconds)) if (1..=SECONDS_MAX).contains(&seconds) => seconds,
            Some(_) => {
                return Err(ApiError::bad_request("InvalidArgument", "seconds is a number from 1 to 600"));
            }
        };
        if !b"opt.prof\0".name().read().unwrap_or(false) {
            let message = "no sampler runs here: set spec.sidecar.heapProfiles to true, or start the process with \
                           _RJEM_MALLOC_CONF=prof:true,prof_active:false";
            return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
        }
        let Ok(mut target) = self.0.try_lock() else {
            let message =
                "a heap profile is being taken: ask again when it has ended, 600 seconds from now at most";
            return Err(ApiError::new(StatusCode::CONFLICT, "Conflict", message));
        };
        let target = match &mut *target {
            Some(target) => target,
            none => none.insert(Target::new().map_err(|error| failed("make a file in memory", &error))?),
        };
        let active = Active::start().map_err(|error| failed("start the sampler", &error))?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let profile = target.dump();
        drop(active);
        profile
    }
}

impl Active {
    /// From nothing: what earlier profiles followed is forgotten.
    fn start() -> Result<Self, tikv_jemalloc_ctl::Error> {
        b"prof.reset\0".name().write(SAMPLE_LOG2)?;
        ACTIVE.name().write(true)?;
        Ok(Self)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Err(error) = ACTIVE.name().write(false) {
            tracing::warn!(%error, "stop the heap sampler");
        }
    }
}

impl Target {
    fn new() -> Result<Self, nix::Error> {
        let file = std::fs::File::from(memfd_create(c"heap-profile", MFdFlags::MFD_CLOEXEC)?);
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        Ok(Self { file, path: path.into_bytes().leak() })
    }

    /// Some hundred kilobytes, written and read within milliseconds; nothing of it stays in memory.
    fn dump(&mut self) -> Result<Vec<u8>, ApiError> {
        b"prof.dump\0".name().write(self.path).map_err(|error| failed("write the heap profile", &error))?;
        let mut profile = Vec::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut profile));
        let emptied = read.and_then(|_| self.file.set_len(0));
        emptied.map_err(|error| failed("read the heap profile", &error))?;
        Ok(for_pprof(&String::from_utf8_lossy(&profile)).into_bytes())
    }
}

/// jemalloc tells a stack and then its counts, over all threads (`t*`) and of each; pprof wants one line with both.
/// Counts stay as sampled: both say `heap_v2`, by which pprof knows how to scale them.
fn for_pprof(profile: &str) -> String {
    let (stacks, mappings) = profile.split_once("\nMAPPED_LIBRARIES:\n").unwrap_or((profile, ""));
    let (mut head, mut samples) = (String::new(), String::new());
    let mut stack = None;
    for line in stacks.lines() {
        if let Some(frames) = line.strip_prefix("@ ") {
            stack = Some(frames);
        } else if let Some(counts) = line.trim_start().strip_prefix("t*: ") {
            match stack.take() {
                Some(frames) => samples.push_str(&format!("{counts} @ {frames}\n")),
                None => head = format!("heap profile: {counts} @ heap_v2/{}\n", 1_u64 << SAMPLE_LOG2),
            }
        }
    }
    format!("{head}{samples}\nMAPPED_LIBRARIES:\n{mappings}")
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_and_its_counts_are_one_line_for_pprof() {
        let told = "heap_v2/131072\n  t*: 3: 900 [0: 0]\n  t0: 3: 900 [0: 0]\n\
                    @ 0x1 0x2\n  t*: 2: 600 [0: 0]\n  t0: 2: 600 [0: 0]\n\
                    @ 0x3\n  t*: 1: 300 [0: 0]\n\nMAPPED_LIBRARIES:\n00400000-00452000 r-xp 0 08:02 17 /x\n";
        assert_eq!(
            for_pprof(told),
            "heap profile: 3: 900 [0: 0] @ heap_v2/131072\n2: 600 [0: 0] @ 0x1 0x2\n1: 300 [0: 0] @ 0x3\n\n\
             MAPPED_LIBRARIES:\n00400000-00452000 r-xp 0 08:02 17 /x\n"
        );
    }
}
