//! The images of the cluster and how they get there: base images out of what the machine has, the
//! project's own from a static release build.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::{
    containerd,
    error::{Error, Result},
    image::{self, File, Image},
    node::NODES,
    paths::{self, Paths},
    process, progress,
};

pub const OPERATOR: &str = "localhost/blobstore-operator:e2e";
pub const SIDECAR: &str = "localhost/blobstore-sidecar:e2e";
/// The distribution's Redis with its libraries, laid out as the public images are.
pub const ENGINE: &str = "localhost/redis:e2e";
/// The same engine under another tag: what a test rolls to.
pub const ENGINE_NEXT: &str = "localhost/redis:e2e-next";
/// The same engine with an allocator that gives no page back unless it is asked to: what a bulk deletion leaves stays,
/// however busy the machine is.
pub const ENGINE_KEEPING_PAGES: &str = "localhost/redis:e2e-keeping-pages";
/// `opt.dirty_decay_ms` and `opt.muzzy_decay_ms` of jemalloc's manual: -1 disables purging.
const KEEPING_PAGES: &str = "MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1";
/// Valkey of the series that `cluster/versions` names.
pub const VALKEY: &str = "localhost/valkey:e2e";
/// The image of every store that names none: another one runs the same tests on another engine.
const ENGINE_CHOSEN: &str = "E2E_ENGINE_IMAGE";
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What every cluster needs before its first pod: sandbox, names, engine.
pub fn base(paths: &Paths) -> Result<Vec<Image>> {
    Ok([
        program("localhost/pause:e2e", paths.component("pause")?),
        program("localhost/coredns:e2e", paths.component("coredns")?),
    ]
    .into_iter()
    .chain(engines())
    .chain([keeping_pages(), valkey(paths)?])
    .collect())
}

/// The engine that a test runs on if it does not care.
pub fn chosen_engine() -> String {
    std::env::var(ENGINE_CHOSEN).unwrap_or_else(|_| ENGINE.to_owned())
}

/// Its server's program: what a test kills.
pub fn program_of(image: &str) -> &'static str {
    if image.contains("valkey") { "valkey-server" } else { "redis-server" }
}

/// The engine under both of its tags.
pub fn engines() -> [Image; 2] {
    [engine(ENGINE, "e2e"), engine(ENGINE_NEXT, "e2e-next")]
}

fn engine(name: &str, release: &str) -> Image {
    let programs = ["redis-server", "redis-cli", "redis-check-aof"];
    let file = |program: &str| File::new(format!("/usr/bin/{program}"), &format!("/usr/local/bin/{program}"));
    Image {
        name: name.to_owned(),
        files: programs.map(file).into(),
        root: None,
        entrypoint: vec!["redis-server".to_owned()],
        env: vec![],
        release: release.to_owned(),
    }
}

fn keeping_pages() -> Image {
    Image { env: vec![KEEPING_PAGES.to_owned()], ..engine(ENGINE_KEEPING_PAGES, "e2e") }
}

fn valkey(paths: &Paths) -> Result<Image> {
    let built = paths.component("valkey-server")?;
    let root = built.with_file_name("root");
    let file =
        |from: &str, to: &str| File::new(root.join("usr/bin").join(from), &format!("/usr/local/bin/{to}"));
    Ok(Image {
        name: VALKEY.to_owned(),
        // Its public images have the command line under the old name as well; the server's old name is left out
        // here, so that whoever starts it knows its own.
        files: vec![
            file("valkey-server", "valkey-server"),
            file("valkey-cli", "valkey-cli"),
            file("valkey-cli", "redis-cli"),
            file("valkey-check-aof", "valkey-check-aof"),
        ],
        root: Some(root),
        entrypoint: vec!["valkey-server".to_owned()],
        env: vec![],
        release: "e2e".to_owned(),
    })
}

/// An image of one program under its own name.
fn program(name: &str, from: PathBuf) -> Image {
    let to = format!("/{}", from.file_name().unwrap_or_default().to_string_lossy());
    Image {
        name: name.to_owned(),
        files: vec![File::new(from, &to)],
        root: None,
        entrypoint: vec![to],
        env: vec![],
        release: "e2e".to_owned(),
    }
}

/// Builds operator and sidecar as static binaries; cargo decides what is up to date.
pub async fn build_own() -> Result<Vec<Image>> {
    let root = paths::clone_root();
    let mut command = Command::new("cargo");
    command
        .args(["build", "--ignore-rust-version", "--release", "--locked", "--target", TARGET])
        .args(["-p", "blobstore-operator", "-p", "blobstore-sidecar"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(&root);
    let status = command.status().await.map_err(Error::io("run cargo in", &root))?;
    if !status.success() {
        return Err(Error::Wrong(format!("the release build of operator and sidecar ended with {status}")));
    }
    let folder = target_folder(&root).await?.join(TARGET).join("release");
    Ok(vec![
        program(OPERATOR, folder.join("blobstore-operator")),
        program(SIDECAR, folder.join("blobstore-sidecar")),
    ])
}

/// Wherever the caller's environment or configuration put it.
async fn target_folder(root: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--format-version=1", "--no-deps", "--locked"]).current_dir(root);
    let text = process::output(command).await?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(Error::other("read cargo metadata"))?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| Error::Wrong("cargo metadata names no target directory".to_owned()))
}

/// Writes the archive and loads it into every node that does not have this very content.
pub async fn load(paths: &Paths, image: &Image) -> Result<()> {
    let file = image.name.replace(['/', ':'], "_");
    let archive = paths.images().join(format!("{file}.tar"));
    let digest = image::write(image, &archive).await?;
    let loads = (1..=NODES).map(|node| load_into(paths, node, &file, &archive, &digest));
    let loaded: usize = futures::future::try_join_all(loads).await?.into_iter().map(usize::from).sum();
    if loaded > 0 {
        progress::say(&format!("image {} loaded into {loaded} nodes", image.name));
    }
    Ok(())
}

async fn load_into(paths: &Paths, node: u8, file: &str, archive: &Path, digest: &str) -> Result<bool> {
    let record = containerd::folder(paths, node).join("images").join(file);
    if std::fs::read_to_string(&record).is_ok_and(|loaded| loaded == digest) {
        return Ok(false);
    }
    containerd::import(paths, node, archive).await?;
    paths::write(&record, digest)?;
    Ok(true)
}
