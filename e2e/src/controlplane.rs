//! etcd, API server, controller manager, scheduler and kube-proxy: their flags, in one place each, and
//! the API server's switch for tests in which it is away.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    client,
    error::Result,
    net,
    paths::Paths,
    process,
    wait::{self, Seen},
};

const ETCD: &str = "etcd";
const API_SERVER: &str = "kube-apiserver";
/// 3 s on an idle machine of 2 cores; the rest is room for neighbours that compile.
const READY_LIMIT: Duration = Duration::from_secs(120);

fn flags(flags: &[(&str, String)]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

pub fn start_etcd(paths: &Paths) -> Result<()> {
    let address = |port: u16| format!("http://{}:{port}", net::host());
    let flags = flags(&[
        ("data-dir", paths.state.join("etcd").display().to_string()),
        ("listen-client-urls", address(2379)),
        ("advertise-client-urls", address(2379)),
        ("listen-peer-urls", address(2380)),
        ("initial-advertise-peer-urls", address(2380)),
        ("initial-cluster", format!("default={}", address(2380))),
        // The data dies with the cluster: losing it in a power cut costs nothing, syncing costs seconds.
        ("unsafe-no-fsync", "true".to_owned()),
    ]);
    process::start(paths, ETCD, "etcd".as_ref(), &flags)?;
    Ok(())
}

/// Also brings a stopped API server back.
pub async fn start_api_server(paths: &Paths) -> Result<()> {
    let file = |name: &str| paths.pki(name).display().to_string();
    let flags = flags(&[
        ("etcd-servers", format!("http://{}:2379", net::host())),
        ("advertise-address", net::host()),
        ("bind-address", net::host()),
        ("secure-port", "6443".to_owned()),
        ("service-cluster-ip-range", net::SERVICES.to_owned()),
        ("client-ca-file", file("ca.crt")),
        ("tls-cert-file", file("apiserver.crt")),
        ("tls-private-key-file", file("apiserver.key")),
        ("service-account-key-file", file("sa.pub")),
        ("service-account-signing-key-file", file("sa.key")),
        ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
        ("kubelet-certificate-authority", file("ca.crt")),
        ("kubelet-client-certificate", file("admin.crt")),
        ("kubelet-client-key", file("admin.key")),
        // Exec and logs would look node names up in a DNS that does not know them.
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("endpoint-reconciler-type", "lease".to_owned()),
    ]);
    process::start(paths, API_SERVER, &paths.component(API_SERVER)?, &flags)?;
    wait_api_server(paths).await
}

/// Ready and able to make Services: the hooks that create roles and namespaces have run.
pub async fn wait_api_server(paths: &Paths) -> Result<()> {
    let client = client::from_kubeconfig(&paths.kubeconfig()).await?;
    wait::until("the API server is ready", READY_LIMIT, || {
        let client = client.clone();
        async move {
            let answer = client::get_raw(&client, "/readyz").await?;
            Ok(Seen::when(answer == "ok", (), || answer.clone()))
        }
    })
    .await
}

/// Takes the API server away, at once and without a word to its clients, as a crash would.
pub async fn stop_api_server(paths: &Paths) -> Result<()> {
    process::end(paths, API_SERVER, Signal::SIGKILL).await
}

pub fn start_controllers(paths: &Paths) -> Result<()> {
    let file = |name: &str| paths.pki(name).display().to_string();
    let manager = flags(&[
        ("kubeconfig", file("kube-controller-manager.kubeconfig")),
        ("bind-address", net::host()),
        ("service-account-private-key-file", file("sa.key")),
        ("root-ca-file", file("ca.crt")),
        ("use-service-account-credentials", "true".to_owned()),
        ("leader-elect", "false".to_owned()),
        ("cluster-signing-cert-file", file("ca.crt")),
        ("cluster-signing-key-file", file("ca.key")),
    ]);
    let scheduler = flags(&[
        ("kubeconfig", file("kube-scheduler.kubeconfig")),
        ("bind-address", net::host()),
        ("leader-elect", "false".to_owned()),
    ]);
    let proxy = flags(&[
        ("kubeconfig", file("kube-proxy.kubeconfig")),
        ("proxy-mode", "iptables".to_owned()),
        ("cluster-cidr", net::PODS.to_owned()),
        ("hostname-override", "node-1".to_owned()),
        ("metrics-bind-address", format!("{}:10249", net::host())),
        ("healthz-bind-address", format!("{}:10256", net::host())),
        // The kernel's limits are the machine's business.
        ("conntrack-max-per-core", "0".to_owned()),
        ("conntrack-tcp-timeout-established", "0".to_owned()),
        ("conntrack-tcp-timeout-close-wait", "0".to_owned()),
    ]);
    let components =
        [("kube-controller-manager", manager), ("kube-scheduler", scheduler), ("kube-proxy", proxy)];
    for (name, flags) in components {
        process::start(paths, name, &paths.component(name)?, &flags)?;
    }
    Ok(())
}

/// Killed, not asked: their data goes with them, and the API server takes 10 s to say goodbye.
pub async fn stop(paths: &Paths) -> Result<()> {
    for name in ["kube-proxy", "kube-scheduler", "kube-controller-manager", API_SERVER, ETCD] {
        process::end(paths, name, Signal::SIGKILL).await?;
    }
    Ok(())
}

/// The processes without which nothing works.
pub const EXPECTED: &[&str] = &[ETCD, API_SERVER, "kube-controller-manager", "kube-scheduler", "kube-proxy"];
