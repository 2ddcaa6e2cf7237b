//! The servers of the comparison, each with its data in memory, started and ended by the benchmark.

pub(crate) mod engine;
pub(crate) mod gateways;
pub(crate) mod nginx;
pub(crate) mod sidecar;
pub(crate) mod varnish;
pub(crate) mod webdis;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::case::Which;
use crate::child::{Owned, wait_until};
use crate::presign::presigned;
use crate::{Error, Result};

/// Each starts in well under a second; a loaded machine may need many.
const START_WAIT_MAX: Duration = Duration::from_secs(60);
pub(crate) const BUCKET: &str = "bench";
pub(crate) const MD5_BUCKET: &str = "bench-md5";

/// A server that speaks HTTP, with what it lives on.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) which: Which,
    pub(crate) process: Owned,
    pub(crate) address: SocketAddr,
    /// Of a sidecar: its engine's.
    pub(crate) engine_socket: Option<PathBuf>,
    /// Of a sidecar: where its metrics are.
    pub(crate) admin: Option<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Http {
    /// What to ask for: the path of a blob in the server's own form, signed where it wants signatures.
    pub(crate) fn target(&self, method: &str, path: &str) -> String {
        if self.which.signs() {
            presigned(method, self.address, path)
        } else if self.which == Which::Webdis {
            // The ending says that the answer is the value itself and no JSON.
            format!("/GET/{}.txt", webdis::key(path))
        } else {
            path.to_owned()
        }
    }
}

/// Path of the blob with this number of a case.
pub(crate) fn path(case: &str, blob: usize) -> String {
    path_in(BUCKET, case, blob)
}

pub(crate) fn path_in(bucket: &str, case: &str, blob: usize) -> String {
    let case: String =
        case.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("/{bucket}/{case}/{blob}")
}

/// This program as a server of whole bodies: see `whole.rs`.
pub(crate) fn whole_body(engine_socket: &Path) -> Result<Http> {
    let data = memory_folder("whole")?;
    let address = free_address()?;
    let program = std::env::current_exe().map_err(Error::io("find this program"))?;
    let mut command = Command::new(program);
    command.arg("--whole-body").arg(engine_socket).args(["--listen", &address.to_string()]);
    listening(Which::WholeBody, address, data, &mut command)
}

/// Starts it and waits until it listens.
fn listening(
    which: Which,
    address: SocketAddr,
    folder: tempfile::TempDir,
    command: &mut Command,
) -> Result<Http> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file(folder.path())?);
    let mut process = Owned::spawn(which.name(), command)?;
    let up = wait_until(START_WAIT_MAX, || {
        let connected = TcpStream::connect(address).ok().map(|_| Ok(()));
        connected.or_else(|| process.ended().map(|how| Err(Error::Wrong(how))))
    });
    let late = || Err(Error::Wrong(format!("{} did not listen in time", which.name())));
    up.unwrap_or_else(late).map_err(|error| with_log(&error, folder.path()))?;
    Ok(Http { which, process, address, engine_socket: None, admin: None, _folder: folder })
}

/// Debian keeps some servers in /usr/sbin, which is not on everybody's PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// A port that was free a moment ago: most servers cannot be asked to choose one.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(Error::io("find a free port"))
}

/// The machine's memory file system when there is one: no disk may enter the comparison.
fn memory_folder(name: &str) -> Result<tempfile::TempDir> {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_path_buf() } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix(&format!("blobstore-bench-{name}-"))
        .tempdir_in(base)
        .map_err(Error::io("create a folder in memory"))
}

fn log_file(folder: &Path) -> Result<Stdio> {
    fs::File::create(folder.join("stderr.log")).map(Stdio::from).map_err(Error::io("create a log file"))
}

fn with_log(error: &Error, folder: &Path) -> Error {
    let log = fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
    let mut last: Vec<&str> = log.lines().rev().take(20).collect();
    last.reverse();
    Error::Wrong(format!("{error}\n{}", last.join("\n")))
}
