//! A bare engine for tests that run the shell in this process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::wait_for;

/// A redis-server on a unix socket, ended and waited for by its drop.
pub(crate) struct Engine {
    child: Child,
    folder: TempDir,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "engine.sock"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("an engine");
        let engine = Self { child, folder };
        wait_for("the engine listens", || std::os::unix::net::UnixStream::connect(engine.socket()).is_ok());
        engine
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(Path::new("engine.sock"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}
