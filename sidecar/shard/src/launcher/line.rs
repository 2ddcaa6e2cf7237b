//! The launcher's end of the boot protocol: reconnects for ever, and repeats what the sidecar must know.

use std::{path::PathBuf, time::Duration};

use blobstore_sidecar_api::boot::{LauncherSays, SidecarSays};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

/// A sidecar starts within a second; trying ten times as often costs nothing.
const RECONNECT_EVERY: Duration = Duration::from_millis(100);
/// The last line must not hold up the exit when the sidecar hangs.
const LAST_LINE_WITHIN: Duration = Duration::from_millis(500);

struct Connected {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

pub(crate) struct SidecarLine {
    path: PathBuf,
    /// Said at the start of every connection, in order.
    said: Vec<LauncherSays>,
    connected: Option<Connected>,
}

impl SidecarLine {
    pub(crate) fn new(path: PathBuf, boot: LauncherSays) -> Self {
        Self { path, said: vec![boot], connected: None }
    }

    /// The sidecar's next word. Waits for a sidecar if there is none. Cancel-safe: a line is taken whole or not.
    pub(crate) async fn hear(&mut self) -> SidecarSays {
        loop {
            let Some(connected) = &mut self.connected else {
                self.connect().await;
                continue;
            };
            match connected.lines.next_line().await {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(says) => return says,
                    Err(error) => tracing::warn!(%error, "the sidecar said something unknown"),
                },
                Ok(None) | Err(_) => self.connected = None,
            }
        }
    }

    async fn connect(&mut self) {
        let Ok(stream) = UnixStream::connect(&self.path).await else {
            sleep(RECONNECT_EVERY).await;
            return;
        };
        let (read, mut write) = stream.into_split();
        for says in &self.said {
            if write_line(&mut write, says).await.is_err() {
                sleep(RECONNECT_EVERY).await;
                return;
            }
        }
        self.connected = Some(Connected { lines: BufReader::new(read).lines(), write });
    }

    pub(crate) async fn started(&mut self, pid: u32) {
        self.say(LauncherSays::Started { pid }).await;
    }

    pub(crate) async fn terminating(&mut self) {
        if !self.said.contains(&LauncherSays::Terminating) {
            self.say(LauncherSays::Terminating).await;
        }
    }

    pub(crate) async fn exited(&mut self, exited: LauncherSays) {
        drop(timeout(LAST_LINE_WITHIN, self.say(exited)).await);
    }

    async fn say(&mut self, says: LauncherSays) {
        if let Some(connected) = &mut self.connected
            && write_line(&mut connected.write, &says).await.is_err()
        {
            self.connected = None;
        }
        self.said.push(says);
    }
}

async fn write_line(write: &mut OwnedWriteHalf, says: &LauncherSays) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(says)?;
    line.push(b'\n');
    write.write_all(&line).await
}
