//! The three sides of the comparison: our sidecar with its engine, nginx over tmpfs, redis-benchmark on that engine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::child::{Owned, wait_until};
use crate::{Error, Result};

/// An engine and a sidecar start in well under a second; a loaded machine may need many.
const START_WAIT_MAX: Duration = Duration::from_secs(30);
/// Payload of one chunk: the size at which PUT and GET are compared with the engine itself.
pub(crate) const CHUNK_BYTES: u64 = 262_080;
/// Enough keys that no single one is special, few enough to stay in the CPU's reach for both sides alike.
pub(crate) const ENGINE_KEYS: usize = 64;
/// The engine's memory; the benchmark's own data takes a few hundred MB of it.
const MAXMEMORY_BYTES: u64 = 2 << 30;

/// Debian keeps some servers in /usr/sbin, which is not on everybody's PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// `blobstore-sidecar dev`: its own data plane, everything allowed.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Owned,
    pub(crate) address: SocketAddr,
    pub(crate) engine_socket: PathBuf,
    _data: tempfile::TempDir,
}

impl Sidecar {
    pub(crate) fn start(binary: &Path, engine: Option<&str>, cache_bytes: u64) -> Result<Self> {
        let data = tmpfs_folder("sidecar")?;
        let mut command = Command::new(binary);
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--anonymous"])
            .args(["--cache-bytes", &cache_bytes.to_string(), "--maxmemory", &MAXMEMORY_BYTES.to_string()])
            // It makes its own folder there, without a log on disk: that is what `--data-dir` would ask for.
            .env("TMPDIR", data.path())
            .stdout(Stdio::piped())
            .stderr(log_file(data.path())?);
        if let Some(engine) = engine {
            command.args(["--engine", engine]);
        }
        let mut process = Owned::spawn("blobstore-sidecar", &mut command)?;
        let address = ready_address(&mut process).map_err(|error| with_log(&error, data.path()))?;
        let engine_socket = find_socket(data.path(), "engine.sock")
            .ok_or_else(|| Error::Wrong(format!("no engine.sock below {}", data.path().display())))?;
        Ok(Self { process, address, engine_socket, _data: data })
    }
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

/// nginx over files in tmpfs, tuned as its documentation advises for static files.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) process: Owned,
    pub(crate) address: SocketAddr,
    root: PathBuf,
    _data: tempfile::TempDir,
}

impl Nginx {
    pub(crate) fn start() -> Result<Self> {
        let data = tmpfs_folder("nginx")?;
        let root = data.path().join("root");
        fs::create_dir(&root).map_err(Error::io("create nginx's root"))?;
        let address = free_address()?;
        let config = data.path().join("nginx.conf");
        fs::write(&config, nginx_config(data.path(), address)).map_err(Error::io("write nginx.conf"))?;
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(data.path()).arg("-c").arg(&config).stdout(Stdio::null());
        command.arg("-e").arg(data.path().join("error.log")).stderr(log_file(data.path())?);
        let mut process = Owned::spawn("nginx", &mut command)?;
        let up = wait_until(START_WAIT_MAX, || {
            let connected = std::net::TcpStream::connect(address).ok().map(|_| Ok(()));
            connected.or_else(|| process.ended().map(|how| Err(Error::Wrong(how))))
        });
        let up = up.unwrap_or_else(|| Err(Error::Wrong("nginx did not listen in time".to_owned())));
        up.map_err(|error| with_log(&error, data.path()))?;
        Ok(Self { process, address, root, _data: data })
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Result<()> {
        let file = self.root.join(path.trim_start_matches('/'));
        let about = |what| Error::io(format!("{what} {}", file.display()));
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(about("create the folder of"))?;
        }
        fs::write(&file, body).map_err(about("write"))
    }
}

fn nginx_config(folder: &Path, address: SocketAddr) -> String {
    // Workers of a root's nginx run as nobody, who may not read our folder; only root may say otherwise.
    let root = fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0);
    let user = if root { "user root;" } else { "" };
    let at = folder.display();
    format!(
        "{user} daemon off; worker_processes auto; pid {at}/nginx.pid; worker_rlimit_nofile 65536;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off; error_log {at}/error.log warn; default_type application/octet-stream;
  sendfile on; sendfile_max_chunk 2m; tcp_nopush on; tcp_nodelay on; server_tokens off; etag on;
  keepalive_timeout 300s; keepalive_requests 100000000; reset_timedout_connection on;
  open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s; open_file_cache_min_uses 1;
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
  server {{ listen {address} backlog=4096; root {at}/root; }}
}}
"
    )
}

/// A port that was free a moment ago: nginx cannot be asked to choose one.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(Error::io("find a free port"))
}

/// One line of `redis-benchmark --csv`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Direct {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// `redis-benchmark` with values of one chunk, on the sidecar's own engine.
pub(crate) fn redis_benchmark(socket: &Path, test: &str, clients: usize, requests: u64) -> Result<Direct> {
    let mut command = Command::new(program("redis-benchmark"));
    command.arg("-s").arg(socket).args(["-t", test, "--csv", "-P", "1"]);
    command.args(["-d", &CHUNK_BYTES.to_string(), "-r", &ENGINE_KEYS.to_string()]);
    command.args(["-c", &clients.to_string(), "-n", &requests.to_string()]);
    let output = command.stdin(Stdio::null()).output().map_err(Error::io("run redis-benchmark"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_csv(&text, test).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        Error::Wrong(format!("redis-benchmark -t {test} said: {text}{errors}"))
    })
}

fn parse_csv(text: &str, test: &str) -> Option<Direct> {
    let wanted = format!("\"{}\"", test.to_uppercase());
    let row = text.lines().find(|line| line.starts_with(&wanted))?;
    let number = |index: usize| row.split(',').nth(index)?.trim_matches('"').parse::<f64>().ok();
    let micros = |index| number(index).map(|ms| (ms * 1000.0) as u64);
    Some(Direct { requests_per_second: number(1)?, p50_us: micros(4)?, p99_us: micros(6)? })
}

/// Removes the keys that redis-benchmark wrote: they are not the store's.
pub(crate) fn remove_foreign_keys(socket: &Path) -> Result<()> {
    let mut engine =
        std::os::unix::net::UnixStream::connect(socket).map_err(Error::io("connect to the engine"))?;
    for index in 0..ENGINE_KEYS {
        let about = || Error::io("remove the benchmark's keys");
        engine.write_all(format!("UNLINK key:{index:012}\r\n").as_bytes()).map_err(about())?;
        let mut answer = String::new();
        BufReader::new(&engine).read_line(&mut answer).map_err(about())?;
    }
    Ok(())
}

/// The machine's memory file system when there is one: no disk may enter the comparison.
fn tmpfs_folder(name: &str) -> Result<tempfile::TempDir> {
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
    Error::Wrong(format!("{error}\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_of_the_test_is_found_in_the_csv() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\"SET\",\"19880.72\",\"0.389\",\"0.080\",\"0.391\",\"0.503\",\"0.615\",\"1.335\"\n";
        let direct = parse_csv(csv, "set").expect("a row for SET");
        assert_eq!((direct.p50_us, direct.p99_us), (391, 615));
        assert!((direct.requests_per_second - 19_880.72).abs() < 0.001);
        assert!(parse_csv(csv, "get").is_none(), "no row for GET");
    }
}
