//! The cgroup of a node: every pod of a node is below it, on cgroup v1 (one tree per controller) as on v2.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    error::{Error, Result},
    paths,
    process::Id,
    wait::{self, Seen},
};

const ROOT: &str = "/sys/fs/cgroup";
const CONTROLLERS_V1: &[&str] =
    &["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb", "systemd"];
/// Killed processes leave at once; a big one needs a moment to give its memory back.
const EMPTY_LIMIT: Duration = Duration::from_secs(30);

pub fn name(node: u8) -> String {
    format!("blobstore-e2e-{node}")
}

fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The node's folder in every tree; the first one knows all its processes.
fn folders(node: u8) -> Vec<PathBuf> {
    let name = name(node);
    if is_v2() {
        return vec![Path::new(ROOT).join(name)];
    }
    // Memory first: it is there whenever pods can have limits at all.
    let trees = ["memory"].iter().chain(CONTROLLERS_V1.iter().filter(|tree| **tree != "memory"));
    trees
        .map(|tree| Path::new(ROOT).join(tree))
        .filter(|tree| tree.exists())
        .map(|tree| tree.join(&name))
        .collect()
}

pub fn make(node: u8) -> Result<()> {
    if is_v2() {
        let controllers = paths::read(&Path::new(ROOT).join("cgroup.controllers"))?;
        let wanted: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        paths::write(&Path::new(ROOT).join("cgroup.subtree_control"), wanted.join(" "))?;
    }
    for folder in folders(node) {
        paths::make_folder(&folder)?;
        // A v1 cpuset starts empty, and nothing can run in an empty one.
        if !is_v2() && folder.starts_with(Path::new(ROOT).join("cpuset")) {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let all = paths::read(&Path::new(ROOT).join("cpuset").join(file))?;
                paths::write(&folder.join(file), all.trim())?;
            }
        }
    }
    Ok(())
}

/// Every process of the node's pods.
pub fn processes(node: u8) -> Vec<Id> {
    let mut found = Vec::new();
    if let Some(folder) = folders(node).first() {
        collect(folder, &|_| true, &mut found);
    }
    found
}

/// The processes of one container, by the id that the pod's status shows.
pub fn processes_of_container(node: u8, container_id: &str) -> Vec<Id> {
    let mut found = Vec::new();
    if let Some(folder) = folders(node).first() {
        collect(folder, &|path| path.ends_with(container_id), &mut found);
    }
    found
}

fn collect(folder: &Path, counts: &dyn Fn(&Path) -> bool, found: &mut Vec<Id>) {
    if counts(folder) {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| Id::of(line.trim().parse().ok()?)));
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        collect(&entry.path(), counts, found);
    }
}

/// Kills until none is left: a process may have had a child between listing and killing.
pub async fn kill_all(node: u8) -> Result<()> {
    wait::until(format!("all processes of node {node} have ended"), EMPTY_LIMIT, || async move {
        let left = processes(node);
        for id in &left {
            id.signal(Signal::SIGKILL);
        }
        Ok(Seen::when(left.is_empty(), (), || format!("{} still run", left.len())))
    })
    .await
}

pub fn remove(node: u8) -> Result<()> {
    for folder in folders(node) {
        remove_tree(&folder)?;
    }
    Ok(())
}

/// rmdir from the leaves up; the files inside are the kernel's.
fn remove_tree(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path())?;
    }
    std::fs::remove_dir(folder).map_err(Error::io("remove cgroup", folder))
}
