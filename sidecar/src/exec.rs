//! `exec`: becomes another program that is killed when its parent dies, so that a killed `dev` leaves no engine
//! behind. The kernel keeps the request over `exec`; no unsafe is needed, since the process asks for itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("ask for a signal at the parent's death")]
    DeathSignal(#[source] nix::Error),
    #[error("the parent has already ended")]
    Orphan,
    #[error("no command to become")]
    Nothing,
    #[error("start {program}")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
}

/// Returns only when it failed.
pub fn exec(parent: i32, command: Vec<OsString>) -> ExecError {
    if let Err(error) = set_pdeathsig(Signal::SIGTERM) {
        return ExecError::DeathSignal(error);
    }
    // It may have died before the request.
    if getppid().as_raw() != parent {
        return ExecError::Orphan;
    }
    let mut words = command.into_iter();
    let Some(program) = words.next() else { return ExecError::Nothing };
    let source = std::process::Command::new(&program).args(words).exec();
    ExecError::Start { program: program.to_string_lossy().into_owned(), source }
}
