//! The sidecar's binary as a child: started on free ports, waited for by its ready line, ended by SIGTERM.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::{Answer, Client};

pub(crate) const TOKEN: &str = "test-secret";
pub(crate) const ADMIN_TOKEN: &str = "test-admin";
/// A loaded machine is slow; a broken sidecar is slower.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `condition`, looking every few milliseconds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until the tasks alive are those of `baseline`; names what is left over when they never are.
pub(crate) fn wait_for_tasks(dev: &Dev, baseline: &[(String, i64)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = dev.tasks();
        if now == baseline {
            return;
        }
        assert!(Instant::now() < deadline, "tasks left over: {now:?}, at the baseline {baseline:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn binary() -> std::path::PathBuf {
    std::env::var_os("BLOBSTORE_SIDECAR_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_blobstore-sidecar").into(), std::path::PathBuf::from)
}

/// The TCP ports on which a process listens.
fn listening(pid: u32) -> Vec<u16> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let sockets: Vec<String> = files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the process lives");
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens =
            fields.get(3) == Some(&"0A") && sockets.iter().any(|inode| fields.get(9) == Some(&&**inode));
        let (_, port) = fields.get(1).filter(|_| listens)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    table.lines().filter_map(port).collect()
}

/// A running `dev`.
pub(crate) struct Dev {
    child: Child,
    pub(crate) client: Client,
    pub(crate) admin: Client,
}

impl Dev {
    /// With one user whose token is [`TOKEN`], and `more` arguments.
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_as(&[&["--access-key", "test", "--secret-key", TOKEN], more].concat())
    }

    /// Without a user.
    pub(crate) fn start_as(more: &[&str]) -> Self {
        Self::with_engine("redis-server", more)
    }

    pub(crate) fn with_engine(engine: &str, more: &[&str]) -> Self {
        Self::spawn(Command::new(binary()), engine, more)
    }

    /// `command` may have an environment.
    pub(crate) fn spawn(mut command: Command, engine: &str, more: &[&str]) -> Self {
        let mut child = command
            .args(["dev", "--engine", engine, "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--admin-token", ADMIN_TOKEN])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let out = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        let read = BufReader::new(out).read_line(&mut line);
        let address = line.trim().strip_prefix("ready ").and_then(|url| url.split_once("://"));
        let address = address.and_then(|(_, address)| address.parse::<SocketAddr>().ok());
        let Some(address) = address else {
            let _ = (child.kill(), child.wait());
            panic!("no ready line but {line:?} ({read:?})");
        };
        let (client, admin) = (Client::new(address, TOKEN), Client::new(address, ADMIN_TOKEN));
        let mut dev = Self { child, client, admin };
        // The ready line tells of one of two. The kernel's table may miss a line while it changes.
        wait_for("the admin port", || {
            let mut others = listening(dev.pid());
            others.retain(|port| *port != address.port());
            if let [admin] = others[..] {
                dev.admin.address.set_port(admin);
            }
            others.len() == 1
        });
        dev
    }

    /// With a bucket.
    pub(crate) fn with_bucket(bucket: &str, more: &[&str]) -> Self {
        let dev = Self::start(more);
        let made = dev.client.put(&format!("/{bucket}"), b"");
        assert_eq!(made.status, 200, "create the bucket: {}", made.text());
        dev
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The engine: the only child of ours.
    pub(crate) fn engine_pid(&self) -> Option<i32> {
        let pid = self.pid();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        tasks.flatten().find_map(|task| {
            let children = std::fs::read_to_string(task.path().join("children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        })
    }

    /// Sum of a metric's samples whose line begins with `prefix`.
    pub(crate) fn metric(&self, prefix: &str) -> f64 {
        metric_in(&self.admin.get("/metrics").text(), prefix)
    }

    /// Tasks alive, by name.
    pub(crate) fn tasks(&self) -> Vec<(String, i64)> {
        let text = self.admin.get("/metrics").text();
        let mut alive = std::collections::BTreeMap::<String, i64>::new();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let count = value.parse::<f64>().unwrap_or_default() as i64;
            if let Some(task) = name.strip_prefix("blobstore_sidecar_tasks_started_total") {
                *alive.entry(task.to_owned()).or_default() += count;
            } else if let Some(task) = name.strip_prefix("blobstore_sidecar_tasks_ended_total") {
                *alive.entry(task.to_owned()).or_default() -= count;
            }
        }
        alive.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    /// Tasks once every connection has ended but the one that asks.
    pub(crate) fn settled_tasks(&self) -> Vec<(String, i64)> {
        let mut tasks = Vec::new();
        wait_for("all other connections have ended", || {
            tasks = self.tasks();
            tasks.iter().any(|(task, count)| task.contains("\"connection\"") && *count == 1)
        });
        tasks
    }

    /// Peak resident bytes since the last reset.
    pub(crate) fn peak_rss(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:") << 10
    }

    pub(crate) fn rss(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:") << 10
    }

    /// From here on [`Dev::peak_rss`] counts anew.
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("reset the peak");
    }

    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.pid()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("signal the sidecar");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_for("the sidecar ends", || {
            ended = self.child.try_wait().expect("wait for the sidecar");
            ended.is_some()
        });
        ended.expect("it ended")
    }

    /// SIGTERM, and the end it should come to.
    pub(crate) fn stop(mut self) {
        let engine = self.engine_pid();
        self.terminate();
        assert!(self.wait().success(), "the sidecar ends well");
        if let Some(engine) = engine {
            assert!(!std::path::Path::new(&format!("/proc/{engine}")).exists(), "the engine is gone too");
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // The engine ends with its parent.
            let _ = (self.child.kill(), self.child.wait());
        }
    }
}

pub(crate) fn metric_in(text: &str, prefix: &str) -> f64 {
    let samples = text.lines().filter(|line| line.starts_with(prefix));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Bytes that differ everywhere, cheap to make again.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 11).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn assert_status(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {:?} {}", answer.headers, answer.text());
}
