//! Where everything lives: the cache of built components and the state of the one cluster, both outside
//! the clone. Versions come from `cluster/versions`, which `setup.sh` reads too.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const VERSIONS: &str = include_str!("../cluster/versions");

#[derive(Debug, Clone)]
pub struct Paths {
    /// Components by version, images, state.
    pub cache: PathBuf,
    /// All that a running cluster owns; absent when no cluster is up.
    pub state: PathBuf,
}

impl Paths {
    /// From `BLOBSTORE_CACHE`, else `XDG_CACHE_HOME`, else the home folder.
    pub fn from_env() -> Result<Self> {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = named("BLOBSTORE_CACHE")
            .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("blobstore-e2e")))
            .or_else(|| named("HOME").map(|folder| folder.join(".cache/blobstore-e2e")))
            .ok_or_else(|| Error::Wrong("set BLOBSTORE_CACHE or HOME: no place for the cache".to_owned()))?;
        let state = cache.join("state");
        Ok(Self { cache, state })
    }

    pub fn component(&self, name: &str) -> Result<PathBuf> {
        let (folder, variable) = match name {
            "helm" => ("helm", "HELM"),
            "coredns" => ("coredns", "COREDNS"),
            "pause" => ("pause", "PAUSE"),
            "valkey-server" => ("valkey-server", "VALKEY"),
            _ => ("kube-node", "KUBERNETES"),
        };
        let path = self.cache.join(format!("{folder}-{}", version(variable)?)).join(name);
        if path.exists() {
            return Ok(path);
        }
        Err(Error::Wrong(format!("{} is not built yet: run `make setup`", path.display())))
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    pub fn pki(&self, file: &str) -> PathBuf {
        self.state.join("pki").join(file)
    }

    pub fn log(&self, process: &str) -> PathBuf {
        self.state.join("log").join(format!("{process}.log"))
    }

    pub fn pid(&self, process: &str) -> PathBuf {
        self.state.join("pid").join(process)
    }

    /// Archives outlive the cluster: the next one imports them again without a build.
    pub fn images(&self) -> PathBuf {
        self.cache.join("images")
    }
}

/// The clone this runs from: the chart and the crates whose images it makes. Cargo tells where that is at run time;
/// what it told the compiler may be another clone that shares the target folder.
pub fn clone_root() -> PathBuf {
    let crate_root = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&crate_root).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

pub fn version(variable: &str) -> Result<&'static str> {
    VERSIONS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(name, value)| (name == variable).then_some(value))
        .ok_or_else(|| Error::Wrong(format!("cluster/versions does not name {variable}")))
}

pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(Error::io("create folder", path))
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    std::fs::write(path, text).map_err(Error::io("write", path))
}

pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}
