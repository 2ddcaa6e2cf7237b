//! `blobstore-sidecar dev`: the data plane with an engine of its own, and what its metrics say.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::{Http, START_WAIT_MAX, free_address, log_file, memory_folder, with_log};
use crate::case::Which;
use crate::child::{Owned, wait_until};
use crate::presign::{ACCESS_KEY, SECRET_KEY};
use crate::{Error, Result};

/// Everything that the cases read from the cache fits into it, with room for bookkeeping.
pub(crate) const CACHE_BYTES: u64 = 1 << 30;
/// The engine's memory: the cases' blobs, and those of `redis-benchmark` and webdis.
const MAXMEMORY_BYTES: u64 = 6 << 30;
/// The row of idle connections opens 10,000.
const CONNECTIONS_MAX: u64 = 11_000;
pub(crate) fn start(binary: &Path, engine: Option<&str>, which: Which) -> Result<Http> {
    let cache_bytes = if which == Which::Cached { CACHE_BYTES } else { 0 };
    start_as(binary, engine, which, cache_bytes)
}

/// Open to everybody, with a cache of this size.
pub(crate) fn with_cache(binary: &Path, engine: Option<&str>, cache_bytes: u64) -> Result<Http> {
    start_as(binary, engine, Which::Cached, cache_bytes)
}

fn start_as(binary: &Path, engine: Option<&str>, which: Which, cache_bytes: u64) -> Result<Http> {
    let data = memory_folder("sidecar")?;
    let admin = free_address()?;
    let mut command = Command::new(binary);
    command
        .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", &admin.to_string()])
        .args(["--maxmemory", &MAXMEMORY_BYTES.to_string()])
        .args(["--connections-max", &CONNECTIONS_MAX.to_string()])
        // It makes its own folder there, without a log on disk: that is what `--data-dir` would ask for.
        .env("TMPDIR", data.path())
        .stdout(Stdio::piped())
        .stderr(log_file(data.path())?);
    match which {
        Which::Signed => {
            // Not in the arguments, where every user of the machine could read them.
            command.env("BLOBSTORE_ACCESS_KEY", ACCESS_KEY).env("BLOBSTORE_SECRET_KEY", SECRET_KEY)
        }
        _ => command.args(["--anonymous", "--cache-bytes", &cache_bytes.to_string()]),
    };
    if let Some(engine) = engine {
        command.args(["--engine", engine]);
    }
    let mut process = Owned::spawn("blobstore-sidecar", &mut command)?;
    let address = ready_address(&mut process).map_err(|error| with_log(&error, data.path()))?;
    let engine_socket = find_socket(data.path(), "engine.sock")
        .ok_or_else(|| Error::Wrong(format!("no engine.sock below {}", data.path().display())))?;
    Ok(Http {
        which,
        process,
        address,
        engine_socket: Some(engine_socket),
        admin: Some(admin),
        _folder: data,
    })
}

/// A counter of the sidecar's own metrics.
pub(crate) fn counter(server: &Http, name: &str) -> Result<f64> {
    let text = metrics(server)?;
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    found.ok_or_else(|| Error::Wrong(format!("the metrics have no {name}")))
}

/// A metric of all its labels.
pub(crate) fn sum(server: &Http, name: &str) -> Result<f64> {
    let text = metrics(server)?;
    let mut found = text.lines().filter(|line| line.starts_with(name)).peekable();
    if found.peek().is_none() {
        return Err(Error::Wrong(format!("the metrics have no {name}")));
    }
    Ok(found.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

fn metrics(server: &Http) -> Result<String> {
    let admin = server.admin.ok_or_else(|| Error::Wrong("the sidecar has no admin port".to_owned()))?;
    let about = || Error::io("read the sidecar's metrics");
    let mut stream = TcpStream::connect(admin).map_err(about())?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(about())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(about())?;
    Ok(text)
}

/// The address of the line `ready http://ADDR`. The rest of the output is read and dropped, or the pipe would fill.
fn ready_address(process: &mut Owned) -> Result<SocketAddr> {
    let stdout =
        process.child().stdout.take().ok_or_else(|| Error::Wrong("no standard output".to_owned()))?;
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            let _ = send.send(line);
        }
    });
    let found = wait_until(START_WAIT_MAX, || {
        let ready = lines.try_iter().find_map(|line| line.strip_prefix("ready http://")?.trim().parse().ok());
        ready.map(Ok).or_else(|| process.ended().map(|how| Err(Error::Wrong(how))))
    });
    found.unwrap_or_else(|| Err(Error::Wrong("the sidecar did not say `ready` in time".to_owned())))
}

fn find_socket(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let is_socket = |path: &&PathBuf| {
        path.file_name().is_some_and(|file| file == name)
            && fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
    };
    let here = entries.iter().find(is_socket).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find_socket(path, name)))
}
