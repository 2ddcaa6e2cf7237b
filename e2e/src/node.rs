//! A node: its cgroup, its containerd and its kubelet. Starts it, loses it as in a power cut, brings it
//! back, removes it.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    cgroup, containerd,
    error::{Error, Result},
    net,
    paths::{self, Paths},
    process,
};

/// Three, in three zones: the smallest cluster on which spreading, losing a node and surging mean something.
pub const NODES: u8 = 3;

pub fn name(node: u8) -> String {
    format!("node-{node}")
}

pub fn zone(node: u8) -> String {
    format!("zone-{node}")
}

/// The number in `node-2`.
pub fn number(name: &str) -> Result<u8> {
    name.strip_prefix("node-")
        .and_then(|number| number.parse().ok())
        .filter(|number| (1..=NODES).contains(number))
        .ok_or_else(|| Error::Wrong(format!("{name} is not a node of the one-machine cluster")))
}

fn kubelet(node: u8) -> String {
    format!("kubelet-{node}")
}

/// The runtime first: images can be loaded while the control plane still starts.
pub async fn start_runtime(paths: &Paths, node: u8) -> Result<()> {
    cgroup::make(node)?;
    containerd::start(paths, node).await
}

pub fn start_kubelet(paths: &Paths, node: u8) -> Result<()> {
    let folder = containerd::folder(paths, node);
    let config = folder.join("kubelet.json");
    paths::write(&config, configuration(paths, node).to_string())?;
    // No pod resolves outside names: there is no outside.
    paths::write(&paths.state.join("resolv.conf"), "")?;
    let file = |name: String| paths.pki(&name).display().to_string();
    let arguments = [
        format!("--config={}", config.display()),
        format!("--kubeconfig={}", file(format!("{}.kubeconfig", name(node)))),
        format!("--hostname-override={}", name(node)),
        format!("--node-ip={}", net::node_address(node)),
        format!("--root-dir={}", folder.join("kubelet").display()),
        format!("--cert-dir={}", folder.join("certificates").display()),
        format!(
            "--node-labels=topology.kubernetes.io/zone={},topology.kubernetes.io/region=local",
            zone(node)
        ),
    ];
    process::start(paths, &kubelet(node), &paths.component("kubelet")?, &arguments)?;
    Ok(())
}

fn configuration(paths: &Paths, node: u8) -> serde_json::Value {
    let folder = containerd::folder(paths, node);
    let address = net::node_address(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "healthzBindAddress": address,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": paths.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": paths.pki(&format!("{}.crt", name(node))),
        "tlsPrivateKeyFile": paths.pki(&format!("{}.key", name(node))),
        "containerRuntimeEndpoint": format!("unix://{}", containerd::socket(paths, node).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cgroup::name(node)),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "clusterDNS": [net::DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": paths.state.join("resolv.conf"),
        // Three kubelets that shared a folder of logs would clean up each other's.
        "podLogsDir": folder.join("logs"),
        // All nodes see the whole machine's disk and memory: only a real shortage may evict.
        "evictionHard": { "memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 200,
        "serializeImagePulls": false,
        "syncFrequency": "5s",
        "shutdownGracePeriod": "0s",
    })
}

/// The node loses its power: kubelet, runtime and every process of its pods are gone at once.
pub async fn lose(paths: &Paths, node: u8) -> Result<()> {
    process::end(paths, &kubelet(node), Signal::SIGKILL).await?;
    // The pods before the shims: a shim that sees its child end would still report it.
    cgroup::kill_all(node).await?;
    containerd::kill(paths, node).await?;
    cgroup::kill_all(node).await
}

/// The node boots again: what its disks hold is there, what was in memory is not.
pub async fn bring_back(paths: &Paths, node: u8) -> Result<()> {
    start_runtime(paths, node).await?;
    start_kubelet(paths, node)
}

/// Ends a node for good: nothing of it stays mounted, running or in the kernel.
pub async fn remove(paths: &Paths, node: u8) -> Result<()> {
    lose(paths, node).await?;
    containerd::unmount_below(&containerd::folder(paths, node)).await?;
    cgroup::remove(node)?;
    let records = net::address_records(node);
    match std::fs::remove_dir_all(&records) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove the address records in", &records)(error))
        }
        _ => Ok(()),
    }
}

/// The processes that a healthy node runs.
pub fn expected(node: u8) -> [String; 2] {
    [containerd::name(node), kubelet(node)]
}
