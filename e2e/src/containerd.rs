//! One containerd per node: its configuration, image import, and the end of what runs under it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    error::Result,
    net,
    paths::{self, Paths},
    process,
    wait::{self, Seen},
};

/// It answers in 200 ms; the rest is for a machine that compiles at the same time.
const READY_LIMIT: Duration = Duration::from_secs(60);

pub fn folder(paths: &Paths, node: u8) -> PathBuf {
    paths.state.join(format!("node-{node}"))
}

pub fn socket(paths: &Paths, node: u8) -> PathBuf {
    folder(paths, node).join("containerd.sock")
}

pub fn name(node: u8) -> String {
    format!("containerd-{node}")
}

pub async fn start(paths: &Paths, node: u8) -> Result<()> {
    let folder = folder(paths, node);
    let config = folder.join("containerd.toml");
    paths::write(&folder.join("cni/10-pods.conflist"), net::cni_config(node))?;
    paths::write(&config, configuration(&folder, node))?;
    let arguments = ["-c".to_owned(), config.display().to_string()];
    process::start(paths, &name(node), "containerd".as_ref(), &arguments)?;
    wait::until(format!("containerd of node {node} answers"), READY_LIMIT, || async move {
        ctr(paths, node, &["version"]).await.map(Seen::Yes)
    })
    .await?;
    Ok(())
}

fn configuration(folder: &Path, node: u8) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "{folder}/containerd-state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Without a registry the sandbox image is ours as well.
  sandbox_image = "localhost/pause:e2e"
  # A container may not lower oom_score_adj below its parent's where the machine is itself a container.
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "{address}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
        address = net::node_address(node),
    )
}

/// The node's containerd, through its own client and never through the machine's default socket.
pub async fn ctr(paths: &Paths, node: u8, arguments: &[&str]) -> Result<String> {
    let socket = socket(paths, node).display().to_string();
    let mut all = vec!["--address", socket.as_str(), "--namespace", "k8s.io"];
    all.extend(arguments);
    process::run("ctr", &all).await
}

pub async fn import(paths: &Paths, node: u8, archive: &Path) -> Result<()> {
    let archive = archive.display().to_string();
    ctr(paths, node, &["images", "import", &archive]).await?;
    Ok(())
}

/// Ends everything under a node's containerd: the containers' processes, then the shims, then itself.
/// Killed without warning, as when a machine loses its power; what is on disk stays.
pub async fn kill(paths: &Paths, node: u8) -> Result<()> {
    process::end(paths, &name(node), Signal::SIGKILL).await?;
    // A shim names its containerd's socket as an argument, and so do runc's helpers.
    let socket = socket(paths, node).display().to_string();
    for shim in process::with_argument(&socket) {
        process::end_id(shim, "shim", Signal::SIGKILL).await?;
    }
    Ok(())
}

/// Mounts below a folder, innermost first.
pub fn mounts(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = paths::read(Path::new("/proc/self/mounts"))?;
    let mut mounts: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|path| PathBuf::from(path.replace("\\040", " ")))
        .filter(|path| path.starts_with(folder))
        .collect();
    mounts.sort();
    mounts.reverse();
    Ok(mounts)
}

pub async fn unmount_below(folder: &Path) -> Result<()> {
    for mount in mounts(folder)? {
        process::run("umount", &["--lazy", &mount.display().to_string()]).await?;
    }
    Ok(())
}
