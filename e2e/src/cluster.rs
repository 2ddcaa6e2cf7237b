//! The cluster as a whole: up, down, and attaching to one. A context of the user's is used only when it is
//! named; otherwise it is always the one-machine cluster, through its own kubeconfig.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ::kube::Client;
use tempfile::TempDir;

use crate::{
    addons, agent, client, containerd, controlplane,
    error::{Error, Result},
    images, kind, net, node,
    node::NODES,
    paths::{self, Paths},
    pki, process, progress, prometheus,
    wait::{self, Seen},
};

/// A whole `up` after a whole `down`, on a machine that compiles at the same time.
const LOCK_LIMIT: Duration = Duration::from_secs(300);

/// The environment variable that names a context of the user's own kubeconfig.
pub const CONTEXT: &str = "KUBE_CONTEXT";

#[derive(Debug)]
pub enum Kind {
    /// Ours, on this machine: nodes can be stopped, pod addresses are reachable.
    Machine,
    /// Somebody's cluster, named explicitly.
    Context(String),
}

#[derive(Debug)]
pub struct Cluster {
    pub kind: Kind,
    pub paths: Paths,
    /// Of this cluster alone; for helm and kubectl.
    pub kubeconfig: PathBuf,
    /// Holds the copy of a named context for as long as it is used.
    _copy: Option<TempDir>,
}

impl Cluster {
    /// As a person would call it for this cluster.
    pub fn kubectl(&self) -> String {
        match &self.kind {
            Kind::Context(name) if self._copy.is_some() => format!("kubectl --context {name}"),
            _ => format!("kubectl --kubeconfig {}", self.kubeconfig.display()),
        }
    }

    /// A client of its own: connections belong to the runtime that made them.
    pub async fn client(&self) -> Result<Client> {
        client::from_kubeconfig(&self.kubeconfig).await
    }

    pub fn machine(&self) -> Result<&Paths> {
        match self.kind {
            Kind::Machine => Ok(&self.paths),
            Kind::Context(ref name) => Err(Error::Wrong(format!(
                "this needs the one-machine cluster, and {CONTEXT} names the context {name}"
            ))),
        }
    }
}

/// The named context, else the running one-machine cluster; never anything else.
pub async fn attach() -> Result<Cluster> {
    let paths = Paths::from_env()?;
    if let Some(name) = std::env::var(CONTEXT).ok().filter(|name| !name.is_empty()) {
        return named(paths, name).await;
    }
    let kubeconfig = paths.kubeconfig();
    let refused = || {
        Error::Wrong(format!(
            "no cluster: run `make cluster-up` first, or name a context of yours in {CONTEXT}"
        ))
    };
    if !kubeconfig.exists() || process::running(&paths, "kube-apiserver").is_none() {
        return Err(refused());
    }
    Ok(Cluster { kind: Kind::Machine, kubeconfig, paths, _copy: None })
}

/// The context alone, copied: whatever else the user's kubeconfig holds cannot be touched by mistake.
async fn named(paths: Paths, name: String) -> Result<Cluster> {
    let folder = tempfile::tempdir().map_err(Error::io("make a folder for the context", &name))?;
    let mut command = tokio::process::Command::new(paths.component("kubectl")?);
    command.args(["config", "view", "--minify", "--flatten", "--context", &name, "--output=yaml"]);
    let kubeconfig = folder.path().join("kubeconfig");
    paths::write(&kubeconfig, process::output(command).await?)?;
    Ok(Cluster { kind: Kind::Context(name), kubeconfig, paths, _copy: Some(folder) })
}

/// The cluster that kind made for us.
pub fn of_kind(paths: Paths, kubeconfig: PathBuf) -> Cluster {
    Cluster { kind: Kind::Context(kind::context()), kubeconfig, paths, _copy: None }
}

