//! A cluster of `kind`, for people who have Docker: made once, kept, our images loaded into it. Its kubeconfig is a
//! file of our own, so no context of the user's is touched.

use std::path::PathBuf;

use crate::{
    error::Result,
    image,
    image::Image,
    paths::{self, Paths},
    process, progress,
};

const CLUSTER: &str = "blobstore";
/// As long as kind itself waits for a control plane on a slow connection.
const WAIT: &str = "5m";

/// The programs, by name on `PATH` or by path.
#[derive(Debug, Clone)]
pub struct Kind {
    pub kind: PathBuf,
    pub docker: PathBuf,
}

impl Default for Kind {
    fn default() -> Self {
        Self { kind: "kind".into(), docker: "docker".into() }
    }
}

impl Kind {
    /// Both programs are there and Docker's engine answers: its client alone is of no use.
    pub async fn is_present(&self) -> bool {
        process::run(&self.kind, &["version"]).await.is_ok()
            && process::run(&self.docker, &["info", "--format", "{{.ID}}"]).await.is_ok()
    }

    /// The kubeconfig of our cluster, which is made if it is not there yet.
    pub async fn up(&self, paths: &Paths) -> Result<PathBuf> {
        let folder = paths.cache.join("kind");
        paths::make_folder(&folder)?;
        let kubeconfig = folder.join("kubeconfig");
        let file = kubeconfig.display().to_string();
        let known = process::run(&self.kind, &["get", "clusters"]).await?;
        if known.lines().any(|name| name.trim() == CLUSTER) {
            self.run(&["export", "kubeconfig", "--name", CLUSTER, "--kubeconfig", &file]).await?;
            return Ok(kubeconfig);
        }
        progress::say("kind makes a cluster (minutes the first time)");
        self.run(&["create", "cluster", "--name", CLUSTER, "--wait", WAIT, "--kubeconfig", &file]).await?;
        Ok(kubeconfig)
    }

    /// Loads one image into every node.
    pub async fn load(&self, paths: &Paths, image: &Image) -> Result<()> {
        let archive = paths.images().join(format!("{}.tar", image.name.replace(['/', ':'], "_")));
        image::write(image, &archive).await?;
        let archive = archive.display().to_string();
        self.run(&["load", "image-archive", &archive, "--name", CLUSTER]).await?;
        progress::say(&format!("image {} loaded into kind", image.name));
        Ok(())
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        process::run(&self.kind, arguments).await.map(drop)
    }
}

/// The name that kind gives its context.
pub fn context() -> String {
    format!("kind-{CLUSTER}")
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(format!("{name}-program"));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write a script");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("make it run");
        path
    }

    /// A program that writes down how it was called, and knows the clusters that were made.
    fn recorder(folder: &Path) -> Kind {
        let log = folder.join("log").display().to_string();
        let text = format!(
            "echo \"$*\" >> {log}\n\
             if [ \"$1\" = get ] && grep -q '^create' {log}; then echo {CLUSTER}; fi"
        );
        Kind { kind: script(folder, "kind", &text), docker: script(folder, "docker", "exit 0") }
    }

    fn calls(folder: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join("log")).expect("the log");
        text.lines().map(|line| line.split(" --").next().unwrap_or_default().to_owned()).collect()
    }

    fn paths(folder: &Path) -> Paths {
        Paths { cache: folder.to_owned(), state: folder.join("state") }
    }

    #[tokio::test]
    async fn cluster_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let kind = recorder(folder.path());
        assert!(kind.is_present().await);
        let first = kind.up(&paths(folder.path())).await.expect("made");
        let second = kind.up(&paths(folder.path())).await.expect("found");
        assert_eq!(first, second);
        let wanted = ["version", "get clusters", "create cluster", "get clusters", "export kubeconfig"];
        assert_eq!(calls(folder.path()), wanted);
    }

    #[tokio::test]
    async fn client_of_docker_without_its_engine_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut kind = recorder(folder.path());
        kind.docker = script(folder.path(), "docker", "exit 1");
        assert!(!kind.is_present().await);
        kind.kind = folder.path().join("none");
        assert!(!kind.is_present().await);
    }
}
