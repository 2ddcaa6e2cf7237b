//! Heap profiles on demand, by jemalloc's own sampler: what was allocated while it ran and is still there, by the stacks
//! that allocated it. A buffer that leaks shows as a stack that grows from one profile to the next. `jeprof` and
//! `go tool pprof` read the format (jemalloc's `heap_v2`) beside the binary out of the image.

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
        Ok(profile)
    }
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("{what}: {error}"))
}
