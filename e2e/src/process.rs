//! Processes of the cluster: started in their own session, recorded with their start time so that a
//! recycled pid is never mistaken for ours, ended by that record and waited for.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::Command;

use crate::{
    error::{Error, Result},
    paths::{self, Paths},
    wait::{self, Seen},
};

/// A component that has not ended by then is killed: etcd and the API server take under 2 s.
const END_LIMIT: Duration = Duration::from_secs(15);
/// A killed process goes at once unless the kernel holds it in I/O, or the machine is busy.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// A process by pid and start time (clock ticks since boot): the pair is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    pub pid: i32,
    pub started: u64,
}

impl Id {
    pub fn of(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z').then_some(Self { pid, started })
    }

    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| state != 'Z' && started == self.started)
    }

    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// State letter and start time. The name in parentheses may hold anything, so fields count from its end.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Starts a component in the background: output to its log, pid recorded under its name.
pub fn start(paths: &Paths, name: &str, program: &Path, arguments: &[String]) -> Result<Id> {
    start_with(paths, name, program, arguments, &[])
}

pub fn start_with(
    paths: &Paths,
    name: &str,
    program: &Path,
    arguments: &[String],
    environment: &[(&str, &Path)],
) -> Result<Id> {
    let log = paths.log(name);
    let output = File::options().create(true).append(true).open(&log).map_err(Error::io("open", &log))?;
    let errors = output.try_clone().map_err(Error::io("open", &log))?;
    // setsid: a terminal that closes, or Ctrl-C in a test, must not reach the cluster.
    let child = std::process::Command::new("setsid")
        .arg(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .env_remove("KUBECONFIG")
        .current_dir(&paths.state)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(Error::io("start", program))?;
    let pid = i32::try_from(child.id()).map_err(Error::other("read a process id"))?;
    let id = Id::of(pid).ok_or_else(|| ended_at_once(paths, name))?;
    paths::write(&paths.pid(name), format!("{} {}\n", id.pid, id.started))?;
    Ok(id)
}

fn ended_at_once(paths: &Paths, name: &str) -> Error {
    Error::Wrong(format!("{name} ended as soon as it started: {}", tail(&paths.log(name))))
}

/// The recorded process, if it still runs.
pub fn running(paths: &Paths, name: &str) -> Option<Id> {
    recorded(&paths.pid(name)).filter(|id| id.is_alive())
}

fn recorded(file: &Path) -> Option<Id> {
    let text = std::fs::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some(Id { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

/// Names of all recorded processes.
pub fn names(paths: &Paths) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(paths.state.join("pid")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Ends a recorded process and waits until it is gone; fine when it already is.
pub async fn end(paths: &Paths, name: &str, first: Signal) -> Result<()> {
    let file = paths.pid(name);
    if let Some(id) = recorded(&file) {
        end_id(id, name, first).await?;
    }
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &file)(error)),
        _ => Ok(()),
    }
}

pub async fn end_id(id: Id, name: &str, first: Signal) -> Result<()> {
    if !id.signal(first) {
        return Ok(());
    }
    if first != Signal::SIGKILL && gone(id, name, END_LIMIT).await.is_ok() {
        return Ok(());
    }
    id.signal(Signal::SIGKILL);
    gone(id, name, KILL_LIMIT).await
}

async fn gone(id: Id, name: &str, limit: Duration) -> Result<()> {
    wait::until(format!("{name} (pid {}) has ended", id.pid), limit, || async move {
        Ok(Seen::when(!id.is_alive(), (), || "it runs".to_owned()))
    })
    .await
}

/// Runs a command to its end and returns its output; both streams are shown when it fails.
pub async fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(arguments).env_remove("KUBECONFIG").stdin(Stdio::null()).kill_on_drop(true);
    output(command).await
}

pub async fn output(mut command: Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let program = PathBuf::from(command.as_std().get_program());
    let output = command.output().await.map_err(Error::io("run", program))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command {
        command: shown,
        status: output.status.to_string(),
        output: format!("{text}{errors}"),
    })
}

/// The last lines of a log, for a message about the process that wrote it.
pub fn tail(log: &Path) -> String {
    /// Enough for a Go panic's head or a flag error with its usage hint.
    const LINES: usize = 12;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}\n{}", log.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// The name of the program that a process runs (at most 15 characters, as the kernel keeps it).
pub fn program_of(id: Id) -> String {
    std::fs::read_to_string(format!("/proc/{}/comm", id.pid))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// Every process whose command line holds the text as one of its arguments.
pub fn with_argument(text: &str) -> Vec<Id> {
    all()
        .into_iter()
        .filter(|id| {
            std::fs::read(format!("/proc/{}/cmdline", id.pid))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|argument| argument == text.as_bytes()))
        })
        .collect()
}

fn all() -> Vec<Id> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Id::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_a_recycled_pid_is_not() {
        let own = Id::of(i32::try_from(std::process::id()).expect("a pid fits")).expect("we run");
        assert!(own.is_alive());
        assert!(!Id { pid: own.pid, started: own.started + 1 }.is_alive());
    }

    #[tokio::test]
    async fn ended_process_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let id = Id::of(i32::try_from(child.id()).expect("a pid fits")).expect("it runs");
        end_id(id, "sleep", Signal::SIGTERM).await.expect("it ends");
        assert!(!id.is_alive());
        child.wait().expect("it is reaped");
    }
}
