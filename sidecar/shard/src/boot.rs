//! The sidecar's end of the boot protocol: one launcher at a time tells of its engine and is told what to do.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use blobstore_sidecar_api::{
    boot::{LauncherSays, SidecarSays},
    config::Persistence,
};
use blobstore_sidecar_runtime::tasks;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
};

use crate::{ShardConfig, actor::Told};

/// Listens for launchers until the actor ends. `stop` turns true when the engine may end.
pub(crate) fn listen(
    config: Arc<ShardConfig>,
    told: mpsc::Sender<Told>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let path = config.boot_socket.clone();
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    share(&path)?;
    tasks::spawn("shard-boot", async move {
        while !told.is_closed() {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = told.closed() => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (config, told, stop) = (config.clone(), told.clone(), stop.clone());
            tasks::spawn("shard-launcher", async move {
                if let Err(error) = serve(stream, &config, &told, stop).await {
                    tracing::info!(%error, "the launcher's connection ended");
                }
            });
        }
    });
    Ok(())
}

/// The engine's image runs under its own user: both are in the pod's group.
fn share(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o770))
}

async fn serve(
    stream: UnixStream,
    config: &ShardConfig,
    told: &mpsc::Sender<Told>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut terminating = false;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = async { drop(stop.wait_for(|stop| *stop).await) }, if terminating => {
                say(&mut write, &SidecarSays::Stop).await?;
                terminating = false;
                continue;
            }
        };
        let Some(line) = line else { return Ok(()) };
        let Ok(said) = serde_json::from_str::<LauncherSays>(&line) else { continue };
        if let LauncherSays::Boot { has_data, .. } = &said {
            let keep_cluster_state = *has_data && config.config.persistence == Persistence::Aof;
            say(&mut write, &SidecarSays::Start { keep_cluster_state }).await?;
        }
        terminating |= said == LauncherSays::Terminating;
        if told.send(Told::Launcher(said)).await.is_err() {
            return Ok(());
        }
    }
}

async fn say(write: &mut tokio::net::unix::OwnedWriteHalf, says: &SidecarSays) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(says)?;
    line.push(b'\n');
    write.write_all(&line).await
}