/// One `up` or `down` at a time: two of them would start everything twice.
pub async fn locked(paths: &Paths) -> Result<std::fs::File> {
    paths::make_folder(&paths.cache)?;
    let path = paths.cache.join(".cluster-lock");
    let file = std::fs::File::create(&path).map_err(Error::io("open", &path))?;
    wait::until("no other up or down runs", LOCK_LIMIT, || async {
        match file.try_lock() {
            Ok(()) => Ok(Seen::Yes(())),
            Err(std::fs::TryLockError::WouldBlock) => Ok(Seen::NotYet("another one runs".to_owned())),
            Err(std::fs::TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    })
    .await?;
    Ok(file)
}

/// Brings the one-machine cluster up, or finds it healthy and leaves it as it is.
pub async fn up(paths: &Paths) -> Result<Cluster> {
    let cluster =
        || Cluster { kind: Kind::Machine, kubeconfig: paths.kubeconfig(), paths: paths.clone(), _copy: None };
    if is_healthy(paths).await {
        progress::say("the cluster is up already");
        return Ok(cluster());
    }
    if paths.state.exists() {
        progress::say("what is left of an earlier cluster goes first");
        down(paths).await?;
    }
    for folder in ["pid", "log"] {
        paths::make_folder(&paths.state.join(folder))?;
    }
    net::up(NODES).await?;
    pki::make(paths, NODES).await?;
    progress::say("certificates made");
    futures::future::try_join(start_control_plane(paths), start_runtimes(paths)).await?;
    controlplane::start_controllers(paths)?;
    for number in 1..=NODES {
        node::start_kubelet(paths, number)?;
    }
    let client = client::from_kubeconfig(&paths.kubeconfig()).await?;
    addons::apply(&client).await?;
    agent::start(paths)?;
    addons::wait_nodes(&client, usize::from(NODES)).await?;
    progress::say(&format!("{NODES} nodes ready"));
    futures::future::try_join(prometheus::start(paths), addons::wait_names(&client)).await?;
    progress::say("the cluster is up");
    Ok(cluster())
}

async fn start_control_plane(paths: &Paths) -> Result<()> {
    controlplane::start_etcd(paths)?;
    controlplane::start_api_server(paths).await?;
    progress::say("API server ready");
    Ok(())
}

async fn start_runtimes(paths: &Paths) -> Result<()> {
    futures::future::try_join_all((1..=NODES).map(|number| node::start_runtime(paths, number))).await?;
    progress::say(&format!("{NODES} containerds ready"));
    for image in images::base(paths)? {
        images::load(paths, &image).await?;
    }
    Ok(())
}

/// Every expected process runs, and the nodes say so too.
async fn is_healthy(paths: &Paths) -> bool {
    expected().iter().all(|name| process::running(paths, name).is_some()) && answers(paths).await
}

async fn answers(paths: &Paths) -> bool {
    let Ok(client) = client::from_kubeconfig(&paths.kubeconfig()).await else { return false };
    let ready = client::get_raw(&client, "/readyz").await.is_ok_and(|answer| answer == "ok");
    ready && addons::ready_nodes(&client).await.is_ok_and(|ready| ready.len() == usize::from(NODES))
}

fn expected() -> Vec<String> {
    let fixed = controlplane::EXPECTED.iter().chain(prometheus::EXPECTED).chain(agent::EXPECTED);
    let nodes = (1..=NODES).flat_map(node::expected);
    fixed.map(|name| (*name).to_owned()).chain(nodes).collect()
}

/// Takes down whatever is there, however little that is, and removes the state.
pub async fn down(paths: &Paths) -> Result<()> {
    if !paths.state.exists() {
        progress::say("no cluster is up");
        return net::down(paths).await;
    }
    prometheus::stop(paths).await?;
    agent::stop(paths).await?;
    futures::future::try_join_all((1..=NODES).map(|number| node::remove(paths, number))).await?;
    progress::say(&format!("{NODES} nodes removed"));
    controlplane::stop(paths).await?;
    net::down(paths).await?;
    // Removing a folder that is still a mount would remove what is mounted.
    containerd::unmount_below(&paths.state).await?;
    if let Some(mount) = containerd::mounts(&paths.state)?.first() {
        return Err(Error::Wrong(format!("still mounted: {}", mount.display())));
    }
    remove_state(&paths.state)?;
    progress::say("the cluster is down");
    Ok(())
}

fn remove_state(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(Error::io("remove", folder))
}

/// One line per process and node: what `blobstore-e2e status` prints.
pub async fn status(paths: &Paths) -> Result<String> {
    let mut lines = vec![format!("state       {}", paths.state.display())];
    for name in expected() {
        let shown = process::running(paths, &name)
            .map_or_else(|| "not running".to_owned(), |id| format!("pid {}", id.pid));
        lines.push(format!("{name:<26} {shown}"));
    }
    if process::running(paths, "kube-apiserver").is_some() {
        let client = client::from_kubeconfig(&paths.kubeconfig()).await?;
        lines.push(format!("nodes ready                {}", addons::ready_nodes(&client).await?.join(", ")));
        lines.push(format!("kubeconfig                 {}", paths.kubeconfig().display()));
    }
    Ok(lines.join("\n"))
}
